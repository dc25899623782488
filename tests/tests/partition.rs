//! A mesh that is cut in two, and one that loses its founder.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{fs, time::Duration};

use shoal_tests::{
    full,
    lab::until,
    stage::{Node, Stage, Stream},
};

const S: Duration = Duration::from_secs(1);

/// Whether a node sees exactly these others and itself alive.
fn sees(node: &Node, all: &[&str]) -> bool {
    let mut alive = node.alive().unwrap_or_default();
    alive.sort();
    alive == all
}

/// Whether a node knows a stream of this name.
fn knows(node: &Node, name: &str) -> bool {
    let status = node.status().unwrap_or_default();
    let mut streams = status["streams"].as_array().into_iter().flatten();
    streams.any(|s| s["name"] == name)
}

/// Waits until a stream's playlist at a node goes on.
fn goes_on(node: &Node, stream: &Stream) -> anyhow::Result<()> {
    let path = format!("/play/{}/cmaf/v0.m3u8", stream.playback);
    let list = || node.get(&path).ok().filter(|(status, _)| *status == 200);
    let first = until("a playlist", 30 * S, list)?;
    until("the playlist to go on", 15 * S, || {
        list().filter(|now| *now != first)
    })
    .map(drop)
}

#[test]
fn both_sides_of_a_partition_write_and_play_and_are_one_again_after_it() {
    let Some(stage) = Stage::or_skip(71) else {
        return;
    };
    let (a, b, c) = (stage.a(), stage.b(), stage.c());
    let (east, west) = (
        stage.create(a, "East").unwrap(),
        stage.create(b, "West").unwrap(),
    );
    until("both streams to be known everywhere", 10 * S, || {
        let known = |n: &&Node| knows(n, "East") && knows(n, "West");
        [a, b, c].iter().all(known).then_some(())
    })
    .unwrap();
    let _encoders = [
        stage.publish(&east).unwrap(),
        stage.publish_from_viewer(&west).unwrap(),
    ];
    for node in [a, b, c] {
        stage.playable(node, &east).unwrap();
        stage.playable(node, &west).unwrap();
    }
    assert_eq!(stage.origin(c, &east).unwrap().name(), "a");
    assert_eq!(stage.origin(c, &west).unwrap().name(), "b");

    stage.lab().wire().partition(&["a", "streamer"]);
    until("both sides to see only themselves", 15 * S, || {
        (sees(a, &["a"]) && sees(b, &["b", "c"]) && sees(c, &["b", "c"])).then_some(())
    })
    .unwrap();
    stage.create(a, "Written in the east").unwrap();
    stage.create(b, "Written in the west").unwrap();
    goes_on(a, &east).unwrap();
    goes_on(c, &west).unwrap();
    // The cut's own length: nothing in it is waited for.
    let rest = if full() { 25 * S } else { 5 * S };
    until("the rest of the partition", rest, || None::<()>).unwrap_err();

    stage.lab().wire().heal_all();
    until("all to see all", 30 * S, || {
        [a, b, c]
            .iter()
            .all(|n| sees(n, &["a", "b", "c"]))
            .then_some(())
    })
    .unwrap();
    until("what both sides wrote to be everywhere", 30 * S, || {
        let known = |n: &&Node| knows(n, "Written in the east") && knows(n, "Written in the west");
        [a, b, c].iter().all(known).then_some(())
    })
    .unwrap();
    for node in [a, b, c] {
        goes_on(node, &east).unwrap();
        goes_on(node, &west).unwrap();
    }
}

#[test]
fn the_others_enrol_and_serve_without_the_founding_machine() {
    let Some(mut stage) = Stage::or_skip(72) else {
        return;
    };
    let d = stage.machine("d", 84).unwrap();
    let (a, b, c) = (stage.a(), stage.b(), stage.c());
    a.kill().unwrap();
    fs::remove_dir_all(a.data()).unwrap();
    stage.ask(&[c, b]).unwrap();
    until("the others to see that it is gone", 15 * S, || {
        (sees(b, &["b", "c"]) && sees(c, &["b", "c"])).then_some(())
    })
    .unwrap();
    stage.enrol(b, &d).unwrap();
    stage.settled(&[b, c, &d]).unwrap();
    let stream = stage.create(c, "Orphan").unwrap();
    let _encoder = stage.publish(&stream).unwrap();
    for node in [b, c, &d] {
        stage.playable(node, &stream).unwrap();
        goes_on(node, &stream).unwrap();
    }
}

#[test]
fn a_token_of_the_lost_founder_lets_one_machine_in_at_the_others() {
    let Some(mut stage) = Stage::or_skip(73) else {
        return;
    };
    let (d, e) = (
        stage.machine("d", 84).unwrap(),
        stage.machine("e", 85).unwrap(),
    );
    let (a, b, c) = (stage.a(), stage.b(), stage.c());
    let made = a.shoal_json(&["token"]).unwrap();
    let token = made["token"].as_str().unwrap();
    a.kill().unwrap();
    fs::remove_dir_all(a.data()).unwrap();
    d.shoal(&["join", token, "--name", "d"]).unwrap();
    let refused = e.shoal(&["join", token, "--name", "e"]).unwrap_err();
    assert!(
        format!("{refused:#}").contains("used by node d"),
        "{refused:#}"
    );
    d.start().unwrap();
    stage.settled(&[b, c, &d]).unwrap();
}

#[test]
fn a_token_that_both_sides_of_a_partition_redeem_is_told_of_afterwards() {
    let Some(mut stage) = Stage::or_skip(74) else {
        return;
    };
    let (d, e) = (
        stage.machine("d", 84).unwrap(),
        stage.machine("e", 85).unwrap(),
    );
    let (a, b, c) = (stage.a(), stage.b(), stage.c());
    let made = a.shoal_json(&["token"]).unwrap();
    let token = made["token"].as_str().unwrap();
    let told = |node: &Node| {
        let status = node.status()?;
        let warnings = status["warnings"].as_array()?;
        let pair = "nodes d and e came in by one join token";
        let mut said = warnings.iter().filter_map(|w| w.as_str());
        said.any(|w| w.contains(pair) || w.contains("nodes e and d came in by one join token"))
            .then_some(())
    };

    stage.lab().wire().partition(&["a", "d"]);
    until("both sides to see only themselves", 15 * S, || {
        (sees(a, &["a"]) && sees(b, &["b", "c"]) && sees(c, &["b", "c"])).then_some(())
    })
    .unwrap();
    for node in [&d, &e] {
        node.shoal(&["join", token, "--name", node.name()]).unwrap();
    }
    assert_eq!(told(a), None);
    stage.lab().wire().heal_all();
    until("what happened to be told at both", 30 * S, || {
        told(a).and(told(b))
    })
    .unwrap();
}
