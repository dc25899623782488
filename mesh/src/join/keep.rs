//! What founding and joining have in common: a directory that becomes a member's.
use std::sync::Arc;

use routing::model::{Clock, MeshId};

use crate::{
    identity::{DataDir, DataDirError, NodeKey},
    records::{OpenError, Records, RecordsOptions, WriteError},
    store::{DiskStore, StoreError},
};

/// Why what a node was given, or made for itself, could not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The directory does not take it.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The records do not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The records of a directory, with all that was put into it so far.
pub(super) async fn records(
    dir: &DataDir,
    mesh: MeshId,
    key: &NodeKey,
    clock: Arc<dyn Clock>,
) -> Result<Records, KeepError> {
    let options = RecordsOptions {
        mesh,
        key: key.clone(),
        store: Arc::new(DiskStore::open(dir.store_path())?),
        clock,
        epoch: dir.epoch_secret()?,
    };
    Ok(Records::open(options).await?)
}
