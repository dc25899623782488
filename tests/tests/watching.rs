//! A viewer watches through a relay, by name, and the node that serves it goes away.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::time::Duration;

use shoal_tests::{
    lab::{timed, until},
    stage::{DOMAIN, Node, Stage},
    watch::Viewer,
};

const S: Duration = Duration::from_secs(1);
/// From a node's death until no DNS answer names it.
const WITHDRAWAL: Duration = Duration::from_secs(5);
/// From a node's death until the picture moves again.
const RECOVERY: Duration = Duration::from_secs(3);
/// Names by which viewers and streamers find nodes.
const NAMES: [&str; 4] = ["foghorn", "play", "edge-ingest", "edge-egress"];

/// How the node that serves goes away.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Cut,
}

/// No answer of the two other nodes names `b`.
fn withdrawn(stage: &Stage, from: &Node) -> bool {
    let named = |n: &&Node| {
        NAMES
            .iter()
            .any(|name| n.resolve(stage.viewer(), name).contains(&from.ip()))
    };
    ![stage.a(), stage.c()].iter().any(named)
}

/// Whether a node counts viewers, as `asked` knows it.
fn serves(asked: &Node, name: &str) -> bool {
    let status = asked.status().unwrap_or_default();
    let mut nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.any(|n| n["name"] == name && n["viewers"].as_u64() > Some(0))
}

fn the_serving_node_goes(seed: u64, fault: Fault, player: &str, recovery: Duration) {
    let Some(stage) = Stage::or_skip(seed) else {
        return;
    };
    let (a, b) = (stage.a(), stage.b());
    let stream = stage.create(b, "Harbour").unwrap();
    let _encoder = stage.publish(&stream).unwrap();
    stage.playable(b, &stream).unwrap();
    // The streamer's nearest took it, and the viewer's nearest comes first: so a relay lies between.
    assert_eq!(stage.origin(b, &stream).unwrap().name(), "a");
    assert_eq!(a.resolve(stage.viewer(), "foghorn")[0], b.ip());
    let path = if player == "page" {
        ""
    } else {
        "/cmaf/index.m3u8"
    };
    let url = format!("http://foghorn.{DOMAIN}/play/{}{path}", stream.playback);
    let viewer = Viewer::open(&stage, &url, player).unwrap();
    let before = viewer.plays(60 * S).unwrap();
    until("b to serve the viewer", 10 * S, || {
        serves(a, "b").then_some(())
    })
    .unwrap();
    let settled = viewer.plays_on(&before, 3.0, 20 * S).unwrap();

    let (gone, took) = timed(|| {
        match fault {
            Fault::Killed => b.kill().unwrap(),
            Fault::Cut => stage.lab().wire().isolate("b"),
        }
        until("no DNS answer to name b", WITHDRAWAL, || {
            withdrawn(&stage, b).then_some(())
        })
    });
    gone.unwrap();
    shoal_tests::say(&format!("{fault:?}: withdrawn from DNS after {took:?}"));
    let after = viewer.plays_on(&settled, 10.0, 30 * S).unwrap();
    let stood = viewer.longest_stand(settled.at);
    shoal_tests::say(&format!(
        "{fault:?}: the picture stood for {stood:?}; {after:?}"
    ));
    assert!(stood < recovery, "the picture stood for {stood:?}");
    // By steering, or because the name has another address: either way somebody else serves now.
    assert!(
        serves(stage.c(), "a") || serves(stage.c(), "c"),
        "nobody counts the viewer"
    );
    viewer.unbroken(&settled, &after).unwrap();
    assert!(withdrawn(&stage, b), "an answer names b again");
}

#[test]
fn the_page_plays_on_when_the_serving_node_is_killed() {
    the_serving_node_goes(21, Fault::Killed, "page", RECOVERY);
}

#[test]
fn the_page_plays_on_when_the_serving_node_is_cut_off_in_silence() {
    the_serving_node_goes(22, Fault::Cut, "page", RECOVERY);
}

/// hls.js decides by itself when it has waited enough; that it goes on by itself is what counts.
#[test]
fn hls_js_plays_on_when_the_serving_node_is_killed() {
    the_serving_node_goes(23, Fault::Killed, "hls.js", 15 * S);
}
