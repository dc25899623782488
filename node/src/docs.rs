//! The guide for users, `node/guide/*.md`, as pages under `/docs`.
use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use pulldown_cmark::{Options, Parser, html::push_html};

/// By the last part of its path.
const PAGES: [(&str, &str); 5] = [
    ("index", include_str!("../guide/index.md")),
    ("streams", include_str!("../guide/streams.md")),
    ("names", include_str!("../guide/names.md")),
    ("operating", include_str!("../guide/operating.md")),
    ("trust", include_str!("../guide/trust.md")),
];

const STYLE: &str = "body{font:16px/1.6 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;\
    color:#12303a;background:#f4f8fa}a{color:#0a7d94}code,pre{font:14px/1.5 ui-monospace,monospace;background:#e3eef2;\
    border-radius:4px}code{padding:.1em .3em}pre{padding:.8em 1em;overflow:auto}pre code{padding:0}table{border-collapse:\
    collapse;width:100%}td,th{text-align:left;padding:.4em .6em;border-bottom:1px solid #cfdfe5;vertical-align:top}nav{\
    display:flex;gap:1rem;flex-wrap:wrap}@media(prefers-color-scheme:dark){body{color:#d6e6ec;background:#0b1a22}a{color:\
    #5cc8de}code,pre{background:#12303a}td,th{border-color:#234a58}}";

static RENDERED: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| {
    PAGES
        .iter()
        .map(|(name, text)| (*name, page(text)))
        .collect()
});

/// A page's title: its first line, a heading.
fn heading(text: &str) -> &str {
    text.lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("# ")
}

fn page(text: &str) -> String {
    let title = heading(text);
    let links = PAGES.iter().skip(1).map(|(name, text)| {
        let title = heading(text);
        format!("<a href=\"/docs/{name}\">{title}</a>")
    });
    let links: String = links.collect::<Vec<_>>().join(" ");
    let mut body = String::new();
    push_html(&mut body, Parser::new_ext(text, Options::ENABLE_TABLES));
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title} – Shoal</title><style>{STYLE}</style><nav><a href=\"/\">Console</a> <a href=\"/docs/index\">Guide</a> \
         {links}</nav>{body}</html>"
    )
}

/// `/docs` and the pages under it.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            "/docs",
            get(|| async { Redirect::permanent("/docs/index") }),
        )
        .route("/docs/{name}", get(show))
}

async fn show(Path(name): Path<String>) -> Response {
    match RENDERED.iter().find(|(known, _)| *known == name) {
        Some((_, page)) => {
            let policy = "default-src 'none'; style-src 'unsafe-inline'";
            (
                [(header::CONTENT_SECURITY_POLICY, policy)],
                Html(page.as_str()),
            )
                .into_response()
        }
        None => (
            StatusCode::NOT_FOUND,
            "the guide has no such page: see /docs\n",
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_pages_lead_somewhere() {
        for (name, text) in PAGES {
            for (_, rest) in text
                .match_indices("](")
                .map(|(at, _)| text.split_at(at + 2))
            {
                let target = rest.split(')').next().unwrap_or_default();
                assert!(
                    PAGES.iter().any(|(known, _)| *known == target),
                    "{name} links to {target}"
                );
            }
        }
        assert!(page(PAGES[2].1).contains("<table>"));
    }
}
