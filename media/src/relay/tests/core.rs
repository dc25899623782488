//! The machines in simulated time.
use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use routing::model::{EpochId, Hlc, NodeId, Uptime};

use crate::{
    live::{GroupSeq, TrackId},
    ports::Claim,
    relay::{
        follow::{Ask, Follow, Input, Output},
        holes::Holes,
        intake::Missing,
        wire::{Position, Reason},
    },
};

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn at(ms: u64) -> Uptime {
    Uptime::from_millis(ms)
}

fn outputs(follow: &mut Follow) -> Vec<Output> {
    std::iter::from_fn(|| follow.poll()).collect()
}

fn position(origin: u8, stamp: u64, path: &[u8]) -> Position {
    Position {
        epoch: EpochId::from_u64(stamp),
        stamp: Hlc(stamp),
        origin: node(origin),
        ended: false,
        tracks: vec![(GroupSeq(1), 1)],
        path: path.iter().copied().map(node).collect(),
    }
}

/// Node 9 follows node 1, an origin, from 0 ms on; 2 and 3 have it too.
fn following() -> (Follow, Ask) {
    let mut follow = Follow::new(node(9), at(0));
    let sources = vec![(node(1), true), (node(2), false), (node(3), false)];
    follow.handle(at(0), Input::Sources(sources));
    let [Output::Subscribe(ask, first)] = outputs(&mut follow)[..] else {
        panic!("one subscription at a time");
    };
    assert_eq!(first, node(1));
    follow.handle(at(0), Input::Accepted(ask, vec![node(1)]));
    assert_eq!(follow.path(), Some(vec![node(1), node(9)]));
    let claim = Claim {
        stamp: Hlc(5),
        node: node(1),
    };
    follow.handle(at(0), Input::Current(claim, false));
    outputs(&mut follow);
    (follow, ask)
}

/// Time passes, and node `n` says that it is ahead whenever it is asked; when somebody is subscribed to, and whom.
fn moves(follow: &mut Follow, mut now: u64, n: u8) -> (u64, Ask) {
    loop {
        follow.tick(at(now));
        for output in outputs(follow) {
            match output {
                Output::Probe(asked) if asked == node(n) => follow.handle(
                    at(now),
                    Input::Probed {
                        node: node(n),
                        position: position(1, 5, &[1, n]),
                        ahead: true,
                    },
                ),
                Output::Subscribe(ask, asked) => {
                    assert_eq!(asked, node(n));
                    return (now, ask);
                }
                _ => {}
            }
        }
        now += 10;
    }
}

#[test]
fn moves_between_sources_that_are_all_bad_become_rare() {
    let (mut follow, _) = following();
    let (mut now, mut waits) = (0, Vec::new());
    for turn in 0..6 {
        let next = 2 + turn % 2;
        let (moved, ask) = moves(&mut follow, now, next);
        waits.push(moved - now);
        follow.handle(at(moved), Input::Accepted(ask, vec![node(1), node(next)]));
        // One frame, and silence again.
        now = moved;
    }
    let bars = [600, 1_200, 2_400, 4_800, 4_800, 4_800];
    let fits = |(wait, bar): (&u64, u64)| (bar..bar + 500).contains(wait);
    assert!(waits.iter().zip(bars).all(fits), "{waits:?}");
    // Ten good seconds, and it is as quick as at first.
    let heard = now + 10_100;
    follow.handle(at(heard), Input::Heard(at(heard)));
    let (moved, _) = moves(&mut follow, heard, 2);
    assert!(moved - heard < 1_100, "{}", moved - heard);
}

#[test]
fn silence_is_asked_about_at_300_ms_and_acted_on_at_600() {
    let (mut follow, old) = following();
    assert_eq!(follow.wake(), Some(at(300)));
    follow.tick(at(300));
    let asked = [Output::Probe(node(2)), Output::Probe(node(3))];
    assert_eq!(outputs(&mut follow), asked);
    let answer = Input::Probed {
        node: node(2),
        position: position(1, 5, &[1, 2]),
        ahead: true,
    };
    follow.handle(at(310), answer);
    assert_eq!(
        outputs(&mut follow),
        [],
        "another has more, but 600 ms are not over"
    );
    assert_eq!(follow.wake(), Some(at(600)));
    follow.tick(at(600));
    let out = outputs(&mut follow);
    let [Output::Subscribe(new, to)] = out[..] else {
        panic!("{out:?}");
    };
    assert_eq!(to, node(2));
    assert_eq!(follow.source(), Some(node(1)), "until the new one stands");
    follow.handle(at(620), Input::Accepted(new, vec![node(1), node(2)]));
    let out = outputs(&mut follow);
    assert_eq!(out[0], Output::Leave(old));
    assert_eq!(follow.source(), Some(node(2)));
}

#[test]
fn a_frame_in_time_and_a_silence_that_all_share_change_nothing() {
    let (mut follow, _) = following();
    let ahead = |ahead| Input::Probed {
        node: node(2),
        position: position(1, 5, &[1, 2]),
        ahead,
    };
    follow.tick(at(300));
    follow.handle(at(320), ahead(true));
    follow.handle(at(500), Input::Heard(at(499)));
    follow.tick(at(700));
    assert!(
        !outputs(&mut follow)
            .iter()
            .any(|o| matches!(o, Output::Subscribe(..)))
    );
    for ms in (800..5_000).step_by(100) {
        follow.handle(at(ms), ahead(false));
        assert!(
            !outputs(&mut follow)
                .iter()
                .any(|o| matches!(o, Output::Subscribe(..)))
        );
    }
}

#[test]
fn a_lost_source_is_replaced_at_once_and_an_orphan_says_so_after_two_seconds() {
    let (mut follow, ask) = following();
    follow.handle(at(1_000), Input::Lost(ask));
    let out = outputs(&mut follow);
    let [Output::Subscribe(next, to)] = out[..] else {
        panic!("{out:?}");
    };
    assert_eq!((to, follow.path()), (node(2), None));
    follow.handle(
        at(1_010),
        Input::Refused(next, Reason::NoSource, Vec::new()),
    );
    let mut now = at(1_010);
    let mut asked = BTreeMap::<NodeId, u32>::new();
    loop {
        let out = outputs(&mut follow);
        if out.contains(&Output::Orphaned) {
            break;
        }
        for output in out {
            if let Output::Subscribe(ask, to) = output {
                *asked.entry(to).or_default() += 1;
                follow.handle(now, Input::Refused(ask, Reason::NoSource, Vec::new()));
            }
        }
        now = follow.wake().unwrap();
        follow.tick(now);
    }
    assert_eq!(now, at(3_000));
    assert!(
        asked.len() == 3 && asked.values().all(|n| *n <= 8),
        "{asked:?}"
    );
}

#[test]
fn a_source_whose_way_comes_to_include_this_node_is_left() {
    let (mut follow, ask) = following();
    follow.handle(at(100), Input::Path(ask, vec![node(4), node(9), node(1)]));
    let out = outputs(&mut follow);
    assert_eq!(out[0], Output::Leave(ask));
    assert!(matches!(out[1], Output::Subscribe(_, to) if to == node(2)));
    let (mut follow, ask) = following();
    follow.handle(at(100), Input::Path(ask, Vec::new()));
    assert_eq!(follow.source(), None, "nor an orphan followed");
}

#[test]
fn the_lower_claim_overtakes_and_the_higher_only_what_ended() {
    let subscribes = |stamp, ended| {
        let (mut follow, _) = following();
        let mine = Claim {
            stamp: Hlc(5),
            node: node(1),
        };
        follow.handle(at(10), Input::Current(mine, ended));
        let sources = vec![(node(1), true), (node(4), true)];
        follow.handle(at(10), Input::Sources(sources));
        assert_eq!(outputs(&mut follow), [Output::Probe(node(4))]);
        let answer = Input::Probed {
            node: node(4),
            position: position(4, stamp, &[4]),
            ahead: false,
        };
        follow.handle(at(20), answer);
        let out = outputs(&mut follow);
        out.iter()
            .any(|o| matches!(o, Output::Subscribe(_, to) if *to == node(4)))
    };
    assert!(subscribes(3, false));
    assert!(!subscribes(7, false));
    assert!(subscribes(7, true));
}

#[test]
fn a_full_node_is_asked_who_else_and_one_that_never_answers_is_passed_over() {
    let mut follow = Follow::new(node(9), at(0));
    let all = (1..=4).map(|n| (node(n), n == 1)).collect();
    follow.handle(at(0), Input::Sources(all));
    let Some(Output::Subscribe(ask, _)) = follow.poll() else {
        panic!("it asks");
    };
    follow.handle(at(1), Input::Refused(ask, Reason::Full, vec![node(3)]));
    assert!(matches!(follow.poll(), Some(Output::Subscribe(_, to)) if to == node(3)));
    let wake = follow.wake().unwrap();
    assert_eq!(wake, at(1_201));
    follow.tick(wake);
    assert!(matches!(follow.poll(), Some(Output::Leave(_))));
    assert!(matches!(follow.poll(), Some(Output::Subscribe(_, to)) if to != node(3)));
}

fn hole(seq: u64, past: bool) -> Missing {
    let key = (EpochId::from_u64(1), TrackId(0), GroupSeq(seq));
    Missing { key, past }
}

#[test]
fn back_fill_is_fetched_at_once_in_one_run_and_a_live_hole_after_some_patience() {
    let mut holes = Holes::default();
    let missing: Vec<_> = (0..5)
        .map(|seq| hole(seq, true))
        .chain([hole(9, false)])
        .collect();
    let (plans, lost) = holes.update(at(0), &missing, &[node(1), node(2)]);
    assert!(lost.is_empty() && !holes.backfilled());
    let [plan] = plans[..] else {
        panic!("{plans:?}");
    };
    assert_eq!((plan.node, plan.from.0, plan.to.0), (node(1), 0, 5));
    assert_eq!(holes.wake(), Some(at(150)));
    let (plans, _) = holes.update(at(150), &missing, &[node(1), node(2)]);
    assert_eq!(plans[0].from.0, 9);

    // It brought all but number 3, which the other holder is asked for.
    holes.done(at(200), &plan);
    let missing = [hole(3, true)];
    holes.update(at(200), &missing, &[node(1), node(2)]);
    let (plans, _) = holes.update(at(350), &missing, &[node(1), node(2)]);
    assert_eq!(
        (plans[0].node, plans[0].from.0, plans[0].to.0),
        (node(2), 3, 4)
    );
    holes.update(at(360), &[], &[node(1)]);
    assert!(holes.backfilled());
}

#[test]
fn a_group_that_nobody_has_is_lost_within_six_seconds_and_not_asked_for_again() {
    let mut holes = Holes::default();
    let missing = [hole(3, true)];
    let mut now = at(0);
    let lost = loop {
        let (plans, lost) = holes.update(now, &missing, &[node(1), node(2)]);
        if !lost.is_empty() {
            break lost;
        }
        for plan in plans {
            holes.done(now, &plan);
        }
        now = holes.wake().map_or(now, |wake| wake.max(now));
        if holes.wake().is_none() {
            now = now + Duration::from_millis(1);
        }
    };
    assert_eq!(lost, [missing[0].key]);
    assert!(now <= at(6_000), "{now:?}");
    assert!(holes.backfilled() && holes.is_lost(&missing[0].key));
    let (plans, lost) = holes.update(now + Duration::from_secs(60), &missing, &[node(1)]);
    assert!(plans.is_empty() && lost.is_empty());
}

proptest! {
    /// Whatever happens in whatever order: never on its own way, never two questions at once, and always a time to
    /// look again while there is somebody to ask.
    #[test]
    fn whatever_happens_it_makes_no_loop_and_never_sleeps_for_good(
        events in prop::collection::vec((0_u8..8, 1_u8..6, 0_u64..500), 1..200)
    ) {
        let me = node(3);
        let mut follow = Follow::new(me, at(0));
        let mut now = at(0);
        let mut open: Vec<(Ask, NodeId)> = Vec::new();
        for (kind, n, wait) in events {
            now = now + Duration::from_millis(wait);
            let last = open.last().copied();
            let path = (1..=n).map(node).collect::<Vec<_>>();
            match (kind, last) {
                (0, _) => follow.handle(now, Input::Sources((1..=n).map(|m| (node(m), m == 1)).collect())),
                (1, Some((ask, _))) => follow.handle(now, Input::Accepted(ask, path)),
                (2, Some((ask, _))) => follow.handle(now, Input::Refused(ask, Reason::Full, path)),
                (3, Some((ask, _))) => follow.handle(now, Input::Lost(ask)),
                (4, Some((ask, _))) => follow.handle(now, Input::Path(ask, path)),
                (5, _) => follow.handle(now, Input::Probed { node: node(n), position: position(n, 3, &[n]), ahead: n % 2 == 0 }),
                (6, _) => follow.handle(now, Input::Local(n == 5)),
                _ => follow.tick(now),
            }
            for output in outputs(&mut follow) {
                match output {
                    Output::Subscribe(ask, to) => {
                        prop_assert_ne!(to, me);
                        open.push((ask, to));
                    }
                    Output::Leave(ask) => open.retain(|(known, _)| *known != ask),
                    _ => {}
                }
            }
            if let Some(way) = follow.path() {
                let mine = way.iter().filter(|n| **n == me).count();
                prop_assert_eq!(mine, 1);
            }
            if follow.source().is_some() {
                prop_assert!(follow.wake().is_some());
            }
        }
    }
}
