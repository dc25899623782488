//! What a path asks for.
use routing::model::{EpochId, PlaybackId};

use crate::{
    hls::{Container, Position},
    mux::Form,
};

/// A path that names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadPath {
    /// No id.
    Missing,
    /// Not an id.
    Id,
    /// An id, and something after it that nothing is at.
    Unknown,
    /// A protocol that this node does not speak.
    Protocol,
}

/// What is asked of a playback id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/play/ID`: a page for browsers, JSON for programs.
    Page,
    /// `/resolve/ID`: always JSON.
    Resolve,
    /// `/play/ID/steering`.
    Steering,
    /// An alias of a protocol: the path after `/play/ID/` that it stands for.
    Redirect(String),
    /// `/play/ID/time`: the origin's time.
    Time,
    /// The DASH description.
    Mpd,
    /// `/play/ID.mkv` and the like: a container as long as the broadcast lasts.
    File(Form),
    /// WHEP: an offer, or the session with this name.
    WebRtc(Option<String>),
    /// A multivariant playlist.
    Index(Container),
    /// A media playlist of this rendition.
    Playlist(Container, String),
    /// An initialisation segment.
    Init(EpochId, String, u32),
    /// A segment, or a part of one.
    Media(EpochId, String, Position),
}

/// Reads a path that begins with `/play` or `/resolve`.
pub(super) fn read(path: &str) -> Result<(PlaybackId, Target), BadPath> {
    let (root, rest) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path, ""));
    let (id, rest) = rest.split_once('/').unwrap_or((rest, ""));
    // The id ends at the first dot: what follows is a protocol's ending.
    let (id, ending) = id
        .split_once('.')
        .map_or((id, None), |(id, e)| (id, Some(e)));
    if id.is_empty() {
        return Err(BadPath::Missing);
    }
    let id = id.parse().map_err(|_| BadPath::Id)?;
    let target = match (root, ending, rest) {
        ("resolve", None, "") => Target::Resolve,
        ("resolve", ..) => return Err(BadPath::Unknown),
        (_, None, "") => Target::Page,
        (_, Some(ending), "") => alias(ending, "")?,
        (_, Some(_), _) => return Err(BadPath::Unknown),
        (_, None, rest) => below(rest)?,
    };
    Ok((id, target))
}

fn below(rest: &str) -> Result<Target, BadPath> {
    let (first, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let container = match first {
        "steering" if rest.is_empty() => return Ok(Target::Steering),
        "time" if rest.is_empty() => return Ok(Target::Time),
        "webrtc" | "whep" => {
            let session = Some(rest).filter(|rest| !rest.is_empty());
            return Ok(Target::WebRtc(session.map(str::to_owned)));
        }
        "cmaf" => Container::Cmaf,
        "hls" => Container::Ts,
        _ => return alias(first, rest),
    };
    let names: Vec<&str> = rest.split('/').collect();
    let number = |text: &str| text.parse::<u64>().map_err(|_| BadPath::Unknown);
    let part = |text: &str| text.parse::<u32>().map_err(|_| BadPath::Unknown);
    let epoch = |text: &str| text.parse::<EpochId>().map_err(|_| BadPath::Unknown);
    match (container, &names[..]) {
        (_, [""]) => alias(first, ""),
        (_, ["index.m3u8"]) => Ok(Target::Index(container)),
        (Container::Cmaf, ["index.mpd"]) => Ok(Target::Mpd),
        (_, [name]) => {
            let name = name.strip_suffix(".m3u8").ok_or(BadPath::Unknown)?;
            Ok(Target::Playlist(container, name.into()))
        }
        (Container::Ts, [at, name]) => {
            let segment = number(name.strip_suffix(".ts").ok_or(BadPath::Unknown)?)?;
            let whole = Position {
                segment,
                part: None,
            };
            Ok(Target::Media(epoch(at)?, "ts".into(), whole))
        }
        (Container::Cmaf, [at, rendition, name]) => {
            let (at, rendition) = (epoch(at)?, (*rendition).to_owned());
            if let Some(name) = name.strip_suffix(".mp4") {
                let n = name.strip_prefix("init-").ok_or(BadPath::Unknown)?;
                return Ok(Target::Init(at, rendition, part(n)?));
            }
            let name = name.strip_suffix(".m4s").ok_or(BadPath::Unknown)?;
            let (segment, of) = match name.split_once('.') {
                Some((segment, of)) => (segment, Some(part(of)?)),
                None => (name, None),
            };
            let position = Position {
                segment: number(segment)?,
                part: of,
            };
            Ok(Target::Media(at, rendition, position))
        }
        _ => Err(BadPath::Unknown),
    }
}

/// A protocol by one of its names, with what follows it.
fn alias(name: &str, rest: &str) -> Result<Target, BadPath> {
    let folder = match name.to_ascii_lowercase().as_str() {
        "hls" | "m3u8" => "hls",
        "cmaf" | "llhls" | "ll-hls" | "any" | "all" => "cmaf",
        "dash" | "mpd" => "dash",
        "html" | "embed" => return Ok(Target::Redirect(String::new())),
        // Offers come to all names of it, and a client need not follow a redirect.
        "webrtc" | "whep" if rest.is_empty() => return Ok(Target::WebRtc(None)),
        "mp4" | "progressive" => return file(Form::Mp4, rest),
        "webm" => return file(Form::Webm, rest),
        "mkv" => return file(Form::Mkv, rest),
        "ts" | "mpegts" => return file(Form::Ts, rest),
        "flv" => return file(Form::Flv, rest),
        "aac" | "audio" => return file(Form::Aac, rest),
        "srt" | "rtmp" | "rtsp" | "smooth" | "hss" | "hds" | "f4m" | "sdp" | "h264" | "dtsc"
        | "wsmp4" | "wswebrtc" => return Err(BadPath::Protocol),
        _ => return Err(BadPath::Unknown),
    };
    let (folder, index) = match folder {
        "dash" => ("cmaf", "index.mpd"),
        hls => (hls, "index.m3u8"),
    };
    let rest = if rest.is_empty() { index } else { rest };
    Ok(Target::Redirect(format!("{folder}/{rest}")))
}

fn file(form: Form, rest: &str) -> Result<Target, BadPath> {
    if rest.is_empty() {
        Ok(Target::File(form))
    } else {
        Err(BadPath::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "abcdefghij012345";

    fn target(rest: &str) -> Result<Target, BadPath> {
        read(&format!("/play/{ID}{rest}")).map(|(_, t)| t)
    }

    #[test]
    fn paths_name_what_the_design_says() {
        let epoch = EpochId::from_u64(10);
        let at = |segment, part| Position { segment, part };
        assert_eq!(target(""), Ok(Target::Page));
        assert_eq!(target("/"), Ok(Target::Page));
        assert_eq!(target("/steering"), Ok(Target::Steering));
        assert_eq!(target("/time"), Ok(Target::Time));
        assert_eq!(target("/cmaf/index.mpd"), Ok(Target::Mpd));
        assert_eq!(
            target("/cmaf/index.m3u8"),
            Ok(Target::Index(Container::Cmaf))
        );
        assert_eq!(
            target("/hls/ts.m3u8"),
            Ok(Target::Playlist(Container::Ts, "ts".into()))
        );
        assert_eq!(
            target("/cmaf/000000000000000a/v0/7.3.m4s"),
            Ok(Target::Media(epoch, "v0".into(), at(7, Some(3))))
        );
        assert_eq!(
            target("/cmaf/000000000000000a/a0/init-2.mp4"),
            Ok(Target::Init(epoch, "a0".into(), 2))
        );
        assert_eq!(
            target("/hls/000000000000000a/7.ts"),
            Ok(Target::Media(epoch, "ts".into(), at(7, None)))
        );
        for (alias, path) in [
            ("/llhls", "cmaf/index.m3u8"),
            ("/LL-HLS/v0.m3u8", "cmaf/v0.m3u8"),
            ("/cmaf", "cmaf/index.m3u8"),
            ("/hls/", "hls/index.m3u8"),
            (".m3u8", "hls/index.m3u8"),
            ("/any", "cmaf/index.m3u8"),
            ("/dash", "cmaf/index.mpd"),
            (".mpd", "cmaf/index.mpd"),
            ("/embed", ""),
        ] {
            assert_eq!(target(alias), Ok(Target::Redirect(path.into())), "{alias}");
        }
        for (path, form) in [
            (".mkv", Form::Mkv),
            ("/mpegts", Form::Ts),
            ("/progressive", Form::Mp4),
            ("/audio/", Form::Aac),
        ] {
            assert_eq!(target(path), Ok(Target::File(form)), "{path}");
        }
        assert_eq!(target("/mkv/more"), Err(BadPath::Unknown));
        for whep in ["/webrtc", "/whep", "/WHEP", ".webrtc"] {
            assert_eq!(target(whep), Ok(Target::WebRtc(None)), "{whep}");
        }
        assert_eq!(
            target("/webrtc/abc"),
            Ok(Target::WebRtc(Some("abc".into())))
        );
        assert_eq!(target("/srt"), Err(BadPath::Protocol));
        assert_eq!(target("/nothing"), Err(BadPath::Unknown));
        assert_eq!(target("/cmaf/10/v0/7.m4s"), Err(BadPath::Unknown));
        assert_eq!(read("/play"), Err(BadPath::Missing));
        assert_eq!(read("/play/"), Err(BadPath::Missing));
        assert_eq!(read("/play/short"), Err(BadPath::Id));
        assert_eq!(read(&format!("/resolve/{ID}")).unwrap().1, Target::Resolve);
    }

    proptest! {
        #[test]
        fn any_path_is_read_or_refused(path in "(/[a-z0-9.%-]{0,18}){0,6}") {
            let _ = read(&path);
            let _ = target(&path);
        }
    }
}
