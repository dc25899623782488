//! Which source a replica follows: a state machine without sockets or clock. Events and the time go in
//! ([`Follow::handle`]), what to do comes out ([`Follow::poll`]), and [`Follow::wake`] says when to call again.
//!
//! - With no source it asks the candidates in turn: first whom a full node named, then `Holders`' order. Whoever
//!   refused or was lost waits before it is asked again, 100 ms doubling to 1.6 s.
//! - After 300 ms without frames it asks others how far they are; at 600 ms it moves to one that is ahead. The old
//!   subscription goes only when the new one stands. A group under way begins anew at each move, so on ways that are
//!   all bad moving soon again would make it worse: each move doubles the patience with the next source, up to 4.8 s,
//!   until ten seconds went by without one.
//! - A source whose path includes this node is left: that would be a loop.
//! - Other origins than the one followed are asked for their claims whenever `Holders` has news: the lowest living
//!   claim wins; an epoch that ended or lost its origin loses to any that runs.
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use routing::model::{NodeId, Uptime};

use super::wire::{Position, Reason};
use crate::ports::Claim;

/// Silence after which others are asked whether they have more.
const PROBE_AFTER: Duration = Duration::from_millis(300);
/// Silence after which another that has more takes over.
const STALL: Duration = Duration::from_millis(600);
/// The longest such silence, after several moves.
const STALL_MAX: Duration = Duration::from_millis(4_800);
/// So long without a move for silence, and sources are good again.
const STEADY: Duration = Duration::from_secs(10);
/// A node that does not answer a subscription for this long is passed over: a handshake over 300 ms and some loss.
const ASK_TIMEOUT: Duration = Duration::from_millis(1_200);
/// Between two rounds of probes. Also how long an answer counts.
const PROBE_EVERY: Duration = Duration::from_millis(400);
/// The first wait before a node that refused is asked again.
const RETRY: Duration = Duration::from_millis(100);
/// Without a source for this long, this node is none either.
const ORPHAN: Duration = Duration::from_secs(2);
/// Nodes probed in one round.
const PROBES: usize = 3;

/// Names one attempt to subscribe, of this replica only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ask(pub(super) u64);

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// Who advertises the broadcast, best first, and whether as its origin.
    Sources(Vec<(NodeId, bool)>),
    /// Whether a publisher at this node feeds the broadcast: then nobody is followed.
    Local(bool),
    /// A subscription stands.
    Accepted(Ask, Vec<NodeId>),
    /// A subscription was refused, or ended by the other side.
    Refused(Ask, Reason, Vec<NodeId>),
    /// A subscription's connection or stream is gone, or never came.
    Lost(Ask),
    /// The source has another way to the origin; it is an orphan when that is empty.
    Path(Ask, Vec<NodeId>),
    /// The current epoch here, by its claim, and whether it has its end mark.
    Current(Claim, bool),
    /// The last new frame came then.
    Heard(Uptime),
    /// A probe was answered; `ahead` where it has frames that this node has not.
    Probed {
        node: NodeId,
        position: Position,
        ahead: bool,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Subscribe to this node.
    Subscribe(Ask, NodeId),
    /// Leave a subscription, standing or asked for.
    Leave(Ask),
    /// Ask this node how far it is.
    Probe(NodeId),
    /// This is the source and the way to it now: tell who follows this node.
    Follows(Ask, NodeId, Vec<NodeId>),
    /// There has been no source for two seconds.
    Orphaned,
    /// Everybody who could be asked refused, lastly for this reason.
    Nobody(Reason),
}

#[derive(Debug)]
struct Standing {
    ask: Ask,
    node: NodeId,
    path: Vec<NodeId>,
    heard: Uptime,
    /// A node that has more, and since when we know.
    better: Option<(NodeId, Uptime)>,
    probe_at: Uptime,
}

#[derive(Debug)]
struct Pending {
    ask: Ask,
    node: NodeId,
    since: Uptime,
}

#[derive(Clone, Copy, Debug)]
struct Bad {
    until: Uptime,
    tries: u32,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Follow {
    me: NodeId,
    local: bool,
    sources: Vec<(NodeId, bool)>,
    hints: Vec<NodeId>,
    bad: BTreeMap<NodeId, Bad>,
    current: Option<Standing>,
    pending: Option<Pending>,
    /// The current epoch's claim and whether it ended.
    epoch: Option<(Claim, bool)>,
    orphan_at: Option<Uptime>,
    /// The silence that is borne now, and when one last was not.
    stall: Duration,
    stalled: Option<Uptime>,
    asks: u64,
    out: VecDeque<Output>,
}

impl Follow {
    pub(super) fn new(me: NodeId, now: Uptime) -> Self {
        Self {
            me,
            local: false,
            sources: Vec::new(),
            hints: Vec::new(),
            bad: BTreeMap::new(),
            current: None,
            pending: None,
            epoch: None,
            orphan_at: Some(now + ORPHAN),
            stall: STALL,
            stalled: None,
            asks: 0,
            out: VecDeque::new(),
        }
    }

    /// The way from the origin to this node, itself included; `None` while there is none.
    pub(super) fn path(&self) -> Option<Vec<NodeId>> {
        if self.local {
            return Some(vec![self.me]);
        }
        let current = self.current.as_ref()?;
        (!current.path.is_empty()).then(|| [&current.path[..], &[self.me]].concat())
    }

    /// Whom it follows.
    pub(super) fn source(&self) -> Option<NodeId> {
        self.current.as_ref().map(|c| c.node)
    }

    /// Everybody who can be asked for a missing group, the source first.
    pub(super) fn holders(&self) -> Vec<NodeId> {
        let others = self.sources.iter().map(|(node, _)| *node);
        let source = self.source();
        source
            .into_iter()
            .chain(others.filter(|node| Some(*node) != source && *node != self.me))
            .collect()
    }

    /// What to do next.
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Something happened.
    pub(super) fn handle(&mut self, now: Uptime, input: Input) {
        match input {
            Input::Sources(sources) => self.on_sources(now, sources),
            Input::Local(local) => self.on_local(now, local),
            Input::Accepted(ask, path) => self.on_accepted(now, ask, path),
            Input::Refused(ask, reason, instead) => self.on_refused(now, ask, reason, instead),
            Input::Lost(ask) => self.on_refused(now, ask, Reason::Unknown, Vec::new()),
            Input::Path(ask, path) => self.on_path(now, ask, path),
            Input::Current(claim, ended) => self.on_current(claim, ended),
            Input::Heard(at) => {
                if let Some(current) = &mut self.current
                    && at > current.heard
                {
                    current.heard = at;
                    current.better = None;
                    current.probe_at = at + PROBE_AFTER;
                }
            }
            Input::Probed {
                node,
                position,
                ahead,
            } => self.on_probed(now, node, &position, ahead),
        }
        self.tick(now);
    }

    /// Time passed: call at [`Follow::wake`].
    pub(super) fn tick(&mut self, now: Uptime) {
        if self.local {
            return;
        }
        if let Some(pending) = &self.pending
            && now >= pending.since + ASK_TIMEOUT
        {
            let ask = pending.ask;
            self.out.push_back(Output::Leave(ask));
            self.on_refused(now, ask, Reason::Unknown, Vec::new());
        }
        self.check_stall(now);
        if self.current.is_none() && self.pending.is_none() {
            self.ask_next(now);
        }
        if self.orphan_at.is_some_and(|at| now >= at) {
            self.orphan_at = None;
            self.out.push_back(Output::Orphaned);
        }
    }

    /// When to call [`Follow::tick`] though nothing happened.
    pub(super) fn wake(&self) -> Option<Uptime> {
        if self.local {
            return None;
        }
        let pending = self.pending.as_ref().map(|p| p.since + ASK_TIMEOUT);
        let stall = self.current.as_ref().map(|c| match c.better {
            Some(_) if self.pending.is_none() => (c.heard + self.stall).min(c.probe_at),
            _ => c.probe_at,
        });
        let retry = (self.current.is_none() && self.pending.is_none())
            .then(|| {
                let known = self.candidates().filter_map(|node| self.bad.get(&node));
                known.map(|bad| bad.until).min()
            })
            .flatten();
        [pending, stall, retry, self.orphan_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn on_sources(&mut self, now: Uptime, sources: Vec<(NodeId, bool)>) {
        for (node, _) in &sources {
            if !self.sources.iter().any(|(known, _)| known == node) {
                // It says anew that it has it: what it said before does not count.
                self.bad.remove(node);
            }
        }
        self.bad
            .retain(|node, _| sources.iter().any(|(known, _)| known == node));
        self.sources = sources;
        self.probe_origins(now);
    }

    /// Asks origins other than the one followed for their claims.
    fn probe_origins(&mut self, now: Uptime) {
        let Some(current) = &mut self.current else {
            return;
        };
        let mine = current.path.first().copied();
        let others = self.sources.iter().filter(|(node, origin)| {
            *origin && Some(*node) != mine && *node != self.me && *node != current.node
        });
        let before = self.out.len();
        self.out
            .extend(others.take(PROBES).map(|(node, _)| Output::Probe(*node)));
        if self.out.len() > before {
            current.probe_at = current.probe_at.max(now + PROBE_EVERY);
        }
    }

    fn on_local(&mut self, now: Uptime, local: bool) {
        if local && !self.local {
            let asks = self.pending.take().map(|p| p.ask);
            let asks = asks.into_iter().chain(self.current.take().map(|c| c.ask));
            self.out.extend(asks.map(Output::Leave));
            self.orphan_at = None;
        } else if !local && self.local {
            self.orphan_at = Some(now + ORPHAN);
        }
        self.local = local;
    }

    fn on_accepted(&mut self, now: Uptime, ask: Ask, path: Vec<NodeId>) {
        let Some(pending) = self.pending.take_if(|p| p.ask == ask) else {
            self.out.push_back(Output::Leave(ask));
            return;
        };
        let node = pending.node;
        if path.contains(&self.me) || path.is_empty() || path.len() >= super::wire::MAX_HOPS {
            self.out.push_back(Output::Leave(ask));
            self.blame(now, node, Reason::Loop);
            return;
        }
        if let Some(old) = self.current.take() {
            self.out.push_back(Output::Leave(old.ask));
        }
        self.bad.remove(&node);
        self.hints.clear();
        self.orphan_at = None;
        self.out.push_back(Output::Follows(ask, node, path.clone()));
        self.current = Some(Standing {
            ask,
            node,
            path,
            heard: now,
            better: None,
            probe_at: now + PROBE_AFTER,
        });
        self.probe_origins(now);
    }

    fn on_refused(&mut self, now: Uptime, ask: Ask, reason: Reason, instead: Vec<NodeId>) {
        if let Some(pending) = self.pending.take_if(|p| p.ask == ask) {
            if reason == Reason::Full {
                self.hints = instead;
            }
            self.blame(now, pending.node, reason);
            if self.current.is_none() && self.next_candidate(now).is_none() {
                self.out.push_back(Output::Nobody(reason));
            }
        } else if let Some(current) = self.current.take_if(|c| c.ask == ask) {
            if reason == Reason::Full {
                self.hints = instead;
            }
            self.blame(now, current.node, reason);
            self.orphan_at = Some(now + ORPHAN);
        }
    }

    fn on_path(&mut self, now: Uptime, ask: Ask, path: Vec<NodeId>) {
        let Some(current) = self.current.as_mut().filter(|c| c.ask == ask) else {
            return;
        };
        let long = path.len() >= super::wire::MAX_HOPS;
        if long || path.is_empty() || path.contains(&self.me) {
            let reason = if path.is_empty() {
                Reason::NoSource
            } else {
                Reason::Loop
            };
            self.out.push_back(Output::Leave(ask));
            self.on_refused(now, ask, reason, Vec::new());
            return;
        }
        current.path.clone_from(&path);
        let node = current.node;
        self.out.push_back(Output::Follows(ask, node, path));
    }

    fn on_current(&mut self, claim: Claim, ended: bool) {
        self.epoch = Some((claim, ended));
        if let Some(current) = self.current.as_mut().filter(|_| ended) {
            current.better = None;
        }
    }

    fn on_probed(&mut self, now: Uptime, node: NodeId, position: &Position, ahead: bool) {
        let Some(current) = &mut self.current else {
            return;
        };
        if node == current.node || position.path.contains(&self.me) || position.path.is_empty() {
            return;
        }
        let theirs = Claim {
            stamp: position.stamp,
            node: position.origin,
        };
        let overtakes = self.epoch.is_some_and(|(mine, ended)| {
            !position.ended && theirs != mine && (ended || theirs < mine)
        });
        if overtakes && self.pending.is_none() {
            self.subscribe(now, node);
        } else if ahead {
            current.better = Some((node, now));
        }
    }

    fn check_stall(&mut self, now: Uptime) {
        if self.stalled.is_some_and(|at| now.since(at) >= STEADY) {
            (self.stall, self.stalled) = (STALL, None);
        }
        let Some(current) = &mut self.current else {
            return;
        };
        if now >= current.heard + self.stall
            && self.pending.is_none()
            && let Some((node, at)) = current.better.take()
            && now.since(at) <= PROBE_EVERY
        {
            self.stall = (self.stall * 2).min(STALL_MAX);
            self.stalled = Some(now);
            self.subscribe(now, node);
            return;
        }
        if now >= current.probe_at {
            current.probe_at = now + PROBE_EVERY;
            let source = current.node;
            let nodes: Vec<NodeId> = self
                .candidates()
                .filter(|node| *node != source && self.is_good(now, *node))
                .take(PROBES)
                .collect();
            self.out.extend(nodes.into_iter().map(Output::Probe));
        }
    }

    fn candidates(&self) -> impl Iterator<Item = NodeId> + '_ {
        let named = self.hints.iter().copied();
        let hinted = named.filter(|node| self.sources.iter().any(|(known, _)| known == node));
        let known = self.sources.iter().map(|(node, _)| *node);
        hinted.chain(known).filter(|node| *node != self.me)
    }

    fn is_good(&self, now: Uptime, node: NodeId) -> bool {
        self.bad.get(&node).is_none_or(|bad| now >= bad.until)
    }

    fn next_candidate(&self, now: Uptime) -> Option<NodeId> {
        self.candidates().find(|node| self.is_good(now, *node))
    }

    fn ask_next(&mut self, now: Uptime) {
        if let Some(node) = self.next_candidate(now) {
            self.subscribe(now, node);
        }
    }

    fn subscribe(&mut self, now: Uptime, node: NodeId) {
        self.asks += 1;
        let ask = Ask(self.asks);
        self.pending = Some(Pending {
            ask,
            node,
            since: now,
        });
        self.out.push_back(Output::Subscribe(ask, node));
    }

    fn blame(&mut self, now: Uptime, node: NodeId, reason: Reason) {
        let tries = self.bad.get(&node).map_or(0, |bad| bad.tries + 1).min(4);
        // A grant does not come within a second; that a full node has room may.
        let more = if reason == Reason::NotEntitled { 4 } else { 0 };
        let wait = RETRY * (1 << (tries + more).min(6));
        let until = now + wait;
        self.bad.insert(node, Bad { until, tries });
    }
}
