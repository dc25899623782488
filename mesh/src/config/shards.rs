//! A map in 64 parts, each behind an `Arc`, so that a copy of the whole shares all parts but those written after it.
use std::{collections::HashMap, hash::Hash, sync::Arc};

/// A key that says which part it is in. Ids and hashes are random in their first byte; playback ids use 36 values.
pub(crate) trait Spread: Copy + Eq + Hash {
    fn byte(&self) -> u8;
}

impl Spread for [u8; 32] {
    fn byte(&self) -> u8 {
        self[0]
    }
}

impl Spread for routing::model::StreamId {
    fn byte(&self) -> u8 {
        self.as_bytes()[0]
    }
}

impl Spread for routing::model::PlaybackId {
    fn byte(&self) -> u8 {
        // The low six bits of two letters, mixed: one letter alone leaves parts empty.
        let text = self.as_str().as_bytes();
        let (a, b) = (
            text.first().copied().unwrap_or(0),
            text.get(1).copied().unwrap_or(0),
        );
        a.wrapping_mul(37).wrapping_add(b)
    }
}

const PARTS: usize = 64;

/// The map.
#[derive(Clone, Debug)]
pub(crate) struct Shards<K, V> {
    parts: Vec<Arc<HashMap<K, V>>>,
}

impl<K: Spread, V: Clone> Shards<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            parts: vec![Arc::default(); PARTS],
        }
    }

    fn index(key: &K) -> usize {
        usize::from(key.byte()) % PARTS
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.parts.get(Self::index(key))?.get(key)
    }

    /// The keys of the part that `key` is in or would be in.
    pub(crate) fn near(&self, key: &K) -> impl Iterator<Item = &K> {
        let part = self.parts.get(Self::index(key));
        part.into_iter().flat_map(|p| p.keys())
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if let Some(part) = self.parts.get_mut(Self::index(&key)) {
            Arc::make_mut(part).insert(key, value);
        }
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(part) = self.parts.get_mut(Self::index(key))
            && part.contains_key(key)
        {
            Arc::make_mut(part).remove(key);
        }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().flat_map(|p| p.values())
    }

    /// How many parts two copies do not share.
    #[cfg(test)]
    pub(crate) fn parts_apart(&self, other: &Self) -> usize {
        let pairs = self.parts.iter().zip(&other.parts);
        pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count()
    }
}
