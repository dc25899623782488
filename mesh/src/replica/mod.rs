//! Replication of all scopes, without I/O: bytes and time in; bytes, items to keep and events out.
//!
//! Shape: [`Replica`] has the logs, the state that follows from them, and what it knows of each peer. New records of
//! this node go to every entitled peer at once; others' are told of 50 ms later to those who are not known to have
//! them. On connect, and when the sums that go round every 2 s differ, both sides list how far their logs go and ask
//! one peer for what they lack; records come in batches, each acknowledged, the next following. All that is dropped
//! on the way (a full queue, a cut link) is found missing by the next sum.
//!
//! Whoever drives it keeps [`Output::keep`] on the disk *before* it sends [`Output::send`]: a message may say that a
//! record is safe here.
mod exchange;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod logs;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use routing::model::{Hlc, MeshId, NodeId, Role, UnixMillis, Uptime, Verbs};

use crate::{
    config::Config,
    identity::NodeKey,
    records::{Ack, Change, OpenError, Record, Scope},
    state::{Evidence, State, Verdict},
    store::Item,
};
use logs::{Fit, LogId, Logs, Park};
pub use wire::MAX_MESSAGE;
use wire::Message;
pub use write::MAX_CLOCK_OFF;

/// How far ahead of this node's clock a stamp may be before its record has to wait.
pub const MAX_AHEAD: Duration = Duration::from_secs(30);
/// How often sums are compared with each peer.
pub const DIGEST_EVERY: Duration = Duration::from_secs(2);
/// How long others' news wait for more before they are told of.
const NEWS_AFTER: Duration = Duration::from_millis(50);
/// How long one peer has to send what was asked of it before another is asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often waiting records are looked at again.
const PARK_EVERY: Duration = Duration::from_secs(1);
/// The most logs that are remembered of one peer, known to exist or not: what it says of others is not heard.
const MAX_LOGS: usize = 1 << 18;
/// The most messages that wait to be taken out. What does not fit is dropped and mended later.
const MAX_OUT: usize = 4096;

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For intervals.
    pub up: Uptime,
    /// For stamps and expiries.
    pub unix: UnixMillis,
}

/// What comes out.
#[derive(Debug, Default)]
pub struct Output {
    /// To be kept on the disk before anything is sent.
    pub keep: Vec<Item>,
    /// Messages to peers, in order.
    pub send: Vec<(NodeId, Bytes)>,
    /// Whose records of which scope have come to be on two disks of nodes that could have written them, up to which
    /// number: own ones that a peer has, others' that came here. The latter once they are kept.
    pub safe: Vec<(Scope, NodeId, u64)>,
    /// Evidence that came up.
    pub evidence: Vec<Evidence>,
    /// The configuration is another.
    pub changed: bool,
}

#[derive(Debug, Default)]
struct Peer {
    /// What it said that it has on its disk.
    known: HashMap<LogId, u64>,
    /// What was sent to it, as far as it is in order.
    sent: HashMap<LogId, u64>,
    /// What it asked for and has not been sent to the end.
    wants: BTreeSet<LogId>,
    next_digest: Uptime,
}

impl Peer {
    /// Notes how far a log goes there; false where there is no room for another one.
    fn note(&mut self, id: LogId, number: u64) -> bool {
        let room = self.known.len() < MAX_LOGS || self.known.contains_key(&id);
        if room {
            self.known.insert(id, number);
        }
        room
    }

    /// Notes how far a log was sent there.
    fn note_sent(&mut self, id: LogId, number: u64) {
        if self.sent.len() < MAX_LOGS || self.sent.contains_key(&id) {
            self.sent.insert(id, number);
        }
    }

    fn reached(&self, id: LogId) -> u64 {
        let of = |map: &HashMap<LogId, u64>| map.get(&id).copied().unwrap_or(0);
        of(&self.known).max(of(&self.sent))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Replica {
    key: NodeKey,
    me: NodeId,
    mesh: MeshId,
    logs: Logs,
    park: Park,
    park_due: Uptime,
    state: State,
    peers: BTreeMap<NodeId, Peer>,
    /// Whom what was asked of, and until when nobody else is asked.
    asked: HashMap<LogId, (NodeId, Uptime)>,
    /// Logs of others that grew, to be told of at `news_due`.
    news: BTreeSet<LogId>,
    news_due: Option<Uptime>,
    sums: BTreeMap<Scope, [u8; 16]>,
    /// The highest stamp that was seen.
    seen: Hlc,
    prepared: Vec<Record>,
    /// Up to which number own records are known to be on a second disk that makes them safe.
    safe: BTreeMap<Scope, u64>,
    reconciled: bool,
    out: Output,
}

impl Replica {
    /// A replica with what a store had.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] when something in it is no record.
    pub fn open(key: NodeKey, mesh: MeshId, items: Vec<Item>) -> Result<Self, OpenError> {
        let me = key.id();
        let mut this = Self {
            me,
            mesh,
            logs: Logs::default(),
            park: Park::default(),
            park_due: Uptime::ZERO,
            state: State::new(mesh, me),
            peers: BTreeMap::new(),
            asked: HashMap::new(),
            news: BTreeSet::new(),
            news_due: None,
            sums: BTreeMap::new(),
            seen: Hlc::default(),
            prepared: Vec::new(),
            safe: BTreeMap::new(),
            reconciled: false,
            out: Output::default(),
            key,
        };
        for item in items {
            match item {
                Item::Verdict { raw, .. } => {
                    if let Some(verdict) = Verdict::read(mesh, &raw) {
                        this.state.judge(verdict);
                    }
                }
                Item::Record { raw, .. } => {
                    let record = Record::parse(mesh, raw).map_err(|e| OpenError::Damaged {
                        what: e.to_string(),
                    })?;
                    // What does not follow is left out; peers have the rest of that log.
                    if this.logs.fit(&record) == Fit::Next {
                        this.seen = this.seen.max(record.at());
                        this.logs.push(record);
                    }
                }
            }
        }
        this.state.stale();
        this.state.settle(|| this.logs.all());
        this.out.changed = true;
        Ok(this)
    }

    /// What came out since the last call.
    pub fn take_output(&mut self) -> Output {
        std::mem::take(&mut self.out)
    }

    /// Whether [`Replica::take_output`] has anything to give.
    #[must_use]
    pub fn has_output(&self) -> bool {
        let Output {
            keep,
            send,
            safe,
            evidence,
            changed,
        } = &self.out;
        *changed || !(keep.is_empty() && send.is_empty() && safe.is_empty() && evidence.is_empty())
    }

    /// The agreed state, with expiries judged at `now`.
    pub fn config(&mut self, now: UnixMillis) -> Config {
        self.state.config(now)
    }

    /// Whether the mesh scope was found equal to a peer's.
    #[must_use]
    pub fn reconciled(&self) -> bool {
        self.reconciled
    }

    /// How far an author's log goes here, as far as it counts.
    #[must_use]
    pub fn head(&self, scope: Scope, author: NodeId) -> u64 {
        let len = self.logs.len((scope, author));
        let last = self.state.verdicts().last(scope, author);
        last.map_or(len, |last| len.min(last))
    }

    /// The last number of an author in each scope known here: what a revocation of it names.
    #[must_use]
    pub fn heads_of(&self, author: NodeId) -> Vec<(Scope, u64)> {
        let scopes = self.logs.scopes().into_iter();
        let heads = scopes.map(|s| (s, self.head(s, author)));
        heads.filter(|(_, n)| *n > 0).collect()
    }

    /// Every piece of the mesh scope, for a node that joins.
    #[must_use]
    pub fn export_mesh(&self) -> Vec<Bytes> {
        let verdicts = self.state.verdicts().all();
        let verdicts = verdicts.map(|v| Bytes::from(v.to_bytes()));
        let records = self.logs.all().filter(|r| r.scope() == Scope::Mesh);
        let records = records.filter(|r| r.number() <= self.head(r.scope(), r.author()));
        verdicts.chain(records.map(|r| r.raw().clone())).collect()
    }

    /// Takes what [`Replica::export_mesh`] gave, and gives back how many pieces were news.
    pub fn import(&mut self, pieces: Vec<Bytes>, now: Now) -> usize {
        let before = self.out.keep.len();
        for raw in pieces {
            if let Ok(record) = Record::read(self.mesh, raw.clone()) {
                self.offer(record, now);
            } else if let Some(verdict) = Verdict::read(self.mesh, &raw) {
                self.judge(&verdict, None);
            }
        }
        self.settle(now);
        self.out.keep.len() - before
    }

    /// Whose it is.
    #[must_use]
    pub const fn me(&self) -> NodeId {
        self.me
    }

    /// When [`Replica::tick`] has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Uptime> {
        let digests = self.peers.values().map(|p| p.next_digest).min();
        let park = (!self.park.is_empty()).then_some(self.park_due);
        [digests, self.news_due, park].into_iter().flatten().min()
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Now) {
        if !self.park.is_empty() && self.park_due <= now.up {
            self.retry_parked(now);
            self.settle(now);
        }
        self.send_news(now);
        self.send_digests(now);
    }

    /// Whether this node keeps a scope.
    fn keeps(&self, scope: Scope, now: Now) -> bool {
        self.may_have(self.me, scope, now)
    }

    /// Whether a node may have a scope. Admission to the mesh at all is the links' part.
    fn may_have(&self, node: NodeId, scope: Scope, now: Now) -> bool {
        let Scope::Tenant(tenant) = scope else {
            return true;
        };
        let facts = self.state.facts();
        !self.state.verdicts().is_revoked(node)
            && facts
                .standing(node, now.unix)
                .is_some_and(|s| facts.entitled(tenant, s.cluster, now.unix) != Verbs::NONE)
    }

    /// Whether a record that `node` has on its disk is safe: the node could have written it.
    fn makes_safe(&self, node: NodeId, scope: Scope, now: Now) -> bool {
        let facts = self.state.facts();
        match scope {
            Scope::Tenant(tenant) => facts.may_write(node, tenant, now.unix),
            Scope::Mesh => facts
                .standing(node, now.unix)
                .is_some_and(|s| s.roles.has(Role::Gateway)),
        }
    }

    /// How safe a record is that is somebody's number `number` in a scope. `None` where this node cannot tell: it is an
    /// own one that was never written, or another's and this node's disk makes nothing safe there.
    #[must_use]
    pub fn ack_of(&self, scope: Scope, author: NodeId, number: u64, now: Now) -> Option<Ack> {
        let here = number <= self.logs.len((scope, author));
        let safe = if author != self.me {
            self.makes_safe(self.me, scope, now).then_some(here)
        } else {
            here.then(|| self.safe.get(&scope).is_some_and(|last| number <= *last))
        };
        Some(if safe? { Ack::Replicated } else { Ack::Local })
    }

    /// Whether a peer is connected whose disk would make a record of this scope safe.
    #[must_use]
    pub fn could_be_safe(&self, scope: Scope, now: Now) -> bool {
        let mut peers = self.peers.keys();
        peers.any(|p| self.makes_safe(*p, scope, now))
    }

    /// Takes one checked record as far as it can be taken now. True when it, or its twin, cannot be part of the log
    /// that the giver has: then the giver should show what it has before it.
    fn offer(&mut self, record: Record, now: Now) -> bool {
        for change in record.changes() {
            if let Change::Revoked(r) = change {
                let verdict = Verdict::Revoked(r.clone());
                if verdict.holds(self.mesh) {
                    self.judge(&verdict, None);
                }
            }
        }
        let id = (record.scope(), record.author());
        let last = self.state.verdicts().last(id.0, id.1);
        if last.is_some_and(|last| record.number() > last) {
            return false;
        }
        match self.logs.fit(&record) {
            Fit::Have | Fit::Back => false,
            Fit::Broken => true,
            Fit::Gap => {
                self.put_by(&record, now);
                false
            }
            Fit::Other(ours) => {
                let deeper = ours.prev() != record.prev();
                if let Some(evidence) = Evidence::of(&ours, &record) {
                    self.judge(&Verdict::Forked(evidence), None);
                }
                deeper
            }
            Fit::Next => {
                let early = record.at().millis() > now.unix.plus(MAX_AHEAD);
                if early || !self.state.admits(&record) {
                    self.put_by(&record, now);
                } else {
                    self.out.keep.push(Item::record(&record));
                    self.take(record, now);
                }
                false
            }
        }
    }

    fn put_by(&mut self, record: &Record, now: Now) {
        if self.park.is_empty() {
            self.park_due = now.up + PARK_EVERY;
        }
        if let Some(other) = self.park.put(record.clone())
            && let Some(evidence) = Evidence::of(&other, record)
        {
            self.judge(&Verdict::Forked(evidence), None);
        }
    }

    /// Appends a record to its log and applies it.
    fn take(&mut self, record: Record, now: Now) {
        let id = (record.scope(), record.author());
        self.seen = self.seen.max(record.at());
        self.state.apply(&record);
        self.sums.remove(&id.0);
        let number = record.number();
        self.logs.push(record);
        self.out.changed = true;
        if id.1 != self.me {
            if self.makes_safe(self.me, id.0, now) {
                self.out.safe.push((id.0, id.1, number));
            }
            self.news.insert(id);
            self.news_due.get_or_insert(now.up + NEWS_AFTER);
        }
    }

    fn judge(&mut self, verdict: &Verdict, from: Option<NodeId>) {
        if !self.state.judge(verdict.clone()) {
            return;
        }
        if let Verdict::Forked(evidence) = verdict {
            let number = evidence.number();
            tracing::warn!(author = %evidence.author(), number, "two records with one number");
            self.out.evidence.push(evidence.clone());
        }
        self.sums.clear();
        self.out.changed = true;
        let raw = Bytes::from(verdict.to_bytes());
        let message = Message::Verdicts(vec![raw.to_vec().into()]);
        self.out.keep.push(Item::Verdict {
            id: verdict.id(),
            raw,
        });
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for peer in peers.into_iter().filter(|p| Some(*p) != from) {
            self.send(peer, &message);
        }
    }

    /// Brings the state up to date, and takes from the park what fits since.
    fn settle(&mut self, now: Now) {
        loop {
            let judged = self.state.is_stale();
            self.state.settle(|| self.logs.all());
            if judged {
                // Somebody's standing may be another: what waited may fit, and what may be had by whom.
                self.sums.clear();
                for peer in self.peers.values_mut() {
                    peer.next_digest = peer.next_digest.min(now.up + NEWS_AFTER);
                }
            }
            let before = self.out.keep.len();
            if !self.park.is_empty() {
                self.retry_parked(now);
            }
            if self.out.keep.len() == before {
                return;
            }
        }
    }

    fn retry_parked(&mut self, now: Now) {
        self.park_due = now.up + PARK_EVERY;
        loop {
            let before = self.out.keep.len();
            for record in self.park.fronts() {
                let id = (record.scope(), record.author());
                if record.number() <= self.logs.len(id) + 1 {
                    self.park.remove(&record);
                    self.offer(record, now);
                }
            }
            if self.out.keep.len() == before {
                return;
            }
        }
    }

    fn send(&mut self, peer: NodeId, message: &Message) {
        if self.out.send.len() < MAX_OUT {
            let bytes = Bytes::from(message.to_bytes());
            self.out.send.push((peer, bytes));
        } else {
            metrics::counter!("shoal_replica_dropped").increment(1);
        }
    }
}
