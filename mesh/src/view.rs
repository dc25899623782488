//! What a node now believes of the mesh, as one immutable snapshot.
use std::{collections::BTreeMap, net::SocketAddr};

use bytes::Bytes;
use minicbor::{Decode, Encode};
use routing::model::{
    BroadcastId, Capacity, ClusterId, EpochId, Hlc, Label, Load, Mode, NodeId, Place, Roles,
    TenantId, Uptime,
};

/// What can be asked for at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Service {
    /// Control links: libp2p over QUIC.
    #[n(0)]
    Control,
    /// Media links: the relay over QUIC.
    #[n(1)]
    Media,
    /// HTTP.
    #[n(2)]
    Http,
    /// HTTPS.
    #[n(3)]
    Https,
    /// RTMP.
    #[n(4)]
    Rtmp,
    /// DNS.
    #[n(5)]
    Dns,
    /// SRT, over UDP.
    #[n(6)]
    Srt,
}

/// An address that a node names for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAddr {
    /// For what.
    pub service: Service,
    /// Where.
    pub addr: SocketAddr,
    /// Two others (or all others, where there are fewer) have dialled it and seen the node's key there.
    pub verified: bool,
}

/// What a node says of itself besides that it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Where it is.
    pub place: Option<Place>,
    /// What it could carry.
    pub capacity: Option<Capacity>,
    /// What it carries.
    pub load: Load,
    /// What its operator wants of it.
    pub mode: Mode,
    /// Where its services are; control addresses are added by [`Mesh`](crate::Mesh) itself. At most 32.
    pub services: Vec<(Service, SocketAddr)>,
}

/// What a node says of a broadcast that it holds. Slow facts only: tracks and counts are asked of the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Advert {
    /// The broadcast.
    #[n(0)]
    pub broadcast: BroadcastId,
    /// Whose it is.
    #[n(1)]
    pub tenant: TenantId,
    /// Its current epoch.
    #[n(2)]
    pub epoch: EpochId,
    /// Since when, and from which origin, it is published: of several the lowest that lives is the one.
    #[n(3)]
    pub claim: (Hlc, NodeId),
    /// Whom it is relayed from; `None` at the origin.
    #[n(4)]
    pub replica_of: Option<NodeId>,
    /// Nothing comes any more: its origin is gone, and what is held is good for who publishes it next.
    #[n(5)]
    #[cbor(default)]
    pub over: bool,
}

/// A node, as it is seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its key.
    pub id: NodeId,
    /// Whether it lives. What a dead one said last is kept.
    pub alive: bool,
    /// Which of its lives this is.
    pub incarnation: u64,
    /// When `alive` became what it is, on this process's clock.
    pub since: Uptime,
    /// Its name, as its operator calls it.
    pub name: Label,
    /// Whose it is.
    pub cluster: ClusterId,
    /// What its grant lets it do now: nothing once the grant has ended.
    pub roles: Roles,
    /// What its operator wants of it.
    pub mode: Mode,
    /// Where it is.
    pub place: Option<Place>,
    /// What it carries.
    pub load: Load,
    /// What it could carry.
    pub capacity: Option<Capacity>,
    /// Where its services are.
    pub services: Vec<ServiceAddr>,
    /// What it holds, by broadcast.
    pub adverts: Vec<Advert>,
    /// What it still has of broadcasts whose origin is gone.
    pub remains: Vec<Advert>,
    /// It holds its cluster's key: it lets nodes in and renews grants.
    pub issues: bool,
    /// What else it published.
    pub values: BTreeMap<String, Bytes>,
}

impl Member {
    /// Its addresses for a service, the verified ones first.
    pub fn addrs(&self, service: Service) -> impl Iterator<Item = SocketAddr> + '_ {
        let part = move |verified| {
            self.services
                .iter()
                .filter(move |s| s.service == service && s.verified == verified)
                .map(|s| s.addr)
        };
        part(true).chain(part(false))
    }
}

/// All nodes with a grant that anything is known of, this one included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Grows with every change. It means nothing on another node.
    pub version: u64,
    /// The mesh scope was found equal to a peer's since the start, or there is no other node, or none answered for 15
    /// seconds. Before that, what is known may be old.
    pub settled: bool,
    /// By id.
    pub members: BTreeMap<NodeId, std::sync::Arc<Member>>,
}

impl View {
    /// The members that live.
    pub fn alive(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(AsRef::as_ref).filter(|m| m.alive)
    }
}
