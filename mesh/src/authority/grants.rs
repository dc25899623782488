//! The statements themselves. Fields are numbered: a later version adds numbers, and never reuses one.
use std::time::Duration;

use minicbor::{Decode, Encode};
use routing::model::{
    ClusterId, Label, MeshId, NodeId, Role, Roles, TenantId, UnixMillis, Verb, Verbs,
};

use super::{AuthorityError, Signed, Statement};
use crate::{
    identity::{ClusterKey, PublicKey, RootKey, Signature, TenantKey, keys::verify_consent},
    records::Scope,
};

/// The longest name for people, in bytes.
pub(crate) const MAX_NAME: usize = 256;

fn name_ok(name: &str) -> Result<(), &'static str> {
    if name.len() <= MAX_NAME {
        Ok(())
    } else {
        Err("a name has at most 256 bytes")
    }
}

/// What the root says of the mesh itself. The latest one counts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MeshFacts {
    /// The mesh.
    #[n(0)]
    pub mesh: MeshId,
    /// The base name, BASE, in lower case, without a dot at its end.
    #[n(1)]
    pub base: String,
    /// The label between a tenant's label and BASE: `cdn` in `acme.cdn.BASE`. Several labels are allowed; none, too.
    #[n(2)]
    pub suffix: String,
    /// When it was signed.
    #[n(3)]
    pub issued: UnixMillis,
}

impl MeshFacts {
    /// Signs them.
    ///
    /// # Errors
    /// [`AuthorityError::Limit`] when a name is none.
    pub fn issue(self, root: &RootKey) -> Result<Signed<Self>, AuthorityError> {
        Signed::sign(self, &[root])
    }
}

impl Statement for MeshFacts {
    const KIND: &'static str = "mesh facts 1";
    fn check(&self) -> Result<(), &'static str> {
        if !is_name(&self.base) || self.base.len() > 180 {
            return Err("the base name is 1 to 180 characters of DNS labels in lower case");
        }
        if !(self.suffix.is_empty() || is_name(&self.suffix)) || self.suffix.len() > 63 {
            return Err("the suffix is at most 63 characters of DNS labels in lower case");
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let label = |l: &str| l.parse::<Label>().is_ok_and(|parsed| parsed.as_str() == l);
    !text.is_empty() && text.split('.').all(label)
}

/// Whose machines a cluster's are, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum ClusterKind {
    /// One tenant's own.
    #[n(0)]
    TenantPrivate,
    /// Of those who run the mesh.
    #[n(1)]
    Official,
    /// Offered to tenants.
    #[n(2)]
    Marketplace,
}

/// A cluster, as the root grants it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClusterGrant {
    /// The mesh.
    #[n(0)]
    pub mesh: MeshId,
    /// The cluster.
    #[n(1)]
    pub cluster: ClusterId,
    /// The key that issues its node grants.
    #[n(2)]
    pub key: PublicKey,
    /// Whose it is.
    #[n(3)]
    pub kind: ClusterKind,
    /// Its label in DNS, `SLUG.BASE`: a claim.
    #[n(4)]
    pub slug: Label,
    /// Its name for people.
    #[n(5)]
    pub name: String,
    /// The roles that its nodes may have.
    #[n(6)]
    pub roles: Roles,
    /// When it was signed; of several the latest counts.
    #[n(7)]
    pub issued: UnixMillis,
}

impl ClusterGrant {
    /// Signs it.
    ///
    /// # Errors
    /// [`AuthorityError::Limit`] when a field breaks one.
    pub fn issue(self, root: &RootKey) -> Result<Signed<Self>, AuthorityError> {
        Signed::sign(self, &[root])
    }
}

impl Statement for ClusterGrant {
    const KIND: &'static str = "cluster grant 1";
    fn check(&self) -> Result<(), &'static str> {
        if self.slug.is_reserved() {
            return Err("the slug is a reserved word");
        }
        name_ok(&self.name)
    }
}

/// A node, as its cluster grants it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeGrant {
    /// The mesh.
    #[n(0)]
    pub mesh: MeshId,
    /// The cluster whose key signs.
    #[n(1)]
    pub cluster: ClusterId,
    /// The node.
    #[n(2)]
    pub node: NodeId,
    /// Its name for people, as the operator calls the machine.
    #[n(3)]
    pub name: Label,
    /// What it may do, as far as the cluster's own grant allows it.
    #[n(4)]
    pub roles: Roles,
    /// When it begins. Of several the one that began last counts.
    #[n(5)]
    pub not_before: UnixMillis,
    /// When it ends.
    #[n(6)]
    pub expires: UnixMillis,
    /// The node's word that it belongs to this cluster: [`NodeKey::consent`](crate::identity::NodeKey::consent).
    #[n(7)]
    pub consent: Signature,
    /// The public half of the join token that the node came in by. It is the mesh-wide proof that the token is used.
    #[n(8)]
    pub token: Option<PublicKey>,
}

impl NodeGrant {
    /// How long one lasts.
    pub const LASTS: Duration = Duration::from_secs(30 * 24 * 3600);
    /// From which age on it is renewed.
    pub const RENEW_AFTER: Duration = Duration::from_secs(10 * 24 * 3600);

    /// Signs it.
    ///
    /// # Errors
    /// [`AuthorityError`] when the node did not consent, or a field breaks a limit.
    pub fn issue(self, cluster: &ClusterKey) -> Result<Signed<Self>, AuthorityError> {
        self.check_consent()?;
        Signed::sign(self, &[cluster])
    }

    /// Whether it holds at `at`, its ends included.
    #[must_use]
    pub fn in_force(&self, at: UnixMillis) -> bool {
        (self.not_before..=self.expires).contains(&at)
    }

    /// Whether the node should ask for the next one.
    #[must_use]
    pub fn wants_renewal(&self, now: UnixMillis) -> bool {
        now >= self.not_before.plus(Self::RENEW_AFTER)
    }

    pub(crate) fn check_consent(&self) -> Result<(), AuthorityError> {
        verify_consent(self.node, &self.mesh, self.cluster, &self.consent).map_err(|source| {
            AuthorityError::Signature {
                kind: Self::KIND,
                source,
            }
        })
    }
}

impl Statement for NodeGrant {
    const KIND: &'static str = "node grant 1";
    fn check(&self) -> Result<(), &'static str> {
        if self.not_before > self.expires {
            return Err("it ends before it begins");
        }
        Ok(())
    }
}

/// A tenant, as the root grants it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TenantGrant {
    /// The mesh.
    #[n(0)]
    pub mesh: MeshId,
    /// The tenant.
    #[n(1)]
    pub tenant: TenantId,
    /// Its label in DNS, `acme` in `acme.cdn.BASE`: a claim.
    #[n(2)]
    pub label: Label,
    /// The key that signs its entitlements.
    #[n(3)]
    pub key: PublicKey,
    /// The clusters that may be entitled to write its configuration.
    #[n(4)]
    pub writers: Vec<ClusterId>,
    /// Whether it has names of its own under BASE.
    #[n(5)]
    pub branded: bool,
    /// When it was signed; of several the latest counts.
    #[n(6)]
    pub issued: UnixMillis,
}

impl TenantGrant {
    /// Signs it.
    ///
    /// # Errors
    /// [`AuthorityError::Limit`] when a field breaks one.
    pub fn issue(self, root: &RootKey) -> Result<Signed<Self>, AuthorityError> {
        Signed::sign(self, &[root])
    }
}

impl Statement for TenantGrant {
    const KIND: &'static str = "tenant grant 1";
    fn check(&self) -> Result<(), &'static str> {
        if self.label.is_reserved() {
            return Err("the label is a reserved word");
        }
        if self.writers.len() > 64 {
            return Err("at most 64 writer clusters");
        }
        Ok(())
    }
}

/// What a cluster may do for a tenant. Both sign: first the tenant, then the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entitlement {
    /// The mesh.
    #[n(0)]
    pub mesh: MeshId,
    /// The tenant.
    #[n(1)]
    pub tenant: TenantId,
    /// The cluster.
    #[n(2)]
    pub cluster: ClusterId,
    /// What it may do.
    #[n(3)]
    pub verbs: Verbs,
    /// When it begins. Of several the one that began last counts.
    #[n(4)]
    pub not_before: UnixMillis,
    /// When it ends.
    #[n(5)]
    pub expires: UnixMillis,
}

impl Entitlement {
    /// Signs it for both sides.
    ///
    /// # Errors
    /// [`AuthorityError::Limit`] when a field breaks one.
    pub fn issue(
        self,
        tenant: &TenantKey,
        cluster: &ClusterKey,
    ) -> Result<Signed<Self>, AuthorityError> {
        Signed::sign(self, &[tenant, cluster])
    }

    /// What it allows at `at`, its ends included.
    #[must_use]
    pub fn allows(&self, at: UnixMillis) -> Verbs {
        if (self.not_before..=self.expires).contains(&at) {
            self.verbs
        } else {
            Verbs::NONE
        }
    }
}

impl Statement for Entitlement {
    const KIND: &'static str = "entitlement 1";
    fn check(&self) -> Result<(), &'static str> {
        if self.not_before > self.expires {
            return Err("it ends before it begins");
        }
        Ok(())
    }
}

/// The end of a node, signed by its cluster. It proves itself: the grants that it leans on are inside. Final.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Revocation {
    /// The mesh.
    #[n(0)]
    pub mesh: MeshId,
    /// The node's grant by the cluster that signs.
    #[n(1)]
    pub grant: Signed<NodeGrant>,
    /// The root's grant of that cluster.
    #[n(2)]
    pub cluster: Signed<ClusterGrant>,
    /// The number of the node's last record that counts, by scope.
    #[n(3)]
    pub last: Vec<(Scope, u64)>,
    /// In a scope that is not listed, what is stamped later than this is void.
    #[n(4)]
    pub at: UnixMillis,
}

impl Revocation {
    /// Signs it.
    ///
    /// # Errors
    /// [`AuthorityError::Limit`] when a field breaks one.
    pub fn issue(self, cluster: &ClusterKey) -> Result<Signed<Self>, AuthorityError> {
        Signed::sign(self, &[cluster])
    }

    /// The node that ends.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.grant.node
    }
}

impl Statement for Revocation {
    const KIND: &'static str = "revocation 1";
    fn check(&self) -> Result<(), &'static str> {
        if self.last.len() > 128 {
            return Err("at most 128 scopes");
        }
        Ok(())
    }
}

/// Checks the consequences of `role` and `verb` together: whether a node with these roles, of a cluster with these
/// verbs, may write a tenant's configuration.
#[must_use]
pub(crate) fn may_write(roles: Roles, verbs: Verbs) -> bool {
    roles.has(Role::Gateway) && verbs.has(Verb::Write)
}
