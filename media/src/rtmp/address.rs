//! What an address says: host, stream key, playback id.
use routing::model::{PlaybackId, StreamKey};

/// The host of a URL, without port, lower case.
pub(super) fn host(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let host = crate::http::without_port(rest.split('/').next()?);
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// The playback id in app and stream name: both together are `live/ID` or `play/ID`.
pub(super) fn playback_id(app: &[String], name: &str) -> Option<PlaybackId> {
    let name = segments(name);
    let mut parts = app.iter().chain(&name).map(String::as_str);
    let first = parts.next().filter(|p| matches!(*p, "live" | "play"))?;
    let mut rest = parts.filter(|p| *p != first);
    let id = rest.next()?;
    rest.all(|p| p == id).then(|| id.parse().ok()).flatten()
}

/// The parts of a path, a query left out.
pub(super) fn segments(path: &str) -> Vec<String> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.split('/')
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The key in app and stream name: both together are `live/KEY`, wherever the encoder cuts them and even where it
/// says `live` or the key twice.
pub(super) fn stream_key(app: &[String], name: &str) -> Option<StreamKey> {
    let name = segments(name);
    let mut parts = app.iter().chain(&name).map(String::as_str);
    if parts.next() != Some("live") {
        return None;
    }
    let mut rest = parts.filter(|p| *p != "live");
    let key = rest.next()?;
    let usable = rest.all(|p| p == key) && key.len() <= StreamKey::MAX;
    usable.then(|| StreamKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_wherever_the_encoder_puts_it() {
        let cases = [
            ("live", "KEY"),
            ("live/", "KEY?token=abc"),
            ("live?x=1", "KEY"),
            ("/live/KEY", ""),
            ("live/KEY", "KEY"),
            ("live", "live/KEY"),
            ("", "live/KEY"),
        ];
        for (app, name) in cases {
            let key = stream_key(&segments(app), name);
            assert_eq!(key, Some(StreamKey::new("key")), "{app} and {name}");
        }
        for (app, name) in [("live", ""), ("vod", "KEY"), ("live", "a/b"), ("", "KEY")] {
            assert_eq!(stream_key(&segments(app), name), None, "{app} and {name}");
        }
    }

    #[test]
    fn a_playback_id_is_found_under_live_and_play() {
        const ID: &str = "abcdefghij012345";
        let id = ID.parse().ok();
        for (app, name) in [
            ("live", ID),
            ("play", ID),
            ("/play/abcdefghij012345", ""),
            ("live/", "abcdefghij012345?token=abc"),
            ("play/abcdefghij012345", ID),
        ] {
            assert_eq!(playback_id(&segments(app), name), id, "{app} and {name}");
        }
        for (app, name) in [("vod", ID), ("play", "KEY"), ("live", ""), ("play", "a/b")] {
            assert_eq!(playback_id(&segments(app), name), None, "{app} and {name}");
        }
        assert_eq!(
            host("rtmp://Play.Example:1935/live").as_deref(),
            Some("play.example")
        );
        assert_eq!(host("rtmp:///live"), None);
    }
}
