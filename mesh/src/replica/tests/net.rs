//! Nodes and links in simulated time: loss, delay and so reordering, partitions, restarts; one seed decides all.
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use routing::model::NodeId;

use super::super::{Now, Replica};
use crate::{
    config::Config,
    records::{Change, Scope, WriteError},
    store::{Item, MemoryStore, Store as _},
    world::{START, World, at},
};

pub(super) struct Node {
    pub(super) replica: Replica,
    pub(super) store: MemoryStore,
    pub(super) safe: BTreeMap<(Scope, u64), u64>,
    pub(super) sent: u64,
}

/// When it arrives, its place in the order of sending, from, to, what.
type Parcel = (u64, u64, usize, usize, Vec<u8>);

pub(super) struct Net {
    pub(super) world: World,
    pub(super) nodes: Vec<Node>,
    pub(super) now: u64,
    pub(super) loss: f64,
    pub(super) delay: (u64, u64),
    rng: ChaCha8Rng,
    ids: Vec<NodeId>,
    index: BTreeMap<NodeId, usize>,
    cut: BTreeSet<(usize, usize)>,
    wire: BinaryHeap<std::cmp::Reverse<Parcel>>,
    order: u64,
}

impl Net {
    /// `n` nodes of one cluster, the tenant there, all linked and in agreement.
    pub(super) fn new(n: usize, seed: u64) -> Self {
        let world = World::new(seed);
        let mut net = Self {
            nodes: Vec::new(),
            now: 0,
            loss: 0.0,
            delay: (1, 30),
            rng: ChaCha8Rng::seed_from_u64(seed),
            ids: (0..n).map(|i| world.node(i as u8).id()).collect(),
            index: BTreeMap::new(),
            cut: BTreeSet::new(),
            wire: BinaryHeap::new(),
            order: 0,
            world,
        };
        net.index = net.ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        for i in 0..n {
            let key = net.world.node(i as u8);
            let replica = Replica::open(key, net.world.root.mesh(), Vec::new()).unwrap();
            net.nodes.push(Node {
                replica,
                store: MemoryStore::new(),
                safe: BTreeMap::new(),
                sent: 0,
            });
        }
        net.write(0, Scope::Mesh, net.world.founding()).unwrap();
        net.write(0, Scope::Mesh, net.world.tenant_changes())
            .unwrap();
        for i in 1..n {
            net.write(0, Scope::Mesh, vec![net.world.grant(i as u8)])
                .unwrap();
        }
        for i in 0..n {
            for j in 0..n {
                net.connect(i, j);
            }
        }
        net
    }

    pub(super) fn id(&self, i: usize) -> NodeId {
        self.ids[i]
    }

    pub(super) fn now(&self) -> Now {
        at(self.now)
    }

    fn connect(&mut self, i: usize, j: usize) {
        if i != j {
            let (peer, now) = (self.id(j), self.now());
            self.nodes[i].replica.connected(peer, now);
            self.drain(i);
        }
    }

    pub(super) fn write(
        &mut self,
        i: usize,
        scope: Scope,
        changes: Vec<Change>,
    ) -> Result<u64, WriteError> {
        let now = self.now();
        let node = &mut self.nodes[i];
        let off = std::time::Duration::ZERO;
        let record = node.replica.prepare(scope, changes, off, now)?;
        node.store.commit(&[Item::record(&record)]).unwrap();
        node.replica.commit_prepared(now);
        self.drain(i);
        Ok(record.number())
    }

    /// Makes a stream at node `i`, and gives back its id.
    pub(super) fn stream(&mut self, i: usize, name: &str) -> routing::model::StreamId {
        let new = self.world.stream(name);
        let scope = Scope::Tenant(self.world.tenant);
        self.write(i, scope, new.changes).unwrap();
        new.stream
    }

    /// Does what a shell does: keep, then send.
    pub(super) fn drain(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let out = node.replica.take_output();
        node.store.commit(&out.keep).unwrap();
        let me = self.world.node(u8::try_from(i).unwrap()).id();
        for (scope, _, number) in out.safe.into_iter().filter(|s| s.1 == me) {
            node.safe.insert((scope, number), self.now);
        }
        for (to, bytes) in out.send {
            let node = &mut self.nodes[i];
            node.sent += bytes.len() as u64;
            let Some(&j) = self.index.get(&to) else {
                continue;
            };
            if self.cut.contains(&(i, j)) || self.rng.random_bool(self.loss) {
                continue;
            }
            let due = self.now + self.rng.random_range(self.delay.0..=self.delay.1);
            self.order += 1;
            self.wire
                .push(std::cmp::Reverse((due, self.order, i, j, bytes.to_vec())));
        }
    }

    /// Cuts or heals the links between two groups; a cut link loses what is under way.
    pub(super) fn partition(&mut self, a: &[usize], b: &[usize], cut: bool) {
        for &i in a {
            for &j in b {
                for (x, y) in [(i, j), (j, i)] {
                    if cut {
                        self.cut.insert((x, y));
                        let peer = self.id(y);
                        self.nodes[x].replica.gone(peer);
                    } else {
                        self.cut.remove(&(x, y));
                        self.connect(x, y);
                    }
                }
            }
        }
    }

    /// Kills a node and starts it from its store.
    pub(super) fn restart(&mut self, i: usize) {
        let items = self.nodes[i].store.load().unwrap();
        let key = self.world.node(i as u8);
        self.nodes[i].replica = Replica::open(key, self.world.root.mesh(), items).unwrap();
        for j in 0..self.nodes.len() {
            if !self.cut.contains(&(i, j)) && i != j {
                let peer = self.id(i);
                self.nodes[j].replica.gone(peer);
                self.connect(i, j);
                self.connect(j, i);
            }
        }
    }

    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            let wake = self.nodes.iter().filter_map(|n| n.replica.next_wake());
            let wake = wake.map(|w| w.0.as_millis() as u64).min();
            let arrival = self.wire.peek().map(|m| m.0.0);
            let next = wake.into_iter().chain(arrival).min().unwrap_or(end);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            let now = self.now();
            while self.wire.peek().is_some_and(|m| m.0.0 <= self.now) {
                let std::cmp::Reverse((_, _, i, j, bytes)) = self.wire.pop().unwrap();
                if !self.cut.contains(&(i, j)) {
                    let from = self.id(i);
                    self.nodes[j].replica.receive(from, &bytes, now);
                    self.drain(j);
                }
            }
            for i in 0..self.nodes.len() {
                self.nodes[i].replica.tick(now);
                self.drain(i);
            }
        }
        self.now = end;
    }

    pub(super) fn config(&mut self, i: usize) -> Config {
        self.nodes[i].replica.config(START)
    }

    /// What a node believes, as text, for comparison.
    pub(super) fn belief(&mut self, i: usize) -> String {
        belief(&self.config(i))
    }

    pub(super) fn agreed(&mut self) -> bool {
        let scope = Scope::Tenant(self.world.tenant);
        let sums = |n: &mut Node| (n.replica.sum(Scope::Mesh), n.replica.sum(scope));
        let all: BTreeSet<_> = self.nodes.iter_mut().map(sums).collect();
        if all.len() > 1 {
            return false;
        }
        let first = self.belief(0);
        (1..self.nodes.len()).all(|i| self.belief(i) == first)
    }

    /// Runs until all agree, and gives back after how many milliseconds.
    pub(super) fn run_until_agreed(&mut self, most: u64) -> u64 {
        let from = self.now;
        while !self.agreed() {
            assert!(self.now - from < most, "no agreement after {most} ms");
            self.run(20);
        }
        self.now - from
    }
}

pub(crate) fn belief(config: &Config) -> String {
    let mut lines = vec![format!("{} {}", config.base(), config.suffix())];
    lines.extend(config.clusters().map(|c| format!("{c:?}")));
    lines.extend(config.nodes().map(|n| format!("{n:?}")));
    let mut tokens: Vec<_> = config.tokens().collect();
    tokens.sort_by_key(|t| t.hash);
    lines.extend(tokens.iter().map(|t| format!("{t:?}")));
    for tenant in config.tenants() {
        lines.push(format!("{tenant:?} {:?}", config.entitlements(tenant.id)));
        for stream in config.streams(tenant.id) {
            lines.push(format!("{stream:?} {:?}", config.keys(stream.id)));
            let found = config.stream_by_playback(stream.playback).map(|s| s.id);
            assert_eq!(found, Some(stream.id), "the index of playback ids is right");
            for key in config.keys(stream.id) {
                let found = config.key_by_hash(key.hash).map(|(s, k)| (s.id, k.id));
                assert_eq!(
                    found,
                    Some((stream.id, key.id)),
                    "the index of keys is right"
                );
            }
        }
    }
    lines.join("\n")
}
