//! The sockets of a node: opened before anything else happens, and told of by the addresses that others reach.
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::Context;
use mesh::view::Service;
use routing::model::{Role, Roles};

use crate::{
    config::{Config, Listen},
    listen, local, webrtc,
};

/// Links between nodes, where the configuration does not say otherwise.
pub(crate) const CONTROL: u16 = 7380;
/// Frames between nodes, where the configuration does not say otherwise.
pub(crate) const MEDIA: u16 = 7381;
/// SRT, where the configuration does not say otherwise.
pub(crate) const SRT: u16 = 8889;

/// The sockets of a node, opened before anything else happens: what is taken is told of before others hear of this node.
pub(crate) struct Sockets {
    pub(crate) http: Option<std::net::TcpListener>,
    pub(crate) https: Option<std::net::TcpListener>,
    pub(crate) rtmp: Option<std::net::TcpListener>,
    pub(crate) srt: Option<std::net::UdpSocket>,
    pub(crate) webrtc: Option<(std::net::UdpSocket, std::net::TcpListener)>,
    /// Where names are answered: the configured address, and the sockets of each address behind it.
    pub(crate) dns: Option<(SocketAddr, Vec<dns::Pair>)>,
    pub(crate) control: SocketAddr,
    pub(crate) media: std::net::UdpSocket,
    pub(crate) media_at: SocketAddr,
    /// The addresses that others reach this node by.
    pub(crate) announced: Vec<IpAddr>,
    pub(crate) door: local::Door,
}

impl Sockets {
    pub(crate) fn open(config: &Config, dir: &Path, roles: Roles) -> anyhow::Result<Self> {
        let tcp = |what, configured: Option<Listen>, usual, high| {
            listen::choose(configured, usual, high)
                .map(|addr| listen::tcp(what, addr))
                .transpose()
        };
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let control = config.listen.control.unwrap_or_else(|| any(CONTROL));
        let media_at = config.listen.media.unwrap_or_else(|| any(MEDIA));
        let http = tcp("http", config.listen.http, 80, 8080)?;
        let https = tcp("https", config.listen.https, 443, 8443)?;
        let rtmp = tcp("rtmp", config.listen.rtmp, 1935, 1935)?;
        let srt = listen::choose(config.listen.srt, SRT, SRT)
            .map(|addr| listen::udp("srt", addr))
            .transpose()?;
        let webrtc = webrtc::open(config)?;
        let media = listen::udp("media", media_at)?;
        // Links open their own socket: this only finds out, in the words of the configuration, that they can.
        drop(listen::udp("control", control)?);
        let dns_at = listen::choose(config.listen.dns, 53, 5353).filter(|_| roles.has(Role::Dns));
        let open = [
            port(http.as_ref())?,
            port(https.as_ref())?,
            port(rtmp.as_ref())?,
            udp_port(srt.as_ref())?,
        ];
        let listening = open.into_iter().flatten().chain(dns_at).chain([control]);
        let listening = listening.chain(webrtc::address(config));
        let announced = announced(config, &listening.collect::<Vec<_>>());
        let dns = dns_at
            .map(|at| Ok::<_, listen::ListenError>((at, dns_pairs(at, &announced)?)))
            .transpose()?;
        let door = local::open(dir).with_context(|| {
            format!(
                "the command socket {} cannot be made: give a data directory that can be written and whose path is \
                 short (at most 90 bytes)",
                dir.join(local::SOCKET).display()
            )
        })?;
        Ok(Self {
            http,
            https,
            rtmp,
            srt,
            webrtc,
            dns,
            control,
            media,
            media_at,
            announced,
            door,
        })
    }
}

/// The sockets for DNS: of a wildcard, one pair for each address of this machine, since from a wildcard the system may
/// answer from another address than was asked.
fn dns_pairs(at: SocketAddr, announced: &[IpAddr]) -> Result<Vec<dns::Pair>, listen::ListenError> {
    let addrs = if at.ip().is_unspecified() {
        own(announced)
    } else {
        vec![at.ip()]
    };
    let pair = |ip| {
        let tcp = listen::tcp("dns", SocketAddr::new(ip, at.port()))?;
        // Port 0 is whatever TCP got.
        let port = tcp.local_addr().map_or(at.port(), |got| got.port());
        let udp = listen::udp("dns", SocketAddr::new(ip, port))?;
        Ok(dns::Pair { udp, tcp })
    };
    addrs.into_iter().map(pair).collect()
}

pub(crate) fn port(listener: Option<&std::net::TcpListener>) -> anyhow::Result<Option<SocketAddr>> {
    Ok(listener
        .map(std::net::TcpListener::local_addr)
        .transpose()?)
}

pub(crate) fn udp_port(socket: Option<&std::net::UdpSocket>) -> anyhow::Result<Option<SocketAddr>> {
    Ok(socket.map(std::net::UdpSocket::local_addr).transpose()?)
}

/// The addresses that others reach this node by: the configured ones, else those that it listens on, else, behind a
/// wildcard, the one that the system would send from.
fn announced(config: &Config, listening: &[SocketAddr]) -> Vec<IpAddr> {
    if !config.announce.addresses.is_empty() {
        return config.announce.addresses.clone();
    }
    let mut all: Vec<IpAddr> = listening
        .iter()
        .map(SocketAddr::ip)
        .filter(|ip| !ip.is_unspecified())
        .collect();
    if listening.iter().any(|a| a.ip().is_unspecified()) {
        all.push(outward());
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The address that the system would send to the Internet from.
fn outward() -> IpAddr {
    // Connecting a UDP socket sends nothing; it only asks the routing table. 192.0.2.1 is TEST-NET-1 (RFC 5737).
    let outward = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|s| {
        s.connect("192.0.2.1:9")?;
        s.local_addr()
    });
    outward.map_or_else(|_| IpAddr::from([127, 0, 0, 1]), |a| a.ip())
}

/// Of the announced addresses those that this machine has; where it has none, as behind a NAT, the outward one.
fn own(announced: &[IpAddr]) -> Vec<IpAddr> {
    let has = |ip: &&IpAddr| std::net::UdpSocket::bind((**ip, 0)).is_ok();
    let own: Vec<_> = announced.iter().filter(has).copied().collect();
    if own.is_empty() { vec![outward()] } else { own }
}

/// By service, where it is to be reached.
pub(crate) fn services(
    announced: &[IpAddr],
    open: &[(Service, Option<SocketAddr>)],
) -> Vec<(Service, SocketAddr)> {
    let mut all = Vec::new();
    for (service, addr) in open {
        let Some(addr) = addr else { continue };
        let ips = if addr.ip().is_unspecified() {
            announced.to_vec()
        } else {
            vec![addr.ip()]
        };
        all.extend(
            ips.into_iter()
                .map(|ip| (*service, SocketAddr::new(ip, addr.port()))),
        );
    }
    all
}
