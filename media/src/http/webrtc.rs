//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): offers, sessions, ICE.
//!
//! | what | where |
//! | --- | --- |
//! | watch | `POST /play/ID/webrtc`, then `PATCH` and `DELETE` at `/play/ID/webrtc/SESSION` |
//! | publish | `POST /webrtc/KEY`, or `POST /webrtc` with the key as bearer token; then at `/webrtc/session/SESSION` |
//! | publish at the best node | `POST /ingest/KEY`: 307 to that node's `/webrtc/KEY`, or the same as there; a body of media is taken by `push` |
use std::net::{IpAddr, SocketAddr};

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use routing::model::{PlaybackId, StreamKey};

use super::{
    Http,
    answer::{self, Answer},
    hls, play, push,
};
use crate::{
    ports::{ReachedAt, Refusal, Viewer},
    webrtc::{Created, IceServer, MAX_SDP, PatchError, Patched, SessionError, WebRtc},
};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// What a viewer will miss.
const LACKS: HeaderName = HeaderName::from_static("shoal-lacks");
/// `If-Match` and `Authorization` are not covered by `*`.
const ASKED: &str = "Authorization, Content-Type, If-Match";

/// Answers `/play/ID/webrtc` and what is below it.
pub(super) async fn whep(
    http: &Http,
    id: PlaybackId,
    session: Option<&str>,
    viewer: &Viewer,
    (parts, body): (Parts, Body),
) -> Result<Answer, Answer> {
    let webrtc = open(http)?;
    match (&parts.method, session) {
        (&Method::POST, None) => {}
        (_, Some(token)) => return resource(webrtc, token, parts, body).await,
        _ => return Err(not_here(&parts.method, session)),
    }
    let offer = take(&parts, body, SDP).await?;
    let watch = match http.gate.may_watch(id, viewer).await {
        Ok(watch) => watch,
        Err(why) => return Err(play::sent_on_or(http, id, viewer, &parts, why)),
    };
    let lease = tokio::time::timeout(play::LEASE, http.supply.lease(watch.broadcast))
        .await
        .map_err(|_| hls::not_live())?
        .map_err(|why| match why {
            Refusal::Unknown(_) | Refusal::Unavailable(_) => hls::not_live(),
            why @ Refusal::Forbidden(_) => play::refused(why),
        })?;
    let created = webrtc
        .watch(lease, &offer, reached(&parts))
        .map_err(|why| failed(&why))?;
    let at = format!("/play/{id}/webrtc/{}", created.token);
    Ok(made(webrtc, &created, &at))
}

/// Answers `/webrtc` and `/webrtc/*`.
pub(super) async fn whip(State(http): State<Http>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let answer = whip_answer(&http, parts, body).await;
    play::signed(&http, answer)
}

async fn whip_answer(http: &Http, parts: Parts, body: Body) -> Result<Answer, Answer> {
    let webrtc = open(http)?;
    let path = parts.uri.path().to_owned();
    let below = path.strip_prefix("/webrtc").unwrap_or_default();
    let below = below.trim_start_matches('/').trim_end_matches('/');
    if let Some(token) = below.strip_prefix("session/") {
        return resource(webrtc, token, parts, body).await;
    }
    if parts.method != Method::POST {
        return Err(not_here(&parts.method, None));
    }
    publish(webrtc, below, parts, body).await
}

/// Answers `/ingest/*`.
pub(super) async fn ingest(State(http): State<Http>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let answer = ingest_answer(&http, parts, body).await;
    play::signed(&http, answer)
}

async fn ingest_answer(http: &Http, parts: Parts, body: Body) -> Result<Answer, Answer> {
    let key = parts.uri.path().trim_start_matches("/ingest/").to_owned();
    let key = key.trim_end_matches('/');
    if let Some(publishers) = &http.publishers
        && push::is_stream(&parts)
        && key.len() <= StreamKey::MAX
    {
        // A body that has begun cannot be sent elsewhere: it is taken here.
        return push::answer(publishers, &StreamKey::new(key), &parts, body).await;
    }
    if parts.method != Method::POST {
        return Err(not_here(&parts.method, None));
    }
    let asked = StreamKey::new(key);
    let viewer = play::viewer(http, &parts, crate::ports::Protocol::WebRtc);
    let better = http.resolve.publish_at(&asked, &viewer).await;
    let better = better.filter(|way| way.id != http.node.label().as_str());
    match better {
        Some(way) if !play::was_sent(&parts) => {
            let own = http.node.label();
            let to = format!("{}/webrtc/{key}?{}={own}", way.base_url, play::SENT);
            Ok(answer::redirect(&to))
        }
        _ => publish(open(http)?, key, parts, body).await,
    }
}

async fn publish(webrtc: &WebRtc, key: &str, parts: Parts, body: Body) -> Result<Answer, Answer> {
    let bearer = parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let key = if key.is_empty() {
        bearer.unwrap_or_default()
    } else {
        key
    }
    .trim();
    if key.is_empty() || key.len() > StreamKey::MAX {
        return Err(answer::error(
            StatusCode::UNAUTHORIZED,
            "MISSING_STREAM_KEY",
            "There is no stream key: publish to /webrtc/KEY, or give it as a bearer token.",
            None,
        ));
    }
    let key = StreamKey::new(key);
    let offer = take(&parts, body, SDP).await?;
    let unknown = ([0, 0, 0, 0], 0).into();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(unknown, |ConnectInfo(addr)| *addr);
    let created = webrtc.publish(&key, peer, &offer, reached(&parts)).await;
    let created = created.map_err(|why| failed(&why))?;
    let at = format!("/webrtc/session/{}", created.token);
    Ok(made(webrtc, &created, &at))
}

/// A session: PATCH and DELETE.
async fn resource(
    webrtc: &WebRtc,
    token: &str,
    parts: Parts,
    body: Body,
) -> Result<Answer, Answer> {
    match parts.method {
        Method::DELETE if webrtc.end(token) => Ok(answer::status(StatusCode::OK)),
        Method::DELETE => Err(unpatched(&PatchError::Unknown)),
        Method::PATCH => {
            let fragment = take(&parts, body, FRAGMENT).await?;
            let tag = parts.headers.get(header::IF_MATCH);
            let tag = tag.and_then(|v| v.to_str().ok()).map(str::to_owned);
            match webrtc.patch(token, tag, &fragment).await {
                Ok(Patched::Trickled) => Ok(answer::status(StatusCode::NO_CONTENT)),
                Ok(Patched::Restarted { etag, fragment }) => {
                    let mut answer = answer::ok(FRAGMENT, answer::FRESH, fragment);
                    set(&mut answer, header::ETAG, &etag);
                    Ok(answer)
                }
                Err(why) => Err(unpatched(&why)),
            }
        }
        _ => Err(not_here(&parts.method, Some(token))),
    }
}

fn open(http: &Http) -> Result<&WebRtc, Answer> {
    http.webrtc.as_ref().ok_or_else(|| {
        answer::error(
            StatusCode::NOT_FOUND,
            "PROTOCOL_NOT_AVAILABLE",
            "This server does not offer WebRTC. Use /play/ID/cmaf/index.m3u8 to watch, RTMP to publish.",
            None,
        )
    })
}

/// A preflight's answer, or that the method is not one of this path's.
fn not_here(method: &Method, session: Option<&str>) -> Answer {
    let methods = if session.is_some() {
        "PATCH, DELETE, OPTIONS"
    } else {
        "POST, OPTIONS"
    };
    let mut answer = if method == Method::OPTIONS {
        answer::preflight(methods, ASKED)
    } else {
        let text = format!("Only {methods} are answered here.");
        answer::error(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            &text,
            None,
        )
    };
    set(&mut answer, header::ALLOW, methods);
    if session.is_some() {
        set(&mut answer, ACCEPT_PATCH, FRAGMENT);
    } else {
        set(&mut answer, ACCEPT_POST, SDP);
    }
    answer
}

/// The body, where it is of this type and not too long.
async fn take(parts: &Parts, body: Body, kind: &'static str) -> Result<Bytes, Answer> {
    let given = parts.headers.get(header::CONTENT_TYPE);
    let given = given.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim();
    if !given.eq_ignore_ascii_case(kind) {
        let text = format!("The body is to be of the type {kind}.");
        return Err(answer::error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            &text,
            None,
        ));
    }
    to_bytes(body, MAX_SDP).await.map_err(|_| {
        answer::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TOO_LARGE",
            "The body is longer than 64 KiB, or broke off.",
            None,
        )
    })
}

fn reached(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ReachedAt>().map(|at| at.0.ip())
}

fn made(webrtc: &WebRtc, created: &Created, at: &str) -> Answer {
    let mut answer = answer::ok(SDP, answer::FRESH, created.answer.clone());
    *answer.status_mut() = StatusCode::CREATED;
    set(&mut answer, header::LOCATION, at);
    set(&mut answer, header::ETAG, &created.etag);
    set(&mut answer, ACCEPT_PATCH, FRAGMENT);
    if let Some(lacks) = &created.lacks {
        set(&mut answer, LACKS, lacks);
    }
    for server in webrtc.ice_servers() {
        if let Ok(link) = HeaderValue::from_str(&link(server)) {
            answer.headers_mut().append(header::LINK, link);
        }
    }
    answer
}

/// RFC 9725 4.6.
fn link(server: &IceServer) -> String {
    let mut link = format!("<{}>; rel=\"ice-server\"", server.url);
    if let Some((name, password)) = &server.login {
        link += &format!(
            "; username=\"{name}\"; credential=\"{}\"; credential-type=\"password\"",
            password.expose()
        );
    }
    link
}

fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

fn failed(why: &SessionError) -> Answer {
    let (status, word, retry) = match why {
        SessionError::Sdp(_) | SessionError::Offer(_) => {
            (StatusCode::BAD_REQUEST, "INVALID_OFFER", None)
        }
        SessionError::Unsendable(_) => (StatusCode::NOT_ACCEPTABLE, "NOT_ACCEPTABLE", None),
        SessionError::Full => (
            StatusCode::SERVICE_UNAVAILABLE,
            "TOO_MANY_SESSIONS",
            Some(2),
        ),
        SessionError::Refused(Refusal::Unknown(_)) => {
            (StatusCode::NOT_FOUND, "STREAM_KEY_NOT_FOUND", None)
        }
        SessionError::Refused(Refusal::Forbidden(_)) => {
            (StatusCode::FORBIDDEN, "PUBLISHING_DENIED", None)
        }
        SessionError::Refused(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", Some(1)),
    };
    answer::error(status, word, &why.to_string(), retry)
}

fn unpatched(why: &PatchError) -> Answer {
    let (status, word) = match why {
        PatchError::Unknown => (StatusCode::NOT_FOUND, "SESSION_NOT_FOUND"),
        PatchError::NoTag => (StatusCode::PRECONDITION_REQUIRED, "PRECONDITION_REQUIRED"),
        PatchError::Tag => (StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED"),
        PatchError::Bad(_) => (StatusCode::BAD_REQUEST, "INVALID_FRAGMENT"),
    };
    answer::error(status, word, &why.to_string(), None)
}
