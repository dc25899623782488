//! WebRTC with clients that others wrote: Chromium and aiortc, as viewers and as publishers.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{path::Path, time::Duration};

use serde_json::Value;
use shoal_tests::{
    lab::{Host, Running, until},
    saved,
    stage::{DOMAIN, Stage, Stream},
    watch::{Sample, Viewer},
};

const S: Duration = Duration::from_secs(1);
/// From the publisher's hands to the screen, in milliseconds.
const GLASS_TO_GLASS: f64 = 300.0;
/// From the offer to the first picture, in milliseconds.
const FIRST: f64 = 500.0;
/// Runs of a test on a busy machine may miss a bar by so much.
const BUSY: f64 = 2.0;

fn aiortc(host: &Host, arguments: &[&str]) -> Running {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let mut command = host.command(python.join("venv/bin/python3"));
    command.arg(python.join("rtc.py")).args(arguments);
    host.spawn(&mut command).unwrap()
}

/// What aiortc said at its end.
fn said(client: &Running) -> Value {
    let line = client.wait_line(40 * S, |l| l.starts_with('{')).unwrap();
    serde_json::from_str(&line.text).unwrap()
}

/// The ages of the pictures in milliseconds, lowest first, from two seconds after the first on.
fn ages(samples: &[Sample], began: i64) -> Vec<f64> {
    let first = samples.iter().find(|s| s.frame.is_some()).unwrap().at;
    let live = samples.iter().filter(|s| s.at > first + 2_000);
    let mut ages: Vec<_> = live.filter_map(|s| s.age(began)).collect();
    ages.sort_by(f64::total_cmp);
    ages
}

fn check(what: &str, viewer: &Viewer, began: i64) {
    viewer.plays(30 * S).unwrap();
    let settled = viewer.samples().last().cloned().unwrap();
    viewer.plays_on(&settled, 6.0, 20 * S).unwrap();
    let samples = viewer.samples();
    let errors = samples.last().and_then(|s| s.last_error.clone());
    assert_eq!(errors, None, "{what}");
    let ages = ages(&samples, began);
    let first = samples.iter().find_map(|s| s.first).unwrap();
    let (median, worst) = (ages[ages.len() / 2], ages[ages.len() * 95 / 100]);
    shoal_tests::say(&format!(
        "{what}: first picture after {first:.0} ms, then {median:.0} ms old at the median, {worst:.0} at 95 %"
    ));
    assert!(
        first < FIRST * BUSY,
        "{what}: first picture after {first} ms"
    );
    assert!(median < GLASS_TO_GLASS * BUSY, "{what}: {median} ms old");
}

fn whep(node: std::net::Ipv4Addr, stream: &Stream) -> String {
    format!("http://{node}/play/{}/webrtc", stream.playback)
}

#[test]
fn what_comes_by_rtmp_is_watched_by_whep_at_the_origin_and_behind_a_relay() {
    let Some(stage) = Stage::or_skip(61) else {
        return;
    };
    let (a, b) = (stage.a(), stage.b());
    let stream = stage.create(b, "Harbour").unwrap();
    let feed = stage.publish_clocked(&stream).unwrap();
    stage.playable(b, &stream).unwrap();
    assert_eq!(stage.origin(b, &stream).unwrap().name(), "a");
    let began = feed.began().unwrap();
    for node in [a, b] {
        let viewer = Viewer::open(&stage, &whep(node.ip(), &stream), "whep").unwrap();
        check(&format!("RTMP to WHEP at {}", node.name()), &viewer, began);
    }
    // By name, as a viewer finds it, and by a client that is no browser's.
    let url = format!("http://foghorn.{DOMAIN}/play/{}/webrtc", stream.playback);
    let seen = said(&aiortc(stage.viewer(), &["play", &url, "6"]));
    shoal_tests::say(&format!("aiortc watches: {seen}"));
    assert_eq!(
        (&seen["state"], &seen["width"]),
        (&"connected".into(), &640.into())
    );
    assert!(seen["video"].as_u64() > Some(120) && seen["rising"] == true);
    feed.end().unwrap();
}

#[test]
fn a_browser_publishes_by_whip_and_is_watched_everywhere() {
    for codec in ["H264", "VP8", "simulcast"] {
        let Some(stage) = Stage::or_skip(62) else {
            return;
        };
        let (a, b) = (stage.a(), stage.b());
        let stream = stage.create(b, "Studio").unwrap();
        let url = format!("http://{}/webrtc/{}", a.ip(), stream.key);
        let arguments = [&url, "--player", "whip", "--codec", codec];
        let publisher = Viewer::start(&stage, stage.streamer(), &arguments).unwrap();
        publisher
            .wait("the publisher's pictures", 30 * S, |s| s.frame.is_some())
            .unwrap();
        stage.playable(b, &stream).unwrap();
        let viewer = Viewer::open(&stage, &whep(b.ip(), &stream), "whep").unwrap();
        check(&format!("WHIP ({codec}) to WHEP"), &viewer, 0);
        // Of layers, the largest.
        assert_eq!(viewer.samples().last().unwrap().width, 640);
        // Sound and pictures in step, without a gap, in playlists too.
        let folder = format!("/play/{}/cmaf", stream.playback);
        let file = stage.home().join("saved.mp4");
        saved::rendition(b, &folder, "a0", 4, &file).unwrap();
        saved::rendition(b, &folder, "v0", 4, &file).unwrap();
        let complaints = saved::complaints("ffmpeg", &file).unwrap();
        assert_eq!(complaints, "", "{codec}");
    }
}

#[test]
fn aiortc_publishes_by_whip_and_goes() {
    let Some(stage) = Stage::or_skip(63) else {
        return;
    };
    let (a, b) = (stage.a(), stage.b());
    for codec in ["H264", "VP8"] {
        let stream = stage.create(b, codec).unwrap();
        // The origin is whoever is best for the streamer.
        let url = format!("http://{}/ingest/{}", a.ip(), stream.key);
        let publisher = aiortc(stage.streamer(), &["publish", &url, "14", codec]);
        stage.playable(b, &stream).unwrap();
        let seen = said(&aiortc(
            stage.viewer(),
            &["play", &whep(b.ip(), &stream), "5"],
        ));
        shoal_tests::say(&format!("aiortc to aiortc, {codec}: {seen}"));
        assert!(seen["video"].as_u64() > Some(80) && seen["audio"].as_u64() > Some(150));
        assert_eq!(said(&publisher)["state"], "connected");
        until("the stream to end", 15 * S, || {
            stage.origin(b, &stream).is_none().then_some(())
        })
        .unwrap();
    }
}
