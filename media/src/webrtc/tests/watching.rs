use str0m::media::KeyframeRequestKind;

use super::{
    super::{whep::Plan, whip::Fed},
    world::*,
};
use crate::origin::{self, Packet};

#[test]
fn a_viewer_sees_the_keyframe_at_once_and_is_live_within_two_seconds() {
    let mut world = World::new(9, 0);
    // A keyframe every ten seconds, and the viewer comes after nine.
    let feed = |world: &mut World, from: u32, to: u32| {
        for n in from..to {
            world.run(world.house.zero + 20 * MS * n);
            let keyframe = n % 500 == 0;
            feed(world, n, keyframe);
        }
    };
    feed(&mut world, 0, 450);
    let mids = world.watch();
    feed(&mut world, 450, 1_300);
    let all = seen(&world, mids[1]);
    let (first, at) = all[0];
    assert_eq!(first, 0, "the keyframe");
    // Offer and answer, ICE and DTLS take five one-way trips of 20 ms and more.
    assert!(at < 9_000 + 300, "{at}");
    let numbers: Vec<_> = all.iter().map(|(n, _)| *n).collect();
    assert!(
        numbers.windows(2).all(|w| w[1] == w[0] + 1),
        "none is missing"
    );
    for (n, at) in &all {
        let late = at - u64::from(*n) * 20;
        if *at > 11_000 {
            assert!(late < 30, "picture {n} is {late} ms late");
        }
    }
    // RTP time is live, too: it goes on as time does.
    let (client, _) = world.viewer.as_ref().unwrap();
    let times: Vec<_> = client.of(mids[1]).map(|d| d.time.numer()).collect();
    assert!(times.windows(2).all(|w| w[0] < w[1]));
    let tail = &times[times.len() - 100..];
    assert!(tail.windows(2).all(|w| w[1] - w[0] == 1_800));
    // What came in between was spread: no more than three times as fast per 100 ms as all that was behind asks for.
    let busiest = (9_000..10_500).step_by(100).map(|from| {
        all.iter()
            .filter(|(_, at)| (from..from + 100).contains(at))
            .count()
    });
    assert!(busiest.max().unwrap() < 80);
}

#[test]
fn a_publisher_that_comes_back_is_shown_on_the_same_rising_timeline() {
    let mut world = World::new(5, 0);
    for n in 0..100 {
        world.run(world.house.zero + 20 * MS * n);
        feed(&mut world, n, n % 50 == 0);
    }
    let mids = world.watch();
    for n in 100..200 {
        world.run(world.house.zero + 20 * MS * n);
        feed(&mut world, n, n % 50 == 0);
    }
    // It goes, and its clock begins again half a second later.
    world.house.origin.set_live(false);
    let gone = world.now;
    world.run(gone + 500 * MS);
    world.house.origin.set_live(true);
    for n in 0..200 {
        world.run(gone + 500 * MS + 20 * MS * n);
        feed(&mut world, n, n % 50 == 0);
    }
    let broadcast = world.house.broadcast();
    assert_eq!(broadcast.epochs().len(), 2);
    let numbers: Vec<_> = seen(&world, mids[1]).into_iter().map(|(n, _)| n).collect();
    let turn = numbers.iter().position(|n| *n == 199).unwrap();
    assert_eq!(numbers[turn + 1], 0);
    let (client, _) = world.viewer.as_ref().unwrap();
    let times: Vec<_> = client.of(mids[1]).map(|d| d.time.numer()).collect();
    assert!(times.windows(2).all(|w| w[0] < w[1]), "it never falls");
    let gap = times[turn + 1] - times[turn];
    assert!((40_000..60_000).contains(&gap), "as long as it took: {gap}");
}

#[test]
fn a_viewer_that_asks_for_a_keyframe_gets_the_cached_one_and_is_live_again() {
    let mut world = World::new(5, 0);
    let run = |world: &mut World, from: u32, to: u32| {
        for n in from..to {
            world.run(world.house.zero + 20 * MS * n);
            feed(world, n, n == 0);
        }
    };
    run(&mut world, 0, 100);
    let [_, video] = world.watch();
    run(&mut world, 100, 300);
    let now = world.now;
    let (client, _) = world.viewer.as_mut().unwrap();
    let mut writer = client.rtc.writer(video).unwrap();
    writer
        .request_keyframe(None, KeyframeRequestKind::Pli)
        .unwrap();
    client.drain(now);
    run(&mut world, 300, 500);
    let all = seen(&world, video);
    let again = all.iter().filter(|(n, _)| *n == 0).count();
    assert_eq!(again, 2, "from the keyframe, twice");
    let (last, at) = all.last().unwrap();
    assert!(at - u64::from(*last) * 20 < 40, "live");
}

#[test]
fn pictures_in_another_order_are_refused_with_the_reason() {
    let house = |pyramid: bool| {
        let mut world = World::new(1, 0);
        feed(&mut world, 0, true);
        for n in 1..100_u32 {
            world.run(world.house.zero + 20 * MS * n);
            // By threes: P, then two B before it, one of which the other may refer to.
            let (header, later) = match n % 3 {
                1 => (0x41, 2),
                2 if pyramid => (0x21, -1),
                _ => (0x01, -1),
            };
            let mut data = [&[0, 0, 0, 50, header][..], &digits(n)].concat();
            data.resize(54, 0xaa);
            let packet = Packet {
                input: origin::Input::VIDEO,
                time: i64::from(n) * 1_800,
                composition: (later + 1) * 1_800,
                keyframe: false,
                data: data.into(),
            };
            world.house.feed(world.now, Fed::Push(packet));
        }
        world
    };
    let why = Plan::of(&house(true).house.broadcast().current().unwrap()).unwrap_err();
    assert!(why.contains("bframes=0"), "{why}");
    let mut world = house(false);
    let [_, video] = world.watch();
    world.run(world.now + 2_000 * MS);
    let shown: Vec<_> = seen(&world, video).into_iter().map(|(n, _)| n).collect();
    assert!(
        shown.len() > 30 && shown[1..].iter().all(|n| n % 3 == 1),
        "{shown:?}"
    );
}

#[test]
fn a_viewer_that_is_too_slow_sees_fewer_pictures_but_none_late() {
    let mut world = World::new(8, 0);
    // 1.7 Mbit/s of pictures, of which 1.2 get through.
    world.capacity = Some(150);
    let mut mids = None;
    for n in 0..1_500 {
        world.run(world.house.zero + 20 * MS * n);
        feed(&mut world, n, n % 100 == 0);
        if n == 100 {
            mids = Some(world.watch());
        }
    }
    let all = seen(&world, mids.unwrap()[1]);
    let (client, core) = world.viewer.as_mut().unwrap();
    assert!(core.over().is_none() && client.connected);
    let later: Vec<_> = all.iter().filter(|(_, at)| *at > 10_000).collect();
    assert!(later.len() > 100, "{} of 1000", later.len());
    let ages = later.iter().map(|(n, at)| at - u64::from(*n) * 20);
    let oldest = ages.max().unwrap();
    assert!(oldest < 1_000, "{oldest} ms");
    // It comes back at keyframes, again and again.
    let keyframes = later.iter().filter(|(n, _)| n % 100 == 0).count();
    assert!(keyframes >= 5, "{keyframes} of 10");
}
