//! What happens when a source dies, falls silent or is overtaken.
use std::time::Duration;

use super::world::*;
use crate::{live::Phase, origin::Recall, supply::Supply};

#[tokio::test]
async fn a_source_that_dies_in_mid_group_is_replaced_without_loss() {
    let world = World::new();
    let nodes = [1, 2, 3, 4].map(|seed| Node::start(&world, seed));
    let [a, b, c, d] = &nodes;
    world.prefer(d, &[b, c]);
    let mut origin = a.publish(1, 1);
    origin.push_many(5);
    let _at_b = b.relay.lease(BROADCAST).await.unwrap();
    let _at_c = c.relay.lease(BROADCAST).await.unwrap();
    world
        .until("both tell", || {
            world.holding(b).is_some() && world.holding(c).is_some()
        })
        .await;
    world.prefer(c, &[a]);
    let at_d = d.relay.lease(BROADCAST).await.unwrap();
    assert_eq!(d.relay.path(BROADCAST).unwrap()[1], b.id);
    origin.push_many(GROUP + 3);
    let copy = at_d.broadcast();
    let line = origin.line.clone();
    until(copy, "d is in mid-group", |c| {
        let held = c.current().and_then(|l| l.groups(VIDEO).pop());
        held.is_some_and(|g| g.header().seq.0 == 1 && g.frames().len() == 8)
    })
    .await;
    let open = copy.current().unwrap().groups(VIDEO).pop().unwrap();
    b.relay.stop().await;
    origin.push_many(GROUP * 2);
    until(copy, "d goes on", |c| has_all(c, &line)).await;
    assert_eq!(
        open.phase(),
        Phase::Finished,
        "readers of the open group read on"
    );
    assert_eq!(open.frames().len(), 25);
    assert_ne!(d.relay.path(BROADCAST).unwrap()[1], b.id);
}

#[tokio::test]
async fn a_source_that_falls_silent_is_replaced_when_another_has_more() {
    let world = World::new();
    let nodes = [1, 2, 3].map(|seed| Node::start(&world, seed));
    let [a, b, c] = &nodes;
    let wire = Wire::to(a.address()).await;
    world.detour(c, a, wire.address);
    world.prefer(c, &[a, b]);
    let mut origin = a.publish(1, 1);
    origin.push_many(5);
    let _at_b = b.relay.lease(BROADCAST).await.unwrap();
    world.until("b tells", || world.holding(b).is_some()).await;
    let at_c = c.relay.lease(BROADCAST).await.unwrap();
    assert_eq!(c.relay.path(BROADCAST), Some(vec![a.id, c.id]));
    let copy = at_c.broadcast().clone();
    let running = origin.run();
    until(&copy, "frames come", |c| {
        c.current().unwrap().groups(VIDEO).len() > 1
    })
    .await;

    wire.cut();
    let cut = world.clock.uptime();
    let count = |c: &crate::live::Broadcast| {
        let groups = c.current().unwrap().groups(VIDEO);
        groups.iter().map(|g| g.frames().len()).sum::<usize>()
    };
    let before = count(&copy);
    // What was under way when the wire was cut may still arrive: 10 frames are 200 ms.
    until(&copy, "frames come by another way", |c| {
        count(c) > before + 10
    })
    .await;
    let took = world.clock.uptime().since(cut);
    assert_eq!(c.relay.path(BROADCAST), Some(vec![a.id, b.id, c.id]));
    assert!(
        took < Duration::from_millis(1_200),
        "600 ms of silence and 600 ms to resume: {took:?}"
    );
    let line = running.stop().await.end();
    until(&copy, "nothing is lost", |c| has_all(c, &line)).await;
}

#[tokio::test]
async fn orphans_do_not_follow_each_other_and_take_the_next_origin() {
    let world = World::new();
    let nodes = [1, 2, 3, 4].map(|seed| Node::start(&world, seed));
    let [a, b, c, d] = &nodes;
    world.prefer(b, &[a, c]);
    world.prefer(c, &[a, b]);
    let mut origin = a.publish(1, 5);
    origin.push_many(5);
    let at_b = b.relay.lease(BROADCAST).await.unwrap();
    let at_c = c.relay.lease(BROADCAST).await.unwrap();
    let told = || world.holding(b).is_some() && world.holding(c).is_some();
    world.until("both tell", told).await;
    world.prefer(b, &[c, a]);
    world.prefer(c, &[b, a]);
    a.relay.stop().await;
    world.forget(a);
    let silent = || world.holding(b).is_none() && world.holding(c).is_none();
    world.until("both are orphans", silent).await;
    assert_eq!(
        (b.relay.path(BROADCAST), c.relay.path(BROADCAST)),
        (None, None)
    );

    let mut next = d.publish(2, 9);
    next.push_many(GROUP);
    for (node, lease) in [(b, &at_b), (c, &at_c)] {
        let copy = lease.broadcast();
        until(copy, "the same broadcast gets the new epoch", |c| {
            c.current().is_some_and(|l| l.epoch().origin == d.id) && has_all(c, &next.line)
        })
        .await;
        assert_eq!(node.relay.path(BROADCAST).unwrap()[0], d.id);
        assert!(copy.epochs()[0].ended(), "an epoch without origin is over");
    }
}

#[tokio::test]
async fn of_two_origins_the_lower_claim_wins_at_a_keyframe() {
    let world = World::new();
    let nodes = [1, 2, 3].map(|seed| Node::start(&world, seed));
    let [a, b, c] = &nodes;
    let mut late = b.publish(2, 9);
    late.push_many(GROUP + 5);
    let lease = c.relay.lease(BROADCAST).await.unwrap();
    let copy = lease.broadcast();
    assert_eq!(copy.current().unwrap().epoch().origin, b.id);

    let mut early = a.publish(1, 3);
    early.push_many(GROUP + 5);
    a.relay.recheck();
    until(copy, "the lower claim's epoch is current", |c| {
        c.current().is_some_and(|l| l.epoch().origin == a.id) && has_all(c, &early.line)
    })
    .await;
    assert!(copy.epoch(late.line.epoch().id).unwrap().ended());
    assert_eq!(c.relay.path(BROADCAST), Some(vec![a.id, c.id]));
}

#[tokio::test]
async fn a_publisher_who_was_thought_gone_goes_on_in_its_own_epoch() {
    let world = World::new();
    let nodes = [1, 2, 3].map(|seed| Node::start(&world, seed));
    let [a, b, c] = &nodes;
    let mut early = a.publish(1, 3);
    early.push_many(GROUP + 5);
    let wire = Wire::to(a.address()).await;
    world.detour(c, a, wire.address);
    let lease = c.relay.lease(BROADCAST).await.unwrap();
    let copy = lease.broadcast();
    // A partition: a is out of sight, and its encoder's second is let in at b.
    let told = world.holding(a).unwrap();
    world.forget(a);
    wire.cut();
    let mut late = b.publish(2, 9);
    late.push_many(GROUP + 5);
    until(copy, "the other epoch is current", |x| {
        x.current().is_some_and(|l| l.epoch().origin == b.id)
    })
    .await;
    assert!(copy.epoch(early.line.epoch().id).unwrap().ended());

    world.detour(c, a, a.address());
    world.tell(a, told);
    early.push_many(GROUP);
    until(copy, "the first epoch goes on", |x| {
        x.current().is_some_and(|l| l.epoch().origin == a.id) && has_all(x, &early.line)
    })
    .await;
    assert!(copy.epoch(late.line.epoch().id).unwrap().ended());
}

#[tokio::test]
async fn what_a_new_publisher_follows_is_asked_of_who_still_has_it() {
    let world = World::new();
    let nodes = [1, 2, 3].map(|seed| Node::start(&world, seed));
    let [a, b, c] = &nodes;
    assert_eq!(b.relay.recall(BROADCAST).await, None);
    let mut origin = a.publish(1, 1);
    origin.push_many(2 * GROUP + 3);
    let lease = c.relay.lease(BROADCAST).await.unwrap();
    until(lease.broadcast(), "it is at c", |x| {
        has_all(x, &origin.line)
    })
    .await;
    a.relay.stop().await;
    world.forget(a);
    world
        .until("c is an orphan", || world.holding(c).is_none())
        .await;
    let past = b.relay.recall(BROADCAST).await.unwrap();
    assert_eq!(past.epoch, *origin.line.epoch());
    assert!(!past.ended);
    let segments: Vec<u64> = past.last.iter().map(|last| last.segment).collect();
    assert_eq!(segments, [2, 2]);
    world.bar(b);
    assert_eq!(b.relay.recall(BROADCAST).await, None, "not entitled");
}

#[tokio::test]
async fn a_publisher_who_moves_here_makes_this_node_the_origin_and_back() {
    let world = World::new();
    let nodes = [1, 2, 3].map(|seed| Node::start(&world, seed));
    let [a, b, c] = &nodes;
    let mut first = a.publish(1, 1);
    first.push_many(5);
    let at_b = b.relay.lease(BROADCAST).await.unwrap();
    first.end();
    world.forget(a);
    let mut second = b.publish(2, 2);
    second.push_many(5);
    assert!(std::sync::Arc::ptr_eq(at_b.broadcast(), &second.broadcast));
    until(at_b.broadcast(), "it is here", |_| {
        b.relay.path(BROADCAST) == Some(vec![b.id])
    })
    .await;
    let at_c = c.relay.lease(BROADCAST).await.unwrap();
    assert_eq!(c.relay.path(BROADCAST), Some(vec![b.id, c.id]));
    second.end();
    world.forget(b);
    let mut third = a.publish(3, 3);
    third.push_many(5);
    for lease in [at_b, at_c] {
        until(lease.broadcast(), "the third epoch is there", |x| {
            has_all(x, &third.line)
        })
        .await;
    }
}

#[tokio::test]
async fn a_publisher_who_comes_back_after_its_broadcast_was_forgotten_feeds_the_same_viewers() {
    let world = World::new();
    let a = Node::start(&world, 1);
    let mut first = a.publish(1, 1);
    first.push_many(5);
    let lease = a.relay.lease(BROADCAST).await.unwrap();
    first.end();
    a.broadcasts.remove(BROADCAST);
    // Anything that changes makes the relay look.
    world.forget(&a);
    let back = async {
        while a.broadcasts.get(BROADCAST).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back)
        .await
        .unwrap();
    let second = a.publish(2, 2);
    assert!(std::sync::Arc::ptr_eq(lease.broadcast(), &second.broadcast));
}

#[tokio::test]
async fn a_hop_adds_little() {
    let world = World::new();
    let (a, b) = (Node::start(&world, 1), Node::start(&world, 2));
    let mut origin = a.publish(1, 1);
    origin.push();
    let lease = b.relay.lease(BROADCAST).await.unwrap();
    let epoch = origin.line.epoch().id;
    let mut there = lease
        .broadcast()
        .reader(epoch, VIDEO, crate::live::GroupSeq(0));
    let mut group = there.next().await.unwrap();
    group.next().await.unwrap();
    let mut took = Vec::new();
    for _ in 0..200 {
        let sent = world.clock.uptime();
        origin.push();
        loop {
            if group.next().await.is_some() {
                break;
            }
            group = there.next().await.unwrap();
        }
        took.push(world.clock.uptime().since(sent));
    }
    took.sort();
    let (median, worst) = (took[100], took[199]);
    println!("one hop: median {median:?}, worst {worst:?}");
    assert!(median < Duration::from_millis(5), "{median:?}");
}
