//! What a zone is made of.
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use routing::{
    model::{
        Capacity, ClusterId, Label, Load, Mode, NodeId, Place, PlaybackId, Roles, TenantId, Verbs,
    },
    place::Places,
    rank::Holds,
};

/// A host in the zone's NS set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// Its whole name, `ns1.BASE` or one outside.
    pub name: String,
    /// Its addresses; answered, and added as glue, only where the name is inside BASE.
    pub addrs: Vec<IpAddr>,
}

/// A tenant as far as names go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneTenant {
    /// Who.
    pub id: TenantId,
    /// The label under the suffix: `acme`.
    pub label: Label,
    /// Whether it has names of its own at all. Without, they do not exist.
    pub branded: bool,
    /// What each cluster may do for it.
    pub entitled: BTreeMap<ClusterId, Verbs>,
}

/// A cluster as far as names go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneCluster {
    /// Which.
    pub id: ClusterId,
    /// Its label under BASE.
    pub slug: Label,
    /// Whether its nodes answer the unbranded names of BASE.
    pub official: bool,
}

/// A node as far as names go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneNode {
    /// Which. Its own name is [`NodeId::label`].
    pub id: NodeId,
    /// What people call it; for explanations.
    pub name: Label,
    /// Whose it is.
    pub cluster: ClusterId,
    /// Whether the view believes it alive.
    pub alive: bool,
    /// What its grant lets it do.
    pub roles: Roles,
    /// What its operator wants of it.
    pub mode: Mode,
    /// Where it is.
    pub place: Option<Place>,
    /// What it carries.
    pub load: Load,
    /// What it could carry.
    pub capacity: Option<Capacity>,
    /// Verified addresses that viewers reach it at.
    pub playback: Vec<IpAddr>,
    /// Verified addresses that streamers reach it at.
    pub ingest: Vec<IpAddr>,
}

/// A live stream that this responder knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonePlayback {
    /// Its public id.
    pub id: PlaybackId,
    /// Whose.
    pub tenant: TenantId,
    /// Who holds it, and how.
    pub holders: Vec<(NodeId, Holds)>,
}

/// What a zone is made of, filled in by `node` from the mesh's view, its records and the configuration.
#[derive(Clone, Debug)]
pub struct ZoneFacts {
    /// BASE, without a dot at the end.
    pub base: String,
    /// The label between a tenant's and BASE: `cdn`.
    pub suffix: Label,
    /// Until true, nothing is answered at all: a responder that does not yet know the mesh must not deny names.
    pub ready: bool,
    /// The SOA serial, modulo 2^32. Responders need not agree on it: nothing transfers this zone.
    pub version: u64,
    /// Of positive answers, in seconds.
    pub ttl: u32,
    /// Of denials, in seconds: the SOA's own TTL and its minimum (RFC 2308 section 4).
    pub negative_ttl: u32,
    /// How many nodes an answer names, where as many are fit. At least 2, so that one death leaves a client another.
    pub answers: usize,
    /// The NS set.
    pub ns: Vec<NameServer>,
    /// All tenants.
    pub tenants: Vec<ZoneTenant>,
    /// All clusters.
    pub clusters: Vec<ZoneCluster>,
    /// All nodes, dead ones included while they are known, so that explanations can name them.
    pub nodes: Vec<ZoneNode>,
    /// The live streams known here.
    pub playbacks: Vec<ZonePlayback>,
    /// Where askers are.
    pub places: Arc<dyn Places>,
}

impl ZoneFacts {
    /// Default of [`ZoneFacts::ttl`]: with 2 s of detection it keeps a dead node's name short-lived.
    pub const TTL: u32 = 10;
    /// Default of [`ZoneFacts::negative_ttl`].
    pub const NEGATIVE_TTL: u32 = 5;
    /// Default of [`ZoneFacts::answers`].
    pub const ANSWERS: usize = 2;
}
