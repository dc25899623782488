//! From a request to an answer: who asks, may they, and what for.
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
};
use routing::model::{PlaybackId, Prefix};
use serde_json::json;

use super::{
    Http,
    answer::{self, Answer},
    dash, file, hls,
    path::{self, BadPath, Target},
    webrtc,
};
use crate::{
    hls::{Container, viewer_mark},
    page,
    ports::{OverTls, Pathway, Protocol, Refusal, Viewer},
};

/// A viewer who was sent here by another node is not sent on.
pub(super) const SENT: &str = "shoal_from";
/// A broadcast that is about to start is waited for this long.
pub(super) const LEASE: Duration = Duration::from_secs(5);

pub(super) async fn handle(State(http): State<Http>, request: Request) -> Answer {
    let (request, body) = request.into_parts();
    if let Ok((id, Target::WebRtc(session))) = path::read(request.uri.path()) {
        let viewer = viewer(&http, &request, Protocol::WebRtc);
        let answer = webrtc::whep(&http, id, session.as_deref(), &viewer, (request, body));
        return signed(&http, answer.await);
    }
    let head = match request.method {
        Method::GET => false,
        Method::HEAD => true,
        Method::OPTIONS => return answer::preflight("GET, HEAD, OPTIONS", "*"),
        _ => {
            let mut answer = answer::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                "Only GET, HEAD and OPTIONS are answered here.",
                None,
            );
            let allow = header::HeaderValue::from_static("GET, HEAD, OPTIONS");
            answer.headers_mut().insert(header::ALLOW, allow);
            return answer;
        }
    };
    let answer = signed(&http, answer(&http, &request).await);
    if head { without_body(answer) } else { answer }
}

/// Says which node answered.
pub(super) fn signed(http: &Http, answer: Result<Answer, Answer>) -> Answer {
    let mut answer = answer.unwrap_or_else(|e| e);
    if let Ok(label) = header::HeaderValue::from_str(http.node.label().as_str()) {
        answer.headers_mut().insert(answer::NODE, label);
    }
    answer
}

/// The headers alone; the length stays that of the body.
fn without_body(mut answer: Answer) -> Answer {
    let length = hyper::body::Body::size_hint(answer.body()).exact();
    if let Some(length) = length {
        answer
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
    }
    *answer.body_mut() = Body::empty();
    answer
}

async fn answer(http: &Http, request: &Parts) -> Result<Answer, Answer> {
    let query = request.uri.query().unwrap_or("");
    let headers = &request.headers;
    let (id, target) = path::read(request.uri.path()).map_err(bad_path)?;
    let viewer = viewer(http, request, protocol(&target));
    match &target {
        Target::Redirect(to) => {
            let query = request.uri.query().map(|q| format!("?{q}"));
            let slash = if to.is_empty() { "" } else { "/" };
            let to = format!("/play/{id}{slash}{to}{}", query.unwrap_or_default());
            return Ok(answer::redirect(&to));
        }
        Target::Page if wants_html(headers) => {
            http.gate.may_watch(id, &viewer).await.map_err(refused)?;
            let html = page::player_html(id);
            let mut answer = answer::ok("text/html; charset=utf-8", answer::FRESH, html);
            let policy = page::content_security_policy(viewer.host.as_deref());
            let headers = answer.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            headers.insert(header::VARY, header::HeaderValue::from_static("accept"));
            return Ok(answer);
        }
        Target::Page | Target::Resolve => {
            let found = http.resolve.resolve(id, &viewer).await.map_err(refused)?;
            return Ok(answer::ok(
                "application/json",
                answer::FRESH,
                found.to_string(),
            ));
        }
        _ => {}
    }
    let watch = match http.gate.may_watch(id, &viewer).await {
        Ok(watch) => watch,
        Err(why) => return Err(sent_on_or(http, id, &viewer, request, why)),
    };
    if target == Target::Steering {
        return Ok(steering(http, id, &viewer));
    }
    if let Target::File(form) = target {
        let follow = http.audience.follow(watch, &viewer, file::takes(form));
        return file::file(leased(follow).await?, form).await;
    }
    let watched = leased(http.hub.watch(watch.broadcast)).await?;
    let agent = headers
        .get(header::USER_AGENT)
        .map_or(&b""[..], |v| v.as_bytes());
    watched.touch(viewer_mark(viewer.prefix, agent), http.clock.uptime());
    match target {
        Target::Mpd => dash::index(http, &watched).await,
        Target::Time => dash::time(http, &watched).await,
        Target::Index(container) => hls::index(&watched, container).await,
        Target::Playlist(container, name) => {
            hls::playlist(http, &watched, (container, &name), query).await
        }
        Target::Init(epoch, name, n) => hls::init(&watched, (epoch, &name, n), headers).await,
        Target::Media(epoch, name, at) => hls::media(&watched, (epoch, &name, at), headers).await,
        Target::Page
        | Target::Resolve
        | Target::Steering
        | Target::Redirect(_)
        | Target::File(_)
        | Target::WebRtc(_) => Err(bad_path(BadPath::Unknown)),
    }
}

/// What a lease gives, in time.
async fn leased<T>(lease: impl Future<Output = Result<T, Refusal>>) -> Result<T, Answer> {
    tokio::time::timeout(LEASE, lease)
        .await
        .map_err(|_| hls::not_live())?
        .map_err(|why| match why {
            // The stream is known: whoever leases it knows only that it cannot be had now.
            Refusal::Unknown(_) | Refusal::Unavailable(_) => hls::not_live(),
            why @ Refusal::Forbidden(_) => refused(why),
        })
}

fn protocol(target: &Target) -> Protocol {
    match target {
        Target::Index(Container::Ts) | Target::Playlist(Container::Ts, _) => Protocol::Hls,
        Target::Media(_, name, _) if name == "ts" => Protocol::Hls,
        Target::Mpd | Target::Time => Protocol::Dash,
        Target::File(_) => Protocol::Progressive,
        _ => Protocol::Cmaf,
    }
}

pub(super) fn viewer(http: &Http, request: &Parts, protocol: Protocol) -> Viewer {
    let headers = &request.headers;
    let peer = request
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |ConnectInfo(a)| a.ip());
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let host = request.uri.host().or(host.map(without_port));
    Viewer {
        prefix: Prefix::of_viewer(http.resolve.viewer_address(peer, headers)),
        protocol,
        host: host.map(str::to_ascii_lowercase),
        secure: request.extensions.get::<OverTls>().is_some(),
    }
}

/// A host without its port; an IPv6 address keeps its brackets.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("text/html"))
}

/// Whether another node sent the caller here.
pub(super) fn was_sent(request: &Parts) -> bool {
    let query = request.uri.query().unwrap_or("");
    query.split('&').any(|p| p.starts_with(SENT))
}

/// Why a viewer may not watch; one whom another node may serve is sent there, once.
pub(super) fn sent_on_or(
    http: &Http,
    id: PlaybackId,
    viewer: &Viewer,
    request: &Parts,
    why: Refusal,
) -> Answer {
    let elsewhere = matches!(why, Refusal::Unavailable(_))
        .then(|| elsewhere(http, id, viewer, request))
        .flatten();
    elsewhere.unwrap_or_else(|| refused(why))
}

/// To the best other node.
fn elsewhere(http: &Http, id: PlaybackId, viewer: &Viewer, request: &Parts) -> Option<Answer> {
    if was_sent(request) {
        return None;
    }
    let (path, query) = (request.uri.path(), request.uri.query().unwrap_or(""));
    let own = http.node.label();
    let ways = http.resolve.pathways(id, viewer);
    let way = ways.iter().find(|w| w.id != own.as_str())?;
    let and = if query.is_empty() { "" } else { "&" };
    Some(answer::redirect(&format!(
        "{}{path}?{query}{and}{SENT}={own}",
        way.base_url
    )))
}

/// A Content Steering manifest (RFC 8216bis 7.1): the pathway of the playlist itself first where this node is among
/// those that can serve, then every other node as a clone of it under that node's own name.
fn steering(http: &Http, id: PlaybackId, viewer: &Viewer) -> Answer {
    let own = http.node.label();
    let ways = http.resolve.pathways(id, viewer);
    let here = ways.is_empty() || ways.iter().any(|w| w.id == own.as_str());
    let others = || ways.iter().filter(|w| w.id != own.as_str());
    let mut priority: Vec<&str> = others().map(|w| w.id.as_str()).collect();
    priority.insert(
        if here { 0 } else { priority.len() },
        crate::hls::BASE_PATHWAY,
    );
    let clones: Vec<_> = others()
        .map(|way| {
            json!({
                "BASE-ID": crate::hls::BASE_PATHWAY,
                "ID": way.id,
                "URI-REPLACEMENT": { "HOST": host(way) },
            })
        })
        .collect();
    let manifest = json!({
        "VERSION": 1,
        "TTL": 5,
        "RELOAD-URI": format!("/play/{id}/steering"),
        "PATHWAY-PRIORITY": priority,
        "PATHWAY-CLONES": clones,
    });
    let kind = "application/vnd.apple.steering-list";
    answer::ok(kind, answer::FRESH, manifest.to_string())
}

/// Host and port, the port always said: a player that replaces only the host would keep the old port.
fn host(way: &Pathway) -> String {
    let (scheme, rest) = way
        .base_url
        .split_once("://")
        .unwrap_or(("https", &way.base_url));
    let host = rest.split('/').next().unwrap_or(rest);
    if without_port(host) != host {
        return host.to_owned();
    }
    let port = if scheme == "http" { 80 } else { 443 };
    format!("{host}:{port}")
}

fn bad_path(why: BadPath) -> Answer {
    let (status, word, text) = match why {
        BadPath::Missing => (
            StatusCode::BAD_REQUEST,
            "MISSING_VIEW_KEY",
            "The path has no playback id: it is /play/ID.",
        ),
        BadPath::Id => (
            StatusCode::BAD_REQUEST,
            "INVALID_VIEW_KEY",
            "This is not a playback id: it has 16 letters and digits.",
        ),
        BadPath::Unknown => (
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "There is nothing at this path. Playlists are at /play/ID/cmaf/index.m3u8 and /play/ID/hls/index.m3u8, DASH is at /play/ID/cmaf/index.mpd.",
        ),
        BadPath::Protocol => (
            StatusCode::NOT_FOUND,
            "PROTOCOL_NOT_AVAILABLE",
            "This stream is not to be had in this protocol. Use /play/ID/cmaf/index.m3u8, /play/ID/hls/index.m3u8, /play/ID/cmaf/index.mpd, or /play/ID.mp4.",
        ),
    };
    answer::error(status, word, text, None)
}

pub(super) fn refused(why: Refusal) -> Answer {
    match why {
        Refusal::Unknown(text) => {
            answer::error(StatusCode::NOT_FOUND, "VIEW_KEY_NOT_FOUND", &text, None)
        }
        Refusal::Forbidden(text) => {
            answer::error(StatusCode::FORBIDDEN, "PLAYBACK_ACCESS_DENIED", &text, None)
        }
        Refusal::Unavailable(text) => answer::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "REMOTE_ARTIFACT_UNAVAILABLE",
            &text,
            Some(1),
        ),
    }
}
