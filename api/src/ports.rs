//! What `api` needs from the rest of the house, as traits that `node` answers. `api` knows the mesh's records and
//! view; of media, sockets and ranking it knows only these.
use std::net::IpAddr;

use bytes::Bytes;
use futures::future::BoxFuture;
use routing::model::{
    BroadcastId, ClusterId, NodeId, PlaybackId, StreamKey, TenantId, TrackSummary, UnixMillis,
};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast;

/// What is true of a broadcast now, asked of whoever holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveFacts {
    /// The node that the publisher is connected to.
    pub origin: NodeId,
    /// When its current epoch opened.
    pub started: UnixMillis,
    /// When these facts were gathered.
    pub updated: UnixMillis,
    /// Its tracks, in the order of the epoch's header. Empty while they are unknown here.
    pub tracks: Vec<TrackSummary>,
    /// Viewer sessions at all nodes, as far as known here.
    pub viewers: u32,
}

/// Viewers of one broadcast at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watched {
    /// What they watch.
    pub broadcast: BroadcastId,
    /// Where they are served.
    pub node: NodeId,
    /// How many sessions. No address of a viewer ever comes this way.
    pub viewers: u32,
}

/// What happened to a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LiveEventKind {
    /// An origin advertises it where none did.
    Start,
    /// No node holds it as origin any more.
    End,
    /// Another epoch, or another origin took it over.
    Source,
    /// Its tracks became known or changed.
    Tracks,
    /// A replica came or went, or the count of viewers changed.
    Lifecycle,
}

/// One event of a broadcast, as every entitled node comes to know it.
#[derive(Clone, Debug)]
pub struct LiveEvent {
    /// Whose.
    pub tenant: TenantId,
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// What happened.
    pub kind: LiveEventKind,
    /// The node that it happened at.
    pub node: NodeId,
    /// When this node learnt of it.
    pub at: UnixMillis,
    /// The facts after it, where known; absent after [`LiveEventKind::End`].
    pub facts: Option<LiveFacts>,
}

/// Live truth about broadcasts, gathered from this node and from those that hold them.
pub trait LiveStats: Send + Sync + 'static {
    /// The facts of a broadcast; `None` when nobody publishes it. May ask its holder; answers within a second with
    /// what is known here when the holder does not.
    fn facts(&self, broadcast: BroadcastId) -> BoxFuture<'_, Option<LiveFacts>>;
    /// Viewers by broadcast and node, as far as known here, without asking anybody: for the console.
    fn watched(&self) -> Vec<Watched>;
    /// Events from now on. The channel is bounded: a receiver that lags is told how many it missed, and the
    /// subscription passes that on.
    fn events(&self) -> broadcast::Receiver<LiveEvent>;
}

/// Why sessions of a broadcast end at an operator's or a tenant's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// Its stream was deleted.
    StreamDeleted,
}

/// Sessions of publishers and viewers at this node.
pub trait SessionControl: Send + Sync + 'static {
    /// Viewer sessions of a broadcast at this node.
    fn viewers(&self, broadcast: BroadcastId) -> u32;
    /// Ends all sessions of a broadcast at this node. Other nodes learn of the cause through the records.
    fn end(&self, broadcast: BroadcastId, why: EndReason);
}

/// Why there is nowhere to send somebody. The text says what happened, what it means, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// No such playback id or key. Not told apart from "not yours". HTTP 404.
    #[error("{0}")]
    Unknown(String),
    /// The playback policy says no. HTTP 403.
    #[error("{0}")]
    Denied(String),
    /// Known, but no node can take it now. HTTP 503.
    #[error("{0}")]
    Unavailable(String),
}

/// Who asks to be sent somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The caller's address, for its place only: it is neither stored nor logged.
    pub addr: IpAddr,
}

/// A node that can serve a viewer, with why it ranks where it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ViewerEndpoint {
    /// The node.
    pub node_id: NodeId,
    /// Scheme, host and port: `https://n-abcdefghij.acme.cdn.example`.
    pub base_url: String,
    /// The protocol of `url`: `cmaf`, `hls`.
    pub protocol: String,
    /// The whole URL of the preferred output.
    pub url: String,
    /// From the caller's place, in kilometres; absent when either place is unknown.
    pub geo_distance: Option<f64>,
    /// Higher is better: the ranking's cost in kilometres, negated.
    pub load_score: f64,
    /// Every output by protocol name, as `{"cmaf": {"url": …}, "hls": {"url": …}}`.
    pub outputs: Value,
    /// The terms of the score by name, from the ranking that answered.
    pub terms: Value,
}

/// What is known of the content that a viewer asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContentFacts {
    /// The playback id as asked.
    pub content_id: String,
    /// The broadcast that it leads to.
    pub broadcast: Option<BroadcastId>,
    /// The stream's name.
    pub title: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// The live facts, when it is live.
    pub live: Option<LiveFacts>,
    /// The nodes that hold it, origin first.
    pub holders: Vec<NodeId>,
}

/// Where a viewer can go.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewerEndpoints {
    /// Ranked, best first; never empty.
    pub endpoints: Vec<ViewerEndpoint>,
    /// Of the content.
    pub content: ContentFacts,
    /// The whole decision: everybody who was considered, every term, why the others lost; `routing`'s own form.
    pub decision: Value,
}

/// What kind of name an ingest endpoint was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IngestKind {
    /// A tenant's branded name, `edge-ingest.acme.cdn.BASE`.
    TenantAlias,
    /// The official clusters' common name, `edge-ingest.BASE`.
    RootPool,
    /// One cluster's name, `edge-ingest.SLUG.BASE`.
    ClusterPool,
    /// One node's name.
    NodeSpecific,
}

/// A node or a name that takes a stream in. Not printable: its URLs have the stream key in them.
#[derive(Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngestEndpoint {
    /// The node; for a pool's name, the one that it leads to first.
    pub node_id: NodeId,
    /// Scheme, host and port.
    pub base_url: String,
    /// `https://HOST/webrtc/KEY`; absent where WHIP is not served.
    pub whip_url: Option<String>,
    /// `rtmp://HOST:PORT/live/KEY`; absent where RTMP is not served.
    pub rtmp_url: Option<String>,
    /// `srt://HOST:PORT?streamid=KEY`; absent where SRT is not served.
    pub srt_url: Option<String>,
    /// The node's region.
    pub region: Option<String>,
    /// Higher is better: the ranking's cost in kilometres, negated.
    pub load_score: f64,
    /// The node's cluster.
    pub cluster_id: ClusterId,
    /// What kind of name `base_url` has.
    pub kind: IngestKind,
}

/// Where a streamer can go.
#[derive(Clone, PartialEq)]
pub struct IngestEndpoints {
    /// Ranked, best first; never empty.
    pub endpoints: Vec<IngestEndpoint>,
    /// The stream of the key.
    pub stream: routing::model::StreamId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The stream's name.
    pub title: String,
    /// Its description.
    pub description: Option<String>,
    /// The whole decision, as in [`ViewerEndpoints::decision`].
    pub decision: Value,
}

/// Decides through `routing`, by the very path that DNS and `/play` answer by. Also where this node lacks the
/// tenant's scope: then it asks a node that has it.
pub trait Resolver: Send + Sync + 'static {
    /// Nodes that can show `content` to the caller.
    fn viewer(
        &self,
        content: PlaybackId,
        asker: Asker,
    ) -> BoxFuture<'_, Result<ViewerEndpoints, ResolveError>>;
    /// Nodes that can take the stream of `key` from the caller.
    fn ingest<'a>(
        &'a self,
        key: &'a StreamKey,
        asker: Asker,
    ) -> BoxFuture<'a, Result<IngestEndpoints, ResolveError>>;
}

/// Why a request could not be answered by another node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// No node with the tenant's scope and the gateway role is alive in the view.
    #[error(
        "no reachable node holds this tenant's configuration; try again when one of its gateways is back"
    )]
    Nobody,
    /// Such nodes were asked; none answered in time. Whether a mutation took effect is unknown: repeat it with the
    /// same idempotency key.
    #[error(
        "the nodes that hold this tenant's configuration did not answer: {0}; repeat with the same Idempotency-Key"
    )]
    Failed(String),
}

/// Carries a request to a node that has the tenant's scope, over the mesh's own authenticated carrier, under the
/// protocol name [`FORWARD_PROTOCOL`]. There, `node` gives the bytes to [`crate::Gateway::answer_forwarded`], which
/// checks the caller's token again: a forwarding node is trusted with nothing.
pub trait Forward: Send + Sync + 'static {
    /// Sends `request` to one holder of `tenant`'s scope after the other until one answers; at most 10 s in all.
    fn forward(
        &self,
        tenant: TenantId,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, ForwardError>>;
}

/// The carrier's protocol name for forwarded GraphQL requests.
pub const FORWARD_PROTOCOL: &str = "shoal/graphql/1";

/// One thing that must hold before a node is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name: `mesh`, `dns`, `store`.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What it means, and what to do when it does not hold.
    pub detail: String,
}

/// Whether this node can do its work, for `/readyz`.
pub trait Readiness: Send + Sync + 'static {
    /// All checks; the node is ready when every one holds.
    fn checks(&self) -> Vec<Check>;
}

/// Who asks for an operators' page.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The address that the connection comes from.
    pub addr: IpAddr,
    /// The `Host` header without its port. A loopback caller that names another host is a web page that had its own
    /// name pointed here (DNS rebinding).
    pub host: Option<&'a str>,
    /// What it shows: the bearer token, or the `token` of the query for event streams.
    pub token: Option<&'a str>,
}

/// Who may see the console.
pub trait Operators: Send + Sync + 'static {
    /// Whether the caller is an operator. [`crate::console::LoopbackOnly`] is the policy without tokens.
    fn admits(&self, caller: Caller<'_>) -> bool;
}
