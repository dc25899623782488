//! A real mesh of one official cluster in memory, and stand-ins for what `node` answers that let a test say what is
//! live. Records, signatures, sealing and the schema are the real ones.
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use api::{
    ApiOptions, Gateway,
    console::LoopbackOnly,
    ports::{
        Asker, Check, ContentFacts, EndReason, Forward, ForwardError, IngestEndpoint,
        IngestEndpoints, IngestKind, LiveEvent, LiveFacts, LiveStats, Readiness, ResolveError,
        Resolver, SessionControl, ViewerEndpoint, ViewerEndpoints, Watched,
    },
};
use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use mesh::{
    authority::NodeGrant,
    identity::{ClusterKey, EpochSecret, NodeKey, RootKey},
    records::{Change, Records, RecordsOptions, Scope, changes},
    store::MemoryStore,
    view::View,
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use routing::model::{
    BroadcastId, Clock, ClusterId, Label, NodeId, PlaybackId, Role, Roles, Secret, StreamKey,
    TenantId, UnixMillis, Uptime, Verb,
};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};
use tower::ServiceExt as _;

pub(crate) const NOW: UnixMillis = UnixMillis(1_763_847_720_000);

pub(crate) struct Still;

impl Clock for Still {
    fn uptime(&self) -> Uptime {
        Uptime::from_millis(60_000)
    }
    fn unix(&self) -> UnixMillis {
        NOW
    }
}

/// What `node` answers, as a test sets it.
pub(crate) struct Desk {
    pub(crate) records: Records,
    pub(crate) facts: Mutex<Option<LiveFacts>>,
    pub(crate) watched: Mutex<Vec<Watched>>,
    pub(crate) events: broadcast::Sender<LiveEvent>,
    pub(crate) ended: Mutex<Vec<BroadcastId>>,
    pub(crate) askers: Mutex<Vec<IpAddr>>,
    pub(crate) ready: Mutex<bool>,
    pub(crate) other: Mutex<Option<Gateway>>,
    pub(crate) forwarded: Mutex<u32>,
    node: NodeId,
    cluster: ClusterId,
}

impl LiveStats for Desk {
    fn facts(&self, _: BroadcastId) -> BoxFuture<'_, Option<LiveFacts>> {
        Box::pin(async { self.facts.lock().unwrap().clone() })
    }
    fn watched(&self) -> Vec<Watched> {
        self.watched.lock().unwrap().clone()
    }
    fn events(&self) -> broadcast::Receiver<LiveEvent> {
        self.events.subscribe()
    }
}

impl SessionControl for Desk {
    fn viewers(&self, _: BroadcastId) -> u32 {
        0
    }
    fn end(&self, broadcast: BroadcastId, _: EndReason) {
        self.ended.lock().unwrap().push(broadcast);
    }
}

impl Resolver for Desk {
    fn viewer(
        &self,
        content: PlaybackId,
        asker: Asker,
    ) -> BoxFuture<'_, Result<ViewerEndpoints, ResolveError>> {
        Box::pin(async move {
            self.askers.lock().unwrap().push(asker.addr);
            let config = self.records.config();
            let stream = config
                .stream_by_playback(content)
                .ok_or_else(|| ResolveError::Unknown("no such stream".into()))?;
            let base_url = format!("https://{}.acme.cdn.shoal.test", self.node.label());
            Ok(ViewerEndpoints {
                endpoints: vec![ViewerEndpoint {
                    node_id: self.node,
                    url: format!("{base_url}/play/{content}/cmaf/index.m3u8"),
                    base_url,
                    protocol: "cmaf".into(),
                    geo_distance: Some(12.0),
                    load_score: -12.0,
                    outputs: json!({ "cmaf": {}, "hls": {} }),
                    terms: json!({ "distance": 12 }),
                }],
                content: ContentFacts {
                    content_id: content.to_string(),
                    broadcast: Some(BroadcastId::of(stream.id)),
                    title: Some(stream.name.clone()),
                    description: stream.description.clone(),
                    live: self.facts.lock().unwrap().clone(),
                    holders: vec![self.node],
                },
                decision: json!({}),
            })
        })
    }
    fn ingest<'a>(
        &'a self,
        key: &'a StreamKey,
        _: Asker,
    ) -> BoxFuture<'a, Result<IngestEndpoints, ResolveError>> {
        Box::pin(async move {
            let config = self.records.config();
            let (stream, record) = config
                .key_by_hash(key.hash())
                .ok_or_else(|| ResolveError::Unknown("no such key".into()))?;
            if !record.active {
                return Err(ResolveError::Denied("this key was withdrawn".into()));
            }
            let host = "edge-ingest.acme.cdn.shoal.test";
            Ok(IngestEndpoints {
                endpoints: vec![IngestEndpoint {
                    node_id: self.node,
                    base_url: format!("rtmp://{host}"),
                    whip_url: None,
                    rtmp_url: Some(format!("rtmp://{host}/live/{}", key.expose())),
                    srt_url: None,
                    region: Some("eu".into()),
                    load_score: -12.0,
                    cluster_id: self.cluster,
                    kind: IngestKind::TenantAlias,
                }],
                stream: stream.id,
                tenant: stream.tenant,
                title: stream.name.clone(),
                description: stream.description.clone(),
                decision: json!({}),
            })
        })
    }
}

impl Forward for Desk {
    fn forward(&self, _: TenantId, request: Bytes) -> BoxFuture<'_, Result<Bytes, ForwardError>> {
        Box::pin(async move {
            let other = self.other.lock().unwrap().clone();
            let other = other.ok_or(ForwardError::Nobody)?;
            *self.forwarded.lock().unwrap() += 1;
            Ok(other.answer_forwarded(request).await)
        })
    }
}

impl Readiness for Desk {
    fn checks(&self) -> Vec<Check> {
        vec![Check {
            name: "mesh".into(),
            ok: *self.ready.lock().unwrap(),
            detail: "the mesh scope is not reconciled yet: wait".into(),
        }]
    }
}

/// One node: its gateway, its router, and what its `node` answers.
pub(crate) struct House {
    pub(crate) gateway: Gateway,
    pub(crate) router: Router,
    pub(crate) desk: Arc<Desk>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) node: NodeId,
    pub(crate) cluster: ClusterId,
}

/// A mesh with two tenants and a token of each.
pub(crate) struct Town {
    pub(crate) house: House,
    pub(crate) tenant: TenantId,
    pub(crate) token: Secret,
    pub(crate) other_token: Secret,
}

fn all_roles() -> Roles {
    Role::ALL.iter().copied().collect()
}

async fn open(key: NodeKey, root: &RootKey) -> Records {
    let options = RecordsOptions {
        mesh: root.mesh(),
        key,
        store: Arc::new(MemoryStore::new()),
        clock: Arc::new(Still),
        epoch: Some(EpochSecret::from_bytes([4; 32])),
    };
    Records::open(options).await.unwrap()
}

fn house(records: Records, node: NodeId, cluster: ClusterId) -> House {
    let desk = Arc::new(Desk {
        records: records.clone(),
        facts: Mutex::default(),
        watched: Mutex::default(),
        events: broadcast::Sender::new(4),
        ended: Mutex::default(),
        askers: Mutex::default(),
        ready: Mutex::new(true),
        other: Mutex::default(),
        forwarded: Mutex::default(),
        node,
        cluster,
    });
    let view = watch::Sender::new(Arc::new(View::default()));
    let gateway = Gateway::new(ApiOptions {
        node,
        records,
        view: view.subscribe(),
        live: desk.clone(),
        sessions: desk.clone(),
        resolver: desk.clone(),
        forward: desk.clone(),
        ready: desk.clone(),
        operators: Arc::new(LoopbackOnly),
        clock: Arc::new(Still),
        seed: [9; 32],
    });
    House {
        router: api::router(&gateway),
        gateway,
        desk,
        view,
        node,
        cluster,
    }
}

pub(crate) async fn town() -> Town {
    let (root, cluster_key) = (RootKey::from_seed([1; 32]), ClusterKey::from_seed([2; 32]));
    let node_key = NodeKey::from_seed([3; 32]);
    let node = node_key.id();
    let cluster = ClusterId::from_bytes([5; 16]);
    let label = |text: &str| text.parse::<Label>().unwrap();
    let founding = changes::Founding {
        base: "shoal.test".into(),
        suffix: "cdn".into(),
        cluster,
        slug: label("home"),
        cluster_name: "Home".into(),
        cluster_roles: all_roles(),
        node_name: label("berlin"),
        node_roles: all_roles(),
    };
    let founded = changes::found(founding, (&root, &cluster_key, &node_key), NOW).unwrap();
    let records = open(node_key, &root).await;
    records.write(Scope::Mesh, founded, None).await.unwrap();
    let mut rng = ChaCha20Rng::from_seed([6; 32]);
    let mut tokens = Vec::new();
    for name in ["acme", "other"] {
        let verbs = Verb::ALL.iter().copied().collect();
        let all = [(cluster, &cluster_key, verbs)];
        let names = (label(name), name.to_owned());
        let new = changes::create_tenant(&root, names, &all, NOW, &mut rng).unwrap();
        let token = changes::create_token(new.tenant, "first".into(), None, &mut rng);
        let written = [new.changes, token.changes].concat();
        records.write(Scope::Mesh, written, None).await.unwrap();
        tokens.push((new.tenant, token.text));
    }
    let mut tokens = tokens.into_iter();
    let (tenant, token) = tokens.next().unwrap();
    let (_, other_token) = tokens.next().unwrap();
    Town {
        house: house(records, node, cluster),
        tenant,
        token,
        other_token,
    }
}

/// A node that knows the mesh scope of `town` and none of its tenants.
pub(crate) async fn stranger(town: &Town) -> House {
    let key = NodeKey::from_seed([8; 32]);
    let node = key.id();
    let records = open(key, &RootKey::from_seed([1; 32])).await;
    let pieces = town.house.desk.records.export_mesh().await;
    assert!(records.import(pieces).await.unwrap() > 0);
    let house = house(records, node, ClusterId::from_bytes([7; 16]));
    *house.desk.other.lock().unwrap() = Some(town.house.gateway.clone());
    house
}

impl House {
    /// One request through the router: status, headers, body.
    pub(crate) async fn call(
        &self,
        mut request: Request<Body>,
        from: &str,
    ) -> (u16, axum::http::HeaderMap, Bytes) {
        let from = SocketAddr::new(from.parse().unwrap(), 4000);
        request.extensions_mut().insert(ConnectInfo(from));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, body)
    }

    /// A GraphQL request with a token, and further headers.
    pub(crate) async fn ask_with(
        &self,
        token: Option<&Secret>,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Value {
        let mut request = Request::post("/graphql").header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let (status, _, body) = self.call(request, "198.51.100.7").await;
        assert_eq!(status, 200, "{body:?}");
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) async fn ask(&self, token: &Secret, query: &str) -> Value {
        self.ask_with(Some(token), &[], &json!({ "query": query }))
            .await
    }

    /// Makes a stream; gives back its fields.
    pub(crate) async fn make(&self, token: &Secret, name: &str) -> Value {
        let query = "mutation($n: String!) { createStream(input: { name: $n }) { ... on Stream { id streamId playbackId streamKey name } } }";
        let body = json!({ "query": query, "variables": { "n": name } });
        let answer = self.ask_with(Some(token), &[], &body).await;
        assert!(answer["errors"].is_null(), "{answer}");
        answer["data"]["createStream"].clone()
    }
}

/// Another gateway of the town's cluster, which has not heard of it yet: [`connect`] changes that.
pub(crate) async fn fellow(town: &Town) -> House {
    let (root, cluster_key) = (RootKey::from_seed([1; 32]), ClusterKey::from_seed([2; 32]));
    let key = NodeKey::from_seed([9; 32]);
    let (mesh, node, cluster) = (root.mesh(), key.id(), town.house.cluster);
    let grant = NodeGrant {
        mesh,
        cluster,
        node,
        name: "paris".parse().unwrap(),
        roles: all_roles(),
        not_before: NOW,
        expires: NOW.plus(NodeGrant::LASTS),
        consent: key.consent(&mesh, cluster),
        token: None,
    };
    let granted = vec![Change::Node(grant.issue(&cluster_key).unwrap())];
    let here = &town.house.desk.records;
    here.write(Scope::Mesh, granted, None).await.unwrap();
    let records = open(key, &root).await;
    let pieces = here.export_mesh().await;
    records.import(pieces).await.unwrap();
    house(records, node, cluster)
}

/// Links two nodes' records, as control links do.
pub(crate) async fn connect(a: &House, b: &House) {
    for (from, to) in [(a, b), (b, a)] {
        let (id, to) = (from.node, to.desk.records.clone());
        let mut outbox = from.desk.records.outbox().unwrap();
        tokio::spawn(async move {
            while let Some((_, message)) = outbox.recv().await {
                to.receive(id, message).await;
            }
        });
    }
    a.desk.records.peer_connected(b.node).await;
    b.desk.records.peer_connected(a.node).await;
}
