//! What a browser loads of the console: the page and its files, served as they are written, nothing of any other site.
//!
//! The files are at `/console/assets/VERSION/NAME`, where VERSION is a hash over all of them: a page gets the scripts
//! that it was made with, and those may be kept for ever.
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::LazyLock,
};

use axum::{
    Router,
    extract::Path,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::gateway::Gateway;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Name, content type, content.
type Asset = (&'static str, &'static str, &'static str);

const SCRIPT: &str = "text/javascript; charset=utf-8";
const ASSETS: [Asset; 4] = [
    ("console.js", SCRIPT, include_str!("assets/console.js")),
    ("map.js", SCRIPT, include_str!("assets/map.js")),
    (
        "console.css",
        "text/css; charset=utf-8",
        include_str!("assets/console.css"),
    ),
    (
        "shoal.svg",
        "image/svg+xml",
        include_str!("assets/shoal.svg"),
    ),
];

/// Tells this program's files from another's; nothing depends on its being hard to forge.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = DefaultHasher::new();
    ASSETS.hash(&mut hash);
    format!("{:016x}", hash.finish())
});

static PAGE: LazyLock<String> =
    LazyLock::new(|| include_str!("assets/index.html").replace("{{version}}", &VERSION));

/// The page itself.
pub(crate) fn face() -> Response {
    let policy = HeaderValue::from_static(POLICY);
    let mut response = file("text/html; charset=utf-8", "no-cache", PAGE.as_str());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// What the page loads; it holds no secret and needs no guard.
pub(crate) fn router() -> Router<Gateway> {
    Router::new().route("/console/assets/{version}/{name}", get(asset))
}

async fn asset(Path((version, name)): Path<(String, String)>) -> Response {
    let Some((_, kind, text)) = ASSETS.iter().find(|(n, ..)| *n == name) else {
        return (
            StatusCode::NOT_FOUND,
            "There is no such file of the console.\n",
        )
            .into_response();
    };
    let keep = if version == *VERSION {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    file(kind, keep, text)
}

fn file(kind: &'static str, keep: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, keep),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_that_the_page_and_its_scripts_name_is_there_to_keep() {
        let mut wanted: Vec<String> = PAGE
            .split('"')
            .filter_map(|s| s.strip_prefix("/console/assets/"))
            .map(Into::into)
            .collect();
        for (_, _, text) in ASSETS {
            let imports = text.split("from \"./").skip(1);
            let imports = imports.filter_map(|s| s.split('"').next());
            wanted.extend(imports.map(|i| format!("{}/{i}", *VERSION)));
        }
        assert!(wanted.len() >= 4, "{wanted:?}");
        for path in wanted {
            let (version, name) = path.split_once('/').unwrap();
            let answer = asset(Path((version.into(), name.into()))).await;
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            let keep = answer.headers()[header::CACHE_CONTROL].to_str().unwrap();
            assert!(keep.contains("immutable"), "{path}");
        }
        let other = asset(Path(("0".into(), "map.js".into()))).await;
        assert_eq!(other.headers()[header::CACHE_CONTROL], "no-store");
        let none = asset(Path(("0".into(), "page.rs".into()))).await;
        assert_eq!(none.status(), StatusCode::NOT_FOUND);
    }
}
