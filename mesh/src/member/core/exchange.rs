//! What is sent to peers, and what follows from what they send.
use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use routing::model::{NodeId, Uptime};

use super::{Core, Event, Held, Life, Node, Output};
use crate::member::{
    MAX_KEY, MAX_VALUE, PIECE,
    wire::{Has, Message, Signed},
};

/// A peer that is this many beats behind is told the newer head.
const BEHIND: u64 = 2;

impl Core {
    pub(super) fn push(&mut self, entries: Vec<Signed>) {
        if let Some((_, head)) = &self.own().head {
            let message = Message::State {
                head: head.clone(),
                entries,
            };
            self.send_all(&message);
        }
    }

    pub(super) fn send_all(&mut self, message: &Message) {
        let bytes = Bytes::from(message.encode());
        for to in &self.links {
            self.out.push_back(Output::Send {
                to: *to,
                bytes: bytes.clone(),
            });
        }
    }

    pub(super) fn send(&mut self, to: NodeId, message: &Message) {
        let bytes = Bytes::from(message.encode());
        self.out.push_back(Output::Send { to, bytes });
    }

    /// Sends `to` the head of `node` and its entries above version `above`, in pieces.
    pub(super) fn send_state(&mut self, node: NodeId, to: NodeId, above: u64) {
        let Some(n) = self.nodes.get(&node) else {
            return;
        };
        let Some((_, head)) = &n.head else { return };
        let mut wanted: Vec<_> = n.entries.values().filter(|h| h.version > above).collect();
        wanted.sort_by_key(|h| h.version);
        let (mut pieces, mut size) = (vec![Vec::new()], 0);
        for held in wanted {
            size += held.signed.len();
            if size > PIECE {
                pieces.push(Vec::new());
                size = held.signed.len();
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push(held.signed.clone());
            }
        }
        let messages: Vec<_> = pieces
            .into_iter()
            .map(|entries| Message::State {
                head: head.clone(),
                entries,
            })
            .collect();
        for message in &messages {
            self.send(to, message);
        }
    }

    pub(super) fn send_digest(&mut self, to: NodeId, answer: bool) {
        let has = self
            .nodes
            .iter()
            .map(|(id, n)| Has {
                node: *id,
                incarnation: n.incarnation,
                beat: n.beat(),
                complete: n.complete,
                dead: n.life == Life::Dead,
            })
            .collect();
        self.send(to, &Message::Digest { has, answer });
    }

    pub(super) fn on_digest(&mut self, from: NodeId, has: &[Has], answer: bool, now: Uptime) {
        let theirs: BTreeMap<_, _> = has.iter().map(|h| (h.node, *h)).collect();
        if let Some(mine) = theirs.get(&self.me)
            && mine.dead
            && mine.incarnation == self.incarnation()
        {
            self.rebirth(mine.incarnation, false, now);
        }
        let mut lacking = theirs
            .keys()
            .any(|id| self.roster.contains(id) && !self.nodes.contains_key(id));
        let mut repairs = Vec::new();
        for (id, n) in &self.nodes {
            let Some((head, _)) = &n.head else { continue };
            let Some(h) = theirs.get(id) else {
                repairs.push((*id, 0));
                continue;
            };
            let (ours, other) = ((n.incarnation, head.beat), (h.incarnation, h.beat));
            if other.0 < ours.0 {
                repairs.push((*id, 0));
            } else if other.0 > ours.0
                || other.1 > ours.1.saturating_add(BEHIND)
                || h.complete > n.complete
            {
                lacking = true;
            } else if h.complete < n.complete {
                repairs.push((*id, h.complete));
            } else if other.1.saturating_add(BEHIND) < ours.1 && !h.dead {
                repairs.push((*id, u64::MAX));
            }
        }
        for (node, above) in repairs {
            // A node knows itself best, unless its own key signed a later incarnation.
            if node != from
                || theirs
                    .get(&node)
                    .is_some_and(|h| h.incarnation < self.nodes[&node].incarnation)
            {
                self.send_state(node, from, above);
            }
        }
        if lacking && !answer {
            self.send_digest(from, true);
        }
    }

    pub(super) fn on_state(
        &mut self,
        from: NodeId,
        signed: Signed,
        entries: Vec<Signed>,
        now: Uptime,
    ) {
        let Some(head) = signed.as_head() else { return };
        let id = head.node;
        if id == self.me {
            let verified = head.incarnation > self.incarnation()
                && signed.is_head_by(&self.key.verifying_key());
            if verified {
                self.rebirth(head.incarnation, true, now);
            }
            return;
        }
        if !self.roster.contains(&id) {
            return;
        }
        let n = match self.nodes.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Ok(key) = VerifyingKey::from_bytes(id.as_bytes()) else {
                    return;
                };
                new.insert(Node::new(key, head.incarnation, now))
            }
        };
        let dead = n.life == Life::Dead && head.incarnation == n.incarnation;
        if head.incarnation < n.incarnation || dead {
            return;
        }
        let mut changed = false;
        let newer = head.incarnation > n.incarnation || head.beat > n.beat();
        if newer {
            if !signed.is_head_by(&n.key) {
                if n.head.is_none() {
                    self.nodes.remove(&id);
                }
                self.out
                    .push_back(Output::Event(Event::Forged { by: from }));
                return;
            }
            if head.incarnation > n.incarnation {
                let was = n.life;
                *n = Node::new(n.key, head.incarnation, now);
                if was == Life::Alive {
                    n.life = was;
                }
                changed = true;
            }
            let risen = n.head.is_some();
            n.fresh = now;
            if n.life == Life::Heard && (risen || from == id) {
                n.life = Life::Alive;
                n.since = now;
                changed = true;
            }
            let void: Vec<_> = n
                .entries
                .iter()
                .filter(|(_, held)| held.version < head.floor)
                .map(|(key, _)| key.clone())
                .collect();
            for key in void {
                n.remove(&key);
                changed = true;
            }
            n.head = Some((head, signed));
        }
        let floor = n.head.as_ref().map_or(0, |(head, _)| head.floor);
        let mut forged = false;
        for signed in entries {
            let Some(entry) = signed.as_entry() else {
                continue;
            };
            let len = entry.value.as_ref().map_or(0, Vec::len);
            let known = n.entries.get(&entry.key).map_or(0, |held| held.version);
            let fits = entry.key.len() <= MAX_KEY && len <= MAX_VALUE;
            if entry.node != id
                || entry.incarnation != n.incarnation
                || entry.version < floor
                || entry.version <= known
                || !fits
                || !n.has_room(&entry.key, len)
            {
                continue;
            }
            if !signed.is_entry_by(&n.key) {
                forged = true;
                break;
            }
            let held = Held {
                version: entry.version,
                value: entry.value.map(Bytes::from),
                signed,
            };
            n.put(entry.key, held);
            changed = true;
        }
        let mut leaving = false;
        if let Some((head, _)) = &n.head {
            if head.root == n.root {
                n.complete = head.version;
            }
            leaving = head.leaving;
        }
        if leaving {
            n.life = Life::Dead;
            n.since = now;
            changed = true;
        }
        if forged {
            self.out
                .push_back(Output::Event(Event::Forged { by: from }));
        }
        if changed {
            self.out.push_back(Output::Event(Event::Changed(id)));
        }
    }
}
