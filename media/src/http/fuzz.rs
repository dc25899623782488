//! What viewers ask for, under any bytes.
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use bytes::Bytes;
use fuzz_kit::Input;

use super::{
    answer,
    path::{self, Target},
    play::without_port,
};
use crate::{
    hls::{Ask, Container, Position},
    pack::Chain,
    page,
};

fuzz_kit::targets! {
    http_path: paths, path_seeds;
    http_query: query, query_seeds;
    http_range: range, range_seeds;
    http_host: host, host_seeds;
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn folder(container: Container) -> &'static str {
    match container {
        Container::Cmaf => "cmaf",
        Container::Ts => "hls",
    }
}

fn file(at: Position) -> String {
    let part = at.part.map(|p| format!(".{p}")).unwrap_or_default();
    format!("{}{part}", at.segment)
}

/// A path means what the path that its meaning is written as means; and nobody is sent round in a circle.
fn paths(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from(bytes) else {
        return;
    };
    let Ok((id, target)) = path::read(uri.path()) else {
        return;
    };
    let written = match &target {
        Target::Page => format!("/play/{id}"),
        Target::Resolve => format!("/resolve/{id}"),
        Target::Steering => format!("/play/{id}/steering"),
        Target::Time => format!("/play/{id}/time"),
        Target::File(form) => format!("/play/{id}.{}", form.ending()),
        Target::Mpd => format!("/play/{id}/cmaf/index.mpd"),
        Target::WebRtc(session) => {
            let session = session.as_deref().map(|s| format!("/{s}"));
            format!("/play/{id}/webrtc{}", session.unwrap_or_default())
        }
        Target::Index(c) => format!("/play/{id}/{}/index.m3u8", folder(*c)),
        Target::Playlist(c, name) => format!("/play/{id}/{}/{name}.m3u8", folder(*c)),
        Target::Init(epoch, name, n) => format!("/play/{id}/cmaf/{epoch}/{name}/init-{n}.mp4"),
        Target::Media(epoch, name, at) if name == "ts" && at.part.is_none() => {
            format!("/play/{id}/hls/{epoch}/{}.ts", file(*at))
        }
        Target::Media(epoch, name, at) => {
            format!("/play/{id}/cmaf/{epoch}/{name}/{}.m4s", file(*at))
        }
        Target::Redirect(to) => {
            let next = path::read(&format!("/play/{id}/{to}"));
            assert!(!matches!(next, Ok((_, Target::Redirect(_)))), "{to}");
            return;
        }
    };
    assert_eq!(path::read(&written), Ok((id, target)));
}

fn path_seeds() -> Vec<Vec<u8>> {
    const ID: &str = "/play/abcdefghij012345";
    [
        "",
        "/steering",
        "/cmaf/index.m3u8",
        "/cmaf/index.mpd",
        "/time",
        ".mkv",
        "/mpegts",
        "/hls/ts.m3u8",
        "/cmaf/000000000000000a/v0/7.3.m4s",
        "/cmaf/000000000000000a/a0/init-2.mp4",
        "/hls/000000000000000a/7.ts",
        "/LL-HLS/v0.m3u8",
        ".m3u8",
        "/embed",
        "/whep",
        "/webrtc/abc",
    ]
    .iter()
    .map(|rest| format!("{ID}{rest}").into_bytes())
    .chain([b"/resolve/ABCDEFGHIJ012345".to_vec()])
    .collect()
}

fn query(bytes: &[u8]) {
    let Ok(ask) = Ask::read(text(bytes)) else {
        return;
    };
    let mut written = String::from("x=y");
    if let Some(Position { segment, part }) = ask.until {
        written += &format!("&_HLS_msn={segment}");
        if let Some(part) = part {
            written += &format!("&_HLS_part={part}");
        }
    }
    if ask.skip {
        written += "&_HLS_skip=YES";
    }
    assert_eq!(Ask::read(&written), Ok(ask));
}

fn query_seeds() -> Vec<Vec<u8>> {
    [
        "",
        "_HLS_msn=7&_HLS_part=3",
        "a=b&_HLS_msn=7&_HLS_skip=v2",
        "_HLS_part=3",
        "_HLS_msn=18446744073709551615&_HLS_part=4294967295&_HLS_skip=YES",
    ]
    .map(|q| q.as_bytes().to_vec())
    .into()
}

/// What is sent is what the header says, and never more than there is.
fn range(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let total = input.byte();
    let all: Vec<u8> = (0..total).collect();
    let (head, tail) = all.split_at(all.len() / 3);
    let whole = Chain::new(vec![
        Bytes::copy_from_slice(head),
        Bytes::copy_from_slice(tail),
    ]);
    let mut asked = HeaderMap::new();
    let Ok(value) = HeaderValue::from_bytes(input.rest()) else {
        return;
    };
    asked.insert(header::RANGE, value);
    let answer = answer::media("video/mp4", &whole, &asked);
    let length = hyper::body::Body::size_hint(answer.body()).exact();
    let range = answer.headers().get(header::CONTENT_RANGE);
    let range = range.and_then(|r| r.to_str().ok()).unwrap_or_default();
    match answer.status().as_u16() {
        200 => assert_eq!(length, Some(u64::from(total))),
        206 => {
            let (span, of) = range
                .strip_prefix("bytes ")
                .and_then(|r| r.split_once('/'))
                .expect("a part has a range");
            let (from, to) = span.split_once('-').expect("a range has two ends");
            let number = |n: &str| n.parse::<u64>().expect("a range is of numbers");
            let (from, to) = (number(from), number(to));
            assert!(from <= to && to < number(of) && number(of) == u64::from(total));
            assert_eq!(length, Some(to - from + 1));
        }
        416 => assert_eq!((length, range), (Some(0), &*format!("bytes */{total}"))),
        other => panic!("status {other}"),
    }
}

fn range_seeds() -> Vec<Vec<u8>> {
    ["0-9", "90-", "-5", "-500", "50-500", "-0", "5-4", "0-1,4-5"]
        .map(|r| [b"\x64bytes=", r.as_bytes()].concat())
        .into()
}

/// A host that a client made up gives no page more rights.
fn host(bytes: &[u8]) {
    let name = without_port(text(bytes));
    assert!(text(bytes).starts_with(name));
    let policy = page::content_security_policy(Some(name));
    let policy = policy.to_str().expect("a policy is printable");
    assert_eq!(policy.matches(';').count(), 7, "{policy}");
    assert!(policy.contains("script-src 'self';"), "{policy}");
}

fn host_seeds() -> Vec<Vec<u8>> {
    [
        "foghorn.acme.cdn.shoal.test:8080",
        "127.0.0.2",
        "[::1]:80",
        "localhost",
        "evil;.a.b",
    ]
    .map(|h| h.as_bytes().to_vec())
    .into()
}
