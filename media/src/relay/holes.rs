//! Whom to ask for what is missing, and when to give up: a state machine without sockets or clock.
//!
//! What comes only by asking (back-fill) is asked for at once; a hole among live groups is given 150 ms, since streams
//! overtake each other. Each failed try goes to the next holder, after a wait that grows; after eight tries or six
//! seconds with a holder to ask, a group counts as lost.
use std::{collections::BTreeMap, time::Duration};

use routing::model::{EpochId, NodeId, Uptime};

use super::{
    intake::{Key, Missing},
    wire,
};
use crate::live::{GroupSeq, TrackId};

/// Time that a live group has to come by itself.
const PATIENCE: Duration = Duration::from_millis(150);
/// The wait after a failed try, times the number of tries.
const RETRY: Duration = Duration::from_millis(150);
/// After so many tries a group is lost.
const TRIES: u32 = 8;
/// Fetches under way at once, each of one run of groups.
const FETCHES: usize = 4;

/// Asks a node for the groups `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) node: NodeId,
    pub(super) epoch: EpochId,
    pub(super) track: TrackId,
    pub(super) from: GroupSeq,
    pub(super) to: GroupSeq,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    due: Uptime,
    tries: u32,
    busy: bool,
    past: bool,
    lost: bool,
}

/// The machine.
#[derive(Debug, Default)]
pub(super) struct Holes {
    holes: BTreeMap<Key, Hole>,
    running: usize,
}

impl Holes {
    /// What is missing now; returns what to fetch and what is lost for good since the last call.
    pub(super) fn update(
        &mut self,
        now: Uptime,
        missing: &[Missing],
        holders: &[NodeId],
    ) -> (Vec<Plan>, Vec<Key>) {
        let mut kept = BTreeMap::new();
        for Missing { key, past } in missing {
            let hole = self.holes.get(key).copied().unwrap_or(Hole {
                due: if *past { now } else { now + PATIENCE },
                tries: 0,
                busy: false,
                past: *past,
                lost: false,
            });
            kept.insert(*key, hole);
        }
        self.holes = kept;
        let mut lost = Vec::new();
        for (key, hole) in &mut self.holes {
            if hole.tries >= TRIES && !hole.busy && !hole.lost {
                hole.lost = true;
                lost.push(*key);
            }
        }
        (self.plan(now, holders), lost)
    }

    fn plan(&mut self, now: Uptime, holders: &[NodeId]) -> Vec<Plan> {
        let mut plans: Vec<Plan> = Vec::new();
        if holders.is_empty() {
            return plans;
        }
        for ((epoch, track, seq), hole) in &mut self.holes {
            if hole.busy || hole.lost || now < hole.due {
                continue;
            }
            let turn = usize::try_from(hole.tries).unwrap_or(0) % holders.len();
            let node = holders[turn];
            let run = plans.iter_mut().find(|plan| {
                (plan.node, plan.epoch, plan.track, plan.to) == (node, *epoch, *track, *seq)
                    && plan.to.0 - plan.from.0 < wire::MAX_FETCH
            });
            if let Some(plan) = run {
                plan.to = seq.next();
            } else if self.running + plans.len() < FETCHES {
                plans.push(Plan {
                    node,
                    epoch: *epoch,
                    track: *track,
                    from: *seq,
                    to: seq.next(),
                });
            } else {
                continue;
            }
            hole.busy = true;
        }
        self.running += plans.len();
        plans
    }

    /// A fetch is over; what it brought is no longer missing at the next [`Holes::update`].
    pub(super) fn done(&mut self, now: Uptime, plan: &Plan) {
        self.running = self.running.saturating_sub(1);
        let range = (plan.epoch, plan.track, plan.from)..(plan.epoch, plan.track, plan.to);
        for (_, hole) in self.holes.range_mut(range) {
            hole.busy = false;
            hole.tries += 1;
            hole.due = now + RETRY * hole.tries;
        }
    }

    /// Whether nothing that comes only by asking is still to be had.
    pub(super) fn backfilled(&self) -> bool {
        !self.holes.values().any(|hole| hole.past && !hole.lost)
    }

    /// Whether a group was given up.
    pub(super) fn is_lost(&self, key: &Key) -> bool {
        self.holes.get(key).is_some_and(|hole| hole.lost)
    }

    /// When to call [`Holes::update`] though nothing happened.
    pub(super) fn wake(&self) -> Option<Uptime> {
        if self.running >= FETCHES {
            return None;
        }
        let waiting = self.holes.values().filter(|h| !h.busy && !h.lost);
        waiting.map(|hole| hole.due).min()
    }
}
