//! Many nodes in simulated time.
pub(crate) mod net;
mod order;
mod verdicts;

use net::Net;
use routing::model::UnixMillis;

use super::{
    MAX_AHEAD, MAX_LOGS, Peer, Replica,
    wire::{Head, Message, Purpose},
};
use crate::{
    records::{Change, Scope, WriteError, changes},
    store::Store as _,
    world::{START, World, at},
};

fn tenant_scope(net: &Net) -> Scope {
    Scope::Tenant(net.world.tenant)
}

#[test]
fn a_stream_is_everywhere_within_a_quarter_of_a_second_and_safe() {
    let mut net = Net::new(3, 1);
    net.run_until_agreed(3_000);
    net.run(1_000);
    let stream = net.stream(1, "one");
    let took = net.run_until_agreed(250);
    assert!(net.config(2).stream(stream).is_some());
    net.run(100);
    let scope = tenant_scope(&net);
    assert!(
        net.nodes[1].safe.contains_key(&(scope, 1)),
        "after {took} ms"
    );
}

#[test]
fn twenty_nodes_agree_over_lossy_links_that_reorder() {
    for seed in 0..3 {
        let mut net = Net::new(20, seed);
        net.loss = 0.05;
        net.delay = (1, 200);
        net.run(3_000);
        for i in 0..20 {
            net.stream(i, &format!("stream of {i}"));
            net.run(10);
        }
        let took = net.run_until_agreed(20_000);
        assert_eq!(
            net.config(7).streams(net.world.tenant).count(),
            20,
            "seed {seed}, {took} ms"
        );
    }
}

#[test]
fn both_sides_of_a_partition_write_and_agree_after_it() {
    let mut net = Net::new(5, 4);
    net.run_until_agreed(3_000);
    net.partition(&[0, 1], &[2, 3, 4], true);
    let mut made = Vec::new();
    for n in 0..30 {
        made.push(net.stream(n % 5, &format!("{n}")));
        net.run(1_000);
    }
    let (first, both) = (made[0], tenant_scope(&net));
    for (i, name) in [(0, "left"), (3, "right")] {
        let name = name.to_owned();
        let named = Change::StreamNamed {
            stream: first,
            name,
        };
        // The right side never heard of the stream and may name it all the same.
        net.write(i, both, vec![named]).unwrap();
        net.run(5);
    }
    assert!(!net.agreed());
    net.partition(&[0, 1], &[2, 3, 4], false);
    let took = net.run_until_agreed(1_000);
    let config = net.config(2);
    assert!(
        made.iter().all(|s| config.stream(*s).is_some()),
        "{took} ms"
    );
    assert_eq!(
        config.stream(first).unwrap().name,
        "right",
        "the later of two names"
    );
}

#[test]
fn a_restarted_node_has_all_that_it_had_and_goes_on() {
    let mut net = Net::new(3, 5);
    net.run_until_agreed(3_000);
    let before = net.stream(1, "before");
    net.run_until_agreed(1_000);
    let belief = net.belief(0);
    for i in 0..3 {
        net.restart(i);
        assert_eq!(net.belief(i), belief, "from its own disk alone");
    }
    let after = net.stream(1, "after");
    net.run_until_agreed(1_000);
    assert!(net.config(0).stream(before).is_some() && net.config(0).stream(after).is_some());
}

#[test]
fn a_node_whose_disk_is_of_last_week_gets_its_own_records_back() {
    let mut net = Net::new(2, 6);
    net.run_until_agreed(3_000);
    net.stream(1, "kept");
    net.run_until_agreed(1_000);
    let old = net.nodes[1].store.load().unwrap();
    let new = net.stream(1, "written after the backup");
    net.run_until_agreed(1_000);
    let store = crate::store::MemoryStore::new();
    store.commit(&old).unwrap();
    net.nodes[1].store = store;
    net.restart(1);
    assert!(net.config(1).stream(new).is_none());
    net.run_until_agreed(1_000);
    // Its next number is free: no evidence against itself.
    net.stream(1, "after");
    net.run_until_agreed(1_000);
    assert_eq!(net.config(0).streams(net.world.tenant).count(), 3);
}

#[test]
fn catching_up_costs_what_is_missing_and_little_more() {
    let mut net = Net::new(6, 7);
    net.run_until_agreed(3_000);
    net.partition(&[5], &[0, 1, 2, 3, 4], true);
    for n in 0..600 {
        net.stream(n % 5, &format!("{n}"));
        net.run(5);
    }
    net.run(3_000);
    let stored: usize = net.nodes[0].store.load().unwrap().len();
    let sent = |net: &Net| net.nodes.iter().map(|n| n.sent).sum::<u64>();
    let before = sent(&net);
    net.partition(&[5], &[0, 1, 2, 3, 4], false);
    net.run_until_agreed(2_000);
    let each = (sent(&net) - before) / stored as u64;
    assert!(
        each < 1_500,
        "{each} bytes a record over all links, of about 700 each"
    );
}

#[test]
fn a_peer_that_names_logs_without_end_is_not_listened_to_without_end() {
    let mut net = Net::new(2, 14);
    net.run_until_agreed(3_000);
    let (peer, scope) = (net.id(1), Scope::Mesh);
    let per_message = super::wire::MAX_LIST;
    let mut named = 0_u64;
    for purpose in [Purpose::News, Purpose::Ask] {
        for _ in 0..=MAX_LOGS / per_message {
            let heads = (0..per_message).map(|_| {
                let mut author = [7; 32];
                author[..8].copy_from_slice(&named.to_be_bytes());
                named += 1;
                Head {
                    author: routing::model::NodeId::from_bytes(author),
                    number: 1,
                    hash: [0; 8].into(),
                }
            });
            let message = Message::Heads {
                scope,
                purpose,
                heads: heads.collect(),
            };
            let now = net.now();
            net.nodes[0].replica.receive(peer, &message.to_bytes(), now);
            net.drain(0);
        }
    }
    let replica = &net.nodes[0].replica;
    let Peer {
        known, sent, wants, ..
    } = &replica.peers[&peer];
    for noted in [known.len(), sent.len(), wants.len(), replica.asked.len()] {
        assert!(noted <= MAX_LOGS, "{noted}");
    }
    // What it says of logs that are known is heard as ever.
    let stream = net.stream(1, "heard");
    net.run_until_agreed(1_000);
    assert!(net.config(0).stream(stream).is_some());
}

#[test]
fn a_stamp_ahead_waits_until_its_time_comes() {
    let mut net = Net::new(2, 8);
    net.run_until_agreed(3_000);
    // Node 1's clock runs 40 s ahead; nothing tells it so.
    let ahead = at(net.now + 40_000);
    let new = net.world.stream("early");
    let (scope, now) = (tenant_scope(&net), net.now());
    let node = &mut net.nodes[1];
    node.replica
        .prepare(scope, new.changes, std::time::Duration::ZERO, ahead)
        .unwrap();
    node.replica.commit_prepared(now);
    net.drain(1);
    net.run(5_000);
    assert!(net.config(0).stream(new.stream).is_none());
    assert_eq!(net.nodes[0].replica.park.len(), 1);
    net.run(40_000 - MAX_AHEAD.as_millis() as u64);
    assert!(net.config(0).stream(new.stream).is_some());
}

#[test]
fn a_clock_far_off_writes_nothing() {
    let mut net = Net::new(1, 9);
    let changes = net.world.stream("x").changes;
    let (scope, now) = (tenant_scope(&net), net.now());
    let off = std::time::Duration::from_secs(11);
    let refused = net.nodes[0]
        .replica
        .prepare(scope, changes, off, now)
        .unwrap_err();
    assert!(refused.to_string().contains("11 s away"), "{refused}");
}

#[test]
fn a_node_of_a_cluster_that_is_not_entitled_gets_nothing_and_writes_nothing() {
    let mut net = Net::new(3, 10);
    let (cluster, key, grant) = net.world.stranger_cluster("other");
    let mesh = net.world.root.mesh();
    // Node 2 changes to the other cluster, with a later grant.
    let node = net.world.node(2);
    let theirs = crate::authority::NodeGrant {
        mesh,
        cluster,
        node: node.id(),
        name: "two".parse().unwrap(),
        roles: crate::world::all_roles(),
        not_before: UnixMillis(START.0 + 1),
        expires: START.plus(crate::authority::NodeGrant::LASTS),
        consent: node.consent(&mesh, cluster),
        token: None,
    };
    let theirs = Change::Node(theirs.issue(&key).unwrap());
    net.run(2);
    net.write(0, Scope::Mesh, vec![grant, theirs]).unwrap();
    net.run_until_agreed(3_000);
    let stream = net.stream(0, "not for all");
    net.run(5_000);
    assert!(net.config(1).stream(stream).is_some());
    assert!(net.config(2).stream(stream).is_none());
    assert!(!net.config(2).has_scope(net.world.tenant));
    let scope = tenant_scope(&net);
    let deleted = vec![Change::StreamDeleted { stream }];
    let refused = net.write(2, scope, deleted).unwrap_err();
    assert!(
        matches!(refused, WriteError::NotAllowed { .. }),
        "{refused}"
    );

    // Entitled, it gets the scope without anybody's help.
    let at = (mesh, net.world.tenant, cluster);
    let keys = (&net.world.tenant_key, &key);
    let now = net.now().unix;
    let entitled = changes::entitle(at, crate::world::all_verbs(), keys, now).unwrap();
    net.write(0, Scope::Mesh, vec![entitled]).unwrap();
    net.run(4_000);
    let now = net.now().unix;
    assert!(net.nodes[2].replica.config(now).stream(stream).is_some());
}

#[test]
fn the_mesh_scope_can_be_handed_to_a_node_that_joins() {
    let mut net = Net::new(2, 11);
    net.run_until_agreed(3_000);
    let pieces = net.nodes[0].replica.export_mesh();
    let mut fresh = Replica::open(net.world.node(9), net.world.root.mesh(), Vec::new()).unwrap();
    let now = net.now();
    assert_eq!(fresh.import(pieces.clone(), now), pieces.len());
    assert_eq!(fresh.import(pieces, now), 0);
    let (ours, theirs) = (net.config(0), fresh.config(START));
    assert_eq!(ours.nodes().count(), theirs.nodes().count());
    assert_eq!(theirs.base(), "mesh.example");

    let other = World::new(3);
    let foreign = crate::identity::RootKey::from_seed([55; 32]).mesh();
    let mut stranger = Replica::open(other.node(3), foreign, Vec::new()).unwrap();
    assert_eq!(stranger.import(net.nodes[0].replica.export_mesh(), now), 0);
}

#[test]
fn founding_makes_a_mesh_and_names_are_claims() {
    let mut net = Net::new(1, 12);
    let config = net.config(0);
    assert_eq!((config.base(), config.suffix()), ("mesh.example", "cdn"));
    let tenant = config.tenant_by_label(&"acme".parse().unwrap()).unwrap();
    assert_eq!(
        (tenant.id, tenant.name.as_str(), tenant.branded),
        (net.world.tenant, "Acme", true)
    );
    assert!(config.cluster_by_slug(&"first".parse().unwrap()).is_some());
    assert!(config.has_scope(net.world.tenant));

    let again = (("acme".parse().unwrap()), "Other".to_owned());
    let now = net.now().unix;
    let second = changes::create_tenant(&net.world.root, again, &[], now, &mut net.world.rng);
    let refused = net
        .write(0, Scope::Mesh, second.unwrap().changes)
        .unwrap_err();
    assert!(matches!(refused, WriteError::NameTaken { .. }), "{refused}");
    let reserved = (("play".parse().unwrap()), "Play".to_owned());
    assert!(
        changes::create_tenant(&net.world.root, reserved, &[], now, &mut net.world.rng).is_err()
    );

    let token = changes::create_token(net.world.tenant, "ci".to_owned(), None, &mut net.world.rng);
    net.write(0, Scope::Mesh, token.changes).unwrap();
    let hash = changes::token_hash(token.text.expose());
    assert_eq!(net.config(0).token(hash).unwrap().tenant, net.world.tenant);
    let gone = Change::TokenRevoked {
        token: token.token,
        tenant: net.world.tenant,
    };
    net.write(0, Scope::Mesh, vec![gone]).unwrap();
    assert!(net.config(0).token(hash).is_none());
}

/// The cost of a snapshot must not grow with the square of what there is.
#[test]
fn two_thousand_streams_load_and_each_further_one_touches_little() {
    let mut net = Net::new(1, 13);
    for n in 0..2_000 {
        net.stream(0, &format!("{n}"));
    }
    let before = net.config(0);
    let stream = net.stream(0, "one more");
    let after = net.config(0);
    assert!(before.stream(stream).is_none() && after.stream(stream).is_some());
    assert_eq!(after.streams(net.world.tenant).count(), 2_001);
    assert_eq!(
        before.streams.parts_apart(&after.streams),
        1,
        "all but one part are shared"
    );
    net.restart(0);
    assert_eq!(net.config(0).streams(net.world.tenant).count(), 2_001);
}
