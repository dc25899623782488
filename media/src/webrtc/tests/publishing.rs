use super::{
    super::{
        peer::CONNECT,
        sdp::{Fragment, Offer},
        whip,
    },
    world::*,
};

#[test]
fn what_is_published_is_in_step_and_keyframes_are_asked_for_every_two_seconds() {
    for loss in [0, 30] {
        let mut world = World::new(7, loss);
        let mids = world.publish();
        world.run(world.now + 800 * MS);
        assert!(world.publisher.as_ref().unwrap().0.connected, "loss {loss}");
        publish_for(&mut world, mids, 12);
        let pictures = world.house.frames(0);
        let keyframes = pictures.iter().filter(|f| f.keyframe).map(|f| f.dts);
        let keyframes: Vec<_> = keyframes.collect();
        assert!((5..=7).contains(&keyframes.len()), "{keyframes:?}");
        for pair in keyframes.windows(2) {
            assert!(
                (179_000..250_000).contains(&(pair[1] - pair[0])),
                "{pair:?}"
            );
        }
        // Lost packets are sent again.
        assert!(
            pictures.len() > 590,
            "{} of 600, loss {loss}",
            pictures.len()
        );
        // Picture n and sound n were made at once.
        let sounds = world.house.frames(1);
        let last = pictures.last().unwrap();
        let made = number(&last.data[5..]);
        let mut heard = sounds.iter().filter(|s| s.data.len() > 1);
        let like = heard.find(|s| number(&s.data[1..]) == made).unwrap();
        let apart = last.dts / 90 - like.dts / 48;
        assert!(apart.abs() <= 10, "{apart} ms");
    }
}

#[test]
fn what_is_published_is_watched_over_a_network_that_loses() {
    let mut world = World::new(3, 40);
    let published = world.publish();
    world.run(world.now + 800 * MS);
    publish_for(&mut world, published, 3);
    let [audio, video] = world.watch();
    publish_for(&mut world, published, 10);
    let all = seen(&world, video);
    let (client, core) = world.viewer.as_mut().unwrap();
    assert!(core.over().is_none());
    assert!(all.len() > 450, "{} pictures", all.len());
    assert!(client.of(audio).count() > 450);
    assert!(all.windows(2).all(|w| w[0].1 <= w[1].1));
}

#[test]
fn who_never_connects_is_dropped_after_ten_seconds() {
    let mut world = World::new(1, 1_000);
    world.publish();
    world.run(world.now + CONNECT - MS);
    let over = |world: &mut World| world.publisher.as_mut().unwrap().1.peer().over();
    assert!(!over(&mut world));
    world.run(world.now + 2 * MS);
    assert!(over(&mut world));
}

#[test]
fn ice_restarts_with_new_credentials_and_media_goes_on() {
    let mut world = World::new(2, 0);
    let mids = world.publish();
    world.run(world.now + 800 * MS);
    publish_for(&mut world, mids, 2);
    let now = world.now;
    let (client, core) = world.publisher.as_mut().unwrap();
    let mut change = client.rtc.sdp_api();
    change.ice_restart(true);
    let (offer, pending) = change.apply().unwrap();
    let text = offer.to_sdp_string();
    let full = Offer::read(text.as_bytes(), whip::uses()).unwrap();
    let (ufrag, password) = full.credentials().unwrap();
    // As the PATCH carries it.
    let sent = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n");
    let fragment = Fragment::read(sent.as_bytes()).unwrap();
    let (ufrag, password) = fragment.credentials.unwrap();
    let before = core.peer().ufrag();
    let again = full.restarted(&ufrag, &password).parse().unwrap();
    let answer = core.peer().again(now, again).unwrap();
    assert_ne!(core.peer().ufrag(), before);
    let back = Fragment::of(&answer.to_sdp_string());
    assert!(back.contains(&core.peer().ufrag()) && back.contains("a=candidate:"));
    client.accept(now, pending, &answer);
    let before = world.house.frames(0).len();
    publish_for(&mut world, mids, 2);
    assert!(world.house.frames(0).len() > before + 80);
}
