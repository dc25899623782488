//! The task that drives membership: it owns the core, and everything else tells it what happened.
mod chores;
mod serve;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use routing::model::{Clock, NodeId, Uptime};
use tokio::sync::{mpsc, oneshot, watch};

use self::serve::Serve;
use super::{
    dial::Dials,
    grants::Known,
    line::Line,
    own::Own,
    peers::{Peer, Peers, tag},
    show,
    wanted::Wanted,
};
use crate::{
    carry::Handlers,
    facts,
    gate::{Admitted, Shown},
    identity::DataDir,
    join::Issuer,
    link::{ConnectionId, LinkEvent, Links},
    member::{BEAT, Core, Event, Output},
    probe::{Probe, Probes, Target},
    records::Records,
    view::{NodeState, Service, View},
};

/// How often dials, tries and pings are looked at: with each beat, whose wake-up they share.
const CHORES: Duration = BEAT;
/// The shortest time between two statements of load and place.
const STATE: Duration = Duration::from_secs(1);
/// How long to wait for a peer before the view counts as settled without one.
const ALONE: Duration = Duration::from_secs(15);
/// How long somebody who told a forged value is kept out.
const BAN: Duration = Duration::from_secs(60);

/// A link that has been admitted and wants to be used.
pub(crate) struct Offer {
    pub(crate) node: NodeId,
    pub(crate) admitted: Admitted,
    pub(crate) link: Peer,
    /// Answered once the records know of the peer; dropped when the link is not wanted.
    pub(crate) taken: oneshot::Sender<()>,
}

/// What other tasks tell the driver.
pub(crate) enum Input {
    Offer(Box<Offer>),
    Ended {
        connection: ConnectionId,
        peer: NodeId,
        why: Option<String>,
    },
    Said {
        peer: NodeId,
        body: Bytes,
    },
    Pong {
        peer: NodeId,
        sent: u64,
        theirs: u64,
    },
    Tried {
        target: Target,
        reached: bool,
    },
    Renewed,
    Stop(oneshot::Sender<()>),
}

/// What the driver works with.
pub(crate) struct Parts {
    pub(crate) id: NodeId,
    pub(crate) dir: DataDir,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) records: Records,
    pub(crate) links: Links,
    pub(crate) peers: Peers,
    pub(crate) handlers: Handlers,
    pub(crate) issuer: Issuer,
    pub(crate) own: Own,
    pub(crate) shown: Shown,
    pub(crate) known: Arc<Mutex<Known>>,
    pub(crate) seeds: Vec<SocketAddr>,
    pub(crate) announce: Vec<SocketAddr>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) input: mpsc::Sender<Input>,
    pub(crate) wanted: Arc<Wanted>,
}

pub(crate) struct Driver {
    parts: Parts,
    core: Core,
    line: Line,
    dials: Dials,
    probes: Probes,
    prober: Option<Arc<dyn Probe>>,
    /// Connections that are up, by whom and where.
    up: BTreeMap<ConnectionId, (NodeId, SocketAddr)>,
    /// Control addresses that were dialled and answered with the node's key.
    dialed: BTreeSet<(NodeId, SocketAddr)>,
    /// Dials for the sake of trying an address.
    trying: BTreeMap<(NodeId, SocketAddr), Uptime>,
    banned: BTreeMap<NodeId, Uptime>,
    offsets: BTreeMap<NodeId, i64>,
    state: NodeState,
    said: Option<(NodeState, Uptime)>,
    next_chores: Uptime,
    next_ping: Uptime,
    next_renewal: Uptime,
    known_dirty: bool,
    known_saved: Uptime,
    /// When the last link went, or the start: while there is none.
    lonely: Uptime,
    clock_warned: bool,
}

impl Driver {
    pub(crate) fn new(parts: Parts, core: Core, line: Line) -> Self {
        let now = parts.clock.uptime();
        Self {
            parts,
            core,
            line,
            dials: Dials::default(),
            probes: Probes::default(),
            prober: None,
            up: BTreeMap::new(),
            dialed: BTreeSet::new(),
            trying: BTreeMap::new(),
            banned: BTreeMap::new(),
            offsets: BTreeMap::new(),
            state: NodeState::default(),
            said: None,
            next_chores: now,
            next_ping: now,
            next_renewal: now,
            known_dirty: false,
            known_saved: now,
            lonely: now,
            clock_warned: false,
        }
    }

    pub(crate) async fn run(
        mut self,
        mut events: mpsc::Receiver<LinkEvent>,
        mut input: mpsc::Receiver<Input>,
    ) {
        let wanted = self.parts.wanted.clone();
        let mut config = self.parts.records.watch();
        let mut reconciled = self.parts.records.reconciled();
        let control: Vec<_> = self
            .parts
            .announce
            .iter()
            .map(|a| (Service::Control, *a))
            .collect();
        let key = facts::CONTROL.to_owned();
        self.set(vec![(key, Some(facts::encode_addrs(&control)))]);
        self.say_issues();
        self.new_roster();
        self.settle().await;
        loop {
            let now = self.now();
            let wake = self.core.next_wake().min(self.next_chores).since(now);
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.on_link(event),
                    None => break,
                },
                said = input.recv() => match said {
                    Some(Input::Stop(done)) => {
                        self.stop().await;
                        let _ = done.send(());
                        return;
                    }
                    Some(said) => self.on_input(said).await,
                    None => break,
                },
                Ok(()) = config.changed() => self.new_roster(),
                Ok(()) = reconciled.changed() => self.show(None),
                () = wanted.wait() => self.on_words(),
                () = tokio::time::sleep(wake) => {}
            }
            let now = self.now();
            let beat = now >= self.core.next_wake();
            // Before the beat: what they publish takes its place.
            if beat || now >= self.next_chores {
                self.chores().await;
            }
            if beat {
                self.core.tick(now);
            }
            self.settle().await;
        }
    }

    fn now(&self) -> Uptime {
        self.parts.clock.uptime()
    }

    /// Carries out what the core wants, and shows what is new.
    async fn settle(&mut self) {
        let mut changed = BTreeSet::new();
        while let Some(out) = self.core.poll() {
            match out {
                Output::Send { to, bytes } => self.parts.peers.send(to, tag::MEMBER, &bytes),
                Output::Event(Event::Changed(node)) => {
                    changed.insert(node);
                }
                Output::Event(Event::Forged { by }) => {
                    tracing::warn!(peer = %by.short(), "a member passed on what its alleged author did not sign; it is kept out for a minute");
                    self.banned.insert(by, self.now() + BAN);
                    if let Some(connection) = self.parts.peers.connection(by) {
                        self.parts.links.close(connection).await;
                    }
                }
                Output::Event(Event::Reborn { incarnation, twin }) => {
                    if twin {
                        tracing::error!(
                            "another process signs with this node's key: stop one of them, and give it a data directory of its own"
                        );
                    }
                    self.parts.own.set_incarnation(incarnation);
                }
            }
        }
        if !changed.is_empty() {
            self.learn(&changed);
            self.show(Some(&changed));
        }
    }

    fn set(&mut self, changes: Vec<(String, Option<Bytes>)>) {
        let now = self.now();
        if let Err(error) = self.core.set(changes, now) {
            tracing::warn!(%error, "not published");
        }
    }

    /// Notes the control addresses that members name.
    fn learn(&mut self, changed: &BTreeSet<NodeId>) {
        let mut known = self
            .parts
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for node in changed.iter().filter(|n| **n != self.parts.id) {
            let control = self
                .core
                .values(node)
                .find(|(key, _)| *key == facts::CONTROL);
            let Some((_, bytes)) = control else { continue };
            let addrs: Vec<_> = facts::decode_addrs(bytes)
                .into_iter()
                .map(|(_, addr)| addr)
                .take(8)
                .collect();
            if !addrs.is_empty() && known.get(node) != Some(&addrs) {
                known.insert(*node, addrs);
                self.known_dirty = true;
            }
        }
    }

    fn new_roster(&mut self) {
        let config = self.parts.records.config();
        let mut roster: BTreeSet<_> = config
            .nodes()
            .map(|n| n.id)
            .filter(|id| config.standing(*id).is_some())
            .collect();
        {
            let mut shown = self
                .parts
                .shown
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let now = self.parts.clock.unix();
            shown.retain(|id, admitted| {
                let recorded = config.standing(*id).is_some() || config.is_revoked(*id);
                !recorded && now <= admitted.until
            });
            roster.extend(shown.keys());
        }
        let links = self.parts.links.clone();
        for (id, peer) in self.parts.peers.lock().iter() {
            if !roster.contains(id) {
                tracing::info!(peer = %id.short(), "the peer's grant ended or was revoked");
                let (links, connection) = (links.clone(), peer.connection);
                tokio::spawn(async move { links.close(connection).await });
            }
        }
        self.core.set_roster(roster);
        self.parts.own.refresh(&self.parts.records, &self.parts.dir);
        self.show(None);
    }

    /// Makes the view anew: of `only` these, or of all.
    fn show(&mut self, only: Option<&BTreeSet<NodeId>>) {
        let now = self.now();
        let config = self.parts.records.config();
        let alone = config.nodes().all(|n| n.id == self.parts.id);
        let nobody = self.parts.peers.lock().is_empty();
        let waited = nobody && now.since(self.lonely) >= ALONE;
        let old = self.parts.view.borrow().clone();
        // For good: whom this node let in since has learnt all from it.
        let settled = old.settled || *self.parts.records.reconciled().borrow() || alone || waited;
        let view = show::view(&self.core, &config, &self.parts.shown, &old, only, settled);
        if view.members != old.members || view.settled != old.settled {
            self.parts.view.send_replace(Arc::new(view));
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up {
                connection,
                peer,
                addr,
                dialed,
            } => {
                self.up.insert(connection, (peer, addr));
                if dialed {
                    self.dialed.insert((peer, addr));
                    let (links, line) = (self.parts.links.clone(), self.line.clone());
                    let linked = self.parts.peers.connection(peer).is_some();
                    let banned = self.banned.contains_key(&peer);
                    if linked || banned || peer == self.parts.id {
                        tokio::spawn(async move { links.close(connection).await });
                    } else if self.parts.own.is_expired(self.parts.clock.unix()) {
                        self.renew_at(connection);
                    } else {
                        tokio::spawn(async move {
                            match links.open(connection).await {
                                Ok(stream) => line.dialed(stream, connection, peer).await,
                                Err(_) => links.close(connection).await,
                            }
                        });
                    }
                }
            }
            LinkEvent::Down {
                connection,
                peer,
                why,
            } => {
                self.up.remove(&connection);
                tracing::debug!(peer = %peer.short(), why, "connection ended");
                self.lost(connection, peer);
            }
            LinkEvent::Failed { peer, why } => {
                let peer = peer.map(|p| p.short());
                tracing::debug!(peer, why, "dial failed");
            }
            LinkEvent::Stream { connection, stream } => {
                let Some((peer, _)) = self.up.get(&connection).copied() else {
                    return;
                };
                if self.banned.contains_key(&peer) {
                    return;
                }
                let serve = Serve {
                    line: self.line.clone(),
                    handlers: self.parts.handlers.clone(),
                    issuer: self.parts.issuer.clone(),
                    admitted: self.parts.peers.connection(peer).is_some(),
                };
                tokio::spawn(serve.stream(stream, connection, peer));
            }
        }
    }

    fn lost(&mut self, connection: ConnectionId, peer: NodeId) {
        if self.parts.peers.connection(peer) != Some(connection) {
            return;
        }
        self.parts.peers.lock().remove(&peer);
        self.offsets.remove(&peer);
        let now = self.now();
        self.lonely = now;
        self.core.unlinked(peer, now);
        let records = self.parts.records.clone();
        let peers = self.parts.peers.clone();
        tokio::spawn(async move {
            // It may be back already; then the records have heard of it anew.
            if peers.connection(peer).is_none() {
                records.peer_gone(peer).await;
            }
        });
    }

    async fn on_input(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Offer(offer) => self.on_offer(*offer).await,
            Input::Ended {
                connection,
                peer,
                why,
            } => {
                if let Some(why) = why {
                    tracing::debug!(peer = %peer.short(), why, "control link ended");
                }
                self.lost(connection, peer);
                self.parts.links.close(connection).await;
            }
            Input::Said { peer, body } => self.core.received(peer, &body, now),
            Input::Pong { peer, sent, theirs } => self.on_pong(peer, sent, theirs),
            Input::Tried { target, reached } => self.on_tried(&target, reached),
            Input::Renewed => {
                self.parts.own.refresh(&self.parts.records, &self.parts.dir);
            }
            Input::Stop(_) => {}
        }
    }

    fn on_words(&mut self) {
        let words = self.parts.wanted.take();
        if let Some(prober) = words.prober {
            self.prober = Some(prober);
        }
        if let Some(state) = words.state {
            self.state = state;
            let now = self.now();
            self.say_state(now);
        }
        // One by one: a value that is refused takes no other with it.
        for change in words.changes {
            self.set(vec![change]);
        }
    }

    async fn on_offer(&mut self, offer: Offer) {
        let Offer {
            node,
            admitted,
            link,
            taken,
        } = offer;
        let old = self.parts.peers.lock().get(&node).cloned();
        if let Some(old) = old {
            let newer = link.incarnation > old.incarnation;
            let same = link.incarnation == old.incarnation && (link.preferred || !old.preferred);
            if !newer && !same {
                self.parts.links.close(link.connection).await;
                return;
            }
            self.lost(old.connection, node);
            self.parts.links.close(old.connection).await;
        }
        if self.parts.records.config().standing(node).is_none() {
            let mut shown = self
                .parts
                .shown
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            shown.insert(node, admitted);
        }
        tracing::debug!(peer = %node.short(), "control link is up");
        self.parts.peers.lock().insert(node, link);
        self.new_roster();
        self.parts.records.peer_connected(node).await;
        let _ = taken.send(());
        let now = self.now();
        self.core.linked(node, now);
        self.next_ping = now;
    }

    fn on_pong(&mut self, peer: NodeId, sent: u64, theirs: u64) {
        let now = self.parts.clock.unix().0;
        if self.parts.peers.connection(peer).is_none() || sent > now || now - sent > 5_000 {
            return;
        }
        let offset = i64::try_from(i128::from(theirs) - i128::from(sent.midpoint(now)));
        self.offsets.insert(peer, offset.unwrap_or(i64::MAX));
        let median = chores::median(self.offsets.values().copied().collect());
        let off = Duration::from_millis(median.unsigned_abs());
        self.parts.records.set_clock_offset(off);
        let far = off > crate::join::CLOCK;
        if far && !self.clock_warned {
            tracing::error!(
                seconds = off.as_secs(),
                ahead = median < 0,
                "this node's clock is far off its peers' median: set it (NTP); until then it writes nothing"
            );
        }
        self.clock_warned = far;
    }

    fn say_state(&mut self, now: Uptime) {
        let due = match &self.said {
            None => true,
            Some((said, at)) => now.since(*at) >= STATE && facts::differs(said, &self.state),
        };
        if due {
            let value = facts::encode(&facts::State::new(&self.state));
            self.set(vec![(facts::STATE.to_owned(), Some(value))]);
            self.said = Some((self.state.clone(), now));
        }
    }

    async fn stop(&mut self) {
        self.core.leave();
        self.settle().await;
        // A moment for the goodbye to be written; links that stand still are not waited for.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let all: Vec<_> = self
            .parts
            .peers
            .lock()
            .values()
            .map(|p| p.connection)
            .collect();
        for connection in all {
            self.parts.links.close(connection).await;
        }
    }
}
