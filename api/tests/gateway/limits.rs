//! What is refused before it costs anything, and the schema as it is written down.
use axum::{body::Body, http::Request};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::house::town;

#[test]
fn the_schema_is_the_one_that_is_written_down() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql");
    let now = api::graphql::sdl();
    if std::env::var_os("SHOAL_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == now,
        "api/schema.graphql differs from the schema: look at every difference as a client would, then run this test with SHOAL_BLESS=1"
    );
}

async fn refused(query: &str) -> String {
    let town = town().await;
    let answer = town.house.ask(&town.token, query).await;
    assert_eq!(answer["data"], Value::Null, "{answer}");
    answer["errors"][0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn too_deep_too_costly_and_too_nested_documents_are_refused() {
    let nested = format!("{{ a {}b{} }}", "{ a ".repeat(11), " }".repeat(11));
    assert!(refused(&nested).await.contains("fields deep"));
    let costly = "{ streamsConnection(page: { first: 500 }) { nodes { metrics { status } } } }";
    assert!(refused(costly).await.contains("complexity"));
    let by_default = "query($p: ConnectionInput = { first: 500 }) { streamsConnection(page: $p) { nodes { metrics { status } } } }";
    assert!(refused(by_default).await.contains("complexity"));
    let mut bomb = "query { ...f0 } fragment f30 on Query { __typename }".to_owned();
    for n in 0..30 {
        bomb += &format!(" fragment f{n} on Query {{ ...f{} ...f{} }}", n + 1, n + 1);
    }
    assert!(refused(&bomb).await.contains("expand"));
    let circle = "query { ...a } fragment a on Query { ...b } fragment b on Query { ...a }";
    assert!(refused(circle).await.contains("expand"));
    let types = "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }";
    assert!(refused(types).await.contains("introspection"));
    let mixed = "{ __schema { queryType { name } } streamsConnection { totalCount } }";
    assert!(refused(mixed).await.contains("together"));
    let two = "query a { __typename } query b { __typename }";
    assert!(refused(two).await.contains("operationName"));
    let live = "subscription { liveStreamEvents { id } }";
    assert!(refused(live).await.contains("WebSocket"));
}

#[tokio::test]
async fn tools_can_read_the_schema() {
    let town = town().await;
    let of = "ofType { kind name ".repeat(7) + &"}".repeat(7);
    let query = format!(
        "query IntrospectionQuery {{ __schema {{ queryType {{ name }} types {{ ...T }} directives {{ name args {{ ...I }} }} }} }} fragment T on __Type {{ kind name fields(includeDeprecated: true) {{ name args {{ ...I }} type {{ ...R }} }} inputFields {{ ...I }} possibleTypes {{ ...R }} }} fragment I on __InputValue {{ name type {{ ...R }} defaultValue }} fragment R on __Type {{ kind name {of} }}"
    );
    let body = json!({ "query": query });
    let answer = town.house.ask_with(None, &[], &body).await;
    assert!(answer["errors"].is_null(), "{}", answer["errors"]);
    assert!(
        answer["data"]["__schema"]["types"]
            .as_array()
            .unwrap()
            .len()
            > 30
    );
}

#[tokio::test]
async fn what_is_no_request_gets_a_clear_answer() {
    let town = town().await;
    let long = json!({ "query": " ".repeat(300 * 1024) }).to_string();
    let cases = [
        ("application/json", "[{\"query\":\"{ __typename }\"}]", 400),
        ("application/json", "{", 400),
        ("application/json", "\u{0}\u{1}", 400),
        ("text/plain", "{\"query\":\"{ __typename }\"}", 415),
        ("application/json", long.as_str(), 413),
    ];
    for (kind, body, expected) in cases {
        let request = Request::post("/graphql")
            .header("content-type", kind)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let (status, _, answer) = town.house.call(request, "192.0.2.1").await;
        assert_eq!(status, expected, "{kind} {}", &body[..body.len().min(40)]);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer["errors"][0]["message"].is_string());
    }
    let request = Request::post("/graphql")
        .header("content-type", "application/json")
        .header("idempotency-key", "x".repeat(129))
        .body(Body::from("{\"query\":\"{ __typename }\"}"))
        .unwrap();
    assert_eq!(town.house.call(request, "192.0.2.1").await.0, 400);
    let hint = Request::get("/graphql").body(Body::empty()).unwrap();
    let (status, _, text) = town.house.call(hint, "192.0.2.1").await;
    assert!(status == 200 && text.starts_with(b"This is Shoal"));
}

#[tokio::test]
async fn the_acknowledgement_is_a_header_too_and_pages_of_other_sites_may_ask() {
    let town = town().await;
    let query = r#"mutation { createStream(input: { name: "a" }) { __typename } }"#;
    let request = Request::post("/graphql")
        .header("content-type", "application/json; charset=utf-8")
        .header("authorization", format!("bearer {}", town.token.expose()))
        .header("origin", "https://shop.example")
        .body(Body::from(json!({ "query": query }).to_string()))
        .unwrap();
    let (_, headers, _) = town.house.call(request, "192.0.2.1").await;
    assert_eq!(headers[api::ACKNOWLEDGEMENT], "LOCAL");
    assert_eq!(headers["access-control-allow-origin"], "*");
    let ask = Request::options("/graphql").body(Body::empty()).unwrap();
    let (status, headers, _) = town.house.call(ask, "192.0.2.1").await;
    assert_eq!(status, 204);
    let allowed = headers["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.contains("authorization") && allowed.contains("idempotency-key"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No text, and no mutilated document, takes the gateway down or leaves it without an answer.
    #[test]
    fn any_document_is_answered(
        noise in "\\PC{0,80}",
        cut in 0_usize..120,
        extra in prop::sample::select(vec!["{", "}", "...a", "\"", "$", "(", "@skip(if: true)", "#"]),
    ) {
        let valid = r#"query a($p: ConnectionInput) { streamsConnection(page: $p) { nodes { id ...b } } } fragment b on Stream { name }"#;
        let at = cut.min(valid.len());
        let mutated = format!("{}{extra}{}", &valid[..at], &valid[at..]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let town = town().await;
            for query in [noise.as_str(), mutated.as_str()] {
                let answer = town.house.ask(&town.token, query).await;
                assert!(answer.get("data").is_some() || answer.get("errors").is_some());
            }
        });
    }
}
