//! The logs: by scope and author, records without gaps from 1. And the park: records that cannot join yet.
use std::collections::BTreeMap;

use routing::model::NodeId;

use crate::records::{Record, Scope};

/// Whose log of which scope.
pub(super) type LogId = (Scope, NodeId);

/// All logs.
#[derive(Debug, Default)]
pub(super) struct Logs(BTreeMap<LogId, Vec<Record>>);

/// How a record fits its log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is the next one.
    Next,
    /// It is there.
    Have,
    /// Another one is in its place.
    Other(Record),
    /// Others are missing before it.
    Gap,
    /// It does not follow the last one: it names another predecessor.
    Broken,
    /// Its stamp does not follow the last one's. No honest author writes that; nobody takes it.
    Back,
}

impl Logs {
    pub(super) fn len(&self, id: LogId) -> u64 {
        self.0.get(&id).map_or(0, |l| l.len() as u64)
    }

    pub(super) fn get(&self, id: LogId, number: u64) -> Option<&Record> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.0.get(&id)?.get(index)
    }

    pub(super) fn last(&self, id: LogId) -> Option<&Record> {
        self.0.get(&id)?.last()
    }

    pub(super) fn fit(&self, record: &Record) -> Fit {
        let id = (record.scope(), record.author());
        if let Some(there) = self.get(id, record.number()) {
            return if there == record {
                Fit::Have
            } else {
                Fit::Other(there.clone())
            };
        }
        if record.number() > self.len(id) + 1 {
            return Fit::Gap;
        }
        match self.last(id) {
            Some(last) if last.hash() != record.prev() => Fit::Broken,
            Some(last) if last.at() >= record.at() => Fit::Back,
            _ => Fit::Next,
        }
    }

    /// Appends a record that is [`Fit::Next`].
    pub(super) fn push(&mut self, record: Record) {
        let id = (record.scope(), record.author());
        self.0.entry(id).or_default().push(record);
    }

    /// The authors of a scope.
    pub(super) fn authors(&self, scope: Scope) -> impl Iterator<Item = NodeId> {
        let from = (scope, NodeId::from_bytes([0; 32]));
        let to = (scope, NodeId::from_bytes([0xff; 32]));
        self.0.range(from..=to).map(|((_, author), _)| *author)
    }

    /// All scopes of which there is anything.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = self.0.keys().map(|(scope, _)| *scope).collect();
        scopes.dedup();
        scopes
    }

    /// Every record.
    pub(super) fn all(&self) -> impl Iterator<Item = Record> {
        self.0.values().flatten().cloned()
    }
}

const MAX_PARKED: usize = 4096;
const MAX_PARKED_BYTES: usize = 16 << 20;
const MAX_PARKED_OF_ONE: usize = 512;

/// Records that cannot join their log yet: others are missing before them, their author's grant is, or their stamp
/// lies ahead. When it is full, newcomers are dropped; they are asked for again.
#[derive(Debug, Default)]
pub(super) struct Park {
    records: BTreeMap<(Scope, NodeId, u64), Record>,
    bytes: usize,
}

impl Park {
    /// Parks a record. Gives back another one that waits for the same place.
    pub(super) fn put(&mut self, record: Record) -> Option<Record> {
        let (scope, author) = (record.scope(), record.author());
        let size = record.raw().len();
        let of_one = self
            .records
            .range((scope, author, 0)..=(scope, author, u64::MAX));
        if self.records.len() >= MAX_PARKED
            || self.bytes + size > MAX_PARKED_BYTES
            || of_one.count() >= MAX_PARKED_OF_ONE
        {
            return None;
        }
        match self.records.entry((scope, author, record.number())) {
            std::collections::btree_map::Entry::Occupied(there) => {
                (*there.get() != record).then(|| there.get().clone())
            }
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(record);
                self.bytes += size;
                None
            }
        }
    }

    /// The lowest parked record of each log.
    pub(super) fn fronts(&self) -> Vec<Record> {
        let mut fronts: Vec<Record> = Vec::new();
        for ((scope, author, _), record) in &self.records {
            let same = |f: &Record| (f.scope(), f.author()) == (*scope, *author);
            if !fronts.last().is_some_and(same) {
                fronts.push(record.clone());
            }
        }
        fronts
    }

    pub(super) fn remove(&mut self, record: &Record) {
        let key = (record.scope(), record.author(), record.number());
        if let Some(gone) = self.records.remove(&key) {
            self.bytes -= gone.raw().len();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}
