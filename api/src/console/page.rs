//! What a browser loads of the console: the page, its script and its style, served as they are written.
use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::gateway::Gateway;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page itself.
pub(crate) fn face() -> Response {
    let policy = HeaderValue::from_static(POLICY);
    let mut response = file("text/html; charset=utf-8", include_str!("index.html"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// What the page loads; it holds no secret and needs no guard.
pub(crate) fn router() -> Router<Gateway> {
    let script = || async { file("text/javascript; charset=utf-8", include_str!("console.js")) };
    let style = || async { file("text/css; charset=utf-8", include_str!("console.css")) };
    Router::new()
        .route("/console/console.js", get(script))
        .route("/console/console.css", get(style))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
