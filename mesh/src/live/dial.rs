//! Whom to dial next, and when.
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use routing::model::{NodeId, Uptime};

use super::grants::Known;

/// The first wait after a failure; it doubles up to [`LAST`].
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait: a node that comes back is linked within this, if it does not dial first itself.
const LAST: Duration = Duration::from_secs(5);
/// How long the node with the higher id lets the other one dial first.
const POLITE: Duration = Duration::from_millis(400);
/// Dials that are started in one go.
const AT_ONCE: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Wait {
    next: Uptime,
    step: Duration,
}

/// Waits by peer and by seed.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    peers: BTreeMap<NodeId, Wait>,
    seeds: Option<Wait>,
}

impl Dials {
    /// The unlinked peers to dial now.
    pub(crate) fn due(
        &mut self,
        me: NodeId,
        known: &Known,
        linked: impl Fn(&NodeId) -> bool,
        now: Uptime,
    ) -> Vec<(NodeId, Vec<SocketAddr>)> {
        self.peers
            .retain(|id, _| known.contains_key(id) && !linked(id));
        let mut due = Vec::new();
        for (id, addrs) in known {
            if *id == me || linked(id) || addrs.is_empty() || due.len() == AT_ONCE {
                continue;
            }
            let polite = if me < *id { Duration::ZERO } else { POLITE };
            let wait = self.peers.entry(*id).or_insert(Wait {
                next: now + polite,
                step: FIRST,
            });
            if wait.next <= now {
                *wait = later(*wait, now);
                due.push((*id, addrs.clone()));
            }
        }
        due
    }

    /// Whether the seeds are to be dialled now; `lonely` while there is no link at all.
    pub(crate) fn seeds_due(&mut self, lonely: bool, now: Uptime) -> bool {
        if !lonely {
            self.seeds = None;
            return false;
        }
        let wait = self.seeds.get_or_insert(Wait {
            next: now,
            step: FIRST,
        });
        let due = wait.next <= now;
        if due {
            *wait = later(*wait, now);
        }
        due
    }
}

fn later(wait: Wait, now: Uptime) -> Wait {
    Wait {
        next: now + wait.step,
        step: (wait.step * 2).min(LAST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dials_back_off_up_to_five_seconds_and_start_afresh_after_a_link() {
        let (me, peer) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let known = Known::from([(peer, vec!["192.0.2.1:1".parse().unwrap()])]);
        let mut dials = Dials::default();
        let count = |dials: &mut Dials, from: u64, to: u64, linked: bool| {
            (from..to)
                .filter(|ms| {
                    let now = Uptime::from_millis(*ms);
                    !dials.due(me, &known, |_| linked, now).is_empty()
                })
                .count()
        };
        assert_eq!(count(&mut dials, 0, 60_000, false), 16);
        assert_eq!(count(&mut dials, 60_000, 60_001, true), 0);
        assert_eq!(count(&mut dials, 60_001, 60_002, false), 1);
    }
}
