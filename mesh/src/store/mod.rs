//! Where records rest.
//!
//! Shape: a [`Store`] takes batches and answers once they are on the disk; [`DiskStore`] is one redb file,
//! [`MemoryStore`] serves simulations.
mod disk;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod memory;

use std::path::PathBuf;

use bytes::Bytes;
use routing::model::NodeId;

pub use disk::DiskStore;
pub use memory::MemoryStore;

use crate::records::{Record, Scope};

/// Why the store does not take or give records. What was there stays.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full.
    #[error(
        "cannot write {path}: the disk is full; free some space, writing goes on by itself and nothing is lost"
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: this user may not; give it to the user that runs shoal")]
    Unwritable {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("another process uses {path}: stop it, one store serves one node")]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// Its content is not what was written.
    #[error(
        "{path} is damaged ({what}): move it away and start again, the other nodes give back all that they have"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Anything else that the system said.
    #[error("cannot use {path}: {what}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record {
        /// Its scope.
        scope: Scope,
        /// Its author.
        author: NodeId,
        /// Its number.
        number: u64,
        /// Its bytes.
        raw: Bytes,
    },
    /// A verdict.
    Verdict {
        /// What it is told apart by.
        id: [u8; 32],
        /// Its bytes.
        raw: Bytes,
    },
}

impl Item {
    pub(crate) fn record(record: &Record) -> Self {
        Self::Record {
            scope: record.scope(),
            author: record.author(),
            number: record.number(),
            raw: record.raw().clone(),
        }
    }
}

/// A store of records. Calls block.
pub trait Store: Send + Sync + 'static {
    /// All that is kept: each author's records by rising numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    fn load(&self) -> Result<Vec<Item>, StoreError>;

    /// Keeps all of `items` or none, and answers when they would survive the loss of power.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of the batch was kept, and a later call may succeed.
    fn commit(&self, items: &[Item]) -> Result<(), StoreError>;
}
