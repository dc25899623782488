//! Who gets a broadcast, from whom, and when it goes.
use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;

use super::world::*;
use crate::{ports::Refusal, relay::RelayLimits, supply::Supply};

#[tokio::test]
async fn it_comes_on_demand_once_for_many_and_starts_at_a_keyframe_within_100_ms() {
    let world = World::new();
    let (a, b) = (Node::start(&world, 1), Node::start(&world, 2));
    let mut origin = a.publish(1, 1);
    origin.push_many(GROUP * 8 + 5);
    assert_eq!(a.relay.subscribers(BROADCAST), 0);
    assert!(b.broadcasts.get(BROADCAST).is_none());

    // The handshake is the link's, not the broadcast's; unoptimised it takes most of 100 ms.
    b.relay.connect(a.id, &[a.address()]).await.unwrap();
    let asked = world.clock.uptime();
    let leases = join_all((0..50).map(|_| b.relay.lease(BROADCAST))).await;
    let took = world.clock.uptime().since(asked);
    assert_eq!(a.relay.subscribers(BROADCAST), 1);
    let lease = leases.into_iter().next().unwrap().unwrap();
    let copy = lease.broadcast();
    let line = copy.current().unwrap();
    assert!(line.latest_independent(VIDEO).unwrap().frames()[0].keyframe);
    assert!(took < Duration::from_millis(100), "joining took {took:?}");
    assert_eq!(b.relay.path(BROADCAST), Some(vec![a.id, b.id]));

    origin.push_many(GROUP);
    let line = origin.end();
    until(copy, "all is there", |c| {
        c.backfilled() && has_all(c, &line)
    })
    .await;
    until(copy, "it ends", |c| c.current().is_some_and(|l| l.ended())).await;
}

#[tokio::test]
async fn two_hops_have_the_same_bytes_and_all_that_a_playlist_lists() {
    let world = World::new();
    let nodes = [1, 2, 3].map(|seed| Node::start(&world, seed));
    let [a, b, c] = &nodes;
    world.prefer(c, &[b]);
    let mut origin = a.publish(1, 1);
    origin.push_many(GROUP * 90);
    let at_b = b.relay.lease(BROADCAST).await.unwrap();
    world
        .until("b says so", || world.holding(b).is_some())
        .await;
    let at_c = c.relay.lease(BROADCAST).await.unwrap();
    assert_eq!(c.relay.path(BROADCAST), Some(vec![a.id, b.id, c.id]));
    assert_eq!(world.holding(b).unwrap().replica_of, Some(a.id));
    origin.push_many(GROUP * 3);
    let line = origin.end();
    for lease in [at_b, at_c] {
        let copy = lease.broadcast();
        until(copy, "it is filled and ends", |c| {
            c.backfilled() && c.current().is_some_and(|l| l.ended())
        })
        .await;
        let held = copy.current().unwrap();
        for track in [VIDEO, AUDIO] {
            let groups = held.groups(track);
            assert!(
                groups.len() >= 64,
                "32 s are 64 groups, here are {}",
                groups.len()
            );
            let last = line.groups(track).len();
            let there = &line.groups(track)[last - groups.len()..];
            for (here, there) in groups.iter().zip(there) {
                assert_eq!(here.header(), there.header());
                assert_eq!(here.frames(), there.frames());
            }
        }
    }
}

#[tokio::test]
async fn a_waiting_viewer_gets_a_broadcast_that_starts() {
    let world = World::new();
    let (a, b) = (Node::start(&world, 1), Node::start(&world, 2));
    let lease = tokio::spawn({
        let relay = b.relay.clone();
        async move { relay.lease(BROADCAST).await }
    });
    let mut origin = a.publish(1, 1);
    origin.push_many(3);
    let lease = lease.await.unwrap().unwrap();
    until(lease.broadcast(), "frames come", |c| {
        has_all(c, &origin.line)
    })
    .await;
}

#[tokio::test]
async fn who_is_not_entitled_is_refused_and_loses_it_when_the_entitlement_goes() {
    let world = World::new();
    let nodes = [1, 2, 3].map(|seed| Node::start(&world, seed));
    let [a, b, c] = &nodes;
    let mut origin = a.publish(1, 1);
    origin.push_many(3);
    world.bar(b);
    let refused = b.relay.lease(BROADCAST).await;
    assert!(matches!(refused, Err(Refusal::Forbidden(_))), "{refused:?}");

    let _lease = c.relay.lease(BROADCAST).await.unwrap();
    world.until("c tells", || world.holding(c).is_some()).await;
    world.bar(c);
    a.relay.recheck();
    world
        .until("c has no source", || world.holding(c).is_none())
        .await;
    assert_eq!(a.relay.subscribers(BROADCAST), 0);
    assert_eq!(c.relay.path(BROADCAST), None);
}

#[tokio::test]
async fn it_goes_some_time_after_the_last_viewer_but_not_under_the_next() {
    let world = World::new();
    let (a, b) = (Node::start(&world, 1), Node::start(&world, 2));
    let running = {
        let mut origin = a.publish(1, 1);
        origin.push_many(3);
        origin.run()
    };
    let first = b.relay.lease(BROADCAST).await.unwrap();
    let second = b.relay.lease(BROADCAST).await.unwrap();
    drop(first);
    world.until("b tells", || world.holding(&b).is_some()).await;
    let copy = second.broadcast().clone();
    drop(second);
    world
        .until("b withdraws", || world.holding(&b).is_none())
        .await;
    assert!(b.broadcasts.get(BROADCAST).is_none());
    assert!(
        a.broadcasts.get(BROADCAST).is_some(),
        "the origin keeps its own"
    );

    let again = b.relay.lease(BROADCAST).await.unwrap();
    assert!(!std::sync::Arc::ptr_eq(again.broadcast(), &copy));
    running.stop().await;
}

#[tokio::test]
async fn a_full_node_sends_newcomers_to_its_replicas_and_so_a_tree_grows() {
    let world = World::new();
    let limits = RelayLimits {
        fan_out: 2,
        ..limits()
    };
    let nodes: Vec<Node> = (1..=7)
        .map(|seed| Node::with(&world, seed, limits))
        .collect();
    for node in &nodes[1..] {
        world.prefer(node, &[&nodes[0]]);
    }
    let mut origin = nodes[0].publish(1, 1);
    origin.push_many(5);
    let mut leases = Vec::new();
    for node in &nodes[1..] {
        leases.push(node.relay.lease(BROADCAST).await.unwrap());
        world
            .until("it tells", || world.holding(node).is_some())
            .await;
    }
    origin.push_many(GROUP * 2);
    let line = origin.end();
    for lease in &leases {
        until(lease.broadcast(), "all is there", |c| has_all(c, &line)).await;
    }
    let depths: BTreeMap<_, _> = nodes[1..]
        .iter()
        .map(|node| (node.id, node.relay.path(BROADCAST).unwrap().len()))
        .collect();
    assert!(
        nodes
            .iter()
            .all(|node| node.relay.subscribers(BROADCAST) <= 2)
    );
    assert_eq!(nodes[0].relay.subscribers(BROADCAST), 2);
    assert!(depths.values().all(|depth| *depth <= 4), "{depths:?}");
}

#[tokio::test]
async fn garbage_on_any_stream_harms_nobody() {
    let world = World::new();
    let nodes = [1, 2, 3].map(|seed| Node::start(&world, seed));
    let [a, b, c] = &nodes;
    let mut origin = a.publish(1, 1);
    origin.push_many(5);
    let lease = b.relay.lease(BROADCAST).await.unwrap();
    let rude = c.relay.connect(a.id, &[a.address()]).await.unwrap();
    for n in 0..200_u8 {
        let (mut send, _recv) = rude.open_bi().await.unwrap();
        send.write_all(&[n.wrapping_mul(37); 40]).await.unwrap();
        let mut send = rude.open_uni().await.unwrap();
        send.write_all(&[0, 0, 0, n, n, n, 255]).await.unwrap();
    }
    origin.push_many(GROUP);
    let line = origin.end();
    until(lease.broadcast(), "all is there", |c| has_all(c, &line)).await;
}
