//! GraphQL over a real WebSocket.
use std::net::SocketAddr;

use api::ports::{LiveEvent, LiveEventKind, LiveFacts};
use futures::{SinkExt as _, StreamExt as _};
use mesh::records::{Change, Scope, changes::token_hash};
use routing::model::{BroadcastId, Secret, StreamId, TenantId};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::house::{House, NOW, Town, connect, fellow, stranger, town};

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(house: &House) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/graphql", listener.local_addr().unwrap());
        let service = house
            .router
            .clone()
            .into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        let mut request = url.into_client_request().unwrap();
        let protocol = "graphql-transport-ws".parse().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        let (socket, response) = connect_async(request).await.unwrap();
        assert_eq!(
            response.headers()["sec-websocket-protocol"],
            "graphql-transport-ws"
        );
        Self(socket)
    }

    async fn say(&mut self, message: Value) {
        self.0
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn closed(&mut self) -> u16 {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Close(Some(frame)) => return frame.code.into(),
                Message::Ping(_) | Message::Text(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn greet(&mut self, token: &Secret) {
        let payload = json!({ "Authorization": format!("Bearer {}", token.expose()) });
        self.say(json!({ "type": "connection_init", "payload": payload }))
            .await;
        assert_eq!(self.hear().await, json!({ "type": "connection_ack" }));
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({ "type": "subscribe", "id": id, "payload": { "query": query } }))
            .await;
    }
}

const FOLLOW: &str =
    "subscription { liveStreamEvents { type status streamId nodeId totalViewers } }";

fn event(town: &Town, tenant: TenantId, kind: LiveEventKind, viewers: u32) -> LiveEvent {
    LiveEvent {
        tenant,
        broadcast: BroadcastId::of(StreamId::from_bytes([1; 16])),
        kind,
        node: town.house.node,
        at: NOW,
        facts: (kind != LiveEventKind::End).then(|| LiveFacts {
            origin: town.house.node,
            started: NOW,
            updated: NOW,
            tracks: Vec::new(),
            viewers,
        }),
    }
}

/// Waits until `n` subscriptions listen.
async fn listening(town: &Town, n: usize) {
    while town.house.desk.events.receiver_count() != n {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn events_of_the_own_tenant_arrive_and_others_do_not() {
    let town = town().await;
    let mut client = Client::connect(&town.house).await;
    client.greet(&town.token).await;
    client.subscribe("1", FOLLOW).await;
    listening(&town, 1).await;
    let events = &town.house.desk.events;
    let foreign = TenantId::from_bytes([9; 16]);
    events
        .send(event(&town, foreign, LiveEventKind::Start, 8))
        .unwrap();
    events
        .send(event(&town, town.tenant, LiveEventKind::Start, 2))
        .unwrap();
    let start = client.hear().await;
    assert_eq!(
        (&start["type"], &start["id"]),
        (&json!("next"), &json!("1"))
    );
    let data = &start["payload"]["data"]["liveStreamEvents"];
    assert_eq!(
        (&data["type"], &data["status"], &data["totalViewers"]),
        (&json!("STREAM_START"), &json!("LIVE"), &json!(2))
    );
    assert_eq!(data["nodeId"], json!(town.house.node));
    events
        .send(event(&town, town.tenant, LiveEventKind::End, 0))
        .unwrap();
    let end = client.hear().await["payload"]["data"]["liveStreamEvents"].clone();
    assert_eq!(
        (&end["type"], &end["status"]),
        (&json!("STREAM_END"), &json!("ENDED"))
    );
    client.say(json!({ "type": "complete", "id": "1" })).await;
    listening(&town, 0).await;
}

#[tokio::test]
async fn a_mutation_over_the_socket_is_answered_once_and_completed() {
    let town = town().await;
    let mut client = Client::connect(&town.house).await;
    client.greet(&town.token).await;
    client
        .say(json!({ "type": "ping", "payload": { "a": 1 } }))
        .await;
    assert_eq!(
        client.hear().await,
        json!({ "type": "pong", "payload": { "a": 1 } })
    );
    let create = r#"mutation { createStream(input: { name: "a" }) { ... on Stream { name } } }"#;
    client.subscribe("m", create).await;
    let next = client.hear().await;
    assert_eq!(next["payload"]["data"]["createStream"]["name"], "a");
    assert_eq!(next["payload"]["extensions"]["acknowledgement"], "LOCAL");
    assert_eq!(
        client.hear().await,
        json!({ "type": "complete", "id": "m" })
    );
    client.subscribe("bad", "subscription { nothing }").await;
    let error = client.hear().await;
    assert_eq!(
        (&error["type"], &error["id"]),
        (&json!("error"), &json!("bad"))
    );
    let unknown = r#"subscription { liveStreamEvents(streamId: "00000000-0000-0000-0000-000000000000") { id } }"#;
    client.subscribe("none", unknown).await;
    let error = client.hear().await;
    assert_eq!(
        error["payload"][0]["extensions"]["code"], "NOT_FOUND",
        "{error}"
    );
}

#[tokio::test]
async fn misuse_closes_with_the_protocols_codes() {
    let town = town().await;
    let mut early = Client::connect(&town.house).await;
    early.subscribe("1", FOLLOW).await;
    assert_eq!(early.closed().await, 4401);

    let mut wrong = Client::connect(&town.house).await;
    wrong
        .say(json!({ "type": "connection_init", "payload": { "token": "shoal_wrong" } }))
        .await;
    assert_eq!(wrong.closed().await, 4403);

    let mut twice = Client::connect(&town.house).await;
    twice.greet(&town.token).await;
    twice.subscribe("1", FOLLOW).await;
    twice.subscribe("1", FOLLOW).await;
    assert_eq!(twice.closed().await, 4409);

    let mut again = Client::connect(&town.house).await;
    again.greet(&town.token).await;
    again.say(json!({ "type": "connection_init" })).await;
    assert_eq!(again.closed().await, 4429);

    let mut noise = Client::connect(&town.house).await;
    noise.0.send(Message::text("{")).await.unwrap();
    assert_eq!(noise.closed().await, 4400);
}

#[tokio::test]
async fn subscriptions_are_bounded() {
    let town = town().await;
    let mut client = Client::connect(&town.house).await;
    client.greet(&town.token).await;
    for n in 0..33 {
        client.subscribe(&n.to_string(), FOLLOW).await;
    }
    let refused = client.hear().await;
    assert_eq!(
        (&refused["type"], &refused["id"]),
        (&json!("error"), &json!("32"))
    );
    assert_eq!(refused["payload"][0]["extensions"]["code"], "RATE_LIMITED");
}

#[tokio::test]
async fn a_subscription_ends_with_its_token() {
    let town = town().await;
    let mut client = Client::connect(&town.house).await;
    client.greet(&town.token).await;
    client.subscribe("1", FOLLOW).await;
    listening(&town, 1).await;
    let records = &town.house.desk.records;
    let token = records
        .config()
        .token(token_hash(town.token.expose()))
        .unwrap()
        .id;
    let revoked = Change::TokenRevoked {
        token,
        tenant: town.tenant,
    };
    records
        .write(Scope::Mesh, vec![revoked], None)
        .await
        .unwrap();
    assert_eq!(
        client.hear().await,
        json!({ "type": "complete", "id": "1" })
    );
}

/// A stream is made at a node: the answer's acknowledgement and the write's id.
async fn write(house: &House, token: &Secret) -> (Value, String) {
    let query =
        "mutation { createStream(input: { name: \"Main stage\" }) { ... on Stream { id } } }";
    let answer = house.ask(token, query).await;
    let id = answer["extensions"]["writeId"].as_str();
    let id = id.unwrap_or_else(|| panic!("{answer}")).to_owned();
    (answer["extensions"]["acknowledgement"].clone(), id)
}

fn told(id: &str) -> Value {
    let item = json!({ "id": id, "acknowledgement": "REPLICATED" });
    json!({ "data": { "writeAcknowledged": item } })
}

#[tokio::test]
async fn a_local_write_is_told_of_when_it_is_replicated_at_every_node() {
    let town = town().await;
    let (fellow, stranger) = (fellow(&town).await, stranger(&town).await);
    let (ack, id) = write(&town.house, &town.token).await;
    assert_eq!(ack, "LOCAL");
    let query = format!("{{ writeAcknowledgement(id: \"{id}\") {{ id acknowledgement }} }}");
    let now = town.house.ask(&town.token, &query).await;
    assert_eq!(
        now["data"]["writeAcknowledgement"],
        json!({ "id": id, "acknowledgement": "LOCAL" }),
        "{now}"
    );

    // At the node that took it, at one that will be the second disk, and at one without the tenant's records.
    let follow =
        format!("subscription {{ writeAcknowledged(id: \"{id}\") {{ id acknowledgement }} }}");
    let mut clients = Vec::new();
    for house in [&town.house, &fellow, &stranger] {
        let mut client = Client::connect(house).await;
        client.greet(&town.token).await;
        client.subscribe("w", &follow).await;
        // Answered after it: the subscription stands, and nothing was told yet.
        client.say(json!({ "type": "ping" })).await;
        assert_eq!(client.hear().await, json!({ "type": "pong" }));
        clients.push(client);
    }
    connect(&town.house, &fellow).await;
    for client in &mut clients {
        let next = json!({ "type": "next", "id": "w", "payload": told(&id) });
        assert_eq!(client.hear().await, next);
        assert_eq!(
            client.hear().await,
            json!({ "type": "complete", "id": "w" })
        );
    }
    let now = stranger.ask(&town.token, &query).await;
    assert_eq!(
        now["data"]["writeAcknowledgement"]["acknowledgement"], "REPLICATED",
        "{now}"
    );
    // Who asks late is told at once.
    clients[0].subscribe("late", &follow).await;
    assert_eq!(
        clients[0].hear().await,
        json!({ "type": "next", "id": "late", "payload": told(&id) })
    );
}

#[tokio::test]
async fn a_write_that_never_was_or_is_another_tenants_is_not_found() {
    let town = town().await;
    let (_, id) = write(&town.house, &town.token).await;
    let mut client = Client::connect(&town.house).await;
    client.greet(&town.other_token).await;
    // The other tenant has written nothing of that number.
    let stream = "U3RyZWFtOjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMA==";
    for (number, (id, code)) in [
        (&*id, "NOT_FOUND"),
        ("nonsense", "NOT_FOUND"),
        (stream, "VALIDATION_ERROR"),
    ]
    .into_iter()
    .enumerate()
    {
        let follow = format!("subscription {{ writeAcknowledged(id: \"{id}\") {{ id }} }}");
        let name = number.to_string();
        client.subscribe(&name, &follow).await;
        let error = client.hear().await;
        assert_eq!(
            (&error["type"], &error["id"]),
            (&json!("error"), &json!(name))
        );
        assert_eq!(
            error["payload"][0]["extensions"]["code"], code,
            "{id}: {error}"
        );
    }
}
