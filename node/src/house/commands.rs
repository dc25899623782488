//! What commands on this machine ask of the running node, over the local socket.
use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    routing::{get, post},
};
use mesh::{
    join::TokenOptions,
    records::{Ack, Scope, changes},
    view::Service,
};
use routing::model::{Exposed, Label, NodeId, Place, Prefix, Role, UnixMillis, Verb, Verbs};
use serde::{Deserialize, Serialize};

use super::House;

type Answer<T> = Result<Json<T>, (StatusCode, String)>;

fn refuse(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::CONFLICT, error.to_string())
}

/// `shoal status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The mesh's base name.
    pub base: String,
    /// The mesh's root key.
    pub mesh: String,
    /// This node.
    pub node: NodeId,
    /// Whether the mesh's records are known to be complete here.
    pub settled: bool,
    /// All nodes that are known, by name.
    pub nodes: Vec<NodeStatus>,
    /// All streams whose tenant's records are held here, and what is live of them.
    pub streams: Vec<StreamStatus>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// A node in [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its key.
    pub id: NodeId,
    /// Its name.
    pub name: Label,
    /// Its cluster's slug.
    pub cluster: String,
    /// Whether it is believed alive.
    pub alive: bool,
    /// What it may do.
    pub roles: Vec<Role>,
    /// Where it is.
    pub place: Option<Place>,
    /// Viewers that it serves.
    pub viewers: u32,
    /// CPU in thousandths.
    pub cpu: u16,
    /// Addresses that others verified, by service.
    pub services: BTreeMap<String, String>,
    /// When its grant ends.
    pub expires: Option<UnixMillis>,
}

/// A stream in [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// Its tenant's label.
    pub tenant: String,
    /// Its playback id.
    pub playback_id: String,
    /// The node that it enters at, while it is live.
    pub origin: Option<Label>,
    /// Nodes that relay it.
    pub replicas: Vec<Label>,
    /// The nodes by which its frames reach this one now, the origin first, itself last; empty where none do.
    #[serde(default)]
    pub route: Vec<Label>,
}

/// `shoal token`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRequest {
    /// What the new node may do.
    pub roles: Vec<Role>,
    /// How long it can be used.
    pub minutes: u32,
}

/// `shoal tenant create`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TenantRequest {
    /// Its label.
    pub label: Label,
    /// Its name for people.
    pub name: Option<String>,
}

/// A tenant that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TenantMade {
    /// Its id.
    pub tenant: String,
    /// Its domain.
    pub domain: String,
    /// Its first API token. Shown once: nobody keeps its text.
    pub token: Exposed,
    /// `REPLICATED` once a second disk has it, else `LOCAL`.
    pub acknowledgement: String,
}

/// A tenant in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TenantRow {
    /// Its id.
    pub tenant: String,
    /// Its label.
    pub label: Option<Label>,
    /// Its name for people.
    pub name: String,
    /// How many streams it has, as far as known here.
    pub streams: usize,
}

/// `shoal explain`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// The name.
    pub name: String,
    /// Where the asker is.
    pub from: Option<Prefix>,
}

/// An explanation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// For people.
    pub text: String,
    /// The same for programs.
    pub detail: serde_json::Value,
}

/// The commands' router.
pub fn router(house: Arc<House>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/token", post(token))
        .route("/tenants", get(tenants).post(create_tenant))
        .route("/explain", get(explain))
        .with_state(house)
}

async fn status(State(house): State<Arc<House>>) -> Json<Status> {
    let view = house.mesh.view().borrow().clone();
    let config = house.mesh.records().config();
    let mut nodes: Vec<_> = view
        .members
        .values()
        .map(|m| {
            let services = m.services.iter().filter(|s| s.verified || m.id == house.id);
            NodeStatus {
                id: m.id,
                name: m.name.clone(),
                cluster: config
                    .cluster(m.cluster)
                    .map(|c| c.name.clone())
                    .unwrap_or_default(),
                alive: m.alive,
                roles: m.roles.iter().collect(),
                place: m.place.clone(),
                viewers: m.load.viewers,
                cpu: m.load.cpu.0,
                services: services
                    .map(|s| (word(s.service).to_owned(), s.addr.to_string()))
                    .collect(),
                expires: config.node(m.id).map(|n| n.expires),
            }
        })
        .collect();
    nodes.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let holders = |playback, replica: bool| -> Vec<Label> {
        let Some(stream) = config.stream_by_playback(playback) else {
            return Vec::new();
        };
        let broadcast = routing::model::BroadcastId::of(stream.id);
        let holding = view.members.values().filter(|m| m.alive).filter(|m| {
            m.adverts
                .iter()
                .any(|a| a.broadcast == broadcast && a.replica_of.is_some() == replica)
        });
        holding.map(|m| m.name.clone()).collect()
    };
    let route = |stream| -> Vec<Label> {
        let path = house.engine.get().and_then(|engine| {
            let broadcast = routing::model::BroadcastId::of(stream);
            engine.relay.path(broadcast)
        });
        let name = |id: NodeId| {
            view.members
                .get(&id)
                .map_or_else(|| id.label(), |m| m.name.clone())
        };
        path.unwrap_or_default().into_iter().map(name).collect()
    };
    let streams = config
        .tenants()
        .flat_map(|tenant| {
            config.streams(tenant.id).map(|stream| StreamStatus {
                name: stream.name.clone(),
                tenant: tenant
                    .label
                    .as_ref()
                    .map_or_else(|| tenant.name.clone(), ToString::to_string),
                playback_id: stream.playback.to_string(),
                origin: holders(stream.playback, false).into_iter().next(),
                replicas: holders(stream.playback, true),
                route: route(stream.id),
            })
        })
        .collect();
    Json(Status {
        base: config.base().to_owned(),
        mesh: config.mesh_id().to_string(),
        node: house.id,
        settled: view.settled,
        nodes,
        streams,
        warnings: warnings(&house),
    })
}

const fn word(service: Service) -> &'static str {
    match service {
        Service::Control => "control",
        Service::Media => "media",
        Service::Http => "http",
        Service::Https => "https",
        Service::Rtmp => "rtmp",
        Service::Dns => "dns",
        Service::Srt => "srt",
    }
}

fn warnings(house: &House) -> Vec<String> {
    let config = house.mesh.records().config();
    let gateways = config
        .nodes()
        .filter(|n| n.cluster == house.cluster && n.roles.has(Role::Gateway))
        .count();
    let mut all = Vec::new();
    if !house.mesh.view().borrow().settled {
        all.push(
            "the mesh's records are still being fetched: no other node of the mesh has answered yet, and until one does \
             this one answers no DNS. Check that another node runs and that UDP to it passes."
                .to_owned(),
        );
    }
    if gateways < 2 {
        all.push(
            "one machine alone can sign for this cluster: if it is lost, no node can join or renew. Join a second one \
             with the gateway role."
                .to_owned(),
        );
    }
    all.extend(used_twice(&config).into_iter().map(|(a, b)| {
        format!("nodes {a} and {b} came in by one join token, on two sides of a partition: check that both machines are yours.")
    }));
    all
}

/// Nodes that came in by one token: none but where gateways could not see each other.
fn used_twice(config: &mesh::config::Config) -> Vec<(Label, Label)> {
    let mut first = BTreeMap::new();
    let nodes = config.facts().nodes();
    let counted = nodes.filter(|n| !config.is_revoked(n.node));
    let pair = counted.filter_map(|n| {
        let one = *first.entry(n.token?).or_insert(n);
        (one.node != n.node).then(|| (one.name.clone(), n.name.clone()))
    });
    pair.collect()
}

async fn token(State(house): State<Arc<House>>, Json(ask): Json<TokenRequest>) -> Answer<Exposed> {
    let roles = ask.roles.iter().copied().collect();
    let lasts = std::time::Duration::from_secs(u64::from(ask.minutes) * 60);
    let options = TokenOptions {
        roles,
        lasts,
        addrs: Vec::new(),
    };
    let token = house.mesh.create_token(options).map_err(refuse)?;
    Ok(Json(Exposed(token.text())))
}

async fn create_tenant(
    State(house): State<Arc<House>>,
    Json(ask): Json<TenantRequest>,
) -> Answer<TenantMade> {
    let dir = &house.data;
    let root = dir.root_key().map_err(refuse)?.ok_or_else(|| {
        refuse("this machine does not hold the mesh's root key, which signs tenants: run this where `shoal init` was run")
    })?;
    let cluster_key = dir.cluster_key().map_err(refuse)?.ok_or_else(|| {
        refuse("this machine does not hold its cluster's key: run this on a gateway")
    })?;
    let now = house.clock.unix();
    let verbs: Verbs = Verb::ALL.iter().copied().collect();
    let clusters = [(house.cluster, &cluster_key, verbs)];
    let name = ask.name.unwrap_or_else(|| ask.label.to_string());
    let (made, token) = {
        let mut rng = house
            .rng
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let made =
            changes::create_tenant(&root, (ask.label.clone(), name), &clusters, now, &mut *rng)
                .map_err(refuse)?;
        let token = changes::create_token(made.tenant, "first".into(), None, &mut *rng);
        (made, token)
    };
    if house
        .mesh
        .records()
        .config()
        .tenant_by_label(&ask.label)
        .is_some()
    {
        return Err(refuse(format!(
            "the label {} is taken: choose another",
            ask.label
        )));
    }
    dir.set_tenant_key(made.tenant, &made.key).map_err(refuse)?;
    let all = made.changes.into_iter().chain(token.changes).collect();
    let written = house
        .mesh
        .records()
        .write(Scope::Mesh, all, None)
        .await
        .map_err(refuse)?;
    let config = house.mesh.records().config();
    Ok(Json(TenantMade {
        tenant: made.tenant.to_string(),
        domain: format!("{}.{}.{}", ask.label, config.suffix(), config.base()),
        token: Exposed(token.text),
        acknowledgement: match written.ack {
            Ack::Replicated => "REPLICATED".into(),
            Ack::Local => "LOCAL".into(),
        },
    }))
}

async fn tenants(State(house): State<Arc<House>>) -> Json<Vec<TenantRow>> {
    let config = house.mesh.records().config();
    let rows = config.tenants().map(|t| TenantRow {
        tenant: t.id.to_string(),
        label: t.label.clone(),
        name: t.name.clone(),
        streams: config.streams(t.id).count(),
    });
    Json(rows.collect())
}

async fn explain(
    State(house): State<Arc<House>>,
    Query(ask): Query<ExplainRequest>,
) -> Answer<Explained> {
    let query = dns::Query::new(&ask.name, "A").map_err(refuse)?;
    let from = ask
        .from
        .unwrap_or_else(|| Prefix::new([0, 0, 0, 0].into(), 0));
    let explanation = dns::explain(&query, &from, &house.zone.load());
    let config = house.mesh.records().config();
    let (base, suffix) = (config.base(), config.suffix());
    let name = explanation.name.trim_end_matches('.');
    match explanation.rcode {
        "REFUSED" => {
            return Err(refuse(format!(
                "{name} is not under {base}, so this mesh's DNS refuses the question: ask for a name that ends in {base}, \
                 as foghorn.TENANT.{suffix}.{base}"
            )));
        }
        "NXDOMAIN" => {
            return Err(refuse(format!(
                "there is no name {name} in this mesh (NXDOMAIN): `shoal tenant list` and `shoal status` show the labels \
                 that there are, and names look like foghorn.TENANT.{suffix}.{base}"
            )));
        }
        _ => {}
    }
    let detail = serde_json::to_value(&explanation).map_err(refuse)?;
    Ok(Json(Explained {
        text: explanation.text(),
        detail,
    }))
}
