//! The gateway's paths: `/graphql`, `/healthz`, `/readyz`, and the console's.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use async_graphql::{Request, Response as Answer, Value};
use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{
        ConnectInfo, DefaultBodyLimit, FromRequestParts as _, State, WebSocketUpgrade,
        rejection::BytesRejection,
    },
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{
    console,
    gateway::{Auth, Gateway, MAX_BODY, Session, failure},
    graphql::error::code,
    ws,
};

/// The header that names a mutation, so that a repeated one is answered and not done again.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The answer's header that says how safe what was written is: `REPLICATED` or `LOCAL`.
pub const ACKNOWLEDGEMENT: &str = "shoal-acknowledgement";
const MAX_IDEMPOTENCY_KEY: usize = 128;

/// The gateway's and the console's routes. A caller's address is taken from axum's
/// `ConnectInfo<SocketAddr>` extension; without it a caller has no place, and is no operator.
pub fn router(gateway: &Gateway) -> Router {
    let graphql = get(graphql_get).post(graphql_post).options(preflight);
    Router::new()
        .route("/graphql", graphql.layer(DefaultBodyLimit::max(MAX_BODY)))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .merge(console::router())
        .with_state(gateway.clone())
}

pub(crate) type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

pub(crate) fn address(peer: &Peer) -> IpAddr {
    peer.as_ref()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Extension(info)| {
            info.0.ip().to_canonical()
        })
}

/// The bearer token of a request (RFC 6750 section 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    bearer_text(value)
}

pub(crate) fn bearer_text(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= 512)
        .then_some(token)
}

async fn graphql_post(
    State(gateway): State<Gateway>,
    peer: Peer,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let message = format!(
                "the request's body was not read: {rejection}; at most {MAX_BODY} bytes are"
            );
            return reply(
                rejection.status(),
                failure(code::VALIDATION_ERROR, &message),
            );
        }
    };
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .is_some_and(|v| v.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        let message = "send the request as Content-Type: application/json";
        let answer = failure(code::VALIDATION_ERROR, message);
        return reply(StatusCode::UNSUPPORTED_MEDIA_TYPE, answer);
    }
    let bad = |message: &str| {
        reply(
            StatusCode::BAD_REQUEST,
            failure(code::VALIDATION_ERROR, message),
        )
    };
    if body.trim_ascii_start().starts_with(b"[") {
        return bad("several requests in one are not answered: send them one by one");
    }
    let request = match serde_json::from_slice::<Request>(&body) {
        Ok(request) => request,
        Err(error) => return bad(&format!("the body is no GraphQL request: {error}")),
    };
    let idempotency = match headers.get(IDEMPOTENCY_KEY).map(HeaderValue::to_str) {
        None => None,
        Some(Ok(key)) if (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()) => Some(key.to_owned()),
        Some(_) => return bad("an Idempotency-Key has 1 to 128 printable ASCII characters"),
    };
    let auth = Auth::of(&gateway.deps.records.config(), bearer(&headers));
    let session = Session::new(auth, address(&peer), idempotency);
    reply(StatusCode::OK, gateway.execute(request, session).await)
}

pub(crate) fn reply(status: StatusCode, answer: Answer) -> Response {
    let acknowledgement = match answer.extensions.get("acknowledgement") {
        Some(Value::String(word)) => HeaderValue::from_str(word).ok(),
        _ => None,
    };
    let mut response = (status, Json(answer)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(word) = acknowledgement {
        headers.insert(ACKNOWLEDGEMENT, word);
    }
    open_to_pages(headers);
    response
}

/// Lets pages of other sites ask: what they get they prove by a token, never by a cookie.
fn open_to_pages(headers: &mut HeaderMap) {
    let any = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    let exposed = HeaderValue::from_static(ACKNOWLEDGEMENT);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

async fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    open_to_pages(headers);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, idempotency-key",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

const HINT: &str = "This is Shoal's GraphQL endpoint.\n\n\
    Queries and mutations: POST a JSON body {\"query\": \"…\", \"variables\": {…}} here, with Content-Type: application/json and\n\
    Authorization: Bearer TOKEN. Subscriptions: WebSocket here, subprotocol graphql-transport-ws.\n";

async fn graphql_get(State(gateway): State<Gateway>, peer: Peer, mut parts: Parts) -> Response {
    if parts.method != Method::GET || !parts.headers.contains_key(header::UPGRADE) {
        return HINT.into_response();
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.protocols([ws::PROTOCOL]),
        Err(rejection) => return rejection.into_response(),
    };
    if upgrade.selected_protocol().is_none() {
        let message = "a WebSocket here speaks graphql-transport-ws: name that subprotocol\n";
        return (StatusCode::BAD_REQUEST, message).into_response();
    }
    let Ok(permit) = gateway.deps.sockets.clone().try_acquire_owned() else {
        let message = "too many WebSockets are open at this node: try again, or another node\n";
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    let token = bearer(&parts.headers).map(|t| routing::model::Secret::new(t.to_owned()));
    let addr = address(&peer);
    upgrade
        .max_message_size(MAX_BODY)
        .max_frame_size(MAX_BODY)
        .on_upgrade(move |socket| async move {
            ws::serve(socket, gateway, addr, token).await;
            drop(permit);
        })
}

async fn ready(State(gateway): State<Gateway>) -> Response {
    let checks = gateway.deps.ready.checks();
    let ready = checks.iter().all(|c| c.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "ready": ready, "checks": checks }))).into_response()
}
