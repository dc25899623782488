//! Dial-back: which addresses a node was reached at, whom to try next, and when an address counts.
//!
//! Each (node, service, address) is tried by the four live members that a hash picks, so the work is even and
//! moves on by itself when one dies. Each publishes what it reached. Two of them make an address verified; where
//! fewer than two others live, all of those.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use futures::future::BoxFuture;
use routing::model::{NodeId, Uptime};
use sha2::{Digest as _, Sha256};

use crate::view::Service;

/// How many members try an address.
pub(crate) const TRIERS: usize = 4;
/// How long a success stands before it is tried again, and a failure once the first few were quick.
const AGAIN: Duration = Duration::from_secs(60);
/// The first wait after a failure; it doubles up to [`AGAIN`].
const RETRY: Duration = Duration::from_millis(500);
/// Tries that run at once.
pub(crate) const AT_ONCE: usize = 16;
/// How long one try may take.
pub(crate) const TRY: Duration = Duration::from_secs(3);

/// Tries whether a node answers at an address. `node` hands one down that knows all services but
/// [`Service::Control`].
pub trait Probe: Send + Sync + 'static {
    /// Dials `addr` as `service` needs it; true when `node` answered with its key there.
    fn probe(&self, node: NodeId, service: Service, addr: SocketAddr) -> BoxFuture<'static, bool>;
}

/// One address of one node.
pub(crate) type Target = (NodeId, Service, SocketAddr);

#[derive(Debug, Default)]
struct Tried {
    reached: bool,
    failures: u32,
    next: Uptime,
    running: bool,
}

/// What this node has tried.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    tried: BTreeMap<Target, Tried>,
    running: usize,
}

impl Probes {
    /// What to try now of `targets`, given who lives. Forgets what is no longer a target or not ours to try.
    pub(crate) fn due(
        &mut self,
        me: NodeId,
        live: &BTreeSet<NodeId>,
        targets: &BTreeSet<Target>,
        now: Uptime,
    ) -> Vec<Target> {
        let ours: BTreeSet<_> = targets
            .iter()
            .filter(|t| t.0 != me && triers(t, live).contains(&me))
            .copied()
            .collect();
        self.tried
            .retain(|t, tried| ours.contains(t) || tried.running);
        let mut due = Vec::new();
        for target in ours {
            let tried = self.tried.entry(target).or_default();
            if !tried.running && tried.next <= now && self.running < AT_ONCE {
                tried.running = true;
                self.running += 1;
                due.push(target);
            }
        }
        due
    }

    /// A try ended. True when what is reached is different for it.
    pub(crate) fn done(&mut self, target: &Target, reached: bool, now: Uptime) -> bool {
        self.running = self.running.saturating_sub(1);
        let Some(tried) = self.tried.get_mut(target) else {
            return false;
        };
        tried.running = false;
        tried.failures = if reached {
            0
        } else {
            tried.failures.saturating_add(1)
        };
        let wait = match tried.failures {
            0 => AGAIN,
            n => RETRY.saturating_mul(1 << n.min(10)).min(AGAIN),
        };
        tried.next = now + wait;
        // One failure does not take back what was reached: the network may have hiccuped.
        let now_reached = reached || (tried.reached && tried.failures < 2);
        std::mem::replace(&mut tried.reached, now_reached) != now_reached
    }

    /// What was reached of a node.
    pub(crate) fn reached(&self, node: NodeId) -> Vec<(Service, SocketAddr)> {
        self.tried
            .iter()
            .filter(|((n, ..), tried)| *n == node && tried.reached)
            .map(|((_, service, addr), _)| (*service, *addr))
            .collect()
    }

    /// The tries of a service that have not ended.
    pub(crate) fn running(&self, service: Service) -> impl Iterator<Item = Target> + '_ {
        let running = self
            .tried
            .iter()
            .filter(move |(t, tried)| tried.running && t.1 == service);
        running.map(|(target, _)| *target)
    }

    /// The nodes that anything was tried of.
    pub(crate) fn nodes(&self) -> BTreeSet<NodeId> {
        self.tried.keys().map(|(node, ..)| *node).collect()
    }
}

/// The members that try a target.
fn triers(target: &Target, live: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let mut all: Vec<_> = live
        .iter()
        .filter(|n| **n != target.0)
        .map(|n| {
            let hash = Sha256::new()
                .chain_update(n.as_bytes())
                .chain_update(target.0.as_bytes())
                .chain_update([target.1 as u8])
                .chain_update(target.2.to_string())
                .finalize();
            (hash, *n)
        })
        .collect();
    all.sort();
    all.into_iter().take(TRIERS).map(|(_, n)| n).collect()
}

/// Whether an address counts, given how many live members other than its node reached it, of how many.
pub(crate) fn is_verified(reached_by: usize, others: usize) -> bool {
    reached_by >= others.min(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(i: u8) -> NodeId {
        NodeId::from_bytes([i; 32])
    }

    #[test]
    fn each_address_is_tried_by_four_and_failures_back_off() {
        let live: BTreeSet<_> = (1..=20).map(node).collect();
        let target = (node(1), Service::Http, "192.0.2.1:80".parse().unwrap());
        let targets = BTreeSet::from([target]);
        let at = Uptime::from_millis;
        let mut tries: Vec<_> = (1..=20)
            .map(|i| (node(i), Probes::default()))
            .filter_map(|(me, mut p)| {
                (p.due(me, &live, &targets, at(0)).len() == 1).then_some((me, p))
            })
            .collect();
        assert_eq!(tries.len(), TRIERS);
        let (me, probes) = &mut tries[0];
        assert!(probes.done(&target, true, at(10)));
        assert_eq!(probes.reached(node(1)), [(target.1, target.2)]);
        assert!(probes.due(*me, &live, &targets, at(60_000)).is_empty());
        assert_eq!(probes.due(*me, &live, &targets, at(60_010)).len(), 1);
        assert!(
            !probes.done(&target, false, at(60_010)),
            "one failure is a hiccup"
        );
        assert_eq!(probes.due(*me, &live, &targets, at(61_010)).len(), 1);
        assert!(probes.done(&target, false, at(61_010)));
        assert_eq!(probes.reached(node(1)), []);
    }

    #[test]
    fn two_others_count_or_all_where_fewer_live() {
        assert!(is_verified(0, 0) && is_verified(1, 1) && is_verified(2, 9));
        assert!(!is_verified(0, 1) && !is_verified(1, 2));
    }
}
