//! The JSON of `GET /console/state` and of each event of `GET /console/events`.
//!
//! `/console/events` is a stream of server-sent events, each `event: state` with a whole [`State`] as data: one at
//! once, then one whenever something differs, at most two a second; a comment every 15 s keeps the connection. A page
//! draws what it gets and keeps nothing. Both want `Authorization: Bearer` or `?token=` of an operator, or a loopback
//! caller (see [`crate::ports::Operators`]); others get 403 with a JSON `{"error": "…"}`.
//!
//! ```json
//! {
//!   "version": 1,
//!   "at": 1760000000123,
//!   "mesh": {"id": "…52 characters…", "base": "demo.shoal.test", "settled": true},
//!   "self": "…node id…",
//!   "clusters": [{"id": "…uuid…", "slug": "home", "name": "Home", "kind": "official"}],
//!   "tenants": 1,
//!   "nodes": [{
//!     "id": "…52 characters…", "label": "n-abcdefghij", "name": "berlin", "cluster": "…uuid…",
//!     "alive": true, "since": 1760000000000,
//!     "place": {"lat": 52.5, "lon": 13.4, "region": "eu"},
//!     "mode": "normal", "roles": ["ingest", "edge"],
//!     "load": {"cpu": 12, "memory": 310, "egress": 4200000, "viewers": 3},
//!     "capacity": {"egress": 1000000000},
//!     "services": [{"service": "https", "addr": "127.0.0.2:443", "verified": true}]
//!   }],
//!   "streams": [{
//!     "broadcast": "…uuid…", "tenant": "acme", "name": "Main stage", "playback_id": "…16 characters…",
//!     "origin": "…node id…", "claimed": 1760000000000, "viewers": 3,
//!     "holders": [
//!       {"node": "…", "from": null, "viewers": 1},
//!       {"node": "…", "from": "…node id that it gets the frames from…", "viewers": 2}
//!     ]
//!   }]
//! }
//! ```
//!
//! `cpu` and `memory` are thousandths, `egress` bits a second, times Unix milliseconds. `place`, `capacity`, a
//! cluster's `slug` and a stream's `tenant` and `origin` may be `null`. Of a stream whose tenant's scope this node lacks, `name` and `playback_id` are `null`. Privacy: no viewer's
//! address, prefix or place is in it, only counts.
use routing::model::{
    BroadcastId, Capacity, ClusterId, Label, Load, MeshId, Mode, NodeId, Place, PlaybackId, Roles,
    UnixMillis,
};
use serde::Serialize;

/// The whole of what the console shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct State {
    /// Of this form; raised when a field changes its meaning.
    pub version: u32,
    /// When it was made.
    pub at: UnixMillis,
    /// The mesh.
    pub mesh: MeshInfo,
    /// The node that answers.
    #[serde(rename = "self")]
    pub this: NodeId,
    /// By slug.
    pub clusters: Vec<ClusterInfo>,
    /// How many tenants there are.
    pub tenants: usize,
    /// By name.
    pub nodes: Vec<NodeInfo>,
    /// What is live, by broadcast id.
    pub streams: Vec<StreamInfo>,
}

/// The mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeshInfo {
    /// Its root key.
    pub id: MeshId,
    /// Its base name.
    pub base: String,
    /// Whether this node's mesh scope is reconciled.
    pub settled: bool,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterInfo {
    /// Its id.
    pub id: ClusterId,
    /// Its DNS label; `None` when another cluster holds it.
    pub slug: Option<Label>,
    /// What people call it.
    pub name: String,
    /// `tenant_private`, `official` or `marketplace`.
    pub kind: &'static str,
}

/// A node as this one sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeInfo {
    /// Its key.
    pub id: NodeId,
    /// Its own DNS label.
    pub label: Label,
    /// What its operator calls it.
    pub name: Label,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Whether it is believed alive.
    pub alive: bool,
    /// Since when it has been what `alive` says.
    pub since: UnixMillis,
    /// Where it is.
    pub place: Option<Place>,
    /// What its operator wants of it.
    pub mode: Mode,
    /// What it may do.
    pub roles: Roles,
    /// What it carries.
    pub load: Load,
    /// What it could carry.
    pub capacity: Option<Capacity>,
    /// Where it listens.
    pub services: Vec<ServiceInfo>,
}

/// An address of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceInfo {
    /// `control`, `media`, `http`, `https`, `rtmp`, `dns` or `srt`.
    pub service: &'static str,
    /// Address and port.
    pub addr: std::net::SocketAddr,
    /// Whether other nodes have dialled it and found the node's key.
    pub verified: bool,
}

/// A stream that is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamInfo {
    /// Its broadcast.
    pub broadcast: BroadcastId,
    /// Its tenant's label.
    pub tenant: Option<Label>,
    /// Its name.
    pub name: Option<String>,
    /// Its public id.
    pub playback_id: Option<PlaybackId>,
    /// The node that the publisher is connected to; absent while only replicas hold it.
    pub origin: Option<NodeId>,
    /// When the publisher that is live claimed it.
    pub claimed: UnixMillis,
    /// At all nodes.
    pub viewers: u32,
    /// Who holds it: the origin first, then replicas by node id.
    pub holders: Vec<HolderInfo>,
}

/// A node that holds a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HolderInfo {
    /// The node.
    pub node: NodeId,
    /// Whom it gets the frames from; `None` at the origin.
    pub from: Option<NodeId>,
    /// Viewer sessions here.
    pub viewers: u32,
}
