//! What `media` needs from the rest of the house, as traits that `node` answers. `media` knows neither the mesh's
//! records nor who decides.
use std::net::{IpAddr, SocketAddr};

use futures::future::BoxFuture;
use routing::model::{BroadcastId, Hlc, NodeId, PlaybackId, Prefix, StreamId, StreamKey, TenantId};
use tokio::sync::watch;

/// How somebody publishes or watches, for logs, sessions and policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// RTMP or RTMPS.
    Rtmp,
    /// SRT.
    Srt,
    /// WHIP or WHEP.
    WebRtc,
    /// RTSP.
    Rtsp,
    /// MistServer's DTSC.
    Dtsc,
    /// HLS with MPEG-TS segments.
    Hls,
    /// HLS with CMAF segments.
    Cmaf,
    /// DASH.
    Dash,
    /// A container by HTTP, as it comes.
    Progressive,
    /// Still pictures.
    Picture,
    /// Another node.
    Relay,
}

/// Why somebody may not. The text is for the other side: it says what happened, what it means, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No such key, id or stream here. Not told apart from "not yours".
    #[error("{0}")]
    Unknown(String),
    /// Known, but not allowed.
    #[error("{0}")]
    Forbidden(String),
    /// This node cannot now; another may.
    #[error("{0}")]
    Unavailable(String),
}

/// What a publisher was let in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The broadcast that it feeds.
    pub broadcast: BroadcastId,
    /// Its stream.
    pub stream: StreamId,
    /// Its tenant.
    pub tenant: TenantId,
}

/// What a viewer was let in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The broadcast to show.
    pub broadcast: BroadcastId,
    /// Its stream.
    pub stream: StreamId,
    /// Its tenant.
    pub tenant: TenantId,
}

/// Who asks to watch.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// What may be kept of the address.
    pub prefix: Prefix,
    /// By which protocol.
    pub protocol: Protocol,
    /// The host name that was asked for, without port, lower case.
    pub host: Option<String>,
    /// Whether the request came over TLS ([`OverTls`]).
    pub secure: bool,
}

/// What the listener leaves in a request's extensions: the address of this machine that it came to.
#[derive(Clone, Copy, Debug)]
pub struct ReachedAt(pub SocketAddr);

/// A mark that the listener leaves in a request's extensions when it came over TLS.
#[derive(Clone, Copy, Debug)]
pub struct OverTls;

/// May this key publish, may this viewer watch, may this node have this broadcast?
pub trait Gate: Send + Sync + 'static {
    /// Whether `key` may publish here now.
    fn may_publish<'a>(
        &'a self,
        key: &'a StreamKey,
        protocol: Protocol,
    ) -> BoxFuture<'a, Result<Publish, Refusal>>;
    /// Whether a viewer may watch `id` here.
    fn may_watch<'a>(
        &'a self,
        id: PlaybackId,
        viewer: &'a Viewer,
    ) -> BoxFuture<'a, Result<Watch, Refusal>>;
    /// Whether `peer` may be sent this broadcast's frames.
    fn may_relay(&self, peer: NodeId, broadcast: BroadcastId) -> bool;
}

/// A publisher's claim to be the one that is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// When it was made.
    pub stamp: Hlc,
    /// By which node.
    pub node: NodeId,
}

/// Where a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This one is live: its epoch opens and its frames flow.
    Live,
    /// Another publisher, the lower claim, is live; this one's frames are received and dropped until it ends.
    Standby {
        /// Whose.
        live: Claim,
    },
}

/// A claim held: dropping it withdraws it.
pub trait HeldClaim: Send + Sync {
    /// The claim.
    fn claim(&self) -> Claim;
    /// Where it stands, now and from now on.
    fn standing(&self) -> watch::Receiver<Standing>;
}

/// Who publishes this stream now?
pub trait Claims: Send + Sync + 'static {
    /// Claims `broadcast` for a publisher at this node.
    fn claim(&self, broadcast: BroadcastId) -> Box<dyn HeldClaim>;
}

/// A node that holds a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The node.
    pub node: NodeId,
    /// Where its relay endpoint listens, best first.
    pub addresses: Vec<SocketAddr>,
    /// Whether the publisher is connected there.
    pub origin: bool,
}

/// What this node holds of a broadcast, for all to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// Its current epoch.
    pub epoch: routing::model::EpochId,
    /// The claim under which it is published.
    pub claim: Claim,
    /// `None` at the origin; else the node that this one gets it from.
    pub replica_of: Option<NodeId>,
    /// Nothing comes any more: it is no source, but what it has tells the next publisher what to follow.
    pub over: bool,
}

/// Ranked sources of a broadcast, and the word that this node is one.
pub trait Holders: Send + Sync + 'static {
    /// Who can be asked for it, best first, without this node. Empty when nobody advertises it.
    fn sources(&self, broadcast: BroadcastId) -> Vec<Source>;
    /// Who has anything of it, those included whose origin is gone.
    fn remains(&self, broadcast: BroadcastId) -> Vec<Source> {
        self.sources(broadcast)
    }
    /// Changes whenever an answer of [`Holders::sources`] may have: wait on it for a stream that is about to start.
    fn changes(&self) -> watch::Receiver<u64>;
    /// This node holds it now (or holds it differently).
    fn advertise(&self, holding: Holding);
    /// This node no longer holds it.
    fn withdraw(&self, broadcast: BroadcastId);
}

/// Where else a viewer can go: what `/play/ID` answers, and the names that Content Steering gives.
pub trait Resolve: Send + Sync + 'static {
    /// The JSON document of `/play/ID` and `/resolve/ID` for this viewer.
    fn resolve<'a>(
        &'a self,
        id: PlaybackId,
        viewer: &'a Viewer,
    ) -> BoxFuture<'a, Result<serde_json::Value, Refusal>>;
    /// Base URLs of nodes that can serve `id`, best first, this node included where it is healthy: each with a name
    /// that stays the same for the same node, as `("n-abcdefghij", "https://n-abcdefghij.acme.cdn.example")`.
    fn pathways(&self, id: PlaybackId, viewer: &Viewer) -> Vec<Pathway>;
    /// The node that somebody with this key and address had best publish at by HTTP, where that can be told.
    fn publish_at<'a>(
        &'a self,
        key: &'a StreamKey,
        publisher: &'a Viewer,
    ) -> BoxFuture<'a, Option<Pathway>> {
        let _ = (key, publisher);
        Box::pin(std::future::ready(None))
    }
    /// The address by which this node knows the caller, for the place of a viewer behind `X-Forwarded-For`, never stored.
    fn viewer_address(&self, peer: IpAddr, headers: &axum::http::HeaderMap) -> IpAddr {
        let _ = headers;
        peer
    }
}

/// One way to a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pathway {
    /// `PATHWAY-ID` of Content Steering (RFC 8216bis): the node's label.
    pub id: String,
    /// Scheme, host and port without a path.
    pub base_url: String,
}
