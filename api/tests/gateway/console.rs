//! The console, health and readiness.
use std::sync::Arc;

use api::ports::Watched;
use axum::{body::Body, extract::ConnectInfo, http::Request};
use http_body_util::BodyExt as _;
use mesh::view::{Advert, Member, Service, ServiceAddr, View};
use routing::model::{
    BitsPerSecond, BroadcastId, Capacity, EpochId, Hlc, Load, Mode, NodeId, Place, Region, Role,
    StreamId, Uptime,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::house::{House, NOW, Town, town};

fn get(path: &str, host: &str) -> Request<Body> {
    Request::get(path)
        .header("host", host)
        .body(Body::empty())
        .unwrap()
}

/// The founder is the origin of a stream, and a second node relays it.
async fn live(town: &Town) -> (String, NodeId) {
    let house = &town.house;
    let made = house.make(&town.token, "Main stage").await;
    let uuid = made["streamId"].as_str().unwrap().to_owned();
    let broadcast = BroadcastId::of(uuid.parse::<StreamId>().unwrap());
    let replica = NodeId::from_bytes([7; 32]);
    let member = |id, name: &str, replica_of| Member {
        id,
        alive: true,
        incarnation: 1,
        since: Uptime::from_millis(10_000),
        name: name.parse().unwrap(),
        cluster: house.cluster,
        roles: [Role::Edge].into_iter().collect(),
        mode: Mode::Normal,
        place: Some(Place::new(52.52, 13.4, Region::new("eu").unwrap())),
        load: Load::default(),
        capacity: Some(Capacity {
            egress: BitsPerSecond(1_000_000_000),
        }),
        services: vec![ServiceAddr {
            service: Service::Https,
            addr: "127.0.0.2:443".parse().unwrap(),
            verified: true,
        }],
        remains: Vec::new(),
        issues: false,
        adverts: vec![Advert {
            broadcast,
            tenant: town.tenant,
            epoch: EpochId::from_u64(1),
            claim: (Hlc::at(NOW), house.node),
            replica_of,
            over: false,
        }],
        values: std::collections::BTreeMap::new(),
    };
    let members = [
        member(house.node, "berlin", None),
        member(replica, "tokyo", Some(house.node)),
    ];
    house.view.send_replace(Arc::new(View {
        version: 1,
        settled: true,
        members: members.into_iter().map(|m| (m.id, Arc::new(m))).collect(),
    }));
    let watched = |node, viewers| Watched {
        broadcast,
        node,
        viewers,
    };
    *house.desk.watched.lock().unwrap() = vec![watched(house.node, 1), watched(replica, 2)];
    (uuid, replica)
}

#[tokio::test]
async fn the_state_shows_who_serves_whom() {
    let town = town().await;
    let (uuid, replica) = live(&town).await;
    let (status, headers, body) = town
        .house
        .call(get("/console/state", "127.0.0.1:8080"), "127.0.0.1")
        .await;
    assert_eq!(
        (status, &headers["cache-control"]),
        (200, &"no-store".parse().unwrap())
    );
    let state: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(state["mesh"]["base"], "shoal.test");
    assert_eq!(
        (&state["self"], &state["tenants"]),
        (&json!(town.house.node), &json!(2))
    );
    assert_eq!(
        state["clusters"][0],
        json!({ "id": town.house.cluster, "slug": "home", "name": "Home", "kind": "official" })
    );
    let node = &state["nodes"][0];
    assert_eq!(
        (&node["name"], &node["alive"], &node["since"]),
        (&json!("berlin"), &json!(true), &json!(NOW.0 - 50_000))
    );
    assert_eq!(
        node["place"],
        json!({ "lat": 52.52, "lon": 13.4, "region": "eu" })
    );
    assert_eq!(
        node["services"][0],
        json!({ "service": "https", "addr": "127.0.0.2:443", "verified": true })
    );
    let stream = &state["streams"][0];
    assert_eq!(stream["broadcast"], uuid);
    assert_eq!(
        (&stream["name"], &stream["tenant"], &stream["viewers"]),
        (&json!("Main stage"), &json!("acme"), &json!(3))
    );
    assert_eq!(
        stream["holders"],
        json!([
            { "node": town.house.node, "from": null, "viewers": 1 },
            { "node": replica, "from": town.house.node, "viewers": 2 },
        ])
    );
}

#[tokio::test]
async fn the_console_is_for_operators() {
    let town = town().await;
    for path in ["/", "/console/state", "/console/events"] {
        for (host, from) in [
            ("203.0.113.5", "203.0.113.9"),
            ("evil.example", "127.0.0.1"),
        ] {
            let (status, _, _) = town.house.call(get(path, host), from).await;
            assert_eq!(status, 403, "{path} as {host} from {from}");
        }
    }
    let (status, headers, page) = town.house.call(get("/", "localhost:8080"), "::1").await;
    assert_eq!(status, 200);
    assert!(
        headers["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("default-src 'none'")
    );
    assert!(page.starts_with(b"<!doctype html>"));
    let no_address = town
        .house
        .router
        .clone()
        .oneshot(get("/", "localhost"))
        .await
        .unwrap();
    assert_eq!(no_address.status(), 403);
}

async fn next_event(body: &mut Body) -> Value {
    loop {
        let frame = body.frame().await.unwrap().unwrap();
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        if let Some(data) = text.lines().find_map(|l| l.strip_prefix("data: ")) {
            assert!(text.contains("event: state"), "{text}");
            return serde_json::from_str(data).unwrap();
        }
    }
}

async fn follow(house: &House) -> Body {
    let mut request = get("/console/events", "localhost");
    let from: std::net::SocketAddr = "127.0.0.1:4000".parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(from));
    house
        .router
        .clone()
        .oneshot(request)
        .await
        .unwrap()
        .into_body()
}

#[tokio::test]
async fn events_come_at_once_and_on_change() {
    let town = town().await;
    let mut body = follow(&town.house).await;
    assert_eq!(next_event(&mut body).await["streams"], json!([]));
    live(&town).await;
    let changed = next_event(&mut body).await;
    assert_eq!(changed["streams"][0]["viewers"], 3);
}

#[tokio::test]
async fn health_and_readiness() {
    let town = town().await;
    let (status, _, body) = town.house.call(get("/healthz", "x"), "192.0.2.1").await;
    assert_eq!((status, &body[..]), (200, &b"ok\n"[..]));
    let (status, _, _) = town.house.call(get("/readyz", "x"), "192.0.2.1").await;
    assert_eq!(status, 200);
    *town.house.desk.ready.lock().unwrap() = false;
    let (status, _, body) = town.house.call(get("/readyz", "x"), "192.0.2.1").await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &body["ready"], &body["checks"][0]["name"]),
        (503, &json!(false), &json!("mesh"))
    );
}
