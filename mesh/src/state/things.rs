//! Winners, thing by thing.
//!
//! A *latest* thing goes to the highest (stamp, author), a *claim* to the lowest, and what is *final* stays. All
//! three are joins: applying in any order, or twice, gives the same.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

use routing::model::{Hlc, PlaybackId, StreamId, TenantId, UnixMillis};

use super::Stamp;
use crate::{
    config::{Config, KeyRecord, Stream, StreamEntry, Token},
    records::{Change, KeyId, TokenId},
    seal::Sealed,
};

/// What the highest (stamp, author) said. Two changes of one record on one thing: the later in the record counts.
#[derive(Debug)]
struct Latest<T>(Option<(Stamp, T)>);

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Latest<T> {
    fn say(&mut self, stamp: Stamp, value: T) {
        if self.0.as_ref().is_none_or(|(s, _)| *s <= stamp) {
            self.0 = Some((stamp, value));
        }
    }

    fn get(&self) -> Option<&T> {
        self.0.as_ref().map(|(_, v)| v)
    }
}

/// What the lowest (stamp, author) said. Two changes of one record on one thing: the earlier in the record counts.
#[derive(Debug)]
struct First<T>(Option<(Stamp, T)>);

impl<T> Default for First<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> First<T> {
    fn say(&mut self, stamp: Stamp, value: T) {
        if self.0.as_ref().is_none_or(|(s, _)| *s > stamp) {
            self.0 = Some((stamp, value));
        }
    }
}

/// Unique names: each is held by whoever claimed it at the lowest (stamp, author).
#[derive(Debug)]
pub(super) struct Claims<K, V>(HashMap<K, (Stamp, V)>);

impl<K, V> Default for Claims<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V: Ord> Claims<K, V> {
    /// Claims. True when the claim is the lowest so far.
    pub(super) fn claim(&mut self, name: K, stamp: Stamp, by: V) -> bool {
        let news = self
            .0
            .get(&name)
            .is_none_or(|(s, b)| (&stamp, &by) < (s, b));
        self.claim_displacing(name, stamp, by);
        news
    }

    /// Claims, and gives back who held the name and holds it no more.
    fn claim_displacing(&mut self, name: K, stamp: Stamp, by: V) -> Option<V> {
        match self.0.entry(name) {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert((stamp, by));
                None
            }
            std::collections::hash_map::Entry::Occupied(mut held) => {
                let (first, holder) = held.get();
                let earlier = (&stamp, &by) < (first, holder);
                earlier.then(|| held.insert((stamp, by)).1)
            }
        }
    }

    pub(super) fn holder(&self, name: &K) -> Option<&V> {
        self.0.get(name).map(|(_, v)| v)
    }
}

#[derive(Debug)]
struct KeyMade {
    hash: [u8; 32],
    sealed: Sealed,
    name: String,
}

#[derive(Debug, Default)]
struct Key {
    made: First<KeyMade>,
    deactivated: bool,
    deleted: bool,
}

#[derive(Debug, Default)]
struct StreamThing {
    made: First<PlaybackId>,
    name: Latest<String>,
    description: Latest<Option<String>>,
    primary: Latest<KeyId>,
    deleted: bool,
    keys: BTreeMap<KeyId, Key>,
    touched: Hlc,
}

#[derive(Debug, Default)]
struct TokenThing {
    made: First<Token>,
    revoked: bool,
}

/// A tenant's stream: ids are random, but another tenant could write down the same one.
type At = (TenantId, StreamId);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Things {
    names: HashMap<TenantId, Latest<String>>,
    tokens: HashMap<(TenantId, TokenId), TokenThing>,
    token_hashes: Claims<[u8; 32], (TenantId, TokenId)>,
    streams: HashMap<At, StreamThing>,
    ids: Claims<StreamId, TenantId>,
    playbacks: Claims<PlaybackId, At>,
    hashes: Claims<[u8; 32], (TenantId, StreamId, KeyId)>,
}

impl Things {
    pub(super) fn tenant_name(&self, id: TenantId) -> Option<&str> {
        self.names.get(&id)?.get().map(String::as_str)
    }

    /// Applies one change that its author could make, and brings `config` up to date.
    pub(super) fn apply(
        &mut self,
        config: &mut Config,
        tenant: TenantId,
        stamp: Stamp,
        change: &Change,
    ) {
        match change {
            Change::TenantNamed { name, .. } => {
                self.names
                    .entry(tenant)
                    .or_default()
                    .say(stamp, name.clone());
                self.show_name(config, tenant);
            }
            Change::TokenCreated {
                token,
                hash,
                name,
                expires,
                ..
            } => {
                let made = Token {
                    id: *token,
                    tenant,
                    hash: *hash,
                    name: name.clone(),
                    created: stamp.0.millis(),
                    expires: *expires,
                };
                let thing = self.tokens.entry((tenant, *token)).or_default();
                let before = thing.made.0.as_ref().map(|(_, t)| t.hash);
                thing.made.say(stamp, made);
                self.token_hashes.claim(*hash, stamp, (tenant, *token));
                for hash in before.into_iter().chain([*hash]) {
                    self.show_token(config, hash);
                }
            }
            Change::TokenRevoked { token, .. } => {
                let thing = self.tokens.entry((tenant, *token)).or_default();
                thing.revoked = true;
                if let Some((_, made)) = &thing.made.0 {
                    let hash = made.hash;
                    self.show_token(config, hash);
                }
            }
            _ => self.apply_stream(config, tenant, stamp, change),
        }
    }

    fn apply_stream(
        &mut self,
        config: &mut Config,
        tenant: TenantId,
        stamp: Stamp,
        change: &Change,
    ) {
        let (Change::StreamCreated { stream, .. }
        | Change::StreamNamed { stream, .. }
        | Change::StreamDescribed { stream, .. }
        | Change::StreamDeleted { stream }
        | Change::KeyCreated { stream, .. }
        | Change::KeyDeactivated { stream, .. }
        | Change::KeyDeleted { stream, .. }
        | Change::KeyPrimary { stream, .. }) = change
        else {
            return;
        };
        let at = (tenant, *stream);
        let mut shown = vec![at];
        let thing = self.streams.entry(at).or_default();
        thing.touched = thing.touched.max(stamp.0);
        match change {
            Change::StreamCreated { playback, .. } => {
                thing.made.say(stamp, *playback);
                if let Some(was) = self.ids.claim_displacing(*stream, stamp, tenant) {
                    shown.push((was, *stream));
                }
                shown.extend(self.playbacks.claim_displacing(*playback, stamp, at));
            }
            Change::StreamNamed { name, .. } => thing.name.say(stamp, name.clone()),
            Change::StreamDescribed { description, .. } => {
                thing.description.say(stamp, description.clone());
            }
            Change::StreamDeleted { .. } => thing.deleted = true,
            Change::KeyCreated {
                key,
                hash,
                sealed,
                name,
                ..
            } => {
                let made = KeyMade {
                    hash: *hash,
                    sealed: sealed.clone(),
                    name: name.clone(),
                };
                thing.keys.entry(*key).or_default().made.say(stamp, made);
                let by = (tenant, *stream, *key);
                let was = self.hashes.claim_displacing(*hash, stamp, by);
                shown.extend(was.map(|(t, s, _)| (t, s)));
            }
            Change::KeyDeactivated { key, .. } => {
                thing.keys.entry(*key).or_default().deactivated = true;
            }
            Change::KeyDeleted { key, .. } => thing.keys.entry(*key).or_default().deleted = true,
            Change::KeyPrimary { key, .. } => thing.primary.say(stamp, *key),
            _ => {}
        }
        // Displaced ones first, so that what they give up is free when the holder takes it.
        for at in shown.into_iter().rev() {
            self.show_stream(config, at);
        }
    }

    fn show_name(&self, config: &mut Config, tenant: TenantId) {
        let tenants = Arc::make_mut(&mut config.tenants);
        if let (Some(shown), Some(name)) = (tenants.get_mut(&tenant), self.tenant_name(tenant)) {
            name.clone_into(&mut shown.name);
        }
    }

    fn show_token(&self, config: &mut Config, hash: [u8; 32]) {
        config.tokens.remove(&hash);
        let holder = self.token_hashes.holder(&hash);
        let thing = holder.and_then(|at| self.tokens.get(at));
        if let Some(TokenThing {
            made: First(Some((_, token))),
            revoked: false,
        }) = thing
            && token.hash == hash
        {
            config.tokens.insert(hash, Arc::new(token.clone()));
        }
    }

    /// Takes a stream out of the configuration and puts it back as it is now.
    fn show_stream(&self, config: &mut Config, at: At) {
        let (tenant, id) = at;
        if let Some(old) = config
            .streams
            .get(&id)
            .filter(|e| e.stream.tenant == tenant)
        {
            let old = old.clone();
            config.streams.remove(&id);
            if config.playbacks.get(&old.stream.playback) == Some(&id) {
                config.playbacks.remove(&old.stream.playback);
            }
            for key in &old.keys {
                if config.keys.get(&key.hash) == Some(&id) {
                    config.keys.remove(&key.hash);
                }
            }
        }
        let entry = self.entry(at);
        let listed = config
            .by_tenant
            .get(&tenant)
            .is_some_and(|s| s.contains(&id));
        if listed != entry.is_some() {
            let all = Arc::make_mut(&mut config.by_tenant)
                .entry(tenant)
                .or_default();
            let all: &mut BTreeSet<StreamId> = Arc::make_mut(all);
            if listed {
                all.remove(&id);
            } else {
                all.insert(id);
            }
        }
        if let Some(entry) = entry {
            config.playbacks.insert(entry.stream.playback, id);
            for key in &entry.keys {
                config.keys.insert(key.hash, id);
            }
            config.streams.insert(id, Arc::new(entry));
        }
    }

    /// A stream as it is now; none when it was not made here, or deleted, or lost its id or playback id to an
    /// earlier claim.
    fn entry(&self, at: At) -> Option<StreamEntry> {
        let (tenant, id) = at;
        let thing = self.streams.get(&at)?;
        let ((made, _), playback) = thing.made.0.as_ref()?;
        if thing.deleted
            || self.ids.holder(&id) != Some(&tenant)
            || self.playbacks.holder(playback) != Some(&at)
        {
            return None;
        }
        let made: UnixMillis = made.millis();
        let primary = thing.primary.get();
        let key = |(key_id, key): (&KeyId, &Key)| {
            let ((created, _), k) = key.made.0.as_ref()?;
            let held = self.hashes.holder(&k.hash) == Some(&(tenant, id, *key_id));
            (held && !key.deleted).then(|| KeyRecord {
                id: *key_id,
                stream: id,
                tenant,
                name: k.name.clone(),
                active: !key.deactivated,
                primary: primary == Some(key_id),
                created: created.millis(),
                hash: k.hash,
                sealed: k.sealed.clone(),
            })
        };
        let mut keys: Vec<KeyRecord> = thing.keys.iter().filter_map(key).collect();
        keys.sort_by_key(|k| (!k.primary, k.created, k.id));
        Some(StreamEntry {
            stream: Stream {
                id,
                tenant,
                playback: *playback,
                name: thing.name.get().cloned().unwrap_or_default(),
                description: thing.description.get().cloned().flatten(),
                created: made,
                updated: thing.touched.millis(),
                stamp: thing.touched,
            },
            keys,
        })
    }
}
