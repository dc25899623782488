//! Composes the changes of common intents. Each function is pure; what it draws comes from the generator it is given.
use std::time::Duration;

use rand::CryptoRng;
use routing::model::{
    ClusterId, Label, MeshId, PlaybackId, Roles, StreamId, StreamKey, TenantId, UnixMillis, Verbs,
};
use sha2::{Digest as _, Sha256};

use super::{Change, KeyId, Scope, TokenId};
use crate::{
    authority::{
        AuthorityError, ClusterGrant, ClusterKind, Entitlement, MeshFacts, NodeGrant, Revocation,
        Signed, TenantGrant,
    },
    identity::{ClusterKey, EpochSecret, NodeKey, RootKey, TenantKey},
    seal,
};
use routing::model::Secret;

/// How long an entitlement lasts that says nothing else: ten years.
pub const ENTITLED_FOR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a mesh is founded with.
#[derive(Clone, Debug)]
pub struct Founding {
    /// The base name, BASE.
    pub base: String,
    /// What stands between a tenant's label and BASE.
    pub suffix: String,
    /// The first cluster, an official one.
    pub cluster: ClusterId,
    /// Its label in DNS.
    pub slug: Label,
    /// Its name for people.
    pub cluster_name: String,
    /// The roles that its nodes may have.
    pub cluster_roles: Roles,
    /// The first node's name.
    pub node_name: Label,
    /// The first node's roles.
    pub node_roles: Roles,
}

/// The first record's changes: the mesh's facts, the first cluster, the first node.
///
/// # Errors
/// [`AuthorityError::Limit`] when a name is none or reserved.
pub fn found(
    founding: Founding,
    (root, cluster, node): (&RootKey, &ClusterKey, &NodeKey),
    now: UnixMillis,
) -> Result<Vec<Change>, AuthorityError> {
    let mesh = root.mesh();
    let facts = MeshFacts {
        mesh,
        base: founding.base,
        suffix: founding.suffix,
        issued: now,
    };
    let grant = ClusterGrant {
        mesh,
        cluster: founding.cluster,
        key: cluster.public(),
        kind: ClusterKind::Official,
        slug: founding.slug,
        name: founding.cluster_name,
        roles: founding.cluster_roles,
        issued: now,
    };
    let first = NodeGrant {
        mesh,
        cluster: founding.cluster,
        node: node.id(),
        name: founding.node_name,
        roles: founding.node_roles,
        not_before: now,
        expires: now.plus(NodeGrant::LASTS),
        consent: node.consent(&mesh, founding.cluster),
        token: None,
    };
    Ok(vec![
        Change::Mesh(facts.issue(root)?),
        Change::Cluster(grant.issue(root)?),
        Change::Node(first.issue(cluster)?),
    ])
}

/// A tenant that is to be.
#[derive(Debug)]
pub struct NewTenant {
    /// Its id.
    pub tenant: TenantId,
    /// Its key, for [`DataDir::set_tenant_key`](crate::identity::DataDir::set_tenant_key).
    pub key: TenantKey,
    /// What is to be written into the mesh scope.
    pub changes: Vec<Change>,
}

/// A new tenant, entitled at each of `clusters` to the verbs given there; those with `write` are its writer clusters.
///
/// # Errors
/// [`AuthorityError::Limit`] when the label is reserved.
pub fn create_tenant(
    root: &RootKey,
    (label, name): (Label, String),
    clusters: &[(ClusterId, &ClusterKey, Verbs)],
    now: UnixMillis,
    rng: &mut impl CryptoRng,
) -> Result<NewTenant, AuthorityError> {
    let mesh = root.mesh();
    let tenant = TenantId::from_bytes(draw(rng));
    let key = TenantKey::from_seed(draw(rng));
    let writers = clusters
        .iter()
        .filter(|(_, _, verbs)| verbs.has(routing::model::Verb::Write))
        .map(|(id, _, _)| *id);
    let grant = TenantGrant {
        mesh,
        tenant,
        label,
        key: key.public(),
        writers: writers.collect(),
        branded: true,
        issued: now,
    };
    let mut changes = vec![Change::Tenant(grant.issue(root)?)];
    for (cluster, cluster_key, verbs) in clusters {
        let at = (mesh, tenant, *cluster);
        changes.push(entitle(at, *verbs, (&key, cluster_key), now)?);
    }
    changes.push(Change::TenantNamed { tenant, name });
    Ok(NewTenant {
        tenant,
        key,
        changes,
    })
}

/// A cluster's entitlement, or its replacement.
///
/// # Errors
/// [`AuthorityError::Limit`].
pub fn entitle(
    (mesh, tenant, cluster): (MeshId, TenantId, ClusterId),
    verbs: Verbs,
    (tenant_key, cluster_key): (&TenantKey, &ClusterKey),
    now: UnixMillis,
) -> Result<Change, AuthorityError> {
    let entitlement = Entitlement {
        mesh,
        tenant,
        cluster,
        verbs,
        not_before: now,
        expires: now.plus(ENTITLED_FOR),
    };
    Ok(Change::Entitled(
        entitlement.issue(tenant_key, cluster_key)?,
    ))
}

/// The end of a node, which its cluster's key signs. `last` names the number of its last record that counts in each
/// scope: [`Records::heads_of`](super::Records::heads_of), or less where the node was taken over before.
///
/// # Errors
/// [`AuthorityError::Limit`] when there are more than 128 scopes.
pub fn revoke(
    (grant, cluster): (&Signed<NodeGrant>, &Signed<ClusterGrant>),
    last: Vec<(Scope, u64)>,
    key: &ClusterKey,
    now: UnixMillis,
) -> Result<Change, AuthorityError> {
    let revocation = Revocation {
        mesh: grant.mesh,
        grant: grant.clone(),
        cluster: cluster.clone(),
        last,
        at: now,
    };
    Ok(Change::Revoked(revocation.issue(key)?))
}

/// An API token that is to be.
#[derive(Debug)]
pub struct NewToken {
    /// Its id.
    pub token: TokenId,
    /// Its text, shown once: `shoal_` and 40 characters of base32 (200 bits).
    pub text: Secret,
    /// What is to be written into the mesh scope.
    pub changes: Vec<Change>,
}

/// A new API token of a tenant.
pub fn create_token(
    tenant: TenantId,
    name: String,
    expires: Option<UnixMillis>,
    rng: &mut impl CryptoRng,
) -> NewToken {
    let token = TokenId::from_bytes(draw(rng));
    let random: [u8; 25] = draw(rng);
    let tail = data_encoding::BASE32_NOPAD.encode(&random);
    let text = Secret::new(format!("shoal_{}", tail.to_ascii_lowercase()));
    let hash = token_hash(text.expose());
    NewToken {
        token,
        changes: vec![Change::TokenCreated {
            token,
            tenant,
            hash,
            name,
            expires,
        }],
        text,
    }
}

/// What an API token is found by: SHA-256 of its text.
#[must_use]
pub fn token_hash(text: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"shoal api token 1")
        .chain_update(text)
        .finalize()
        .into()
}

/// A stream key that is to be.
#[derive(Debug)]
pub struct NewKey {
    /// Its id.
    pub key: KeyId,
    /// Its text.
    pub text: StreamKey,
    /// What is to be written into the tenant's scope.
    pub changes: Vec<Change>,
}

/// A new key of a stream; `epoch` is the secret of the cluster that this gateway belongs to
/// ([`Records::epoch`](super::Records::epoch)).
pub fn create_key(
    epoch: &EpochSecret,
    (tenant, stream): (TenantId, StreamId),
    name: String,
    rng: &mut impl CryptoRng,
) -> NewKey {
    let key = KeyId::from_bytes(draw(rng));
    let text = StreamKey::from_random(draw(rng));
    let sealed = seal::seal(epoch, (tenant, stream, key), &text, draw(rng));
    NewKey {
        key,
        changes: vec![Change::KeyCreated {
            stream,
            key,
            hash: text.hash(),
            sealed,
            name,
        }],
        text,
    }
}

/// A stream that is to be.
#[derive(Debug)]
pub struct NewStream {
    /// Its id.
    pub stream: StreamId,
    /// Its public id.
    pub playback: PlaybackId,
    /// The id of its first key.
    pub key: KeyId,
    /// That key's text.
    pub text: StreamKey,
    /// What is to be written into the tenant's scope.
    pub changes: Vec<Change>,
}

/// A new stream with one primary key.
pub fn create_stream(
    epoch: &EpochSecret,
    tenant: TenantId,
    (name, description): (String, Option<String>),
    rng: &mut impl CryptoRng,
) -> NewStream {
    let stream = StreamId::from_bytes(draw(rng));
    let playback = PlaybackId::from_random(draw(rng));
    let first = create_key(epoch, (tenant, stream), "Primary Key".to_owned(), rng);
    let mut changes = vec![
        Change::StreamCreated { stream, playback },
        Change::StreamNamed { stream, name },
    ];
    if description.is_some() {
        changes.push(Change::StreamDescribed {
            stream,
            description,
        });
    }
    changes.extend(first.changes);
    changes.push(Change::KeyPrimary {
        stream,
        key: first.key,
    });
    NewStream {
        stream,
        playback,
        key: first.key,
        text: first.text,
        changes,
    }
}

/// A new primary key in the place of all `old` ones, which open nothing from then on.
pub fn refresh_key(
    epoch: &EpochSecret,
    (tenant, stream): (TenantId, StreamId),
    old: impl IntoIterator<Item = KeyId>,
    rng: &mut impl CryptoRng,
) -> NewKey {
    let mut new = create_key(epoch, (tenant, stream), "Primary Key".to_owned(), rng);
    new.changes.push(Change::KeyPrimary {
        stream,
        key: new.key,
    });
    let end = |key| Change::KeyDeactivated { stream, key };
    new.changes.extend(old.into_iter().map(end));
    new
}

fn draw<const N: usize>(rng: &mut impl CryptoRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}
