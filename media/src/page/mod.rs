//! The player page: our own script, served as it is written, asking nothing of any other site.
//!
//! [`player_html`] is the page of `/play/ID`, to be sent with [`content_security_policy`]; [`router`] has what it
//! loads, under `/play/_assets/VERSION/`, where VERSION is a hash over all of it: a page always gets the scripts that
//! it was made with, and those may be kept for ever.
//!
//! ```text
//! player.js (face) ── engine.js (start, distance, stalls, epochs) ── track.js (one rendition) ── playlist.js (parsing)
//!      └── route.js (drawing)        └── pathways.js (which node; Content Steering, silence)
//! ```
use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use routing::model::PlaybackId;
use sha2::{Digest, Sha256};

/// Name, content type, content.
type Asset = (&'static str, &'static str, &'static str);

const SCRIPT: &str = "text/javascript; charset=utf-8";
const ASSETS: [Asset; 8] = [
    ("player.js", SCRIPT, include_str!("player.js")),
    ("engine.js", SCRIPT, include_str!("engine.js")),
    ("track.js", SCRIPT, include_str!("track.js")),
    ("playlist.js", SCRIPT, include_str!("playlist.js")),
    ("pathways.js", SCRIPT, include_str!("pathways.js")),
    ("route.js", SCRIPT, include_str!("route.js")),
    (
        "player.css",
        "text/css; charset=utf-8",
        include_str!("player.css"),
    ),
    ("shoal.svg", "image/svg+xml", include_str!("shoal.svg")),
];

/// The first 12 hexadecimal digits of a hash over all assets.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (name, _, text) in ASSETS {
        // Lengths keep the border between name and text.
        for part in [name, text] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())[..12].to_owned()
});

/// The page's scripts, style and icon: `GET /play/_assets/VERSION/NAME`.
pub fn router() -> Router {
    Router::new().route("/play/_assets/{version}/{name}", get(asset))
}

async fn asset(Path((version, name)): Path<(String, String)>) -> Response {
    let Some((_, kind, text)) = ASSETS.iter().find(|(n, ..)| *n == name) else {
        return (
            StatusCode::NOT_FOUND,
            "There is no such file of the player.\n",
        )
            .into_response();
    };
    // Another version is asked for while nodes of one name run different programs: the page gets what there is,
    // and nobody keeps it.
    let keep = if version == *VERSION {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CACHE_CONTROL, keep),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, *text).into_response()
}

/// The page that plays `id`.
#[must_use]
pub fn player_html(id: PlaybackId) -> String {
    include_str!("index.html")
        .replace("{{version}}", &VERSION)
        .replace("{{id}}", &id.to_string())
}

/// The `Content-Security-Policy` of the page as asked for under `host` (without port): scripts and styles are ours
/// alone, and the page may fetch from this host and from its siblings, which are the other nodes' names under the
/// same tenant or cluster. A page that was asked for by an address, or by a name without a parent, may fetch from any
/// host, since nothing says which are ours.
#[must_use]
pub fn content_security_policy(host: Option<&str>) -> HeaderValue {
    let host = host.unwrap_or_default().to_ascii_lowercase();
    let name = host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let parent = host.split_once('.').map(|(_, parent)| parent).filter(|p| {
        // A last label of digits is an address; a parent of one label is a public suffix.
        let last = p.rsplit('.').next().unwrap_or_default();
        name && p.contains('.') && !last.is_empty() && !last.bytes().all(|b| b.is_ascii_digit())
    });
    let connect = parent.map_or_else(
        || "http: https:".to_owned(),
        |p| format!("http://*.{p}:* https://*.{p}:*"),
    );
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
         connect-src 'self' {connect}; base-uri 'none'; form-action 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(
        "default-src 'self'; media-src 'self' blob:",
    ))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str) -> (StatusCode, axum::http::HeaderMap, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (
            head.status,
            head.headers,
            String::from_utf8(bytes.to_vec()).unwrap(),
        )
    }

    #[tokio::test]
    async fn all_that_the_page_and_its_scripts_name_is_there_to_keep() {
        let html = player_html("abcdefgh12345678".parse().unwrap());
        assert!(html.contains("data-id=\"abcdefgh12345678\"") && !html.contains("{{"));
        let mut wanted: Vec<String> = html
            .split('"')
            .filter(|s| s.starts_with("/play/_assets/"))
            .map(Into::into)
            .collect();
        for (_, _, text) in ASSETS {
            let imports = text
                .split("from \"./")
                .skip(1)
                .filter_map(|s| s.split('"').next());
            wanted.extend(imports.map(|i| format!("/play/_assets/{}/{i}", *VERSION)));
        }
        assert!(wanted.len() > 7, "{wanted:?}");
        for path in wanted {
            let (status, headers, body) = ask(&path).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            assert!(
                headers[header::CACHE_CONTROL]
                    .to_str()
                    .unwrap()
                    .contains("immutable")
            );
            let script = path.ends_with(".js");
            assert_eq!(script, headers[header::CONTENT_TYPE] == SCRIPT, "{path}");
            assert!(!body.is_empty());
        }
    }

    #[tokio::test]
    async fn another_version_is_served_but_not_kept_and_other_names_are_not_found() {
        let (status, headers, _) = ask("/play/_assets/000000000000/player.js").await;
        assert_eq!(
            (status, &headers[header::CACHE_CONTROL]),
            (StatusCode::OK, &HeaderValue::from_static("no-store"))
        );
        assert_eq!(ask("/play/_assets/x/mod.rs").await.0, StatusCode::NOT_FOUND);
    }

    #[test]
    fn the_page_may_fetch_from_siblings_only_where_the_name_says_who_they_are() {
        let policy = |host| content_security_policy(host).to_str().unwrap().to_owned();
        let named = policy(Some("foghorn.acme.cdn.shoal.test"));
        assert!(
            named.contains("https://*.acme.cdn.shoal.test:*") && !named.contains("https:;"),
            "{named}"
        );
        for open in [
            Some("127.0.0.2"),
            Some("[::1]"),
            Some("localhost"),
            Some("a.test"),
            Some("evil;.a.b"),
            None,
        ] {
            assert!(
                policy(open).contains("connect-src 'self' http: https:;"),
                "{open:?}"
            );
        }
    }
}
