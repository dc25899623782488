//! The membership state machine. See the module above for the rules.
mod exchange;
mod node;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use routing::model::{NodeId, Uptime};

use self::node::{Held, Node};
use super::{
    BEAT, DETECT, GOSSIP, MAX_BYTES, MAX_ENTRIES, MAX_KEY, MAX_VALUE, REPORT,
    wire::{Entry, Head, Message, Root, Signed},
};

/// Deleted entries that the own map may hold before it is said anew without them.
const MAX_DELETED: usize = 512;

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes to a linked peer. They may be lost: digests repair.
    Send {
        /// To whom.
        to: NodeId,
        /// One message.
        bytes: Bytes,
    },
    /// Something that others want to know.
    Event(Event),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What a node says, or whether it lives, is different.
    Changed(NodeId),
    /// A linked peer passed something on that its alleged author did not sign.
    Forged {
        /// The teller.
        by: NodeId,
    },
    /// This node was taken for dead, or its key signed a later incarnation elsewhere: it has a higher one now.
    Reborn {
        /// The new incarnation.
        incarnation: u64,
        /// Its key signs later incarnations again and again: another process has it.
        twin: bool,
    },
}

/// Whether a node lives, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Known from others only, and its beat has not risen yet.
    Heard,
    /// Its beat rises.
    Alive,
    /// Withdrawn: this incarnation stays so.
    Dead,
}

/// Why an own change was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The key or the value is too long.
    #[error(
        "a published key has at most {MAX_KEY} bytes and a value {MAX_VALUE}: publish less, or let others ask for it"
    )]
    Long,
    /// The map is full.
    #[error(
        "this node publishes {MAX_BYTES} bytes or {MAX_ENTRIES} keys already: withdraw something first"
    )]
    Full,
}

/// Membership of one node. Call a method, then drain [`Core::poll`].
#[derive(Debug)]
pub struct Core {
    me: NodeId,
    key: SigningKey,
    roster: BTreeSet<NodeId>,
    nodes: BTreeMap<NodeId, Node>,
    links: BTreeSet<NodeId>,
    rng: ChaCha8Rng,
    out: VecDeque<Output>,
    version: u64,
    floor: u64,
    leaving: bool,
    reborn_at: Option<Uptime>,
    overtaken: u32,
    last: Uptime,
    next_beat: Uptime,
    next_gossip: Uptime,
}

impl Core {
    /// The core of the node with `key`, in `incarnation`, which must be higher than any it had: Unix milliseconds of
    /// its start. `seed` decides who is gossiped with.
    #[must_use]
    pub fn new(key: SigningKey, incarnation: u64, seed: u64, now: Uptime) -> Self {
        let me = NodeId::from_bytes(key.verifying_key().to_bytes());
        let mut node = Node::new(key.verifying_key(), incarnation, now);
        node.life = Life::Alive;
        let mut core = Self {
            me,
            key,
            roster: BTreeSet::from([me]),
            nodes: BTreeMap::from([(me, node)]),
            links: BTreeSet::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            out: VecDeque::new(),
            version: 0,
            floor: 0,
            leaving: false,
            reborn_at: None,
            overtaken: 0,
            last: now,
            next_beat: now,
            next_gossip: now,
        };
        core.sign_head();
        core
    }

    /// This node's incarnation.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.own().incarnation
    }

    /// All nodes that something is known of, this one included.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.keys().copied()
    }

    /// Whether a node lives, its incarnation, and since when that is so.
    #[must_use]
    pub fn life(&self, node: &NodeId) -> Option<(Life, u64, Uptime)> {
        self.nodes
            .get(node)
            .map(|n| (n.life, n.incarnation, n.since))
    }

    /// What a node says: its keys and values, without the deleted ones.
    pub fn values(&self, node: &NodeId) -> impl Iterator<Item = (&str, &Bytes)> {
        self.nodes
            .get(node)
            .into_iter()
            .flat_map(|n| &n.entries)
            .filter_map(|(key, held)| Some((key.as_str(), held.value.as_ref()?)))
    }

    /// Whether all that the node said up to its last known head is here.
    #[must_use]
    pub fn is_complete(&self, node: &NodeId) -> bool {
        self.nodes.get(node).is_some_and(|n| {
            n.head
                .as_ref()
                .is_some_and(|(h, _)| h.version == n.complete)
        })
    }

    /// Sets who may be a member. Whoever is not in it is forgotten.
    pub fn set_roster(&mut self, mut roster: BTreeSet<NodeId>) {
        roster.insert(self.me);
        let gone: Vec<_> = self
            .nodes
            .keys()
            .filter(|n| !roster.contains(n))
            .copied()
            .collect();
        for node in gone {
            self.nodes.remove(&node);
            self.out.push_back(Output::Event(Event::Changed(node)));
        }
        self.links.retain(|peer| roster.contains(peer));
        self.roster = roster;
    }

    /// A link to an admitted peer is there.
    pub fn linked(&mut self, peer: NodeId, now: Uptime) {
        if !self.roster.contains(&peer) || peer == self.me || !self.links.insert(peer) {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&peer) {
            node.lost.clear();
        }
        self.send_state(self.me, peer, 0);
        self.send_digest(peer, false);
        self.tick(now);
    }

    /// The last link to a peer is gone.
    pub fn unlinked(&mut self, peer: NodeId, now: Uptime) {
        if !self.links.remove(&peer) {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&peer) {
            node.lost.insert(self.me, now);
            let lost = Message::Lost {
                node: peer,
                incarnation: node.incarnation,
                answer: false,
            };
            self.send_all(&lost);
        }
        self.tick(now);
    }

    /// Changes own keys, at once and to all links. Values that are as they were cost nothing.
    ///
    /// # Errors
    /// [`Refused`]; then nothing is changed.
    pub fn set(
        &mut self,
        changes: Vec<(String, Option<Bytes>)>,
        now: Uptime,
    ) -> Result<(), Refused> {
        let mut new = Vec::new();
        let own = self.own();
        for (key, value) in changes {
            let len = value.as_ref().map_or(0, Bytes::len);
            if key.len() > MAX_KEY || len > MAX_VALUE {
                return Err(Refused::Long);
            }
            if value.is_some() && !own.has_room(&key, len) {
                return Err(Refused::Full);
            }
            let same = match own.entries.get(&key) {
                Some(held) => held.value == value,
                None => value.is_none(),
            };
            if !same {
                new.push((key, value));
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let entries = new
            .into_iter()
            .map(|(k, v)| self.sign_entry(k, v))
            .collect();
        self.compact();
        self.sign_head();
        self.push(entries);
        self.next_beat = now + BEAT;
        self.out.push_back(Output::Event(Event::Changed(self.me)));
        Ok(())
    }

    /// Says that this incarnation ends.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.sign_head();
        self.push(Vec::new());
    }

    /// One message of a linked peer.
    pub fn received(&mut self, from: NodeId, bytes: &[u8], now: Uptime) {
        if !self.links.contains(&from) {
            return;
        }
        match Message::decode(bytes) {
            Some(Message::State { head, entries }) => self.on_state(from, head, entries, now),
            Some(Message::Digest { has, answer }) => self.on_digest(from, &has, answer, now),
            Some(Message::Lost {
                node,
                incarnation,
                answer,
            }) => {
                let linked = self.links.contains(&node);
                if let Some(n) = self.nodes.get_mut(&node)
                    && n.incarnation == incarnation
                {
                    n.lost.insert(from, now);
                    if !answer && !linked && n.life == Life::Alive && node != self.me {
                        let lost = Message::Lost {
                            node,
                            incarnation,
                            answer: true,
                        };
                        self.send(from, &lost);
                    }
                    self.judge(node, now);
                }
            }
            None => {}
        }
    }

    /// Time went on.
    pub fn tick(&mut self, now: Uptime) {
        // When this process itself stood still, the others' silence is its own.
        let stall = now.since(self.last).saturating_sub(2 * BEAT);
        self.last = self.last.max(now);
        if !stall.is_zero() {
            for node in self.nodes.values_mut() {
                node.fresh = node.fresh + stall;
            }
        }
        let beat = now >= self.next_beat && !self.leaving;
        if beat {
            self.next_beat = now + BEAT;
            self.sign_head();
            self.push(Vec::new());
        }
        // Pushes put the beat off, not the digests.
        if beat || now >= self.next_gossip {
            self.next_gossip = now + GOSSIP;
            if !self.links.is_empty() {
                let at = self.rng.random_range(0..self.links.len());
                if let Some(peer) = self.links.iter().nth(at).copied() {
                    self.send_digest(peer, false);
                }
            }
        }
        let due: Vec<_> = self.nodes.keys().copied().collect();
        for node in due {
            self.judge(node, now);
        }
    }

    /// When [`Core::tick`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Uptime {
        let silent = self
            .nodes
            .iter()
            .filter(|(id, n)| n.life == Life::Alive && **id != self.me)
            .map(|(_, n)| n.fresh + DETECT);
        silent.fold(self.next_beat.min(self.next_gossip), Uptime::min)
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn own(&self) -> &Node {
        &self.nodes[&self.me]
    }

    fn own_mut(&mut self) -> &mut Node {
        self.nodes
            .get_mut(&self.me)
            .expect("put there by `new`, and `set_roster` never takes it out")
    }

    fn sign_entry(&mut self, key: String, value: Option<Bytes>) -> Signed {
        self.version += 1;
        let entry = Entry {
            node: self.me,
            incarnation: self.incarnation(),
            version: self.version,
            key,
            value: value.as_ref().map(|v| v.to_vec()),
        };
        let signed = Signed::entry(&entry, &self.key);
        let held = Held {
            version: entry.version,
            value,
            signed: signed.clone(),
        };
        self.own_mut().put(entry.key, held);
        signed
    }

    fn sign_head(&mut self) {
        let (version, floor, leaving, me) = (self.version, self.floor, self.leaving, self.me);
        let key = self.key.clone();
        let own = self.own_mut();
        let head = Head {
            node: me,
            incarnation: own.incarnation,
            beat: own.beat() + 1,
            version,
            floor,
            root: own.root,
            leaving,
        };
        let signed = Signed::head(&head, &key);
        own.complete = version;
        own.head = Some((head, signed));
    }

    /// Says all live entries anew, without the deleted ones, when those are many.
    fn compact(&mut self) {
        let own = self.own();
        if own.entries.values().filter(|h| h.value.is_none()).count() > MAX_DELETED {
            self.restate();
        }
    }

    fn restate(&mut self) {
        self.floor = self.version + 1;
        let own = self.own_mut();
        let old = std::mem::take(&mut own.entries);
        own.root = Root::default();
        own.bytes = 0;
        for (key, held) in old {
            if held.value.is_some() {
                self.sign_entry(key, held.value);
            }
        }
    }

    fn rebirth(&mut self, above: u64, overtaken: bool, now: Uptime) {
        let recent = self
            .reborn_at
            .is_some_and(|at| now.since(at) < std::time::Duration::from_secs(1));
        if recent || self.leaving {
            return;
        }
        self.reborn_at = Some(now);
        self.overtaken += u32::from(overtaken);
        // Once may be a clock that was set back before a restart.
        let twin = overtaken && self.overtaken > 1;
        let incarnation = above.saturating_add(1);
        let own = self.own_mut();
        own.incarnation = incarnation;
        own.since = now;
        own.head = None;
        self.restate();
        self.sign_head();
        for peer in self.links.clone() {
            self.send_state(self.me, peer, 0);
        }
        self.out
            .push_back(Output::Event(Event::Reborn { incarnation, twin }));
        self.out.push_back(Output::Event(Event::Changed(self.me)));
    }

    /// Withdraws `node` when its beat stands still, or when the link was lost here and at two others.
    fn judge(&mut self, node: NodeId, now: Uptime) {
        if node == self.me {
            return;
        }
        let alive = |id: &NodeId| {
            *id != self.me
                && *id != node
                && self.nodes.get(id).is_some_and(|n| n.life == Life::Alive)
        };
        let Some(n) = self.nodes.get(&node) else {
            return;
        };
        let own = n.lost.contains_key(&self.me) && !self.links.contains(&node);
        let lost = own && {
            let others = self.nodes.keys().filter(|id| alive(id)).count();
            let recent = |at: &Uptime| now.since(*at) < REPORT;
            let reports = n.lost.iter().filter(|(by, at)| alive(by) && recent(at));
            others > 0 && reports.count() >= others.min(2)
        };
        let silent = now.since(n.fresh) >= DETECT;
        let Some(n) = self.nodes.get_mut(&node) else {
            return;
        };
        if n.life != Life::Dead && (silent || lost) {
            let was = n.life;
            n.life = Life::Dead;
            n.since = now;
            if was == Life::Alive {
                self.out.push_back(Output::Event(Event::Changed(node)));
            }
        }
    }
}
