//! What follows from a set of statements, in whatever order they came.
use std::collections::{BTreeMap, HashMap};

use routing::model::{ClusterId, MeshId, NodeId, Roles, TenantId, UnixMillis, Verbs};

use super::{
    AuthorityError, ClusterGrant, Entitlement, MeshFacts, NodeGrant, Revocation, Signed, Statement,
    TenantGrant, grants::may_write,
};
use crate::identity::PublicKey;

/// Statements of one subject, by when they were issued; the hash parts those of one moment alike everywhere.
type Dated<T> = BTreeMap<(UnixMillis, [u8; 32]), Signed<T>>;

/// What a node is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its roles, as far as its cluster may give them.
    pub roles: Roles,
}

/// Statements that were checked back to the root.
#[derive(Clone, Debug)]
pub struct Facts {
    mesh: MeshId,
    facts: Dated<MeshFacts>,
    clusters: BTreeMap<ClusterId, Dated<ClusterGrant>>,
    nodes: HashMap<NodeId, Dated<NodeGrant>>,
    tenants: BTreeMap<TenantId, Dated<TenantGrant>>,
    entitlements: HashMap<(TenantId, ClusterId), Dated<Entitlement>>,
}

impl Facts {
    /// Nothing but the root.
    #[must_use]
    pub fn new(mesh: MeshId) -> Self {
        Self {
            mesh,
            facts: BTreeMap::new(),
            clusters: BTreeMap::new(),
            nodes: HashMap::new(),
            tenants: BTreeMap::new(),
            entitlements: HashMap::new(),
        }
    }

    /// The mesh.
    #[must_use]
    pub const fn mesh(&self) -> MeshId {
        self.mesh
    }

    fn of_mesh<T: Statement>(&self, mesh: MeshId) -> Result<(), AuthorityError> {
        if mesh == self.mesh {
            Ok(())
        } else {
            Err(AuthorityError::OtherMesh { kind: T::KIND })
        }
    }

    fn root(&self) -> [PublicKey; 1] {
        [self.mesh.into()]
    }

    /// Takes the root's facts of the mesh. True when they were not there.
    ///
    /// # Errors
    /// [`AuthorityError`] when they are not the root's.
    pub fn add_mesh(&mut self, s: &Signed<MeshFacts>) -> Result<bool, AuthorityError> {
        self.of_mesh::<MeshFacts>(s.mesh)?;
        let key = (s.issued, s.hash());
        if self.facts.contains_key(&key) {
            return Ok(false);
        }
        s.signed_by(&self.root())?;
        self.facts.insert(key, s.clone());
        Ok(true)
    }

    /// Takes a cluster's grant. True when it was not there.
    ///
    /// # Errors
    /// [`AuthorityError`] when it is not the root's.
    pub fn add_cluster(&mut self, s: &Signed<ClusterGrant>) -> Result<bool, AuthorityError> {
        self.of_mesh::<ClusterGrant>(s.mesh)?;
        let key = (s.issued, s.hash());
        if self.has_cluster(s) {
            return Ok(false);
        }
        s.signed_by(&self.root())?;
        self.clusters
            .entry(s.cluster)
            .or_default()
            .insert(key, s.clone());
        Ok(true)
    }

    /// Takes a node's grant. True when it was not there. It may be tried again when more is known.
    ///
    /// # Errors
    /// [`AuthorityError`] when no known key of its cluster signed it, or the node did not consent.
    pub fn add_node(&mut self, s: &Signed<NodeGrant>) -> Result<bool, AuthorityError> {
        self.of_mesh::<NodeGrant>(s.mesh)?;
        let key = (s.not_before, s.hash());
        if self
            .nodes
            .get(&s.node)
            .is_some_and(|n| n.contains_key(&key))
        {
            return Ok(false);
        }
        self.by_cluster(s, s.cluster)?;
        s.check_consent()?;
        self.nodes.entry(s.node).or_default().insert(key, s.clone());
        Ok(true)
    }

    fn by_cluster<T: Statement>(
        &self,
        s: &Signed<T>,
        cluster: ClusterId,
    ) -> Result<(), AuthorityError> {
        any_key(
            self.clusters.get(&cluster),
            |g| g.key,
            |key| s.signed_by(&[key]),
        )
        .unwrap_or(Err(unsigned::<T>()))
    }

    /// Takes a tenant's grant. True when it was not there.
    ///
    /// # Errors
    /// [`AuthorityError`] when it is not the root's.
    pub fn add_tenant(&mut self, s: &Signed<TenantGrant>) -> Result<bool, AuthorityError> {
        self.of_mesh::<TenantGrant>(s.mesh)?;
        let key = (s.issued, s.hash());
        if self.has_tenant(s) {
            return Ok(false);
        }
        s.signed_by(&self.root())?;
        self.tenants
            .entry(s.tenant)
            .or_default()
            .insert(key, s.clone());
        Ok(true)
    }

    /// Takes an entitlement. True when it was not there. It may be tried again when more is known.
    ///
    /// # Errors
    /// [`AuthorityError`] when it is not signed by known keys of both.
    pub fn add_entitlement(&mut self, s: &Signed<Entitlement>) -> Result<bool, AuthorityError> {
        self.of_mesh::<Entitlement>(s.mesh)?;
        let key = (s.not_before, s.hash());
        let of = (s.tenant, s.cluster);
        if self
            .entitlements
            .get(&of)
            .is_some_and(|e| e.contains_key(&key))
        {
            return Ok(false);
        }
        any_key(
            self.tenants.get(&s.tenant),
            |t| t.key,
            |tenant| {
                any_key(
                    self.clusters.get(&s.cluster),
                    |c| c.key,
                    |cluster| s.signed_by(&[tenant, cluster]),
                )
                .unwrap_or(Err(unsigned::<Entitlement>()))
            },
        )
        .unwrap_or(Err(unsigned::<Entitlement>()))?;
        self.entitlements
            .entry(of)
            .or_default()
            .insert(key, s.clone());
        Ok(true)
    }

    /// Checks a revocation, which proves itself.
    ///
    /// # Errors
    /// [`AuthorityError`] when any link of its proof fails.
    pub fn check_revocation(mesh: MeshId, s: &Signed<Revocation>) -> Result<(), AuthorityError> {
        let mut facts = Self::new(mesh);
        facts.of_mesh::<Revocation>(s.mesh)?;
        facts.add_cluster(&s.cluster)?;
        facts.add_node(&s.grant)?;
        s.signed_by(&[s.cluster.key])
    }

    /// The root's latest facts of the mesh.
    #[must_use]
    pub fn mesh_facts(&self) -> Option<&Signed<MeshFacts>> {
        self.facts.values().next_back()
    }

    /// A cluster's latest grant.
    #[must_use]
    pub fn cluster(&self, id: ClusterId) -> Option<&Signed<ClusterGrant>> {
        self.clusters.get(&id)?.values().next_back()
    }

    /// The latest grant of every cluster.
    pub fn clusters(&self) -> impl Iterator<Item = &Signed<ClusterGrant>> {
        self.clusters
            .values()
            .filter_map(|g| g.values().next_back())
    }

    /// Whether this very grant of a cluster was taken.
    pub(crate) fn has_cluster(&self, s: &Signed<ClusterGrant>) -> bool {
        let all = self.clusters.get(&s.cluster);
        all.is_some_and(|all| all.contains_key(&(s.issued, s.hash())))
    }

    /// Whether this very grant of a tenant was taken.
    pub(crate) fn has_tenant(&self, s: &Signed<TenantGrant>) -> bool {
        let all = self.tenants.get(&s.tenant);
        all.is_some_and(|all| all.contains_key(&(s.issued, s.hash())))
    }

    /// A node's latest grant, in force or not.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Signed<NodeGrant>> {
        self.nodes.get(&id)?.values().next_back()
    }

    /// The latest grant of every node.
    pub fn nodes(&self) -> impl Iterator<Item = &Signed<NodeGrant>> {
        self.nodes.values().filter_map(|g| g.values().next_back())
    }

    /// A tenant's latest grant.
    #[must_use]
    pub fn tenant(&self, id: TenantId) -> Option<&Signed<TenantGrant>> {
        self.tenants.get(&id)?.values().next_back()
    }

    /// The latest grant of every tenant.
    pub fn tenants(&self) -> impl Iterator<Item = &Signed<TenantGrant>> {
        self.tenants.values().filter_map(|g| g.values().next_back())
    }

    /// The latest entitlement of every pair of tenant and cluster.
    pub fn entitlements(&self) -> impl Iterator<Item = &Signed<Entitlement>> {
        self.entitlements
            .values()
            .filter_map(|e| e.values().next_back())
    }

    /// The moments at which the latest statements begin and end.
    pub(crate) fn edges(&self) -> impl Iterator<Item = UnixMillis> {
        let nodes = self.nodes().flat_map(|g| [g.not_before, g.expires]);
        nodes.chain(self.entitlements().flat_map(|e| [e.not_before, e.expires]))
    }

    /// What a node was at `at`; none when no grant of it was in force.
    #[must_use]
    pub fn standing(&self, node: NodeId, at: UnixMillis) -> Option<Standing> {
        let grant = last_by(self.nodes.get(&node)?, at)?;
        let cluster = last_by(self.clusters.get(&grant.cluster)?, at)?;
        grant.in_force(at).then(|| Standing {
            cluster: grant.cluster,
            roles: grant.roles.and(cluster.roles),
        })
    }

    /// What a cluster was entitled to do for a tenant at `at`. `write` counts only where the tenant's grant of that
    /// moment lists the cluster.
    #[must_use]
    pub fn entitled(&self, tenant: TenantId, cluster: ClusterId, at: UnixMillis) -> Verbs {
        let verbs = self
            .entitlements
            .get(&(tenant, cluster))
            .and_then(|all| last_by(all, at))
            .map_or(Verbs::NONE, |e| e.allows(at));
        let grant = self.tenants.get(&tenant).and_then(|all| last_by(all, at));
        match grant {
            None => Verbs::NONE,
            Some(g) if g.writers.contains(&cluster) => verbs,
            Some(_) => verbs
                .iter()
                .filter(|v| *v != routing::model::Verb::Write)
                .collect(),
        }
    }

    /// Whether `node` could write `tenant`'s configuration at `at`.
    #[must_use]
    pub fn may_write(&self, node: NodeId, tenant: TenantId, at: UnixMillis) -> bool {
        self.standing(node, at)
            .is_some_and(|s| may_write(s.roles, self.entitled(tenant, s.cluster, at)))
    }
}

/// The statement that counts at `at`: the last that was issued by then.
fn last_by<T>(all: &Dated<T>, at: UnixMillis) -> Option<&Signed<T>> {
    all.range(..=(at, [0xff; 32])).next_back().map(|(_, s)| s)
}

fn unsigned<T: Statement>() -> AuthorityError {
    AuthorityError::Signature {
        kind: T::KIND,
        source: crate::identity::KeyError::Signature,
    }
}

/// Tries `check` with the key of each known grant, the latest first; none where no grant is known.
fn any_key<T>(
    grants: Option<&Dated<T>>,
    key: impl Fn(&T) -> PublicKey,
    check: impl Fn(PublicKey) -> Result<(), AuthorityError>,
) -> Option<Result<(), AuthorityError>> {
    let mut keys: Vec<PublicKey> = Vec::new();
    for grant in grants?.values().rev() {
        let key = key(grant);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut last = None;
    for key in keys {
        match check(key) {
            Ok(()) => return Some(Ok(())),
            failed => last = Some(failed),
        }
    }
    last
}
