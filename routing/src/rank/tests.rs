//! What the formula promises, by example and by property.
use proptest::prelude::*;

use super::*;
use crate::model::{BitsPerSecond, Region};

const MBIT: u64 = 1_000_000;

fn place(lat: f64, lon: f64) -> Place {
    Place::new(lat, lon, Region::new("x").unwrap())
}

fn lisbon() -> Option<Place> {
    Some(place(38.72, -9.14))
}

/// A fit, idle edge in Lisbon with 1 Gbit/s.
fn edge(n: u8, label: &str) -> Candidate {
    Candidate {
        node: NodeId::from_bytes([n; 32]),
        label: label.parse().unwrap(),
        cluster: ClusterId::from_bytes([0; 16]),
        alive: true,
        reachable: true,
        roles: Roles::NONE.with(Role::Edge),
        mode: Mode::Normal,
        entitled: true,
        place: lisbon(),
        load: Load::default(),
        capacity: Some(Capacity {
            egress: BitsPerSecond(1000 * MBIT),
        }),
        holds: Holds::No,
    }
}

fn at(mut c: Candidate, lat: f64, lon: f64) -> Candidate {
    c.place = Some(place(lat, lon));
    c
}

fn cpu(mut c: Candidate, permille: u16) -> Candidate {
    c.load.cpu = Permille(permille);
    c
}

fn viewer(prefix: &str) -> Asker {
    Asker {
        place: lisbon(),
        prefix: prefix.parse().unwrap(),
    }
}

fn order(candidates: &[Candidate], policy: &Policy) -> Vec<String> {
    let ranked = rank(candidates, &viewer("192.0.2.0/24"), policy);
    ranked.chosen.iter().map(|s| s.label.to_string()).collect()
}

const EDGE: Policy = Policy::new(Role::Edge);

#[test]
fn the_nearest_goes_first_and_the_table_says_why() {
    let candidates = [
        cpu(edge(1, "lisbon"), 960),
        cpu(at(edge(2, "porto"), 41.15, -8.61), 400),
        cpu(at(edge(3, "madrid"), 40.42, -3.70), 620),
        at(edge(4, "newyork"), 40.71, -74.01),
        Candidate {
            alive: false,
            place: None,
            ..edge(5, "ghost")
        },
    ];
    let table = rank(&candidates, &viewer("192.0.2.0/24"), &EDGE).explain();
    let expected = "\
#  node     distance  load       fetch  cost  band  weight     verdict
1  porto    270       40 % +0    0      270   1     1000 Mb/s  first: lowest cost
2  madrid   500       60 % +180  0      680   2     1000 Mb/s  farther (+230 km), busier (+180 km)
3  newyork  5420      0 % +0     0      5420  3     1000 Mb/s  farther (+5150 km)
-  lisbon   0         95 %                                     saturated: its processor is 96.0 % full
-  ghost    ?         0 %                                      dead: the mesh has lost it
";
    assert_eq!(table, expected, "\n{table}");
}

#[test]
fn load_sheds_to_neighbours_before_the_floor_and_across_the_ocean_only_past_it() {
    let newyork = || at(edge(4, "newyork"), 40.71, -74.01);
    let madrid = |load| cpu(at(edge(3, "madrid"), 40.42, -3.70), load);
    assert_eq!(
        order(&[cpu(edge(1, "lisbon"), 499), madrid(0)], &EDGE),
        ["lisbon", "madrid"]
    );
    assert_eq!(
        order(&[cpu(edge(1, "lisbon"), 750), madrid(0)], &EDGE),
        ["madrid", "lisbon"]
    );
    assert_eq!(
        order(&[cpu(edge(1, "lisbon"), 899), newyork()], &EDGE),
        ["lisbon", "newyork"]
    );
    assert_eq!(
        order(&[cpu(edge(1, "lisbon"), 900), newyork()], &EDGE),
        ["newyork"]
    );
}

#[test]
fn egress_counts_like_cpu_and_a_capacity_of_nothing_is_full() {
    let mut lisbon = edge(1, "lisbon");
    lisbon.load.egress = BitsPerSecond(900 * MBIT);
    let ranked = rank(
        std::slice::from_ref(&lisbon),
        &viewer("192.0.2.0/24"),
        &EDGE,
    );
    assert_eq!(
        ranked.rejected[0].reason,
        Reason::SaturatedEgress(Permille(900))
    );
    lisbon.capacity = Some(Capacity {
        egress: BitsPerSecond(0),
    });
    let ranked = rank(&[lisbon], &viewer("192.0.2.0/24"), &EDGE);
    assert_eq!(
        ranked.rejected[0].reason,
        Reason::SaturatedEgress(Permille(1000))
    );
}

#[test]
fn a_small_change_of_load_changes_nothing() {
    let judged = |load| {
        rank(
            &[cpu(edge(1, "a"), load), edge(2, "b")],
            &viewer("192.0.2.0/24"),
            &EDGE,
        )
    };
    assert_eq!(judged(600), judged(649));
    assert_ne!(judged(600), judged(650));
}

#[test]
fn a_holder_is_preferred_to_a_nearer_node_but_not_to_one_much_nearer() {
    let holder = |lat, lon| Candidate {
        holds: Holds::Replica,
        ..at(edge(2, "holder"), lat, lon)
    };
    assert_eq!(
        order(
            &[at(edge(1, "near"), 41.15, -8.61), holder(40.42, -3.70)],
            &EDGE
        )[0],
        "holder"
    );
    assert_eq!(
        order(&[edge(1, "near"), holder(52.52, 13.40)], &EDGE),
        ["near", "holder"]
    );
    assert_eq!(
        order(
            &[edge(1, "near"), holder(52.52, 13.40)],
            &EDGE.holders_only()
        ),
        ["holder"]
    );
}

#[test]
fn when_all_are_saturated_the_last_resort_names_the_least_bad_and_only_them() {
    let candidates = [
        cpu(edge(1, "full"), 1000),
        cpu(edge(2, "fuller"), 1000),
        Candidate {
            entitled: false,
            ..edge(3, "stranger")
        },
    ];
    assert!(order(&candidates, &EDGE).is_empty());
    let ranked = rank(
        &candidates,
        &viewer("192.0.2.0/24"),
        &EDGE.or(Resort::Saturated),
    );
    assert!(ranked.resort == Resort::Saturated && ranked.chosen.len() == 2);
    assert_eq!(ranked.rejected[0].reason, Reason::NotEntitled);
    assert!(ranked.explain().contains("No fit node has room"));
}

#[test]
fn a_relay_fetches_from_any_holder_even_the_last_one_that_drains() {
    let mut origin = Candidate {
        holds: Holds::Origin,
        roles: Roles::NONE.with(Role::Ingest),
        ..edge(1, "origin")
    };
    let replica = |mode| Candidate {
        holds: Holds::Replica,
        mode,
        ..edge(2, "replica")
    };
    let sources = Policy::sources();
    assert_eq!(
        order(
            &[origin.clone(), replica(Mode::Draining), edge(3, "idle")],
            &sources
        ),
        ["origin"]
    );
    origin.mode = Mode::Draining;
    assert_eq!(
        order(&[origin.clone(), replica(Mode::Normal)], &sources),
        ["replica"]
    );
    assert_eq!(
        order(&[origin.clone(), cpu(replica(Mode::Normal), 990)], &sources),
        ["replica"]
    );
    assert_eq!(
        order(&[origin.clone(), edge(3, "idle")], &sources),
        ["origin"]
    );
    origin.mode = Mode::Maintenance;
    assert!(order(&[origin, edge(3, "idle")], &sources).is_empty());
}

#[test]
fn a_judgement_survives_json() {
    let ranked = rank(
        &[edge(1, "a"), cpu(edge(2, "b"), 950)],
        &viewer("2001:db8::/56"),
        &EDGE,
    );
    let json = serde_json::to_string(&ranked).unwrap();
    assert_eq!(
        serde_json::from_str::<Ranked>(&json).unwrap(),
        ranked,
        "{json}"
    );
}

/// The /24s of 10.0.0.0/8 that `count` viewers ask from.
fn prefixes(count: u32) -> impl Iterator<Item = Prefix> {
    (0..count).map(|n| {
        Prefix::new(
            std::net::Ipv4Addr::from_bits(0x0a00_0000 | n << 8).into(),
            24,
        )
    })
}

fn firsts(candidates: &[Candidate], count: u32) -> Vec<NodeId> {
    let plan = Plan::new(candidates, lisbon().as_ref(), &EDGE);
    prefixes(count)
        .map(|p| candidates[plan.first(&p, 1)[0]].node)
        .collect()
}

fn sized(n: u8, mbit: u64) -> Candidate {
    Candidate {
        capacity: Some(Capacity {
            egress: BitsPerSecond(mbit * MBIT),
        }),
        ..edge(n, "n")
    }
}

#[test]
fn a_thousand_prefixes_spread_by_capacity_within_five_per_cent() {
    for (count, tolerance) in [(1_000, 0.05), (65_536, 0.01)] {
        let candidates = [
            sized(1, 1_000),
            sized(2, 2_000),
            sized(3, 5_000),
            sized(4, 10_000),
        ];
        let got = firsts(&candidates, count);
        for c in &candidates {
            let share = got.iter().filter(|n| **n == c.node).count() as f64 / f64::from(count);
            let due = c.capacity.unwrap().egress.0 as f64 / (18_000 * MBIT) as f64;
            assert!(
                (share - due).abs() <= tolerance,
                "{:?}: {share} of {due} over {count}",
                c.node
            );
        }
    }
}

fn arb_candidate() -> impl Strategy<Value = Candidate> {
    let fit = (
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.9),
        prop_oneof![8 => Just(Mode::Normal), 1 => Just(Mode::Draining), 1 => Just(Mode::Maintenance)],
        prop::bool::weighted(0.9),
    );
    let where_ = prop::option::weighted(0.9, (-60.0..70.0f64, -180.0..180.0f64));
    let near = prop::option::weighted(0.9, (30.0..50.0f64, -12.0..20.0f64));
    let load = (0u16..=1000, 0u16..=1000, 0u64..2_000);
    let holds =
        prop_oneof![4 => Just(Holds::No), 1 => Just(Holds::Replica), 1 => Just(Holds::Origin)];
    (
        any::<[u8; 32]>(),
        fit,
        prop_oneof![where_, near],
        load,
        prop::option::of(0u64..10_000),
        holds,
    )
        .prop_map(
            |(
                id,
                (alive, reachable, entitled, mode, role),
                at,
                (cpu, memory, egress),
                capacity,
                holds,
            )| Candidate {
                node: NodeId::from_bytes(id),
                alive,
                reachable,
                entitled,
                mode,
                roles: if role {
                    Roles::NONE.with(Role::Edge)
                } else {
                    Roles::NONE.with(Role::Ingest)
                },
                place: at.map(|(lat, lon)| place(lat, lon)),
                load: Load {
                    cpu: Permille(cpu),
                    memory: Permille(memory),
                    egress: BitsPerSecond(egress * MBIT),
                    viewers: 0,
                },
                capacity: capacity.map(|mbit| Capacity {
                    egress: BitsPerSecond(mbit * MBIT),
                }),
                holds,
                ..edge(0, "n")
            },
        )
}

fn arb_asker() -> impl Strategy<Value = Asker> {
    (
        prop::option::weighted(0.8, (-60.0..70.0f64, -180.0..180.0f64)),
        any::<u32>(),
        0u8..=24,
    )
        .prop_map(|(at, bits, len)| Asker {
            place: at.map(|(lat, lon)| place(lat, lon)),
            prefix: Prefix::new(std::net::Ipv4Addr::from_bits(bits).into(), len),
        })
}

/// Each makes one term of a candidate no worse, for this asker.
const BETTER: [fn(&mut Candidate, &Asker); 8] = [
    |c, asker| c.place.clone_from(&asker.place),
    |c, _| c.load.cpu.0 -= c.load.cpu.0 / 3,
    |c, _| c.load.egress.0 /= 2,
    |c, _| c.load.memory.0 /= 2,
    |c, _| {
        c.capacity = c.capacity.map(|c| Capacity {
            egress: BitsPerSecond(c.egress.0 * 2),
        });
    },
    |c, _| c.holds = Holds::Origin,
    |c, _| c.mode = Mode::Normal,
    |c, _| {
        (c.alive, c.reachable, c.entitled, c.roles) =
            (true, true, true, Roles::NONE.with(Role::Edge));
    },
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_order_of_candidates_does_not_matter(
        (given, shuffled) in prop::collection::vec(arb_candidate(), 0..12)
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        asker in arb_asker(),
    ) {
        prop_assert_eq!(rank(&given, &asker, &EDGE), rank(&shuffled, &asker, &EDGE));
    }

    #[test]
    fn nobody_below_the_floor_is_chosen_and_nobody_is_lost(
        all in prop::collection::vec(arb_candidate(), 0..12), asker in arb_asker(), holders_only: bool, resort in prop_oneof![Just(Resort::None), Just(Resort::Saturated), Just(Resort::Draining)],
    ) {
        let policy = Policy { holders_only, resort, ..EDGE };
        let ranked = rank(&all, &asker, &policy);
        prop_assert_eq!(ranked.chosen.len() + ranked.rejected.len(), all.len());
        prop_assert!(ranked.resort <= resort);
        for scored in &ranked.chosen {
            let c = all.iter().find(|c| c.node == scored.node).unwrap();
            prop_assert!(c.alive && c.reachable && c.entitled && c.roles.has(Role::Edge));
            prop_assert!(c.mode == Mode::Normal || c.mode == Mode::Draining && ranked.resort == Resort::Draining);
            prop_assert!(!holders_only || c.holds != Holds::No);
            let full = c.load.cpu.0 >= 900 || c.load.memory.0 >= 950
                || c.capacity.is_some_and(|cap| c.load.egress.0 as f64 >= 0.9 * cap.egress.0 as f64);
            prop_assert!(!full || ranked.resort >= Resort::Saturated);
            prop_assert!(full || ranked.resort != Resort::Saturated, "the floor was lowered without need");
        }
    }

    #[test]
    fn a_better_term_never_moves_a_node_back(
        all in prop::collection::vec(arb_candidate(), 1..12), asker in arb_asker(),
        which: prop::sample::Index, how in 0..BETTER.len(),
    ) {
        prop_assume!(asker.place.is_some() || how != 0);
        let which = which.index(all.len());
        let node = all[which].node;
        let rank_of = |all: &[Candidate]| {
            let ranked = rank(all, &asker, &EDGE);
            ranked.chosen.iter().position(|s| s.node == node).unwrap_or(usize::MAX)
        };
        let before = rank_of(&all);
        let mut better = all;
        BETTER[how](&mut better[which], &asker);
        prop_assert!(rank_of(&better) <= before, "term {}: {} then {}", how, before, rank_of(&better));
    }

    #[test]
    fn a_node_that_goes_moves_only_its_own_prefixes(ids in prop::collection::btree_set(any::<[u8; 32]>(), 2..8), sizes in prop::collection::vec(1u64..5_000, 8)) {
        let mut all: Vec<Candidate> = ids.iter().zip(sizes)
            .map(|(id, mbit)| Candidate { node: NodeId::from_bytes(*id), ..sized(0, mbit) })
            .collect();
        let before = firsts(&all, 256);
        let gone = all.pop().unwrap().node;
        for (before, after) in before.into_iter().zip(firsts(&all, 256)) {
            prop_assert!(before == gone || before == after);
        }
    }

    /// Shares are binomial; 4.9 standard deviations are passed once in a million.
    #[test]
    fn any_equal_nodes_share_by_capacity(ids in prop::collection::btree_set(any::<[u8; 32]>(), 2..6), sizes in prop::collection::vec(100u64..5_000, 6)) {
        let all: Vec<Candidate> = ids.iter().zip(sizes)
            .map(|(id, mbit)| Candidate { node: NodeId::from_bytes(*id), ..sized(0, mbit) })
            .collect();
        let weight = |c: &Candidate| c.capacity.unwrap().egress.0 as f64;
        let total: f64 = all.iter().map(weight).sum();
        let got = firsts(&all, 1_000);
        for c in &all {
            let due = weight(c) / total;
            let share = got.iter().filter(|n| **n == c.node).count() as f64 / 1_000.0;
            prop_assert!((share - due).abs() <= 4.9 * (due * (1.0 - due) / 1_000.0).sqrt(), "{} of {}", share, due);
        }
    }

    #[test]
    fn what_a_plan_says_it_does_not_depend_on_changes_nothing(
        all in prop::collection::vec(arb_candidate(), 0..6), a in arb_asker(), b in arb_asker(), n in 1usize..4,
    ) {
        let of = |asker: &Asker| Plan::new(&all, asker.place.as_ref(), &EDGE);
        if !of(&a).depends_on_prefix(n) {
            prop_assert_eq!(of(&a).first(&a.prefix, n), of(&a).first(&b.prefix, n));
        }
        if !of(&a).depends_on_place() {
            prop_assert_eq!(of(&a).first(&a.prefix, n), of(&b).first(&a.prefix, n));
        }
        let whole: Vec<_> = of(&a).ranked(&all, &a.prefix).chosen.iter().take(n).map(|s| s.node).collect();
        let first: Vec<_> = of(&a).first(&a.prefix, n).into_iter().map(|i| all[i].node).collect();
        prop_assert_eq!(first, whole);
    }
}

#[test]
fn a_ranking_that_another_node_made_up_can_be_told() {
    let mut ranked = rank(&[edge(1, "porto")], &viewer("192.0.2.0/24"), &EDGE);
    ranked.chosen[0].terms.band = u32::MAX;
    assert_eq!(ranked.verdict(0), "first: lowest cost");
    assert!(ranked.explain().contains("4294967295"));
}
