//! The node that a stream enters at goes away: the encoder comes back by name at another node, and viewers go on.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::time::Duration;

use shoal_tests::{
    lab::{timed, until},
    say,
    stage::{DOMAIN, Stage, Stream},
    watch::Viewer,
};

const S: Duration = Duration::from_secs(1);

/// The epochs that a playlist names, oldest first, and how many discontinuities it has.
fn epochs(stage: &Stage, stream: &Stream) -> Option<(Vec<String>, usize)> {
    let path = format!("/play/{}/cmaf/v0.m3u8", stream.playback);
    let (status, body) = stage.b().get(&path).ok()?;
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

#[test]
fn the_page_goes_on_with_the_new_epoch_when_the_origin_is_killed() {
    let Some(stage) = Stage::or_skip(31) else {
        return;
    };
    let (a, b) = (stage.a(), stage.b());
    stage.ask(&[stage.c(), b]).unwrap();
    let stream = stage.create(b, "Reef").unwrap();
    let encoder = stage.publish(&stream).unwrap();
    stage.playable(b, &stream).unwrap();
    assert_eq!(stage.origin(b, &stream).unwrap().name(), "a");
    let url = format!("http://foghorn.{DOMAIN}/play/{}", stream.playback);
    let viewer = Viewer::open(&stage, &url, "page").unwrap();
    let settled = viewer.plays(60 * S).unwrap();
    let old = epochs(&stage, &stream).unwrap();
    say(&format!("epochs before: {old:?}"));

    let (known, took) = timed(|| {
        a.kill().unwrap();
        until("the relay to know", 5 * S, || {
            stage.origin(b, &stream).is_none().then_some(())
        })
    });
    known.unwrap();
    say(&format!("the relay knows after {took:?}"));
    // An encoder of today ends with its connection; whoever runs it starts it again.
    encoder.wait(10 * S).unwrap();
    let mut encoder = stage.publish(&stream).unwrap();
    let (origin, took) = timed(|| {
        until("another node to take the stream", 20 * S, || {
            if encoder.ended().is_some() {
                encoder = stage.publish(&stream).unwrap();
            }
            stage.origin(b, &stream)
        })
    });
    let origin = origin.unwrap();
    say(&format!("{} has the stream after {took:?}", origin.name()));
    assert_ne!(origin.name(), "a");
    let new = until("the new epoch in the playlist", 10 * S, || {
        epochs(&stage, &stream).filter(|now| now.0.last() != old.0.last())
    })
    .unwrap();
    say(&format!("epochs after: {new:?}"));
    assert!(new.1 <= 1, "more than one discontinuity: {new:?}");

    let last = viewer.samples().last().unwrap().clone();
    let after = viewer.plays_on(&last, 5.0, 30 * S).unwrap();
    assert_eq!(after.rounds, settled.rounds, "the player began anew");
    say(&format!(
        "the picture stood for {:?}; {after:?}",
        viewer.longest_stand(settled.at)
    ));
    let all = viewer.samples();
    assert!(all.iter().all(|s| !s.reloaded), "the page was loaded again");
}
