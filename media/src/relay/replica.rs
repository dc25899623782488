//! A broadcast that somebody here, or a node behind this one, wants: one task drives the two machines ([`Follow`],
//! [`Holes`]) and does what they say.
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use routing::model::{BroadcastId, NodeId, Uptime};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    Relay, fetch,
    follow::{Ask, Follow, Input, Output},
    holes::{Holes, Plan},
    intake::{Intake, position},
    wire::{Announce, End, Reason},
};
use crate::{
    live::Broadcast,
    ports::{Claim, Holding, Refusal},
};

/// Frames wake the task at most this often once the broadcast plays.
const CALM: Duration = Duration::from_millis(50);
/// No wake-up is nearer than this.
const SOONEST: Duration = Duration::from_millis(2);
/// Events waiting for the task; senders wait when it is full, and with them their streams.
const EVENTS: usize = 64;

/// Whether leases can be given.
#[derive(Clone, Debug)]
pub(super) enum Ready {
    Waiting,
    Playing,
    Failed(Refusal),
}

/// The way from the origin to this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// The last one known; empty when there has been none for two seconds.
    pub(super) path: Vec<NodeId>,
    /// Whether frames come by it now.
    pub(super) standing: bool,
}

/// What all who want a broadcast share.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) broadcast: Arc<Broadcast>,
    pub(super) intake: Arc<Intake>,
    pub(super) ready: watch::Sender<Ready>,
    pub(super) way: watch::Sender<Way>,
    pub(super) children: Mutex<BTreeMap<NodeId, CancellationToken>>,
    holds: watch::Sender<usize>,
}

impl Replica {
    pub(super) fn new(broadcast: Arc<Broadcast>) -> Arc<Self> {
        Arc::new(Self {
            intake: Intake::new(Arc::clone(&broadcast)),
            broadcast,
            ready: watch::Sender::new(Ready::Waiting),
            way: watch::Sender::default(),
            children: Mutex::default(),
            holds: watch::Sender::new(0),
        })
    }

    /// One more who wants it. Call with the relay's table locked: that is where an unwanted replica leaves it.
    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        self.holds.send_modify(|n| *n += 1);
        Hold(Arc::clone(self))
    }

    pub(super) fn is_held(&self) -> bool {
        *self.holds.borrow() > 0
    }
}

/// Keeps a replica while it lives.
#[derive(Debug)]
pub(super) struct Hold(Arc<Replica>);

impl Hold {
    pub(super) const fn replica(&self) -> &Arc<Replica> {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.send_modify(|n| *n -= 1);
    }
}

/// What the tasks of subscriptions, fetches and probes tell the replica's own.
#[derive(Debug)]
pub(super) enum Event {
    Input(Input),
    Announce(Ask, Announce),
    End(Ask, End),
    Fetched(Plan),
}

/// Drives a replica until nobody wants it.
pub(super) struct Driver {
    pub(super) relay: Arc<Relay>,
    pub(super) replica: Arc<Replica>,
    id: BroadcastId,
    follow: Follow,
    holes: Holes,
    asks: HashMap<Ask, CancellationToken>,
    tell: mpsc::Sender<Event>,
    advertised: Option<Holding>,
    /// When to go, while nobody holds.
    leave_at: Option<Uptime>,
    local: bool,
}

impl Driver {
    pub(super) async fn run(relay: Arc<Relay>, replica: Arc<Replica>) {
        let (tell, mut events) = mpsc::channel(EVENTS);
        let now = relay.clock.uptime();
        let mut sources = relay.holders.changes();
        let mut changes = replica.broadcast.changes();
        let mut holds = replica.holds.subscribe();
        let stopping = relay.stopping.clone();
        let mut driver = Self {
            id: replica.broadcast.id(),
            follow: Follow::new(relay.links.me, now),
            holes: Holes::default(),
            asks: HashMap::new(),
            tell,
            advertised: None,
            leave_at: None,
            local: false,
            relay,
            replica,
        };
        driver.look_at_sources();
        loop {
            if !driver.relay.broadcasts.keep(&driver.replica.broadcast) {
                driver.relay.displace(driver.id, &driver.replica);
                break;
            }
            changes.borrow_and_update();
            let calm = driver.settle();
            let pause = driver.pause(calm);
            if !holds.borrow_and_update().eq(&0) {
                driver.leave_at = None;
            } else if driver.leave_at.is_none() {
                let linger = driver.linger();
                driver.leave_at = Some(driver.now() + linger);
            } else if driver.leave_at.is_some_and(|at| driver.now() >= at)
                && driver.relay.release(driver.id)
            {
                break;
            }
            tokio::select! {
                Some(event) = events.recv() => driver.on_event(event),
                changed = sources.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    driver.look_at_sources();
                }
                _ = changes.changed(), if !calm => {}
                _ = holds.changed() => {}
                () = sleep(pause) => {}
                () = stopping.cancelled() => break,
            }
        }
        driver.close();
    }

    fn now(&self) -> Uptime {
        self.relay.clock.uptime()
    }

    /// A replica that never played goes with the last who waited for it.
    fn linger(&self) -> Duration {
        match *self.replica.ready.borrow() {
            Ready::Playing => self.relay.limits.linger,
            Ready::Waiting | Ready::Failed(_) => Duration::ZERO,
        }
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.follow.handle(now, input);
    }

    fn look_at_sources(&mut self) {
        let sources = self.relay.holders.sources(self.id);
        let known = sources.iter().map(|source| (source.node, source.origin));
        self.input(Input::Sources(known.collect()));
    }

    /// Looks at what is here and does what the machines say. Returns whether frames need not wake the task for a while.
    fn settle(&mut self) -> bool {
        let now = self.now();
        let current = self.replica.broadcast.current();
        let me = self.relay.links.me;
        let local = current
            .as_ref()
            .is_some_and(|line| line.epoch().origin == me && !line.ended());
        if local != self.local {
            self.local = local;
            self.advertised = None;
            if let Some(line) = current.as_ref().filter(|_| local) {
                self.replica.intake.supersede(line.epoch().id);
            }
            self.input(Input::Local(local));
        }
        if let Some(line) = &current {
            let epoch = line.epoch();
            let claim = Claim {
                stamp: epoch.claim,
                node: epoch.origin,
            };
            self.input(Input::Current(claim, line.ended()));
        }
        if let Some(at) = self.replica.intake.heard() {
            self.input(Input::Heard(at));
        }
        self.follow.tick(now);
        while let Some(output) = self.follow.poll() {
            self.obey(output);
        }
        self.fill(now);
        let playing = self.check_ready();
        self.tell_way();
        self.advertise();
        playing && !local
    }

    fn fill(&mut self, now: Uptime) {
        let intake = Arc::clone(&self.replica.intake);
        let missing = intake.missing();
        let holders = self.follow.holders();
        let (plans, lost) = self.holes.update(now, &missing, &holders);
        for key in lost {
            tracing::debug!(broadcast = %self.id, group = ?key, "nobody has this group");
            intake.abandon(key);
        }
        for plan in plans {
            let addresses = self.addresses(plan.node);
            let (relay, tell) = (Arc::clone(&self.relay), self.tell.clone());
            let (intake, id) = (Arc::clone(&intake), self.id);
            self.relay.tasks.spawn(async move {
                fetch::fetch(&relay, id, &plan, &addresses, &intake).await;
                drop(tell.send(Event::Fetched(plan)).await);
            });
        }
        intake.settle(|key| self.holes.is_lost(key));
        if !self.replica.broadcast.backfilled() && self.holes.backfilled() && !intake.is_filling() {
            self.replica.broadcast.set_backfilled(true);
        }
    }

    fn check_ready(&self) -> bool {
        let broadcast = &self.replica.broadcast;
        let playable = broadcast.current().is_some_and(|line| {
            let first = line.epoch().tracks.first();
            first.is_some_and(|track| line.latest_independent(track.id).is_some())
        });
        if playable {
            self.replica.ready.send_if_modified(|ready| {
                let news = !matches!(ready, Ready::Playing);
                *ready = Ready::Playing;
                news
            });
        }
        playable
    }

    fn tell_way(&self) {
        let path = self.follow.path();
        self.replica.way.send_if_modified(|way| {
            let standing = path.is_some();
            let news = way.standing != standing || path.as_ref().is_some_and(|p| *p != way.path);
            way.standing = standing;
            if let Some(path) = path {
                way.path = path;
            }
            news
        });
    }

    /// Tells all what this node has, where that is news and another's: what is published here ingest tells.
    fn advertise(&mut self) {
        let playing = matches!(*self.replica.ready.borrow(), Ready::Playing);
        let Some(source) = self.follow.source().filter(|_| playing && !self.local) else {
            return;
        };
        let Some(line) = self.replica.broadcast.current() else {
            return;
        };
        let holding = Holding {
            broadcast: self.id,
            epoch: line.epoch().id,
            claim: Claim {
                stamp: line.epoch().claim,
                node: line.epoch().origin,
            },
            replica_of: Some(source),
            over: false,
        };
        if self.advertised.as_ref() != Some(&holding) {
            self.relay.holders.advertise(holding.clone());
            self.advertised = Some(holding);
        }
    }

    fn withdraw(&mut self) {
        if self.advertised.take().is_some() {
            self.relay.holders.withdraw(self.id);
        }
    }

    fn addresses(&self, node: NodeId) -> Vec<std::net::SocketAddr> {
        let sources = self.relay.holders.sources(self.id);
        let source = sources.into_iter().find(|source| source.node == node);
        source.map(|source| source.addresses).unwrap_or_default()
    }

    fn obey(&mut self, output: Output) {
        let me = self.relay.links.me.short();
        match output {
            Output::Subscribe(ask, node) => {
                tracing::debug!(node = %me, broadcast = %self.id, source = %node.short(), "subscribing");
                let token = self.relay.stopping.child_token();
                self.asks.insert(ask, token.clone());
                let subscription = fetch::Subscription {
                    relay: Arc::clone(&self.relay),
                    intake: Arc::clone(&self.replica.intake),
                    broadcast: self.id,
                    addresses: self.addresses(node),
                    ask,
                    node,
                    tell: self.tell.clone(),
                };
                self.relay.tasks.spawn(subscription.run(token));
            }
            Output::Leave(ask) => {
                if let Some(token) = self.asks.remove(&ask) {
                    token.cancel();
                }
            }
            Output::Probe(node) => {
                let addresses = self.addresses(node);
                let (relay, tell, id) = (Arc::clone(&self.relay), self.tell.clone(), self.id);
                let broadcast = Arc::clone(&self.replica.broadcast);
                self.relay.tasks.spawn(async move {
                    let answer = fetch::probe(&relay, id, node, &addresses).await;
                    let Some(theirs) = answer else { return };
                    let ours = position(&broadcast, Vec::new());
                    let ahead = ours.is_some_and(|ours| theirs.is_ahead_of(&ours));
                    let input = Input::Probed {
                        node,
                        position: theirs,
                        ahead,
                    };
                    drop(tell.send(Event::Input(input)).await);
                });
            }
            Output::Follows(_, node, path) => {
                tracing::info!(node = %me, broadcast = %self.id, source = %node.short(), hops = path.len(), "following");
            }
            Output::Orphaned => {
                tracing::info!(node = %me, broadcast = %self.id, "no source");
                self.replica.way.send_modify(|way| way.path.clear());
                if let Some(holding) = self.advertised.as_mut().filter(|h| !h.over) {
                    holding.over = true;
                    self.relay.holders.advertise(holding.clone());
                }
            }
            Output::Nobody(reason) => {
                if reason == Reason::NotEntitled {
                    let text = "the nodes that hold this stream do not give it to this one: its cluster has no \
                                entitlement for the stream's tenant";
                    let refusal = Refusal::Forbidden(text.into());
                    self.replica.ready.send_if_modified(|ready| {
                        let waiting = matches!(ready, Ready::Waiting);
                        if waiting {
                            *ready = Ready::Failed(refusal);
                        }
                        waiting
                    });
                }
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Input(input) => {
                if let Input::Lost(ask) | Input::Refused(ask, ..) = &input
                    && let Some(token) = self.asks.remove(ask)
                {
                    token.cancel();
                }
                self.input(input);
            }
            Event::Announce(ask, announce) => self.on_announce(ask, &announce),
            Event::End(ask, end) => {
                if self.asks.contains_key(&ask) {
                    self.replica.intake.end(&end);
                }
            }
            Event::Fetched(plan) => {
                let now = self.now();
                self.holes.done(now, &plan);
            }
        }
    }

    fn on_announce(&mut self, ask: Ask, announce: &Announce) {
        while let Some(output) = self.follow.poll() {
            self.obey(output);
        }
        if !self.asks.contains_key(&ask) {
            return;
        }
        let news = !self.replica.intake.knows(announce.epoch.id);
        if news && announce.spans.iter().any(|span| span.back < span.live) {
            self.replica.broadcast.set_backfilled(false);
        }
        self.replica.intake.announce(announce);
        if announce.current {
            self.replica.intake.supersede(announce.epoch.id);
        }
    }

    /// How long nothing has to be done.
    fn pause(&self, calm: bool) -> Duration {
        let holes = if self.follow.holders().is_empty() {
            None
        } else {
            self.holes.wake()
        };
        let now = self.now();
        let next = [self.follow.wake(), holes, self.leave_at];
        let next = next.into_iter().flatten().map(|at| at.since(now)).min();
        let most = if calm { CALM } else { Duration::from_secs(1) };
        next.unwrap_or(most).clamp(SOONEST, most)
    }

    fn close(mut self) {
        for token in self.asks.values() {
            token.cancel();
        }
        self.withdraw();
        self.replica.way.send_replace(Way::default());
    }
}
