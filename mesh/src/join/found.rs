//! The first node of a mesh.
use std::sync::Arc;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use routing::model::{Clock, ClusterId, Label, MeshId, NodeId, Roles};

use super::{KeepError, keep};
use crate::{
    authority::AuthorityError,
    identity::{ClusterKey, DataDir, DataDirError, EpochSecret, NodeKey, RootKey},
    records::{Change, Scope, changes},
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
    /// What was made could not be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// All that a founder makes at random.
struct Made {
    node: NodeKey,
    root: RootKey,
    cluster_key: ClusterKey,
    epoch: EpochSecret,
    cluster: ClusterId,
}

impl Made {
    /// What an earlier attempt left is used again.
    fn new(dir: &DataDir, mut rng: ChaCha20Rng) -> Result<Self, DataDirError> {
        let mut seed = || rng.random::<[u8; 32]>();
        let node = dir.node_key()?;
        let node = node.unwrap_or_else(|| NodeKey::from_seed(seed()));
        let root = dir.root_key()?;
        let root = root.unwrap_or_else(|| RootKey::from_seed(seed()));
        let cluster_key = dir.cluster_key()?;
        let cluster_key = cluster_key.unwrap_or_else(|| ClusterKey::from_seed(seed()));
        let epoch = dir.epoch_secret()?;
        let epoch = epoch.unwrap_or_else(|| EpochSecret::from_bytes(seed()));
        let cluster = dir.cluster()?;
        let cluster = cluster.unwrap_or_else(|| ClusterId::from_bytes(rng.random()));
        Ok(Self {
            node,
            root,
            cluster_key,
            epoch,
            cluster,
        })
    }

    fn keep(&self, dir: &DataDir) -> Result<(), DataDirError> {
        dir.set_node_key(&self.node)?;
        dir.set_root_key(&self.root)?;
        dir.set_cluster_key(&self.cluster_key)?;
        dir.set_epoch_secret(&self.epoch)?;
        dir.set_cluster(self.cluster)
    }
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
    if let Some(mesh) = dir.mesh().map_err(KeepError::Dir)? {
        return Err(FoundError::Already { mesh });
    }
    let made = Made::new(dir, ChaCha20Rng::from_seed(entropy)).map_err(KeepError::Dir)?;
    let founding = changes::Founding {
        base: options.base,
        suffix: options.suffix,
        cluster: made.cluster,
        slug: options.slug,
        cluster_name: options.cluster_name,
        cluster_roles: options.cluster_roles,
        node_name: options.node_name,
        node_roles: options.node_roles,
    };
    let keys = (&made.root, &made.cluster_key, &made.node);
    let first = changes::found(founding, keys, clock.unix())?;
    Ok(write(dir, &made, first, clock).await?)
}

/// Keeps the keys and the first record.
async fn write(
    dir: &DataDir,
    made: &Made,
    first: Vec<Change>,
    clock: Arc<dyn Clock>,
) -> Result<(MeshId, NodeId), KeepError> {
    made.keep(dir)?;
    let (mesh, node) = (made.root.mesh(), made.node.id());
    let records = keep::records(dir, mesh, &made.node, clock).await?;
    records.write(Scope::Mesh, first, None).await?;
    records.stop().await;
    let config = records.config();
    let facts = config.facts();
    if let (Some(cluster), Some(grant)) = (facts.cluster(made.cluster), facts.node(node)) {
        crate::live::grants::save(dir, cluster, grant)?;
    }
    // Written last: with it the directory counts as a member's.
    dir.set_mesh(mesh)?;
    Ok((mesh, node))
}
