//! The configuration file: all of it optional, every default good for one machine on the open Internet.
//!
#![doc = concat!("```toml\n", include_str!("../assets/shoal.toml"), "```")]
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use media::srt::{BadPassphrase, Options, Passphrase};
use routing::model::{Exposed, Place, Prefix, Region};
use serde::Deserialize;

/// Every key with its default, as a file that changes nothing: what `shoal config` prints.
pub const EXAMPLE: &str = include_str!("../assets/shoal.toml");

/// Why a configuration file is refused. Each names the file, and the line and key where there is one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "{path}: cannot be read: {source}. Give another file with --config, or none: every setting has a default."
    )]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The text is not TOML, or a key is unknown, or a value is not what the key takes.
    #[error("{path}:{line}: {problem}. See `shoal config` for every key.")]
    Text {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, with the key's name.
        problem: String,
    },
}

/// A port's address, or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Listens here.
    At(SocketAddr),
    /// Does not listen.
    Closed,
}

impl Listen {
    /// The address, unless closed.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::At(addr) => Some(addr),
            Self::Closed => None,
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Listen;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "an address and port as \"0.0.0.0:80\" or \"[::]:80\", or false to close it",
                )
            }
            fn visit_bool<E: serde::de::Error>(self, open: bool) -> Result<Listen, E> {
                if open {
                    Err(E::invalid_value(serde::de::Unexpected::Bool(true), &self))
                } else {
                    Ok(Listen::Closed)
                }
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Listen, E> {
                text.parse()
                    .map(Listen::At)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        d.deserialize_any(Visitor)
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where keys, records and the lock live.
    pub data: Option<PathBuf>,
    /// What it listens on.
    pub listen: ListenConfig,
    /// What others reach it by.
    pub announce: AnnounceConfig,
    /// Where it is, and where viewers are.
    pub place: PlaceConfig,
    /// What it can carry.
    pub capacity: CapacityConfig,
    /// The DNS responder.
    pub dns: DnsConfig,
    /// SRT ingest.
    pub srt: SrtConfig,
    /// The operators' console.
    pub console: ConsoleConfig,
    /// WebRTC.
    pub webrtc: WebRtcConfig,
}

/// `[listen]`: every port is documented here and closable.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenConfig {
    /// Playback, GraphQL, console; default `0.0.0.0:80`, without privilege `:8080`.
    pub http: Option<Listen>,
    /// The same over TLS; default `0.0.0.0:443`, without privilege `:8443`.
    pub https: Option<Listen>,
    /// RTMP ingest; default `0.0.0.0:1935`.
    pub rtmp: Option<Listen>,
    /// SRT ingest, UDP; default `0.0.0.0:8889`.
    pub srt: Option<Listen>,
    /// WebRTC, UDP and TCP; default `0.0.0.0:18203`. Closed, neither WHIP nor WHEP is offered.
    pub webrtc: Option<Listen>,
    /// DNS over UDP and TCP; default `0.0.0.0:53`, without privilege `:5353`.
    pub dns: Option<Listen>,
    /// Links between nodes, UDP; default `0.0.0.0:7380`. Cannot be closed.
    pub control: Option<SocketAddr>,
    /// Frames between nodes, UDP; default `0.0.0.0:7381`. Cannot be closed.
    pub media: Option<SocketAddr>,
}

/// `[announce]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnnounceConfig {
    /// Addresses by which others reach every port; default: those that it listens on, and for `0.0.0.0` or `[::]` the
    /// one by which the machine reaches its peers.
    pub addresses: Vec<IpAddr>,
}

/// `[place]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlaceConfig {
    /// Degrees north.
    pub lat: Option<f64>,
    /// Degrees east.
    pub lon: Option<f64>,
    /// The region's name.
    pub region: Option<Region>,
    /// A MaxMind-format file that tells where addresses are.
    pub mmdb: Option<PathBuf>,
    /// Blocks of addresses whose place is known; they win over the file.
    pub prefixes: Vec<PrefixPlace>,
}

impl PlaceConfig {
    /// Where this node is, if it says so.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let region = self
            .region
            .clone()
            .or_else(|| Region::new("unknown").ok())?;
        Some(Place::new(self.lat?, self.lon?, region))
    }
}

/// One block of addresses and its place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixPlace {
    /// The block.
    pub prefix: Prefix,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// The region's name.
    pub region: Region,
}

/// `[capacity]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapacityConfig {
    /// What the uplink may be filled with, in megabits a second. Default 1000.
    pub egress_mbps: u32,
}

impl Default for CapacityConfig {
    fn default() -> Self {
        Self { egress_mbps: 1000 }
    }
}

/// `[dns]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// How long resolvers may keep an answer. Default 10 s.
    pub ttl_seconds: u32,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self { ttl_seconds: 10 }
    }
}

/// `[srt]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SrtConfig {
    /// What callers have to encrypt with, 10 to 79 bytes; default none, and then nobody may encrypt.
    pub passphrase: Option<Exposed>,
    /// How long lost packets are waited for at least; an encoder may ask for longer. Default 120.
    pub latency_ms: u16,
}

impl Default for SrtConfig {
    fn default() -> Self {
        Self {
            passphrase: None,
            latency_ms: 120,
        }
    }
}

impl SrtConfig {
    /// What the listener takes.
    ///
    /// # Errors
    /// [`BadPassphrase`].
    pub fn options(&self) -> Result<Options, BadPassphrase> {
        let passphrase = self.passphrase.as_ref();
        Ok(Options {
            passphrase: passphrase
                .map(|p| Passphrase::new(p.0.clone()))
                .transpose()?,
            latency: Duration::from_millis(self.latency_ms.into()),
            ..Options::default()
        })
    }
}

/// `[console]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleConfig {
    /// Whether others than this machine may see it. Default false.
    pub open: bool,
}

/// `[webrtc]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebRtcConfig {
    /// STUN and TURN servers that clients are told of. None by default: this node has an address that they reach.
    pub ice_servers: Vec<IceServerConfig>,
}

/// One of `webrtc.ice_servers`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServerConfig {
    /// As `stun:stun.example.net` or `turn:turn.example.net?transport=udp`.
    pub url: String,
    /// For TURN. Every client learns it.
    pub username: Option<String>,
    /// For TURN. Every client learns it.
    pub credential: Option<Exposed>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`], naming file, line and key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// [`ConfigError::Text`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let problem = |line, problem| ConfigError::Text {
            path: path.to_owned(),
            line,
            problem,
        };
        let line_of = |at: usize| text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(span.start));
            let key = text
                .lines()
                .nth(line - 1)
                .and_then(|l| l.split_once('='))
                .map(|(key, _)| key.trim());
            let words = error.message().trim_end_matches('.').replace('\n', " ");
            problem(
                line,
                key.map_or_else(|| words.clone(), |key| format!("{key}: {words}")),
            )
        })?;
        let line_with = |key: &str| {
            text.lines()
                .position(|l| l.trim_start().starts_with(key))
                .map_or(1, |at| at + 1)
        };
        if config.place.lat.is_some_and(|v| v.abs() > 90.0) {
            return Err(problem(
                line_with("lat"),
                "lat: a latitude is within -90 to 90 degrees".into(),
            ));
        }
        if config.place.lon.is_some_and(|v| v.abs() > 180.0) {
            return Err(problem(
                line_with("lon"),
                "lon: a longitude is within -180 to 180 degrees".into(),
            ));
        }
        if config.place.lat.is_some() != config.place.lon.is_some() {
            return Err(problem(
                line_with("[place]"),
                "[place]: lat and lon go together".into(),
            ));
        }
        if !(1..=3600).contains(&config.dns.ttl_seconds) {
            return Err(problem(
                line_with("ttl_seconds"),
                "ttl_seconds: from 1 to 3600".into(),
            ));
        }
        if let Err(error) = config.srt.options() {
            return Err(problem(
                line_with("passphrase"),
                format!("passphrase: {error}"),
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Config::parse(Path::new("shoal.toml"), text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn errors_name_file_line_and_key() {
        assert!(
            refused("data = \"x\"\n[listen]\nhtpp = \"0.0.0.0:80\"\n")
                .starts_with("shoal.toml:3: htpp: unknown field")
        );
        assert!(
            refused("[listen]\nhttp = \"80\"\n").starts_with("shoal.toml:2: http: invalid value")
        );
        assert!(
            refused("[place]\nlat = 91.0\nlon = 0.0\n")
                .starts_with("shoal.toml:2: lat: a latitude")
        );
        assert!(refused("[place]\nlat = 1.0\n").contains("lat and lon go together"));
        assert!(refused("[dns\nttl").starts_with("shoal.toml:1: "));
        let short = refused("[srt]\npassphrase = \"secret\"\n");
        assert_eq!(
            short,
            "shoal.toml:2: passphrase: an SRT passphrase has 10 to 79 bytes. See `shoal config` for every key."
        );
    }

    #[test]
    fn a_port_can_be_closed() {
        let config = Config::parse(
            Path::new("x"),
            "[listen]\nrtmp = false\nhttp = \"[::]:80\"\n",
        )
        .unwrap();
        assert_eq!(config.listen.rtmp, Some(Listen::Closed));
        assert_eq!(
            config
                .listen
                .http
                .and_then(Listen::address)
                .map(|a| a.port()),
            Some(80)
        );
    }

    #[test]
    fn the_example_is_read_as_it_is_and_with_every_key_set() {
        Config::parse(Path::new("example"), EXAMPLE).unwrap();
        // A key that is commented out has no space after its #; words have one.
        let set = |line: &str| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        };
        let all: String = EXAMPLE.lines().map(set).collect();
        let config = Config::parse(Path::new("example"), &all).unwrap();
        assert_eq!(config.place.prefixes.len(), 1);
        assert_eq!(config.announce.addresses.len(), 1);
        assert!(config.listen.media.is_some() && config.data.is_some());
        assert_eq!(config.webrtc.ice_servers.len(), 1);
        let webrtc = config.listen.webrtc.and_then(Listen::address);
        assert_eq!(webrtc.unwrap().port(), crate::webrtc::PORT);
        // What it calls the defaults are the defaults.
        let plain = Config::default();
        assert_eq!(config.capacity.egress_mbps, plain.capacity.egress_mbps);
        assert_eq!(config.dns.ttl_seconds, plain.dns.ttl_seconds);
        assert_eq!(config.console.open, plain.console.open);
        assert_eq!(config.srt.latency_ms, plain.srt.latency_ms);
        assert_eq!(
            config.listen.control.unwrap().port(),
            crate::sockets::CONTROL
        );
        assert_eq!(config.listen.media.unwrap().port(), crate::sockets::MEDIA);
    }
}
