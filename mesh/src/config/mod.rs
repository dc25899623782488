//! What is agreed, as one immutable snapshot.
//!
//! Shape: [`Config`] is made of maps behind `Arc`s, split into shards, so that a snapshot after one record costs a
//! few pointers and one shard, however many streams there are. [`state`](crate::state) keeps it current.
mod shards;
mod types;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use routing::model::{
    ClusterId, Label, MeshId, NodeId, PlaybackId, StreamId, TenantId, UnixMillis, Verbs,
};

pub(crate) use shards::Shards;
pub use types::{Cluster, KeyRecord, Node, Stream, Tenant, Token};

use crate::authority::{Entitlement, Facts, Signed, Standing};

/// A stream with its keys, deleted keys left out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StreamEntry {
    pub(crate) stream: Stream,
    pub(crate) keys: Vec<KeyRecord>,
}

/// The agreed state at one moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) version: u64,
    pub(crate) as_of: UnixMillis,
    pub(crate) own: Option<ClusterId>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) revoked: Arc<BTreeSet<NodeId>>,
    pub(crate) slugs: Arc<BTreeMap<Label, ClusterId>>,
    pub(crate) labels: Arc<BTreeMap<Label, TenantId>>,
    pub(crate) clusters: Arc<BTreeMap<ClusterId, Cluster>>,
    pub(crate) nodes: Arc<BTreeMap<NodeId, Node>>,
    pub(crate) tenants: Arc<BTreeMap<TenantId, Tenant>>,
    pub(crate) tokens: Shards<[u8; 32], Arc<Token>>,
    pub(crate) streams: Shards<StreamId, Arc<StreamEntry>>,
    pub(crate) playbacks: Shards<PlaybackId, StreamId>,
    pub(crate) keys: Shards<[u8; 32], StreamId>,
    pub(crate) by_tenant: Arc<BTreeMap<TenantId, Arc<BTreeSet<StreamId>>>>,
}

impl Config {
    /// Of a mesh of which only the root is known.
    #[must_use]
    pub fn empty(mesh: MeshId) -> Self {
        Self {
            version: 0,
            as_of: UnixMillis(0),
            own: None,
            facts: Arc::new(Facts::new(mesh)),
            revoked: Arc::default(),
            slugs: Arc::default(),
            labels: Arc::default(),
            clusters: Arc::default(),
            nodes: Arc::default(),
            tenants: Arc::default(),
            tokens: Shards::new(),
            streams: Shards::new(),
            playbacks: Shards::new(),
            keys: Shards::new(),
            by_tenant: Arc::default(),
        }
    }

    /// Grows by at least one with every change that this node sees. It means nothing on another node.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The moment that expiries are judged at. A new snapshot comes when one is passed.
    #[must_use]
    pub const fn as_of(&self) -> UnixMillis {
        self.as_of
    }

    /// The mesh.
    #[must_use]
    pub fn mesh_id(&self) -> MeshId {
        self.facts.mesh()
    }

    /// The base name, BASE, without a dot at its end; empty before any record is there.
    #[must_use]
    pub fn base(&self) -> &str {
        self.facts.mesh_facts().map_or("", |f| &f.base)
    }

    /// What stands between a tenant's label and BASE: `cdn`. May be empty.
    #[must_use]
    pub fn suffix(&self) -> &str {
        self.facts.mesh_facts().map_or("", |f| &f.suffix)
    }

    /// The statements behind all this.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// All clusters, by id.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values()
    }

    /// A cluster.
    #[must_use]
    pub fn cluster(&self, id: ClusterId) -> Option<&Cluster> {
        self.clusters.get(&id)
    }

    /// The cluster that holds a slug.
    #[must_use]
    pub fn cluster_by_slug(&self, slug: &Label) -> Option<&Cluster> {
        self.cluster(*self.slugs.get(slug)?)
    }

    /// All nodes that have a grant, expired ones too, revoked ones not; by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// A node that has a grant and was not revoked; whether the grant is in force is for [`Config::standing`] to say.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// A node's cluster and roles now; none when its grant ended or it was revoked.
    #[must_use]
    pub fn standing(&self, id: NodeId) -> Option<Standing> {
        if self.is_revoked(id) {
            return None;
        }
        self.facts.standing(id, self.as_of)
    }

    /// Whether a node was revoked. Final.
    #[must_use]
    pub fn is_revoked(&self, id: NodeId) -> bool {
        self.revoked.contains(&id)
    }

    /// All tenants, by id.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    /// A tenant.
    #[must_use]
    pub fn tenant(&self, id: TenantId) -> Option<&Tenant> {
        self.tenants.get(&id)
    }

    /// The tenant that holds a label.
    #[must_use]
    pub fn tenant_by_label(&self, label: &Label) -> Option<&Tenant> {
        self.tenant(*self.labels.get(label)?)
    }

    /// What a cluster may do for a tenant now.
    #[must_use]
    pub fn entitled(&self, tenant: TenantId, cluster: ClusterId) -> Verbs {
        self.facts.entitled(tenant, cluster, self.as_of)
    }

    /// A tenant's latest entitlements, in force or not, one a cluster, by cluster.
    #[must_use]
    pub fn entitlements(&self, tenant: TenantId) -> Vec<&Signed<Entitlement>> {
        let mut all: Vec<_> = self
            .facts
            .entitlements()
            .filter(|e| e.tenant == tenant)
            .collect();
        all.sort_by_key(|e| e.cluster);
        all
    }

    /// Whether this node keeps a tenant's scope: its cluster is entitled to something there.
    #[must_use]
    pub fn has_scope(&self, tenant: TenantId) -> bool {
        self.own
            .is_some_and(|own| self.entitled(tenant, own) != Verbs::NONE)
    }

    /// The API token with this hash ([`token_hash`](crate::records::changes::token_hash)), unless it was revoked or
    /// has ended.
    #[must_use]
    pub fn token(&self, hash: [u8; 32]) -> Option<&Token> {
        self.tokens
            .get(&hash)
            .filter(|t| t.expires.is_none_or(|end| end >= self.as_of))
            .map(Arc::as_ref)
    }

    /// All API tokens that were not revoked, in no order.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values().map(Arc::as_ref)
    }

    /// A tenant's streams, by id.
    pub fn streams(&self, tenant: TenantId) -> impl Iterator<Item = &Stream> {
        self.by_tenant
            .get(&tenant)
            .into_iter()
            .flat_map(|ids| ids.iter())
            .filter_map(|id| self.stream(*id))
    }

    /// A stream that was not deleted.
    #[must_use]
    pub fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id).map(|e| &e.stream)
    }

    /// The stream of a playback id.
    #[must_use]
    pub fn stream_by_playback(&self, id: PlaybackId) -> Option<&Stream> {
        self.stream(*self.playbacks.get(&id)?)
    }

    /// The stream and key of a stream key's hash, deactivated keys too; look at [`KeyRecord::active`].
    #[must_use]
    pub fn key_by_hash(&self, hash: [u8; 32]) -> Option<(&Stream, &KeyRecord)> {
        let entry = self.streams.get(self.keys.get(&hash)?)?;
        let key = entry.keys.iter().find(|k| k.hash == hash)?;
        Some((&entry.stream, key))
    }

    /// The same for the first half of a hash, where one key's begins so.
    #[must_use]
    pub fn key_by_half(&self, half: [u8; 16]) -> Option<(&Stream, &KeyRecord)> {
        let mut whole = [0; 32];
        whole[..16].copy_from_slice(&half);
        let mut all = self.keys.near(&whole).filter(|h| h.starts_with(&half));
        let found = *all.next()?;
        all.next().is_none().then_some(())?;
        self.key_by_hash(found)
    }

    /// A stream's keys: the primary one first, then by when they were made.
    #[must_use]
    pub fn keys(&self, stream: StreamId) -> &[KeyRecord] {
        self.streams.get(&stream).map_or(&[], |e| &e.keys)
    }
}

impl Config {
    /// The next moment at which something in it begins or ends.
    pub(crate) fn next_edge(&self) -> Option<UnixMillis> {
        let tokens = self.tokens.values().filter_map(|t| t.expires);
        let edges = self.facts.edges().chain(tokens);
        edges.filter(|e| *e >= self.as_of).min()
    }

    /// Empties what is derived from content, before all is judged anew.
    pub(crate) fn clear_things(&mut self) {
        self.tokens = Shards::new();
        self.streams = Shards::new();
        self.playbacks = Shards::new();
        self.keys = Shards::new();
        self.by_tenant = Arc::default();
    }
}
