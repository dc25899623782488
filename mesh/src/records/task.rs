//! The task that owns replica and store: it takes commands in bursts, keeps what came of a burst in one commit, and
//! only then answers and sends.
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use routing::model::{Clock, NodeId, UnixMillis, Uptime};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{Ack, Change, IdempotencyKey, Record, Scope, Upgrade, WriteError, Written};
use crate::{
    config::Config,
    replica::{Now, Output, Replica},
    store::{Item, Store, StoreError},
};

/// How long a write waits for a second disk.
const SAFE_WITHIN: Duration = Duration::from_millis(500);
/// The longest sleep: expiries are looked for this often.
const NAP: Duration = Duration::from_secs(5);
/// How long after a failed commit the next is tried.
const RETRY: Duration = Duration::from_secs(1);
/// The most commands in one burst.
const BURST: usize = 256;
/// How many idempotency keys are remembered; the oldest go first.
const REMEMBERED: usize = 4096;
/// How many local writes are watched for their upgrade, to answer repeats of them; the oldest go first.
const UPGRADABLE: usize = 4096;

/// A record, by scope, author and number.
type Which = (Scope, NodeId, u64);
type Answer = oneshot::Sender<Result<Written, WriteError>>;

/// What a handle asks of the task.
pub(super) enum Command {
    Write {
        scope: Scope,
        changes: Vec<Change>,
        idempotency: Option<IdempotencyKey>,
        answer: Answer,
    },
    Connected(NodeId),
    Gone(NodeId),
    Receive(NodeId, Bytes),
    Import(Vec<Bytes>, oneshot::Sender<Result<usize, WriteError>>),
    Export(oneshot::Sender<Vec<Bytes>>),
    HeadsOf(NodeId, oneshot::Sender<Vec<(Scope, u64)>>),
    AckOf(Which, oneshot::Sender<Option<Ack>>),
    Stop(oneshot::Sender<()>),
}

/// A write that is prepared, then waits for a second disk.
struct Pending {
    record: Record,
    idempotency: Option<IdempotencyKey>,
    deadline: Uptime,
    answers: Vec<(Answer, bool)>,
}

/// See the module.
pub(super) struct Task {
    me: NodeId,
    replica: Replica,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    outbox: mpsc::Sender<(NodeId, Bytes)>,
    config: watch::Sender<Arc<Config>>,
    reconciled: watch::Sender<bool>,
    upgrades: broadcast::Sender<Upgrade>,
    clock_off: Arc<AtomicU64>,
    /// Prepared in this burst.
    fresh: Vec<Pending>,
    /// On this disk, waiting for another.
    waiting: Vec<Pending>,
    imports: Vec<(usize, oneshot::Sender<Result<usize, WriteError>>)>,
    /// What a failed commit left: it is tried again, together with what came since.
    unkept: Vec<Item>,
    /// Others' records that are safe once everything is kept.
    arrived: Vec<Upgrade>,
    /// Answered after the burst, when it is known what of it was kept.
    asked: Vec<(Which, oneshot::Sender<Option<Ack>>)>,
    retry_at: Option<Uptime>,
    remembered: HashMap<IdempotencyKey, (Record, Ack)>,
    remembered_order: VecDeque<IdempotencyKey>,
    upgradable: VecDeque<(Record, Option<IdempotencyKey>)>,
    next_edge: Option<UnixMillis>,
}

type Outward = (
    mpsc::Sender<(NodeId, Bytes)>,
    watch::Sender<Arc<Config>>,
    watch::Sender<bool>,
    broadcast::Sender<Upgrade>,
);

impl Task {
    pub(super) fn new(
        (replica, store, clock): (Replica, Arc<dyn Store>, Arc<dyn Clock>),
        (outbox, config, reconciled, upgrades): Outward,
        clock_off: Arc<AtomicU64>,
    ) -> Self {
        let next_edge = config.borrow().next_edge();
        Self {
            me: replica.me(),
            next_edge,
            replica,
            store,
            clock,
            outbox,
            config,
            reconciled,
            upgrades,
            clock_off,
            fresh: Vec::new(),
            waiting: Vec::new(),
            imports: Vec::new(),
            unkept: Vec::new(),
            arrived: Vec::new(),
            asked: Vec::new(),
            retry_at: None,
            remembered: HashMap::new(),
            remembered_order: VecDeque::new(),
            upgradable: VecDeque::new(),
        }
    }

    fn now(&self) -> Now {
        Now {
            up: self.clock.uptime(),
            unix: self.clock.unix(),
        }
    }

    /// Runs until the last handle is gone or one says stop.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        loop {
            let wake = self.next_wake().since(self.clock.uptime());
            let mut stop = None;
            tokio::select! {
                command = inbox.recv() => match command {
                    None => return,
                    Some(command) => {
                        stop = self.on(command);
                        for _ in 1..BURST {
                            let Ok(command) = inbox.try_recv() else { break };
                            stop = self.on(command).or(stop);
                        }
                    }
                },
                () = tokio::time::sleep(wake) => {}
            }
            let now = self.now();
            self.replica.tick(now);
            self.flush().await;
            self.answer_late(now);
            self.answer_asked(now);
            if let Some(stopped) = stop {
                inbox.close();
                // The store is free for another when the answer comes.
                drop(self);
                // Whoever asked may have gone meanwhile.
                let _ = stopped.send(());
                return;
            }
        }
    }

    fn next_wake(&self) -> Uptime {
        let late = self.waiting.iter().map(|w| w.deadline).min();
        let nap = Some(self.clock.uptime() + NAP);
        let all = [late, nap, self.retry_at, self.replica.next_wake()];
        all.into_iter().flatten().min().unwrap_or_default()
    }

    fn on(&mut self, command: Command) -> Option<oneshot::Sender<()>> {
        let now = self.now();
        // An answer that nobody waits for any more is dropped.
        match command {
            Command::Write {
                scope,
                changes,
                idempotency,
                answer,
            } => self.on_write(scope, changes, idempotency, answer, now),
            Command::Connected(peer) => self.replica.connected(peer, now),
            Command::Gone(peer) => self.replica.gone(peer),
            Command::Receive(peer, message) => self.replica.receive(peer, &message, now),
            Command::Import(pieces, answer) => {
                let news = self.replica.import(pieces, now);
                self.imports.push((news, answer));
            }
            Command::Export(answer) => drop(answer.send(self.replica.export_mesh())),
            Command::HeadsOf(author, answer) => drop(answer.send(self.replica.heads_of(author))),
            Command::AckOf(which, answer) => self.asked.push((which, answer)),
            Command::Stop(answer) => return Some(answer),
        }
        None
    }

    fn on_write(
        &mut self,
        scope: Scope,
        changes: Vec<Change>,
        idempotency: Option<IdempotencyKey>,
        answer: Answer,
        now: Now,
    ) {
        if let Some(key) = &idempotency {
            let pending = self.fresh.iter_mut().chain(&mut self.waiting);
            let same = pending
                .into_iter()
                .find(|p| p.idempotency.as_ref() == Some(key));
            if let Some(same) = same {
                same.answers.push((answer, true));
                return;
            }
            if let Some((record, ack)) = self.remembered.get(key) {
                let _ = answer.send(Ok(Written {
                    ack: *ack,
                    at: record.at(),
                    number: record.number(),
                    repeats: Some(record.clone()),
                }));
                return;
            }
        }
        let off = Duration::from_millis(self.clock_off.load(Ordering::Relaxed));
        match self.replica.prepare(scope, changes, off, now) {
            Ok(record) => self.fresh.push(Pending {
                record,
                idempotency,
                deadline: now.up + SAFE_WITHIN,
                answers: vec![(answer, false)],
            }),
            Err(e) => drop(answer.send(Err(e))),
        }
    }

    /// Keeps what came of the burst, then lets it out.
    async fn flush(&mut self) {
        loop {
            let output = self.replica.take_output();
            self.unkept.extend(output.keep.iter().cloned());
            let now = self.now();
            let due = self.retry_at.is_none_or(|at| at <= now.up);
            if !self.fresh.is_empty() || due {
                self.settle(now).await;
            }
            self.let_out(output, now);
            if !self.replica.has_output() {
                return;
            }
        }
    }

    /// Keeps what is to be kept, and answers those whom that concerns.
    async fn settle(&mut self, now: Now) {
        let kept = match self.unkept.is_empty() && self.fresh.is_empty() {
            true => Ok(()),
            false => self.commit().await,
        };
        let fresh = std::mem::take(&mut self.fresh);
        let imports = std::mem::take(&mut self.imports);
        match kept {
            Ok(()) => {
                for (news, answer) in imports {
                    let _ = answer.send(Ok(news));
                }
                if !fresh.is_empty() {
                    self.replica.commit_prepared(now);
                }
                self.waiting.extend(fresh);
            }
            Err(e) => {
                tracing::error!("{e}");
                self.retry_at = Some(now.up + RETRY);
                self.replica.abandon_prepared();
                for (answer, _) in fresh.into_iter().flat_map(|p| p.answers) {
                    let _ = answer.send(Err(e.clone().into()));
                }
                for (_, answer) in imports {
                    let _ = answer.send(Err(e.clone().into()));
                }
            }
        }
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        let mut items = self.unkept.clone();
        items.extend(self.fresh.iter().map(|p| Item::record(&p.record)));
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || store.commit(&items)).await;
        let done = done.unwrap_or_else(|e| {
            Err(StoreError::Io {
                path: std::path::PathBuf::new(),
                what: e.to_string(),
            })
        });
        if done.is_ok() {
            self.unkept.clear();
            self.retry_at = None;
        }
        done
    }

    /// Publishes, sends and answers. While something could not be kept nothing is sent: a message may say that it is
    /// safe here. Peers find what they missed by the next sums.
    fn let_out(&mut self, output: Output, now: Now) {
        let edge = self.next_edge.is_some_and(|edge| edge < now.unix);
        if output.changed || edge {
            let config = self.replica.config(now.unix);
            self.next_edge = config.next_edge();
            self.config.send_replace(Arc::new(config));
        }
        if self.replica.reconciled() {
            self.reconciled
                .send_if_modified(|was| !std::mem::replace(was, true));
        }
        if self.unkept.is_empty() {
            for message in output.send {
                if self.outbox.try_send(message).is_err() {
                    metrics::counter!("shoal_replica_dropped").increment(1);
                }
            }
        }
        for (scope, author, number) in output.safe {
            let upgrade = Upgrade {
                scope,
                author,
                number,
            };
            if author == self.me {
                self.upgrade(upgrade);
            } else {
                self.arrived.push(upgrade);
            }
        }
        if self.unkept.is_empty() {
            for upgrade in self.arrived.drain(..) {
                // Nobody may be listening.
                let _ = self.upgrades.send(upgrade);
            }
        }
    }

    /// Own records are safe up to a number: answers who waits for that, and remembers it for repeats.
    fn upgrade(&mut self, upgrade: Upgrade) {
        let is = |r: &Record| r.scope() == upgrade.scope && r.number() <= upgrade.number;
        let waiting = self.waiting.extract_if(.., |w| is(&w.record));
        for pending in waiting.collect::<Vec<_>>() {
            self.answer(pending, Ack::Replicated);
        }
        let upgradable = std::mem::take(&mut self.upgradable);
        for (record, key) in upgradable {
            if !is(&record) {
                self.upgradable.push_back((record, key));
            } else if let Some((_, ack)) = key.and_then(|k| self.remembered.get_mut(&k)) {
                *ack = Ack::Replicated;
            }
        }
        // Nobody may be listening.
        let _ = self.upgrades.send(upgrade);
    }

    /// Answers those that waited long enough, or that wait for nobody.
    fn answer_late(&mut self, now: Now) {
        let late = |replica: &Replica, w: &mut Pending| {
            w.deadline <= now.up || !replica.could_be_safe(w.record.scope(), now)
        };
        let replica = &self.replica;
        let late: Vec<Pending> = self.waiting.extract_if(.., |w| late(replica, w)).collect();
        for pending in late {
            self.upgradable
                .push_back((pending.record.clone(), pending.idempotency.clone()));
            if self.upgradable.len() > UPGRADABLE {
                self.upgradable.pop_front();
            }
            self.answer(pending, Ack::Local);
        }
    }

    fn answer_asked(&mut self, now: Now) {
        for ((scope, author, number), answer) in std::mem::take(&mut self.asked) {
            let unkept = |u: &Upgrade| (u.scope, u.author) == (scope, author) && u.number <= number;
            let ack = match self.arrived.iter().any(unkept) {
                true => Some(Ack::Local),
                false => self.replica.ack_of(scope, author, number, now),
            };
            // Whoever asked may have gone meanwhile.
            let _ = answer.send(ack);
        }
    }

    fn answer(&mut self, pending: Pending, ack: Ack) {
        let Pending {
            record,
            idempotency,
            answers,
            ..
        } = pending;
        for (answer, repeat) in answers {
            // Whoever asked may have gone meanwhile.
            let _ = answer.send(Ok(Written {
                ack,
                at: record.at(),
                number: record.number(),
                repeats: repeat.then(|| record.clone()),
            }));
        }
        if let Some(key) = idempotency {
            self.remembered_order.push_back(key.clone());
            self.remembered.insert(key, (record, ack));
            if self.remembered_order.len() > REMEMBERED
                && let Some(oldest) = self.remembered_order.pop_front()
            {
                self.remembered.remove(&oldest);
            }
        }
    }
}
