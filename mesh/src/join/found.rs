//! The first node of a mesh.
use std::sync::Arc;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use routing::model::{Clock, ClusterId, Label, MeshId, NodeId, Roles};

use crate::{
    authority::AuthorityError,
    identity::{ClusterKey, DataDir, DataDirError, EpochSecret, NodeKey, RootKey},
    records::{OpenError, Records, RecordsOptions, Scope, WriteError, changes},
    store::{DiskStore, StoreError},
};

/// What a mesh is founded with.
#[derive(Clone, Debug)]
pub struct FoundOptions {
    /// The base name, BASE.
    pub base: String,
    /// What stands between a tenant's label and BASE: `cdn`.
    pub suffix: String,
    /// The first cluster's label in DNS; the cluster is an official one.
    pub slug: Label,
    /// Its name for people.
    pub cluster_name: String,
    /// The roles that its nodes may have.
    pub cluster_roles: Roles,
    /// This node's name.
    pub node_name: Label,
    /// This node's roles.
    pub node_roles: Roles,
}

/// Why no mesh was founded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoundError {
    /// This directory is of a mesh already.
    #[error(
        "this data directory belongs to mesh {} already: run `shoal run`, or give another directory",
        mesh.short()
    )]
    Already {
        /// Which.
        mesh: MeshId,
    },
    /// A name breaks a rule.
    #[error(transparent)]
    Name(#[from] AuthorityError),
    /// The directory does not take it.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first record was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Founds a mesh with this machine as its first node. `entropy` is 32 bytes of the system's generator; all keys come
/// from it. A founding that failed half way is done again by another call.
///
/// # Errors
/// [`FoundError`].
pub async fn found(
    dir: &DataDir,
    options: FoundOptions,
    clock: Arc<dyn Clock>,
    entropy: [u8; 32],
) -> Result<(MeshId, NodeId), FoundError> {
    if let Some(mesh) = dir.mesh()? {
        return Err(FoundError::Already { mesh });
    }
    let mut rng = ChaCha20Rng::from_seed(entropy);
    let mut seed = || rng.random::<[u8; 32]>();
    // What an earlier attempt left is used again.
    let node = dir
        .node_key()?
        .unwrap_or_else(|| NodeKey::from_seed(seed()));
    let root = dir
        .root_key()?
        .unwrap_or_else(|| RootKey::from_seed(seed()));
    let cluster_key = dir.cluster_key()?;
    let cluster_key = cluster_key.unwrap_or_else(|| ClusterKey::from_seed(seed()));
    let epoch = dir.epoch_secret()?;
    let epoch = epoch.unwrap_or_else(|| EpochSecret::from_bytes(seed()));
    let cluster = dir.cluster()?;
    let cluster = cluster.unwrap_or_else(|| ClusterId::from_bytes(rng.random()));
    let founding = changes::Founding {
        base: options.base,
        suffix: options.suffix,
        cluster,
        slug: options.slug,
        cluster_name: options.cluster_name,
        cluster_roles: options.cluster_roles,
        node_name: options.node_name,
        node_roles: options.node_roles,
    };
    let first = changes::found(founding, (&root, &cluster_key, &node), clock.unix())?;
    dir.set_node_key(&node)?;
    dir.set_root_key(&root)?;
    dir.set_cluster_key(&cluster_key)?;
    dir.set_epoch_secret(&epoch)?;
    dir.set_cluster(cluster)?;
    let records = Records::open(RecordsOptions {
        mesh: root.mesh(),
        key: node.clone(),
        store: Arc::new(DiskStore::open(dir.store_path())?),
        clock,
        epoch: Some(epoch),
    })
    .await?;
    records.write(Scope::Mesh, first, None).await?;
    records.stop().await;
    let config = records.config();
    let facts = config.facts();
    if let (Some(cluster), Some(grant)) = (facts.cluster(cluster), facts.node(node.id())) {
        crate::live::grants::save(dir, cluster, grant)?;
    }
    // Written last: with it the directory counts as a member's.
    dir.set_mesh(root.mesh())?;
    Ok((root.mesh(), node.id()))
}
