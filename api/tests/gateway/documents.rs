//! Queries and mutations.
use api::ports::LiveFacts;
use routing::model::{
    BitsPerSecond, Codec, StreamId, TrackDetail, TrackKind, TrackSummary, UnixMillis,
};
use serde_json::{Value, json};

use crate::house::{NOW, stranger, town};

/// The migration guide's own documents, word for word.
const PULL: &str = r#"mutation CreateMistPullStream {
createStream(
input: {
name: "Existing Mist origin"
ingestMode: PULL
pullSource: {
sourceUri: "dtsc://mist-origin.example.com:4200/main?pass=shared-secret"
allowedClusters: { clusterIds: [] }
}
}
) {
... on Stream {
id
playbackId
}
}
}"#;

const ERRORS: &str = "__typename ... on ValidationError { message code field constraint } ... on NotFoundError { message code resourceType resourceId } ... on AuthError { message code }";

/// Of unions without a `ValidationError`.
const GONE: &str = "__typename ... on NotFoundError { message code resourceType resourceId } ... on AuthError { message code }";
/// Of unions without a `NotFoundError`.
const MADE: &str = "__typename ... on ValidationError { message code field constraint } ... on AuthError { message code }";

#[tokio::test]
async fn a_stream_is_created_read_changed_and_deleted() {
    let town = town().await;
    let house = &town.house;
    let made = house.make(&town.token, "Main stage").await;
    let (id, uuid) = (
        made["id"].as_str().unwrap(),
        made["streamId"].as_str().unwrap(),
    );
    assert_eq!(
        id,
        data_encoding::BASE64.encode(format!("Stream:{uuid}").as_bytes())
    );
    assert!(made["streamKey"].as_str().unwrap().starts_with("sk_"));
    assert_eq!(made["playbackId"].as_str().unwrap().len(), 16);

    for form in [id, uuid] {
        let query = format!(
            r#"{{ stream(id: "{form}") {{ name streamKey createdAt record ingestMode metrics {{ status isLive currentViewers }} }} }}"#
        );
        let read = house.ask(&town.token, &query).await;
        let stream = &read["data"]["stream"];
        assert_eq!(stream["name"], "Main stage");
        assert_eq!(stream["streamKey"], made["streamKey"]);
        assert_eq!(stream["createdAt"], "2025-11-22T21:42:00.000Z");
        assert_eq!(
            (&stream["record"], &stream["ingestMode"]),
            (&json!(false), &json!("PUSH"))
        );
        let offline = json!({ "status": "OFFLINE", "isLive": false, "currentViewers": 0 });
        assert_eq!(stream["metrics"], offline);
    }

    let update = format!(
        r#"mutation {{ updateStream(id: "{id}", input: {{ name: " Side stage ", description: "Indoors" }}) {{ ... on Stream {{ name description }} {ERRORS} }} }}"#
    );
    let answer = house.ask(&town.token, &update).await;
    assert_eq!(answer["data"]["updateStream"]["name"], "Side stage");
    assert_eq!(answer["data"]["updateStream"]["description"], "Indoors");
    assert_eq!(answer["extensions"]["acknowledgement"], "LOCAL");
    let clear = format!(
        r#"mutation {{ updateStream(id: "{id}", input: {{ description: null }}) {{ ... on Stream {{ name description }} }} }}"#
    );
    let cleared = house.ask(&town.token, &clear).await["data"]["updateStream"].clone();
    assert_eq!(
        cleared,
        json!({ "name": "Side stage", "description": null })
    );

    let delete = format!(
        r#"mutation {{ deleteStream(id: "{uuid}") {{ ... on DeleteSuccess {{ success deletedId pending }} {GONE} }} }}"#
    );
    let gone = house.ask(&town.token, &delete).await["data"]["deleteStream"].clone();
    assert_eq!(
        (&gone["success"], &gone["deletedId"]),
        (&json!(true), &json!(uuid))
    );
    assert_eq!(house.desk.ended.lock().unwrap().len(), 1);
    let again = house.ask(&town.token, &delete).await["data"]["deleteStream"].clone();
    assert_eq!(
        (&again["__typename"], &again["resourceType"]),
        (&json!("NotFoundError"), &json!("Stream"))
    );
    let read = house
        .ask(
            &town.token,
            &format!(r#"{{ stream(id: "{id}") {{ id }} }}"#),
        )
        .await;
    assert_eq!(read, json!({ "data": { "stream": null } }));
}

#[tokio::test]
async fn the_guides_documents_run_and_a_field_without_effect_is_refused_by_name() {
    let town = town().await;
    let answer = town.house.ask(&town.token, PULL).await;
    assert_eq!(answer["data"], json!({ "createStream": {} }));
    let refusal = &answer["extensions"]["refusals"][0];
    assert_eq!(
        (&refusal["path"], &refusal["field"], &refusal["code"]),
        (
            &json!(["createStream"]),
            &json!("ingestMode"),
            &json!("VALIDATION_ERROR")
        )
    );
    let cases = [
        (r#"{ name: "a", record: true }"#, "record"),
        (r#"{ name: "a", ingestMode: PULL }"#, "ingestMode"),
        (
            r#"{ name: "a", pullSource: { sourceUri: "dtsc://a" } }"#,
            "pullSource",
        ),
        (r#"{ name: "  " }"#, "name"),
        (r#"{ name: "a\u0000b" }"#, "name"),
    ];
    for (input, field) in cases {
        let query = format!("mutation {{ createStream(input: {input}) {{ {MADE} }} }}");
        let answer = town.house.ask(&town.token, &query).await;
        let refused = &answer["data"]["createStream"];
        assert_eq!(
            refused["__typename"], "ValidationError",
            "{input}: {answer}"
        );
        assert_eq!(refused["field"], field, "{input}");
        assert_eq!(refused["code"], "VALIDATION_ERROR");
        assert!(
            answer["extensions"]["acknowledgement"].is_null(),
            "nothing was written: {answer}"
        );
    }
    let made = town.house.make(&town.token, "a").await;
    let updates = [
        ("record: true", "record"),
        ("ingestMode: PULL", "ingestMode"),
        ("dvrChapterMode: FIXED_INTERVAL", "dvrChapterMode"),
        ("dvrChapterIntervalSeconds: 60", "dvrChapterIntervalSeconds"),
        ("monitoring: ON", "monitoring"),
    ];
    for (input, field) in updates {
        let id = made["id"].as_str().unwrap();
        let query = format!(
            r#"mutation {{ updateStream(id: "{id}", input: {{ {input} }}) {{ {ERRORS} }} }}"#
        );
        let refused = town.house.ask(&town.token, &query).await["data"]["updateStream"].clone();
        assert_eq!(
            (&refused["__typename"], &refused["field"]),
            (&json!("ValidationError"), &json!(field))
        );
        assert!(refused["message"].as_str().unwrap().contains(field));
    }
    let idle = format!(
        r#"mutation {{ updateStream(id: "{}", input: {{ record: false, ingestMode: PUSH, monitoring: INHERIT }}) {{ __typename }} }}"#,
        made["id"].as_str().unwrap()
    );
    let answer = town.house.ask(&town.token, &idle).await;
    assert_eq!(answer["data"]["updateStream"]["__typename"], "Stream");
}

#[tokio::test]
async fn only_the_tenants_own_things_and_only_with_a_token() {
    let town = town().await;
    let house = &town.house;
    let made = house.make(&town.token, "Mine").await;
    let id = made["id"].as_str().unwrap();
    let read = format!(r#"{{ stream(id: "{id}") {{ id }} }}"#);
    assert_eq!(
        house.ask(&town.other_token, &read).await["data"]["stream"],
        Value::Null
    );
    let delete = format!(r#"mutation {{ deleteStream(id: "{id}") {{ {GONE} }} }}"#);
    let answer = house.ask(&town.other_token, &delete).await;
    assert_eq!(
        answer["data"]["deleteStream"]["__typename"],
        "NotFoundError"
    );
    let keys = format!(r#"{{ streamKeysConnection(streamId: "{id}") {{ totalCount }} }}"#);
    let answer = house.ask(&town.other_token, &keys).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "NOT_FOUND");
    let key = made["streamKey"].as_str().unwrap();
    let check = format!(r#"{{ validateStreamKey(streamKey: "{key}") {{ status }} }}"#);
    let valid = house.ask(&town.token, &check).await;
    assert_eq!(valid["data"]["validateStreamKey"]["status"], "VALID");
    let foreign = house.ask(&town.other_token, &check).await;
    assert_eq!(foreign["data"]["validateStreamKey"]["status"], "INVALID");

    let wrong = routing::model::Secret::new("shoal_wrong".into());
    for token in [None, Some(&wrong)] {
        let answer = house.ask_with(token, &[], &json!({ "query": read })).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHORIZED");
        let answer = house
            .ask_with(token, &[], &json!({ "query": delete }))
            .await;
        let refused = &answer["data"]["deleteStream"];
        assert_eq!(
            (&refused["__typename"], &refused["code"]),
            (&json!("AuthError"), &json!("UNAUTHORIZED"))
        );
    }
    let still = house.ask(&town.token, &read).await;
    assert_eq!(still["data"]["stream"]["id"], id);
}

#[tokio::test]
async fn an_id_of_another_type_is_an_error() {
    let town = town().await;
    let made = town.house.make(&town.token, "Mine").await;
    let uuid = made["streamId"].as_str().unwrap();
    let wrong = data_encoding::BASE64.encode(format!("Clip:{uuid}").as_bytes());
    let read = format!(r#"{{ stream(id: "{wrong}") {{ id }} }}"#);
    let answer = town.house.ask(&town.token, &read).await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"],
        "VALIDATION_ERROR"
    );
    let update = format!(
        r#"mutation {{ updateStream(id: "{wrong}", input: {{ name: "x" }}) {{ {ERRORS} }} }}"#
    );
    let answer = town.house.ask(&town.token, &update).await;
    assert_eq!(answer["data"]["updateStream"]["field"], "id");
}

#[tokio::test]
async fn keys_rotate_and_a_deactivated_one_opens_nothing() {
    let town = town().await;
    let house = &town.house;
    let made = house.make(&town.token, "Mine").await;
    let id = made["id"].as_str().unwrap();
    let refresh = format!(
        r#"mutation {{ refreshStreamKey(id: "{id}") {{ ... on Stream {{ streamKey }} {ERRORS} }} }}"#
    );
    let new =
        house.ask(&town.token, &refresh).await["data"]["refreshStreamKey"]["streamKey"].clone();
    assert_ne!(new, made["streamKey"]);
    let status = async |key: &Value| {
        let query = format!("{{ validateStreamKey(streamKey: {key}) {{ status }} }}");
        house.ask(&town.token, &query).await["data"]["validateStreamKey"]["status"].clone()
    };
    assert_eq!(status(&new).await, "VALID");
    assert_eq!(status(&made["streamKey"]).await, "INVALID");

    let create = format!(
        r#"mutation {{ createStreamKey(streamId: "{id}", input: {{ name: "Second" }}) {{ ... on StreamKey {{ id streamId keyValue keyName isActive stream {{ name }} }} {ERRORS} }} }}"#
    );
    let second = house.ask(&town.token, &create).await["data"]["createStreamKey"].clone();
    assert_eq!(
        (&second["keyName"], &second["isActive"]),
        (&json!("Second"), &json!(true))
    );
    assert_eq!(
        (&second["streamId"], &second["stream"]["name"]),
        (&json!(id), &json!("Mine"))
    );
    assert_eq!(status(&second["keyValue"]).await, "VALID");
    let delete = format!(
        r#"mutation {{ deleteStreamKey(streamId: "{id}", keyId: {}) {{ __typename }} }}"#,
        second["id"]
    );
    let gone = house.ask(&town.token, &delete).await;
    assert_eq!(
        gone["data"]["deleteStreamKey"]["__typename"],
        "DeleteSuccess"
    );
    assert_eq!(status(&second["keyValue"]).await, "INVALID");
    let list = format!(
        r#"{{ streamKeysConnection(streamId: "{id}") {{ totalCount nodes {{ keyName isActive }} }} }}"#
    );
    let list = house.ask(&town.token, &list).await["data"]["streamKeysConnection"].clone();
    assert_eq!(list["totalCount"], 3);
    let active = list["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|k| k["isActive"] == json!(true));
    assert_eq!(active.count(), 1);
}

#[tokio::test]
async fn a_repeated_mutation_answers_as_the_first_did() {
    let town = town().await;
    let house = &town.house;
    let create = json!({ "query": r#"mutation { a: createStream(input: { name: "One" }) { ... on Stream { id playbackId streamKey } } b: createStream(input: { name: "Two" }) { ... on Stream { id } } }"# });
    let key = [("idempotency-key", "7b1e")];
    let first = house.ask_with(Some(&town.token), &key, &create).await;
    let second = house.ask_with(Some(&town.token), &key, &create).await;
    assert_eq!(first["data"], second["data"]);
    assert_ne!(first["data"]["a"]["id"], first["data"]["b"]["id"]);
    let count = "{ streamsConnection { totalCount } }";
    assert_eq!(
        house.ask(&town.token, count).await["data"]["streamsConnection"]["totalCount"],
        2
    );
    let other = house.ask_with(Some(&town.other_token), &key, &create).await;
    assert_ne!(other["data"]["a"]["id"], first["data"]["a"]["id"]);

    let refresh = json!({ "query": format!("mutation {{ refreshStreamKey(id: {}) {{ ... on Stream {{ streamKey }} }} }}", first["data"]["a"]["id"]) });
    let once = house.ask_with(Some(&town.token), &key, &refresh).await;
    let twice = house.ask_with(Some(&town.token), &key, &refresh).await;
    assert_ne!(
        once["data"]["refreshStreamKey"]["streamKey"],
        first["data"]["a"]["streamKey"]
    );
    assert_eq!(once["data"], twice["data"]);
}

#[tokio::test]
async fn streams_come_in_pages_newest_first_and_can_be_searched() {
    let town = town().await;
    let house = &town.house;
    for n in 0..5 {
        house.make(&town.token, &format!("Stage {n}")).await;
    }
    house.make(&town.other_token, "Stage of others").await;
    let mut seen = Vec::new();
    let mut after = Value::Null;
    loop {
        let query = "query($p: ConnectionInput) { streamsConnection(page: $p) { edges { cursor node { name } } nodes { name } pageInfo { endCursor hasNextPage hasPreviousPage } totalCount } }";
        let page = json!({ "first": 2, "after": after });
        let body = json!({ "query": query, "variables": { "p": page } });
        let answer = house.ask_with(Some(&town.token), &[], &body).await;
        let list = &answer["data"]["streamsConnection"];
        assert_eq!(list["totalCount"], 5, "{answer}");
        seen.extend(
            list["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n["name"].clone()),
        );
        if list["pageInfo"]["hasNextPage"] == json!(false) {
            break;
        }
        after = list["pageInfo"]["endCursor"].clone();
    }
    let mut names: Vec<_> = seen.iter().map(|n| n.as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["Stage 0", "Stage 1", "Stage 2", "Stage 3", "Stage 4"]
    );
    let search = r#"{ streamsConnection(search: "sTAGE 3") { nodes { name } } }"#;
    let found = house.ask(&town.token, search).await["data"]["streamsConnection"]["nodes"].clone();
    assert_eq!(found, json!([{ "name": "Stage 3" }]));
}

#[tokio::test]
async fn what_is_live_shows_in_metrics_and_in_resolution_which_is_public() {
    let town = town().await;
    let house = &town.house;
    let made = house.make(&town.token, "Main stage").await;
    *house.desk.facts.lock().unwrap() = Some(LiveFacts {
        origin: house.node,
        started: NOW,
        updated: UnixMillis(NOW.0 + 5),
        tracks: vec![TrackSummary {
            kind: TrackKind::Video,
            codec: Codec::H264,
            codec_string: "avc1.64001f".into(),
            bitrate: BitsPerSecond(2_500_000),
            detail: TrackDetail::Video {
                width: 1280,
                height: 720,
                rate: (30000, 1001),
            },
        }],
        viewers: 3,
    });
    let query = format!(
        "{{ stream(id: {}) {{ metrics {{ status currentViewers startedAt nodeId trackCount primaryWidth primaryHeight primaryFps primaryCodec primaryBitrate }} }} }}",
        made["id"]
    );
    let metrics = house.ask(&town.token, &query).await["data"]["stream"]["metrics"].clone();
    assert_eq!(
        metrics,
        json!({ "status": "LIVE", "currentViewers": 3, "startedAt": "2025-11-22T21:42:00.000Z", "nodeId": house.node, "trackCount": 1, "primaryWidth": 1280, "primaryHeight": 720, "primaryFps": 30000.0 / 1001.0, "primaryCodec": "H264", "primaryBitrate": 2_500_000 })
    );
    let query = format!(
        "{{ resolveViewerEndpoint(contentId: {}) {{ primary {{ url protocol geoDistance loadScore outputs }} fallbacks {{ nodeId }} metadata {{ status isLive viewers title contentType protocolHints tracks {{ type codec bitrateKbps width }} instances {{ nodeId viewers }} }} }} }}",
        made["playbackId"]
    );
    let answer = house.ask_with(None, &[], &json!({ "query": query })).await;
    let resolved = &answer["data"]["resolveViewerEndpoint"];
    assert!(
        resolved["primary"]["url"]
            .as_str()
            .unwrap()
            .ends_with("/cmaf/index.m3u8"),
        "{answer}"
    );
    assert_eq!(resolved["metadata"]["title"], "Main stage");
    assert_eq!(
        resolved["metadata"]["protocolHints"],
        json!(["cmaf", "hls"])
    );
    let track = json!({ "type": "video", "codec": "H264", "bitrateKbps": 2500, "width": 1280 });
    assert_eq!(resolved["metadata"]["tracks"][0], track);
    assert_eq!(
        house.desk.askers.lock().unwrap()[0].to_string(),
        "198.51.100.7"
    );

    let query = format!(
        "{{ resolveIngestEndpoint(streamKey: {}) {{ primary {{ rtmpUrl kind }} metadata {{ streamId title recordingEnabled }} }} }}",
        made["streamKey"]
    );
    let answer = house.ask_with(None, &[], &json!({ "query": query })).await;
    let resolved = &answer["data"]["resolveIngestEndpoint"];
    assert_eq!(resolved["primary"]["kind"], "TENANT_ALIAS", "{answer}");
    assert_eq!(resolved["metadata"]["streamId"], made["id"]);
    let nobody = r#"{ a: resolveIngestEndpoint(streamKey: "sk_none") { primary { nodeId } } b: resolveViewerEndpoint(contentId: "nope") { fallbacks { nodeId } } }"#;
    let answer = house.ask_with(None, &[], &json!({ "query": nobody })).await;
    assert_eq!(answer, json!({ "data": { "a": null, "b": null } }));
    let config =
        "{ streamingConfig { globalIngestDomain tenantIngestDomain tenantPlayDomain rtmpPort } }";
    let config = house.ask(&town.token, config).await["data"]["streamingConfig"].clone();
    assert_eq!(
        config["tenantIngestDomain"],
        "edge-ingest.acme.cdn.shoal.test"
    );
    assert_eq!(config["globalIngestDomain"], "edge-ingest.shoal.test");
}

#[tokio::test]
async fn a_node_without_the_tenants_records_forwards_and_is_trusted_with_nothing() {
    let town = town().await;
    let far = stranger(&town).await;
    let create = json!({ "query": r#"mutation { createStream(input: { name: "Far" }) { ... on Stream { id streamKey } } }"# });
    let key = [("idempotency-key", "k1")];
    let made = far.ask_with(Some(&town.token), &key, &create).await;
    assert_eq!(made["extensions"]["acknowledgement"], "LOCAL", "{made}");
    let near = town.house.ask_with(Some(&town.token), &key, &create).await;
    assert_eq!(
        near["data"], made["data"],
        "the idempotency key travels too"
    );
    let stream: StreamId = {
        let raw = data_encoding::BASE64
            .decode(
                made["data"]["createStream"]["id"]
                    .as_str()
                    .unwrap()
                    .as_bytes(),
            )
            .unwrap();
        String::from_utf8(raw)
            .unwrap()
            .trim_start_matches("Stream:")
            .parse()
            .unwrap()
    };
    assert_eq!(
        town.house
            .desk
            .records
            .config()
            .stream(stream)
            .unwrap()
            .tenant,
        town.tenant
    );
    assert!(far.desk.records.config().stream(stream).is_none());
    assert_eq!(*far.desk.forwarded.lock().unwrap(), 1);

    let forged = json!({ "token": "shoal_forged", "request": create, "idempotencyKey": null, "addr": "192.0.2.1" });
    let answer = town
        .house
        .gateway
        .answer_forwarded(forged.to_string().into())
        .await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(
        answer["data"]["createStream"],
        json!({}),
        "an AuthError: {answer}"
    );
    for junk in ["", "[]", "{}", "\u{0}"] {
        let answer = town
            .house
            .gateway
            .answer_forwarded(junk.to_owned().into())
            .await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer["errors"][0]["message"].is_string(), "{junk}");
    }
    *far.desk.other.lock().unwrap() = None;
    let answer = far.ask_with(Some(&town.token), &[], &create).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAVAILABLE");
    // Two nodes that both lack it do not pass a request to and fro.
    *far.desk.other.lock().unwrap() = Some(far.gateway.clone());
    let answer = far.ask_with(Some(&town.token), &[], &create).await;
    assert!(
        answer["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("either"),
        "{answer}"
    );
}
