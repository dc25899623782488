//! The node that a stream enters at goes away: the encoder comes back by name at another node, and viewers go on.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::time::Duration;

use shoal_tests::{
    lab::{timed, until},
    say,
    stage::{DOMAIN, Node, Stage, Stream},
    watch::Viewer,
};

const S: Duration = Duration::from_secs(1);

/// The epochs that a playlist names, oldest first, and how many discontinuities it has.
fn epochs(at: &Node, stream: &Stream) -> Option<(Vec<String>, usize)> {
    let path = format!("/play/{}/cmaf/v0.m3u8", stream.playback);
    let (status, body) = at.get(&path).ok()?;
    if status != 200 {
        return None;
    }
    let text = String::from_utf8(body).ok()?;
    let mut epochs: Vec<String> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let epoch = line.split('/').next()?.to_owned();
        if epochs.last() != Some(&epoch) {
            epochs.push(epoch);
        }
    }
    let breaks = text.lines().filter(|l| *l == "#EXT-X-DISCONTINUITY");
    Some((epochs, breaks.count()))
}

/// Where the viewer is, beside the node that the encoder comes back at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    /// At that node, which so has what came before.
    There,
    /// At the third: the new origin has nothing, and asks.
    Elsewhere,
}

fn the_origin_is_killed(seed: u64, player: &str, watched: Watched, stands: Duration) {
    let Some(stage) = Stage::or_skip(seed) else {
        return;
    };
    let (a, b, c) = (stage.a(), stage.b(), stage.c());
    stage.ask(&[c, b]).unwrap();
    let stream = stage.create(b, "Reef").unwrap();
    let encoder = stage.publish(&stream).unwrap();
    let (at, host) = match watched {
        Watched::There => (b, format!("foghorn.{DOMAIN}")),
        Watched::Elsewhere => (c, c.ip().to_string()),
    };
    stage.playable(at, &stream).unwrap();
    assert_eq!(stage.origin(at, &stream).unwrap().name(), "a");
    let path = if player == "page" {
        ""
    } else {
        "/cmaf/index.m3u8"
    };
    let url = format!("http://{host}/play/{}{path}", stream.playback);
    let viewer = Viewer::open(&stage, &url, player).unwrap();
    let settled = viewer.plays(60 * S).unwrap();
    let old = epochs(at, &stream).unwrap();
    say(&format!("epochs before: {old:?}"));

    assert_eq!(stage.route(at, &stream), ["a", at.name()]);
    let (known, took) = timed(|| {
        a.kill().unwrap();
        until("the relay to know", 2 * S, || {
            stage.route(at, &stream).is_empty().then_some(())
        })
    });
    known.unwrap();
    say(&format!("the relay knows after {took:?}"));
    until("the view to know", 5 * S, || {
        stage.origin(at, &stream).is_none().then_some(())
    })
    .unwrap();
    // An encoder of today ends with its connection; whoever runs it starts it again.
    encoder.wait(10 * S).unwrap();
    let mut encoder = stage.publish(&stream).unwrap();
    let (origin, took) = timed(|| {
        until("another node to take the stream", 20 * S, || {
            if encoder.ended().is_some() {
                encoder = stage.publish(&stream).unwrap();
            }
            stage.origin(at, &stream)
        })
    });
    let origin = origin.unwrap();
    say(&format!("{} has the stream after {took:?}", origin.name()));
    assert_eq!(origin.name(), "b");
    let new = until("the new epoch in the playlist", 10 * S, || {
        epochs(at, &stream).filter(|now| now.0.last() != old.0.last())
    })
    .unwrap();
    say(&format!("epochs after: {new:?}"));
    assert_eq!(new.1, 1, "discontinuities: {new:?}");

    let last = viewer.samples().last().unwrap().clone();
    let after = viewer.plays_on(&last, 5.0, 30 * S).unwrap();
    assert_eq!(after.rounds, settled.rounds, "the player began anew");
    let stood = viewer.longest_stand(settled.at);
    say(&format!("the picture stood for {stood:?}; {after:?}"));
    assert!(stood < stands, "the picture stood for {stood:?}");
    let all = viewer.samples();
    assert!(all.iter().all(|s| !s.reloaded), "the page was loaded again");
}

#[test]
fn the_page_goes_on_with_the_new_epoch_when_the_origin_is_killed() {
    the_origin_is_killed(31, "page", Watched::There, 15 * S);
}

#[test]
fn hls_js_goes_on_with_the_new_epoch_when_the_origin_is_killed() {
    the_origin_is_killed(32, "hls.js", Watched::There, 20 * S);
}

#[test]
fn hls_js_goes_on_where_the_new_origin_had_nothing_of_the_stream() {
    the_origin_is_killed(33, "hls.js", Watched::Elsewhere, 20 * S);
}
