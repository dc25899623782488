//! The state is a function of the set of records: in any order, twice, in parts.
use bytes::Bytes;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use super::{
    super::Replica,
    net::{Net, belief},
};
use crate::{
    records::{Change, KeyId, Record, Scope, changes},
    state::Verdict,
    store::{Item, Store as _},
    world::{World, at},
};

/// Everything that four nodes wrote, two and two apart, about few things: names, keys, deletions, claims, a
/// revocation and a fork included.
fn pieces(seed: u64) -> (World, Vec<Bytes>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut net = Net::new(4, seed);
    net.run_until_agreed(5_000);
    net.partition(&[0, 1], &[2, 3], true);
    let tenant = net.world.tenant;
    let scope = Scope::Tenant(tenant);
    let mut streams = [
        net.world.stream("a"),
        net.world.stream("b"),
        net.world.stream("c"),
    ];
    // Two streams claim one playback id.
    let playback = streams[0].playback;
    streams[1].changes[0] = Change::StreamCreated {
        stream: streams[1].stream,
        playback,
    };
    for step in 0..30 {
        let i = rng.random_range(0..4);
        let one = &streams[rng.random_range(0..3)];
        let (stream, key) = (one.stream, one.key);
        let changes = match rng.random_range(0..10) {
            0..4 => one.changes.clone(),
            4 | 5 => vec![Change::StreamNamed {
                stream,
                name: format!("name {step}"),
            }],
            6 => vec![Change::KeyDeactivated { stream, key }],
            7 => vec![Change::KeyPrimary {
                stream,
                key: KeyId::from_bytes([step; 16]),
            }],
            8 => vec![Change::StreamDescribed {
                stream,
                description: Some(format!("{step}")),
            }],
            _ if step > 20 => vec![Change::StreamDeleted { stream }],
            _ => {
                let rng = &mut net.world.rng;
                let token = changes::create_token(tenant, format!("{step}"), None, rng);
                net.write(i, Scope::Mesh, token.changes).unwrap();
                continue;
            }
        };
        net.write(i, scope, changes).unwrap();
        net.run(rng.random_range(1..50));
    }
    net.run(3_000);
    let mut pieces = Vec::new();
    for node in &net.nodes {
        for item in node.store.load().unwrap() {
            let (Item::Record { raw, .. } | Item::Verdict { raw, .. }) = item;
            if !pieces.contains(&raw) {
                pieces.push(raw);
            }
        }
    }
    if seed.is_multiple_of(3) {
        let cut = net.nodes[3].replica.head(scope, net.id(3)) / 2;
        pieces.push(super::verdicts::revocation(&net, 3, vec![(scope, cut)]));
    }
    if seed.is_multiple_of(2) {
        let from = net.nodes[2].replica.head(scope, net.id(2)) / 2;
        pieces.extend(super::verdicts::twin(&mut net, 2, from));
    }
    (net.world, pieces)
}

fn give(replica: &mut Replica, pieces: &[Bytes]) {
    replica.import(pieces.to_vec(), at(60_000));
    let _ = replica.take_output();
}

fn believe(replica: &mut Replica) -> String {
    belief(&replica.config(at(60_000).unix))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 16, ..ProptestConfig::default() })]

    #[test]
    fn any_order_twice_or_in_parts_gives_one_state(seed in 0u64..1_000_000) {
        let (world, mut pieces) = pieces(seed);
        let mesh = world.root.mesh();
        let fresh = || Replica::open(world.node(0), mesh, Vec::new()).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let mut straight = fresh();
        give(&mut straight, &pieces);
        let expected = believe(&mut straight);
        for _ in 0..3 {
            pieces.shuffle(&mut rng);
            let mut shuffled = fresh();
            let half = rng.random_range(0..pieces.len());
            give(&mut shuffled, &pieces[..half]);
            for piece in &pieces[half..] {
                give(&mut shuffled, std::slice::from_ref(piece));
            }
            prop_assert_eq!(&believe(&mut shuffled), &expected, "one by one");
            pieces.shuffle(&mut rng);
            give(&mut shuffled, &pieces);
            prop_assert_eq!(&believe(&mut shuffled), &expected, "and all again");
        }
    }

    #[test]
    fn arbitrary_bytes_harm_nobody(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let world = World::new(0);
        let mesh = world.root.mesh();
        let mut replica = Replica::open(world.node(0), mesh, Vec::new()).unwrap();
        let peer = world.node(1).id();
        replica.connected(peer, at(0));
        replica.receive(peer, &bytes, at(1));
        prop_assert!(Record::read(mesh, Bytes::from(bytes.clone())).is_err());
        prop_assert!(Verdict::read(mesh, &bytes).is_none());
    }

    #[test]
    fn altered_messages_and_records_change_nothing(flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4)) {
        let (world, replica) = founded();
        let mesh = world.root.mesh();
        let mut fresh = Replica::open(world.node(0), mesh, Vec::new()).unwrap();
        let mut raw = replica.export_mesh()[0].to_vec();
        let original = raw.clone();
        for (at, mask) in flips {
            let at = at.index(raw.len());
            raw[at] ^= mask;
        }
        prop_assume!(raw != original);
        prop_assert_eq!(fresh.import(vec![Bytes::from(raw)], at(1)), 0);
    }
}

fn founded() -> (World, Replica) {
    let world = World::new(0);
    let mut replica = Replica::open(world.node(0), world.root.mesh(), Vec::new()).unwrap();
    let off = std::time::Duration::ZERO;
    replica
        .prepare(Scope::Mesh, world.founding(), off, at(0))
        .unwrap();
    replica.commit_prepared(at(0));
    (world, replica)
}
