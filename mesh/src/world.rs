//! A small mesh for tests: one official cluster of gateways, one tenant.
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use routing::model::{ClusterId, Role, Roles, TenantId, UnixMillis, Uptime, Verb, Verbs};

use crate::{
    authority::{ClusterGrant, ClusterKind, NodeGrant},
    identity::{ClusterKey, EpochSecret, NodeKey, RootKey, TenantKey},
    records::{
        Change,
        changes::{self, Founding},
    },
    replica::Now,
};

/// 2025-10-09, some afternoon.
pub(crate) const START: UnixMillis = UnixMillis(1_760_000_000_000);

pub(crate) fn at(ms: u64) -> Now {
    Now {
        up: Uptime::from_millis(ms),
        unix: UnixMillis(START.0 + ms),
    }
}

pub(crate) struct World {
    pub(crate) root: RootKey,
    pub(crate) key: ClusterKey,
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: EpochSecret,
    pub(crate) tenant: TenantId,
    pub(crate) tenant_key: TenantKey,
    pub(crate) rng: ChaCha8Rng,
    tenant_changes: Vec<Change>,
}

pub(crate) fn all_roles() -> Roles {
    Role::ALL.iter().copied().collect()
}

pub(crate) fn all_verbs() -> Verbs {
    Verb::ALL.iter().copied().collect()
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let root = RootKey::from_seed([100; 32]);
        let key = ClusterKey::from_seed([101; 32]);
        let cluster = ClusterId::from_bytes([102; 16]);
        let label = ("acme".parse().unwrap(), "Acme".to_owned());
        let clusters = [(cluster, &key, all_verbs())];
        let new = changes::create_tenant(&root, label, &clusters, START, &mut rng).unwrap();
        Self {
            epoch: EpochSecret::from_bytes([103; 32]),
            tenant: new.tenant,
            tenant_key: new.key,
            tenant_changes: new.changes,
            root,
            key,
            cluster,
            rng,
        }
    }

    pub(crate) fn node(&self, i: u8) -> NodeKey {
        NodeKey::from_seed([i; 32])
    }

    /// What the founder, node 0, writes first.
    pub(crate) fn founding(&self) -> Vec<Change> {
        let founding = Founding {
            base: "mesh.example".to_owned(),
            suffix: "cdn".to_owned(),
            cluster: self.cluster,
            slug: "first".parse().unwrap(),
            cluster_name: "First".to_owned(),
            cluster_roles: all_roles(),
            node_name: "node-0".parse().unwrap(),
            node_roles: all_roles(),
        };
        let keys = (&self.root, &self.key, &self.node(0));
        changes::found(founding, keys, START).unwrap()
    }

    pub(crate) fn tenant_changes(&self) -> Vec<Change> {
        self.tenant_changes.clone()
    }

    pub(crate) fn grant(&self, i: u8) -> Change {
        self.grant_at(i, START)
    }

    pub(crate) fn grant_at(&self, i: u8, from: UnixMillis) -> Change {
        let node = self.node(i);
        let mesh = self.root.mesh();
        let grant = NodeGrant {
            mesh,
            cluster: self.cluster,
            node: node.id(),
            name: format!("node-{i}").parse().unwrap(),
            roles: all_roles(),
            not_before: from,
            expires: from.plus(NodeGrant::LASTS),
            consent: node.consent(&mesh, self.cluster),
            token: None,
        };
        Change::Node(grant.issue(&self.key).unwrap())
    }

    /// Another cluster, entitled to nothing, and its key.
    pub(crate) fn stranger_cluster(&self, slug: &str) -> (ClusterId, ClusterKey, Change) {
        let key = ClusterKey::from_seed([111; 32]);
        let cluster = ClusterId::from_bytes([112; 16]);
        let grant = ClusterGrant {
            mesh: self.root.mesh(),
            cluster,
            key: key.public(),
            kind: ClusterKind::Marketplace,
            slug: slug.parse().unwrap(),
            name: "Other".to_owned(),
            roles: all_roles(),
            issued: START,
        };
        (
            cluster,
            key,
            Change::Cluster(grant.issue(&self.root).unwrap()),
        )
    }

    pub(crate) fn stream(&mut self, name: &str) -> changes::NewStream {
        let name = (name.to_owned(), None);
        changes::create_stream(&self.epoch, self.tenant, name, &mut self.rng)
    }
}
