//! The shapes of answers: headers, ranges, errors.
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use serde_json::json;

use crate::pack::Chain;

pub(super) type Answer = Response<Body>;

pub(super) const PLAYLIST: &str = "application/vnd.apple.mpegurl";
/// A name is given once, so what is under it never changes.
pub(super) const FOREVER: &str = "public, max-age=31536000, immutable";
/// What was waited for stays true of its name for six target durations (RFC 8216bis appendix B.1).
pub(super) const BLOCKED: &str = "public, max-age=24";
pub(super) const FRESH: &str = "no-cache";
/// Which node answered, by its label: one name can lead to several.
pub(super) const NODE: HeaderName = HeaderName::from_static("shoal-node");

/// A body of this type, for browsers of all sites.
pub(super) fn ok(kind: &'static str, cache: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    cors(headers);
    answer
}

pub(super) fn cors(headers: &mut HeaderMap) {
    let any = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "Accept-Ranges, Age, Content-Length, Content-Range, Date, ETag, Link, Location, Retry-After, \
             Shoal-Lacks, Shoal-Node",
        ),
    );
}

/// What a browser asks before it asks: methods, and headers that it may send.
pub(super) fn preflight(methods: &'static str, asked: &'static str) -> Answer {
    let mut answer = status(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, asked),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        (header::ALLOW, methods),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// An answer without a body.
pub(super) fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    cors(answer.headers_mut());
    answer
}

/// An error as JSON. `retry`: seconds after which it may be otherwise.
pub(super) fn error(code: StatusCode, word: &str, text: &str, retry: Option<u32>) -> Answer {
    let body = json!({ "code": word, "error": text }).to_string();
    let mut answer = ok("application/json", FRESH, body);
    *answer.status_mut() = code;
    if let Some(seconds) = retry {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

pub(super) fn redirect(to: &str) -> Answer {
    let mut answer = status(StatusCode::TEMPORARY_REDIRECT);
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(FRESH));
    if let Ok(to) = HeaderValue::from_str(to) {
        headers.insert(header::LOCATION, to);
    }
    answer
}

/// Media under a name of its own, or the range of it that was asked for.
pub(super) fn media(kind: &'static str, body: &Chain, asked: &HeaderMap) -> Answer {
    let range = asked.get(header::RANGE).and_then(|v| v.to_str().ok());
    let total = body.len();
    let mut answer = match range.map(|r| range_of(r, total)) {
        None | Some(Range::Whole) => ok(kind, FOREVER, Body::new(body.clone().into_body())),
        Some(Range::Part(from, to)) => {
            let slice = body.slice(from, to + 1);
            let mut answer = ok(kind, FOREVER, Body::new(slice.into_body()));
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            content_range(&mut answer, &format!("bytes {from}-{to}/{total}"));
            answer
        }
        Some(Range::Outside) => {
            let mut answer = ok(kind, FRESH, Bytes::new());
            *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            content_range(&mut answer, &format!("bytes */{total}"));
            answer
        }
    };
    answer
        .headers_mut()
        .insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer
}

fn content_range(answer: &mut Answer, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        answer.headers_mut().insert(header::CONTENT_RANGE, value);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// None that counts: several, or nonsense, are answered whole (RFC 9110 14.2).
    Whole,
    /// From and to, both included.
    Part(u64, u64),
    Outside,
}

fn range_of(text: &str, total: u64) -> Range {
    let Some((from, to)) = text.strip_prefix("bytes=").and_then(|r| r.split_once('-')) else {
        return Range::Whole;
    };
    match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
        (Ok(from), Ok(to)) if from > to => Range::Whole,
        (Ok(from), _) if from >= total => Range::Outside,
        (Ok(from), Ok(to)) => Range::Part(from, to.min(total - 1)),
        (Ok(from), Err(_)) if to.trim().is_empty() => Range::Part(from, total - 1),
        (Err(_), Ok(0)) if from.is_empty() => Range::Outside,
        (Err(_), Ok(last)) if from.is_empty() && total > 0 => {
            Range::Part(total.saturating_sub(last), total - 1)
        }
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        for (text, expected) in [
            ("bytes=0-9", Range::Part(0, 9)),
            ("bytes=90-", Range::Part(90, 99)),
            ("bytes=-5", Range::Part(95, 99)),
            ("bytes=-500", Range::Part(0, 99)),
            ("bytes=50-500", Range::Part(50, 99)),
            ("bytes=100-", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=5-4", Range::Whole),
            ("bytes=0-1,4-5", Range::Whole),
            ("lines=0-1", Range::Whole),
        ] {
            assert_eq!(range_of(text, 100), expected, "{text}");
        }
    }
}
