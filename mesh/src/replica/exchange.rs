//! Talking with peers.
use std::collections::BTreeSet;

use bytes::Bytes;
use routing::model::NodeId;
use sha2::{Digest as _, Sha256};

use super::{
    ASK_AGAIN, DIGEST_EVERY, LogId, MAX_LOGS, MAX_MESSAGE, Now, Peer, Replica,
    wire::{Head, MAX_LIST, Message, Purpose},
};
use crate::{
    records::{Record, Scope},
    state::Verdict,
};

/// The most bytes of records in one message.
const BATCH: usize = 256 * 1024;
/// The most records in one message.
const BATCH_RECORDS: usize = 256;

impl Replica {
    /// A peer that the links admitted is there.
    pub fn connected(&mut self, peer: NodeId, now: Now) {
        if peer == self.me {
            return;
        }
        // Staggered, so that a node with many peers does not sum for all of them at once.
        let stagger = std::time::Duration::from_millis(u64::from(peer.as_bytes()[0]) * 4);
        self.peers.insert(
            peer,
            Peer {
                next_digest: now.up + DIGEST_EVERY + stagger,
                ..Peer::default()
            },
        );
        for scope in self.common_scopes(peer, now) {
            self.send_all_heads(peer, scope);
        }
        self.send_verdict_ids(peer, true);
    }

    /// A peer is gone.
    pub fn gone(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
        self.asked.retain(|_, (of, _)| *of != peer);
    }

    /// Takes a peer's message. Never panics, whatever the bytes.
    pub fn receive(&mut self, peer: NodeId, bytes: &[u8], now: Now) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        let Some(message) = Message::read(bytes) else {
            metrics::counter!("shoal_replica_unread").increment(1);
            return;
        };
        match message {
            Message::Digest { scopes, verdicts } => {
                if *verdicts != self.verdict_sum() {
                    self.send_verdict_ids(peer, true);
                }
                for (scope, sum) in scopes {
                    if !self.shares(peer, scope, now) {
                        continue;
                    }
                    if *sum == self.sum(scope) {
                        self.reconciled |= scope == Scope::Mesh;
                        let all = self.logs.len((scope, self.me));
                        self.note_safe(peer, scope, all, now);
                    } else {
                        self.send_all_heads(peer, scope);
                    }
                }
            }
            Message::Heads {
                scope,
                purpose,
                heads,
            } => self.on_heads(peer, scope, purpose, &heads, now),
            Message::Records(all) => {
                let all = all.into_iter().map(|raw| Bytes::from(Vec::from(raw)));
                self.on_records(peer, all, now);
            }
            Message::Show {
                scope,
                author,
                number,
            } => {
                if self.shares(peer, scope, now)
                    && let Some(record) = self.logs.get((scope, author), number)
                {
                    let raw = record.raw().to_vec().into();
                    self.send(peer, &Message::Records(vec![raw]));
                }
            }
            Message::VerdictIds { ids, ask } => {
                let theirs: std::collections::HashSet<[u8; 32]> =
                    ids.into_iter().map(|id| *id).collect();
                let ours = self.state.verdicts().all();
                let lacking = ours.filter(|v| !theirs.contains(&v.id()));
                let lacking: Vec<_> = lacking.map(|v| v.to_bytes().into()).collect();
                for part in lacking.chunks(4) {
                    self.send(peer, &Message::Verdicts(part.to_vec()));
                }
                if ask && !theirs.is_subset(self.state.verdicts().ids()) {
                    self.send_verdict_ids(peer, false);
                }
            }
            Message::Verdicts(all) => {
                for raw in all {
                    if let Some(verdict) = Verdict::read(self.mesh, &raw) {
                        self.judge(&verdict, Some(peer));
                    }
                }
                self.settle(now);
            }
        }
    }

    fn on_heads(&mut self, peer: NodeId, scope: Scope, purpose: Purpose, heads: &[Head], now: Now) {
        if !self.shares(peer, scope, now) {
            return;
        }
        if purpose == Purpose::All
            && let Some(p) = self.peers.get_mut(&peer)
        {
            p.known.retain(|(s, _), _| *s != scope);
            p.sent.retain(|(s, _), _| *s != scope);
        }
        let mut lacking = Vec::new();
        for head in heads {
            let id = (scope, head.author);
            if let Some(p) = self.peers.get_mut(&peer) {
                if !p.note(id, head.number) {
                    continue;
                }
                if matches!(purpose, Purpose::All | Purpose::Ask) {
                    p.note_sent(id, head.number);
                }
            }
            let ours = self.head(scope, head.author);
            let end = self.state.verdicts().last(scope, head.author);
            if head.number > ours && end.is_none_or(|end| ours < end) {
                lacking.push(head.author);
            } else if self.differs(id, head) {
                let (author, number) = (head.author, head.number);
                self.send(
                    peer,
                    &Message::Show {
                        scope,
                        author,
                        number,
                    },
                );
            } else if head.author == self.me {
                self.note_safe(peer, scope, head.number, now);
            }
        }
        match purpose {
            Purpose::All | Purpose::News => {
                if purpose == Purpose::All && scope == Scope::Mesh && lacking.is_empty() {
                    self.reconciled = true;
                }
                self.ask(peer, scope, lacking, now);
            }
            Purpose::Ask | Purpose::Ack => {
                if purpose == Purpose::Ask
                    && let Some(p) = self.peers.get_mut(&peer)
                {
                    let room = MAX_LOGS.saturating_sub(p.wants.len());
                    p.wants
                        .extend(heads.iter().take(room).map(|h| (scope, h.author)));
                }
                let authors: Vec<NodeId> = heads.iter().map(|h| h.author).collect();
                self.push(peer, scope, &authors);
            }
        }
    }

    /// Whether a peer's log has another record in the place of ours, and no verdict says so yet.
    fn differs(&self, id: LogId, head: &Head) -> bool {
        let fork = self.state.verdicts().fork(id.0, id.1);
        fork.is_none_or(|f| f.number() > head.number)
            && self
                .logs
                .get(id, head.number)
                .is_some_and(|r| !r.hash().starts_with(head.hash.as_slice()))
    }

    /// A peer has this node's records up to `number` on its disk.
    fn note_safe(&mut self, peer: NodeId, scope: Scope, number: u64, now: Now) {
        // What a peer may say beyond that is not there to be safe.
        let number = number.min(self.logs.len((scope, self.me)));
        let known = self.safe.get(&scope).copied().unwrap_or(0);
        if number > known && self.makes_safe(peer, scope, now) {
            self.safe.insert(scope, number);
            self.out.safe.push((scope, self.me, number));
        }
    }

    fn ask(&mut self, peer: NodeId, scope: Scope, lacking: Vec<NodeId>, now: Now) {
        let mut heads = Vec::new();
        if self.asked.len() + lacking.len() > MAX_LOGS {
            self.asked.retain(|_, (_, until)| *until > now.up);
        }
        for author in lacking {
            if self.asked.len() >= MAX_LOGS && !self.asked.contains_key(&(scope, author)) {
                continue;
            }
            let asked = self.asked.get(&(scope, author));
            if asked.is_some_and(|(of, until)| *of != peer && *until > now.up) {
                continue;
            }
            self.asked
                .insert((scope, author), (peer, now.up + ASK_AGAIN));
            heads.push(self.head_of((scope, author)));
        }
        self.send_heads(peer, scope, Purpose::Ask, &heads);
    }

    fn on_records(&mut self, peer: NodeId, all: impl Iterator<Item = Bytes>, now: Now) {
        let mut touched: Vec<LogId> = Vec::new();
        let mut show = Vec::new();
        for raw in all {
            let Ok(record) = Record::parse(self.mesh, raw) else {
                metrics::counter!("shoal_replica_refused").increment(1);
                continue;
            };
            let id = (record.scope(), record.author());
            if !self.keeps(id.0, now) {
                continue;
            }
            if !touched.contains(&id) {
                touched.push(id);
            }
            let there = self.logs.get(id, record.number());
            if there.is_none_or(|r| *r != record) && record.verify().is_err() {
                metrics::counter!("shoal_replica_refused").increment(1);
                continue;
            }
            let number = record.number();
            if self.offer(record, now) && number > 1 {
                show.push((id, number - 1));
            }
            if let Some(p) = self.peers.get_mut(&peer) {
                let sent = p.sent.get(&id).copied().unwrap_or(0);
                p.note_sent(id, sent.max(number));
            }
        }
        self.settle(now);
        for ((scope, author), number) in show {
            self.send(
                peer,
                &Message::Show {
                    scope,
                    author,
                    number,
                },
            );
        }
        touched.sort_unstable();
        for group in touched.chunk_by(|a, b| a.0 == b.0) {
            let scope = group.first().map_or(Scope::Mesh, |id| id.0);
            let heads: Vec<Head> = group.iter().map(|id| self.head_of(*id)).collect();
            for id in group {
                if let Some((of, until)) = self.asked.get_mut(id)
                    && *of == peer
                {
                    *until = now.up + ASK_AGAIN;
                }
            }
            if self.shares(peer, scope, now) {
                self.send_heads(peer, scope, Purpose::Ack, &heads);
            }
        }
    }

    /// Sends a peer what follows in these logs and in those that it asked for, one batch of it. The acknowledgement
    /// brings the next.
    fn push(&mut self, peer: NodeId, scope: Scope, authors: &[NodeId]) {
        let Some(wants) = self.peers.get(&peer).map(|p| &p.wants) else {
            return;
        };
        let wanted = wants.iter().filter(|(s, _)| *s == scope).map(|(_, a)| *a);
        let authors: BTreeSet<NodeId> = authors.iter().copied().chain(wanted).collect();
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut sent = Vec::new();
        'full: for author in &authors {
            let id = (scope, *author);
            let Some(p) = self.peers.get(&peer) else {
                return;
            };
            let mut at = p.reached(id);
            while at < self.head(scope, *author) {
                let Some(record) = self.logs.get(id, at + 1) else {
                    break;
                };
                let size = record.raw().len();
                if batch.len() >= BATCH_RECORDS || (bytes + size > BATCH && !batch.is_empty()) {
                    break 'full;
                }
                bytes += size;
                batch.push(record.raw().to_vec().into());
                at += 1;
                sent.retain(|(other, _)| *other != id);
                sent.push((id, at));
            }
        }
        let ends: Vec<_> = authors
            .iter()
            .map(|a| ((scope, *a), self.head(scope, *a)))
            .collect();
        if let Some(p) = self.peers.get_mut(&peer) {
            p.sent.extend(sent);
            for (id, end) in ends {
                if p.reached(id) >= end {
                    p.wants.remove(&id);
                }
            }
        }
        if batch.is_empty() {
            return;
        }
        self.send(peer, &Message::Records(batch));
    }

    /// Sends a log's news to every peer that has all before it. Others ask when they get there.
    pub(super) fn push_to_all(&mut self, id: LogId, now: Now) {
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for peer in peers {
            if self.shares(peer, id.0, now) {
                self.push(peer, id.0, &[id.1]);
            }
        }
    }

    pub(super) fn send_news(&mut self, now: Now) {
        if self.news_due.is_none_or(|due| due > now.up) {
            return;
        }
        self.news_due = None;
        let news: Vec<LogId> = std::mem::take(&mut self.news).into_iter().collect();
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for group in news.chunk_by(|a, b| a.0 == b.0) {
            let scope = group.first().map_or(Scope::Mesh, |id| id.0);
            for peer in &peers {
                if !self.shares(*peer, scope, now) {
                    continue;
                }
                let behind = |id: &&LogId| {
                    let reached = self.peers.get(peer).map_or(0, |p| p.reached(**id));
                    reached < self.head(id.0, id.1)
                };
                let heads: Vec<Head> = group
                    .iter()
                    .filter(behind)
                    .map(|id| self.head_of(*id))
                    .collect();
                self.send_heads(*peer, scope, Purpose::News, &heads);
            }
        }
    }

    pub(super) fn send_digests(&mut self, now: Now) {
        let due = |(id, p): (&NodeId, &Peer)| (p.next_digest <= now.up).then_some(*id);
        let due: Vec<NodeId> = self.peers.iter().filter_map(due).collect();
        for peer in due {
            if let Some(p) = self.peers.get_mut(&peer) {
                p.next_digest = now.up + DIGEST_EVERY;
            }
            let scopes = self.common_scopes(peer, now);
            let scopes = scopes.into_iter().take(MAX_LIST);
            let scopes = scopes.map(|s| (s, self.sum(s).into())).collect();
            let verdicts = self.verdict_sum().into();
            self.send(peer, &Message::Digest { scopes, verdicts });
        }
    }

    fn send_all_heads(&mut self, peer: NodeId, scope: Scope) {
        let heads = self.all_heads(scope);
        // An empty list says something too: send me all.
        let message = Message::Heads {
            scope,
            purpose: Purpose::All,
            heads,
        };
        self.send(peer, &message);
    }

    fn send_heads(&mut self, peer: NodeId, scope: Scope, purpose: Purpose, heads: &[Head]) {
        for part in heads.chunks(MAX_LIST) {
            let heads = part.to_vec();
            self.send(
                peer,
                &Message::Heads {
                    scope,
                    purpose,
                    heads,
                },
            );
        }
    }

    fn send_verdict_ids(&mut self, peer: NodeId, ask: bool) {
        let mut ids: Vec<_> = self.state.verdicts().ids().iter().copied().collect();
        ids.sort_unstable();
        let ids = ids.into_iter().take(MAX_LIST).map(Into::into).collect();
        self.send(peer, &Message::VerdictIds { ids, ask });
    }

    fn head_of(&self, id: LogId) -> Head {
        let number = self.head(id.0, id.1);
        let hash = self.head_hash(id, number);
        let mut short = [0; 8];
        short.copy_from_slice(&hash[..8]);
        Head {
            author: id.1,
            number,
            hash: short.into(),
        }
    }

    /// The hash of a log's last record; of a forked log's, of the one of both that all keep first.
    fn head_hash(&self, id: LogId, number: u64) -> [u8; 32] {
        match self.state.verdicts().fork(id.0, id.1) {
            Some(fork) if fork.number() == number => *fork.records()[0].hash(),
            _ => self.logs.get(id, number).map_or([0; 32], |r| *r.hash()),
        }
    }

    fn all_heads(&self, scope: Scope) -> Vec<Head> {
        let facts = self.state.facts();
        // An author without any grant has no effect, and others may not take its records.
        let authors = self
            .logs
            .authors(scope)
            .filter(|a| facts.node(*a).is_some());
        let heads = authors.map(|a| self.head_of((scope, a)));
        heads.filter(|h| h.number > 0).take(MAX_LIST).collect()
    }

    pub(super) fn sum(&mut self, scope: Scope) -> [u8; 16] {
        if let Some(sum) = self.sums.get(&scope) {
            return *sum;
        }
        let mut hash = Sha256::new();
        for head in self.all_heads(scope) {
            hash.update(head.author.as_bytes());
            hash.update(head.number.to_be_bytes());
            hash.update(head.hash.as_slice());
        }
        let sum = half(hash.finalize().into());
        self.sums.insert(scope, sum);
        sum
    }

    fn verdict_sum(&self) -> [u8; 16] {
        let mut ids: Vec<_> = self.state.verdicts().ids().iter().collect();
        ids.sort_unstable();
        let mut hash = Sha256::new();
        for id in ids {
            hash.update(id);
        }
        half(hash.finalize().into())
    }

    fn shares(&self, peer: NodeId, scope: Scope, now: Now) -> bool {
        self.keeps(scope, now) && self.may_have(peer, scope, now)
    }

    /// What both keep: the mesh scope and the scopes of tenants at which both clusters are entitled.
    fn common_scopes(&self, peer: NodeId, now: Now) -> Vec<Scope> {
        let tenants = self.state.facts().tenants();
        let tenants = tenants.map(|t| Scope::Tenant(t.tenant));
        let all = std::iter::once(Scope::Mesh).chain(tenants);
        all.filter(|s| self.shares(peer, *s, now)).collect()
    }
}

const _: () = assert!(BATCH + crate::records::MAX_RECORD < MAX_MESSAGE);

fn half(hash: [u8; 32]) -> [u8; 16] {
    let mut sum = [0; 16];
    sum.copy_from_slice(&hash[..16]);
    sum
}
