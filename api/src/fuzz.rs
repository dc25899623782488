//! What clients send, under any bytes: documents, ids, cursors, bodies, WebSocket messages.
use std::sync::LazyLock;

use async_graphql::{Request, Response, Value, Variables};
use axum::http::{StatusCode, uri::Authority};
use futures::executor::block_on;
use fuzz_kit::{Input, join};
use mesh::records::{KeyId, TokenId};
use routing::model::{PlaybackId, StreamId};

use crate::{
    console::LoopbackOnly,
    gateway,
    graphql::{
        self, Schema,
        id::{self, Kind},
        input,
        page::{ConnectionInput, MAX_PAGE, cut, read_cursor, write_cursor},
    },
    http::{self, bearer_text},
    limits,
    ports::{Caller, Operators as _},
    ws,
};

fuzz_kit::targets! {
    graphql_document: document, document_seeds;
    graphql_body: body, body_seeds;
    graphql_id: ids, id_seeds;
    graphql_page: page, page_seeds;
    graphql_input: names, name_seeds;
    graphql_socket: socket, socket_seeds;
    graphql_forwarded: forwarded, forwarded_seeds;
    http_caller: caller, caller_seeds;
}

/// All targets.
#[must_use]
pub fn targets() -> Vec<fuzz_kit::Target> {
    TARGETS.to_vec()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A schema that knows nothing but itself: enough to answer an introspection.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| graphql::builder().finish());
/// No introspection that is let through answers more. The usual tools' question takes 60 KB.
const MAX_ANSWER: usize = 4 << 20;

/// Checks a request's limits; answers it where it asks only about the schema.
fn check(mut request: Request) {
    let variables = request.variables.clone();
    let checked = limits::check(&mut request);
    assert_eq!(request.variables, variables, "the variables stay");
    let Ok(shape) = checked else { return };
    if shape.introspection {
        assert!(!shape.of_tenant, "the schema is asked for alone");
        let answer = block_on(SCHEMA.execute(request.only_introspection()));
        let length = answer.data.to_string().len();
        assert!(length <= MAX_ANSWER, "an answer of {length} bytes");
    }
}

fn document(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (operation, variables) = (text(input.block()), input.block());
    let mut request = Request::new(text(input.rest()));
    if !operation.is_empty() {
        request = request.operation_name(operation);
    }
    if let Ok(variables) = serde_json::from_slice(variables) {
        request = request.variables(Variables::from_json(variables));
    }
    check(request);
}

fn document_seeds() -> Vec<Vec<u8>> {
    let of = |operation: &str, variables: &str, document: &str| {
        [join([operation, variables]), document.as_bytes().to_vec()].concat()
    };
    let nested = "{ __schema { types { name kind fields(includeDeprecated: true) { name args { name type { name ofType { name } } } type { name kind ofType { name kind } } } } } }";
    vec![
        of("", "", nested),
        of(
            "",
            "",
            "{ a: __type(name: \"Stream\") { ...T } b: __typename } fragment T on __Type { possibleTypes { name } inputFields { name } interfaces { name } }",
        ),
        of(
            "q",
            r#"{"p":{"first":20}}"#,
            "query q($p: ConnectionInput = {first: 500}) { streamsConnection(page: $p) { edges { cursor node { id name metrics { status } } } pageInfo { endCursor } } } query r { __typename }",
        ),
        of(
            "",
            "",
            "mutation { createStream(input: { name: \"a\\u00e9\", description: \"\"\"b\"\"\" }) { ... on Stream { playbackId streamKey } ... on Error { message code } } }",
        ),
        of(
            "",
            "",
            "subscription { liveStreamEvents(streamId: \"x\") { id ... @include(if: true) { type } } }",
        ),
        of(
            "",
            "",
            "query { ...a } fragment a on Query { ...b ...b } fragment b on Query { resolveViewerEndpoint(contentId: \"abcdefgh12345678\") { primary { url } } }",
        ),
    ]
}

fn body(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        check(request);
    }
}

fn body_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"query":"{ __typename }"}"#,
        r#"{"query":"query q($a: Int) { a(b: $a) { c } }","operationName":"q","variables":{"a":1e3,"b":[null,{"c":"\ud83d\udc1f"}]},"extensions":{"persistedQuery":{"version":1}}}"#,
    ]
    .map(|b| b.as_bytes().to_vec())
    .into()
}

/// What was read is named by its global id, and that is read as the same.
fn read<T>(kind: Kind, any: &str)
where
    T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug,
{
    if let Ok(raw) = id::read::<T>(kind, any) {
        let global = kind.global(&raw.to_string());
        assert_eq!(id::read::<T>(kind, &global).as_ref(), Ok(&raw));
    }
}

fn ids(bytes: &[u8]) {
    let any = text(bytes);
    read::<StreamId>(Kind::Stream, any);
    read::<KeyId>(Kind::StreamKey, any);
    read::<u64>(Kind::StreamEvent, any);
    if let Ok(id) = any.parse::<TokenId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(id) = any.parse::<PlaybackId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

fn id_seeds() -> Vec<Vec<u8>> {
    let stream = StreamId::from_bytes([7; 16]).to_string();
    let key = KeyId::from_bytes([8; 16]).to_string();
    vec![
        Kind::Stream.global(&stream).0.into_bytes(),
        Kind::StreamKey.global(&key).0.into_bytes(),
        Kind::StreamEvent.global("77").0.into_bytes(),
        stream.into_bytes(),
        key.into_bytes(),
    ]
}

/// A page is a run of the list, no longer than was asked for, between the cursors that were given.
fn page(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let [count, flags] = input.array();
    let mut number = |flag| {
        let number = input.word().cast_signed();
        (flags & flag != 0).then_some(number)
    };
    let (first, last) = (number(1), number(2));
    let cursor = |n: &u64| (*n, format!("id{n}"));
    let mut place = |flag| {
        let block = input.block();
        let text = match block {
            [n] => write_cursor(&cursor(&u64::from(*n))),
            _ => text(block).to_owned(),
        };
        (flags & flag != 0).then_some(text)
    };
    let asked = ConnectionInput {
        first,
        last,
        after: place(4),
        before: place(8),
    };
    let items: Vec<u64> = (0..u64::from(count)).map(|n| n * 2).collect();
    let Ok(page) = cut(items.clone(), Some(&asked), cursor) else {
        return;
    };
    assert!(page.edges.len() <= usize::try_from(MAX_PAGE).unwrap_or(0));
    let got: Vec<u64> = page.edges.iter().map(|(_, n)| *n).collect();
    assert!(items.is_empty() || got.is_empty() || items.windows(got.len()).any(|w| w == got));
    let after = asked.after.and_then(|c| read_cursor("", &c).ok());
    let before = asked.before.and_then(|c| read_cursor("", &c).ok());
    for (text, n) in &page.edges {
        let at = cursor(n);
        assert_eq!(read_cursor("", text).ok().as_ref(), Some(&at));
        assert!(after.as_ref().is_none_or(|after| at > *after));
        assert!(before.as_ref().is_none_or(|before| at < *before));
    }
}

fn page_seeds() -> Vec<Vec<u8>> {
    let of = |head: [u8; 10], cursors: [&[u8]; 2]| [head.to_vec(), join(cursors)].concat();
    vec![
        of([20, 5, 0, 0, 0, 4, 0, 0, 0, 0], [&[6], b""]),
        of([20, 10, 0, 0, 0, 0, 0, 0, 0, 3], [b"", &[21]]),
        of([9, 13, 0, 0, 1, 244, 0, 0, 0, 0], [b"Nnxp", b"MTZ8aWQxNg"]),
    ]
}

/// What is taken as a name is short, without space around it, and stays what it is.
fn names(bytes: &[u8]) {
    let any = text(bytes);
    if let Ok(name) = input::name(any) {
        assert!((1..=256).contains(&name.len()) && name.trim() == name);
        assert_eq!(input::name(&name).ok(), Some(name));
    }
    if input::description(any).is_ok() {
        assert!(any.len() <= 4_096);
    }
}

fn name_seeds() -> Vec<Vec<u8>> {
    [" Main stage ", "a\tb", "\u{1f41f}\u{a0}"]
        .map(|n| n.as_bytes().to_vec())
        .into()
}

fn socket(bytes: &[u8]) {
    ws::bear(text(bytes), check);
}

fn socket_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"type":"connection_init","payload":{"Authorization":"Bearer shoal_x"}}"#,
        r#"{"type":"subscribe","id":"1","payload":{"query":"{ __schema { queryType { name } } }"}}"#,
        r#"{"type":"complete","id":"1"}"#,
        r#"{"type":"ping","payload":{"a":[1]}}"#,
        r#"{"type":"pong"}"#,
    ]
    .map(|m| m.as_bytes().to_vec())
    .into()
}

/// What nodes pass on for each other: a request, and the answer to it, which becomes an answer of this node's.
fn forwarded(bytes: &[u8]) {
    gateway::bear(bytes, check);
    if let Ok(answer) = serde_json::from_slice::<Response>(bytes) {
        let word = answer.extensions.get("acknowledgement").cloned();
        let sent = http::reply(StatusCode::OK, answer);
        if let Some(header) = sent.headers().get(http::ACKNOWLEDGEMENT) {
            let said = header.to_str().map(|h| Value::String(h.to_owned())).ok();
            assert_eq!(said, word);
        }
    }
}

fn forwarded_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"token":"shoal_x","request":{"query":"{ streamsConnection { totalCount } }"},"idempotencyKey":"k","addr":"192.0.2.1"}"#,
        r#"{"data":{"createStream":{"id":"x"}},"extensions":{"acknowledgement":"LOCAL"}}"#,
        r#"{"data":null,"errors":[{"message":"no","locations":[{"line":1,"column":2}],"path":["a",0],"extensions":{"code":"X"}}]}"#,
    ]
    .map(|b| b.as_bytes().to_vec())
    .into()
}

/// Who asks from elsewhere is no operator, whatever the headers say.
fn caller(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (addr, host) = (
        std::net::IpAddr::from(input.array::<4>()),
        text(input.block()),
    );
    let header = text(input.rest());
    let token = bearer_text(header);
    if let Some(token) = token {
        assert!((1..=512).contains(&token.len()) && header.trim_end().ends_with(token));
    }
    let named = host.parse::<Authority>();
    let host = named.as_ref().map_or("", Authority::host);
    let admitted = LoopbackOnly.admits(Caller {
        addr,
        host: Some(host),
        token,
    });
    assert!(!admitted || addr.is_loopback(), "{addr} with {host}");
}

fn caller_seeds() -> Vec<Vec<u8>> {
    let of = |addr: [u8; 4], host: &str, header: &str| {
        [addr.to_vec(), join([host]), header.as_bytes().to_vec()].concat()
    };
    vec![
        of([127, 0, 0, 1], "localhost:8080", "Bearer shoal_abc"),
        of([127, 0, 0, 1], "[::1]:80", "bearer  x "),
        of([192, 0, 2, 1], "evil.example", "Basic x"),
    ]
}
