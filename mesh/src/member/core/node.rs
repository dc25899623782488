//! What is known of one node.
use std::collections::BTreeMap;

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use routing::model::{NodeId, Uptime};

use super::Life;
use crate::member::{
    MAX_BYTES, MAX_ENTRIES,
    wire::{Head, Root, Signed},
};

#[derive(Debug)]
pub(super) struct Held {
    pub(super) version: u64,
    pub(super) value: Option<Bytes>,
    pub(super) signed: Signed,
}

/// What is known of one node; of this node as well.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) key: VerifyingKey,
    pub(super) incarnation: u64,
    pub(super) head: Option<(Head, Signed)>,
    pub(super) entries: BTreeMap<String, Held>,
    pub(super) root: Root,
    pub(super) bytes: usize,
    pub(super) complete: u64,
    pub(super) life: Life,
    pub(super) since: Uptime,
    pub(super) fresh: Uptime,
    pub(super) lost: BTreeMap<NodeId, Uptime>,
}

impl Node {
    pub(super) fn new(key: VerifyingKey, incarnation: u64, now: Uptime) -> Self {
        Self {
            key,
            incarnation,
            head: None,
            entries: BTreeMap::new(),
            root: Root::default(),
            bytes: 0,
            complete: 0,
            life: Life::Heard,
            since: now,
            fresh: now,
            lost: BTreeMap::new(),
        }
    }

    pub(super) fn beat(&self) -> u64 {
        self.head.as_ref().map_or(0, |(head, _)| head.beat)
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Some(old) = self.entries.remove(key) {
            self.root.toggle(key, old.version);
            self.bytes -= key.len() + old.value.as_ref().map_or(0, Bytes::len);
        }
    }

    pub(super) fn put(&mut self, key: String, held: Held) {
        self.remove(&key);
        self.root.toggle(&key, held.version);
        self.bytes += key.len() + held.value.as_ref().map_or(0, Bytes::len);
        self.entries.insert(key, held);
    }

    pub(super) fn has_room(&self, key: &str, len: usize) -> bool {
        let more = usize::from(!self.entries.contains_key(key));
        self.entries.len() + more <= MAX_ENTRIES && self.bytes + key.len() + len <= MAX_BYTES
    }
}
