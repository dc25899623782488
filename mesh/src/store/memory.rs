//! A store without a disk.
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use routing::model::NodeId;

use super::{Item, Store, StoreError};
use crate::records::Scope;

#[derive(Debug, Default)]
struct Kept {
    records: BTreeMap<(Scope, NodeId, u64), Bytes>,
    verdicts: BTreeMap<[u8; 32], Bytes>,
    full: bool,
}

/// Keeps everything in memory, for simulations. It can play a full disk.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Kept>);

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on it refuses, or takes again, whatever comes.
    pub fn set_full(&self, full: bool) {
        self.kept().full = full;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&self) -> Result<Vec<Item>, StoreError> {
        let kept = self.kept();
        let verdicts = kept.verdicts.iter().map(|(id, raw)| Item::Verdict {
            id: *id,
            raw: raw.clone(),
        });
        let record =
            |((scope, author, number), raw): (&(Scope, NodeId, u64), &Bytes)| Item::Record {
                scope: *scope,
                author: *author,
                number: *number,
                raw: raw.clone(),
            };
        Ok(verdicts.chain(kept.records.iter().map(record)).collect())
    }

    fn commit(&self, items: &[Item]) -> Result<(), StoreError> {
        let mut kept = self.kept();
        if kept.full {
            return Err(StoreError::Full {
                path: PathBuf::from("memory"),
            });
        }
        for item in items {
            match item {
                Item::Record {
                    scope,
                    author,
                    number,
                    raw,
                } => kept.records.insert((*scope, *author, *number), raw.clone()),
                Item::Verdict { id, raw } => kept.verdicts.insert(*id, raw.clone()),
            };
        }
        Ok(())
    }
}
