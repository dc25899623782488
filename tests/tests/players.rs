//! Players that others wrote watch through a relay for a while, by name: none stalls, and none complains.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use shoal_tests::{
    full,
    lab::{Host, Line, Running, timed, until},
    say,
    stage::{DOMAIN, Stage, Stream},
    watch::Viewer,
};

const S: Duration = Duration::from_secs(1);
/// How much longer that may take: what a picture waits for its turn on a busy machine, and between two reports.
const SLACK: Duration = Duration::from_millis(1_500);
/// Pictures a second of the demo's clip.
const RATE: u64 = 30;
/// Pictures that a player may leave out because a busy machine let it come late.
const LATE: u64 = RATE / 2;

/// The demo's clip, published in Europe, at a relay in America, where the viewer's name leads; and as much of it as
/// players stay behind the edge.
fn relayed(stage: &Stage) -> (Stream, Running) {
    let (a, b) = (stage.a(), stage.b());
    let stream = stage.create(b, "Lagoon").unwrap();
    let encoder = stage.publish(&stream).unwrap();
    stage.playable(b, &stream).unwrap();
    assert_eq!(stage.origin(b, &stream).unwrap().name(), "a");
    assert_eq!(a.resolve(stage.viewer(), "foghorn")[0], b.ip());
    let list = format!("/play/{}/hls/ts.m3u8", stream.playback);
    until("three target durations", 30 * S, || {
        let (status, text) = b.get(&list).ok()?;
        let count = String::from_utf8(text).ok()?.matches("#EXTINF").count();
        (status == 200 && count >= 7).then_some(())
    })
    .unwrap();
    (stream, encoder)
}

/// How long each player watches once it plays.
fn watched() -> Duration {
    if full() { 120 * S } else { 20 * S }
}

fn url(stream: &Stream, container: &str) -> String {
    let id = &stream.playback;
    format!("http://foghorn.{DOMAIN}/play/{id}/{container}/index.m3u8")
}

/// Whether `b` counts viewers.
fn relay_serves(stage: &Stage) -> bool {
    let status = stage.b().status().unwrap_or_default();
    let mut nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.any(|n| n["name"] == "b" && n["viewers"].as_u64() > Some(0))
}

/// A browser's player watches.
fn watches(stage: &Stage, url: &str, player: &str) {
    let viewer = Viewer::open(stage, url, player).unwrap();
    let settled = viewer.plays(60 * S).unwrap();
    let seconds = watched().as_secs_f64();
    let after = viewer
        .plays_on(&settled, seconds, watched() + SLACK + S)
        .unwrap();
    let stood = viewer.longest_stand(settled.at);
    say(&format!(
        "{player} {url}: stood {stood:?} at most; {after:?}"
    ));
    assert!(
        relay_serves(stage),
        "{player} {url}: not served by the relay"
    );
    assert!(
        stood < SLACK,
        "{player} {url}: the picture stood for {stood:?}"
    );
    assert_eq!(after.stalls, settled.stalls, "{player} {url}: {after:?}");
    assert_eq!(after.errors, 0, "{player} {url}: {after:?}");
    viewer.unbroken(&settled, &after).unwrap();
}

#[test]
fn hls_js_plays_mpeg_ts_and_cmaf_at_a_relay() {
    let Some(stage) = Stage::or_skip(61) else {
        return;
    };
    let (stream, _encoder) = relayed(&stage);
    all(["hls", "cmaf"].map(|container| {
        let (stage, url) = (&stage, url(&stream, container));
        move || watches(stage, &url, "hls.js")
    }));
}

/// Does all of it at once; what fails, fails here.
fn all<const N: usize>(work: [impl FnOnce() + Send; N]) {
    std::thread::scope(|s| {
        for done in work.map(|one| s.spawn(one)) {
            done.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// The number after a word in a text.
fn number(text: &str, word: &str) -> Option<u64> {
    let rest = text.split_once(word)?.1;
    let rest = rest.trim_start_matches([' ', ':']);
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// Waits until a player has shown pictures for [`watched`] more, and not for longer than that.
fn keeps_pace(what: &str, mut shown: impl FnMut() -> Option<u64>) {
    let first = until(&format!("{what}: pictures"), 30 * S, || {
        shown().filter(|n| *n > RATE)
    })
    .unwrap();
    let until_shown = first + watched().as_secs() * RATE;
    let (done, took) = timed(|| {
        until(&format!("{what}: more pictures"), watched() + SLACK, || {
            shown().filter(|n| *n >= until_shown)
        })
    });
    let done = done.unwrap();
    say(&format!("{what}: {} pictures in {took:?}", done - first));
}

/// GStreamer's playbin3 with this demuxer, which reports twice a second how many pictures it showed.
fn gstreamer_watches(stage: &Stage, url: &str, demuxer: &str) {
    let mut command = stage.viewer().command("gst-launch-1.0");
    command
        .args(["-v", "-m", "playbin3", &format!("uri={url}")])
        .arg("video-sink=fpsdisplaysink video-sink=fakesink text-overlay=false sync=true")
        .arg("audio-sink=fakesink sync=true")
        .env("GST_PLUGIN_FEATURE_RANK", "hlsdemux2:MAX")
        .env("GST_REGISTRY", stage.home().join("gst-registry"));
    let player = stage.viewer().spawn(&mut command).unwrap();
    let report = |l: &str| l.contains("last-message = rendered: ");
    keeps_pace(&format!("GStreamer {url}"), || {
        let lines = player.lines();
        let last = lines.iter().rev().find(|l| report(&l.text))?;
        number(&last.text, "rendered")
    });
    let lines = player.lines();
    let demuxes = |l: &Line| l.text.contains(demuxer);
    assert!(lines.iter().any(demuxes), "GStreamer {url}: no {demuxer}");
    let last = lines.iter().rev().find(|l| report(&l.text)).unwrap();
    let dropped = number(&last.text, "dropped");
    assert!(dropped.is_some_and(|n| n < LATE), "{}", last.text);
    // It fills its buffers once, before it plays.
    let plays = |l: &&str| report(l) && number(l, "rendered") > Some(RATE);
    let text = lines.iter().map(|l| &*l.text);
    let after: Vec<&str> = text.skip_while(|l| !plays(l)).collect();
    let bad = after.iter().find(|l| {
        let low = l.contains("buffer-percent=") && !l.contains("(int)100");
        low || l.starts_with("ERROR") || l.starts_with("WARNING")
    });
    assert_eq!(bad, None, "GStreamer {url}");
}

/// VLC, asked for its own statistics.
fn vlc_watches(stage: &Stage, url: &str, port: u16) {
    let viewer = stage.viewer();
    let home = stage.home().join(format!("vlc-{port}"));
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    // It refuses to run as root.
    let mut command = viewer.command("setpriv");
    command
        .args(["--clear-groups", "--reuid", "nobody", "--regid", "nogroup"])
        .args(["vlc", "--intf", "rc", "--rc-host"])
        .arg(format!("127.0.0.1:{port}"))
        .args(["--vout", "dummy", "--aout", "dummy", url])
        .env("HOME", &home);
    let player = viewer.spawn(&mut command).unwrap();
    let stats = || ask_vlc(viewer, port, &player);
    keeps_pace(&format!("VLC {url}"), || {
        number(&stats()?, "frames displayed")
    });
    let told = stats().unwrap();
    let late = number(&told, "frames lost ");
    assert!(late.is_some_and(|n| n < LATE), "VLC {url}: {told}");
    for lost in ["demux corrupted ", "discontinuities ", "buffers lost "] {
        assert_eq!(number(&told, lost), Some(0), "VLC {url}: {told}");
    }
}

/// Debian's user without rights.
const NOBODY: u32 = 65_534;

fn ask_vlc(viewer: &Host, port: u16, player: &Running) -> Option<String> {
    assert_eq!(player.ended(), None, "VLC ended: {}", player.tail(20));
    let address = (Ipv4Addr::LOCALHOST, port);
    let mut rc = viewer.inside(|| TcpStream::connect(address)).ok()?;
    rc.set_read_timeout(Some(2 * S)).ok()?;
    rc.write_all(b"stats\n").ok()?;
    let (mut told, mut buffer) = (String::new(), [0; 4096]);
    while !told.contains("end of statistical info") {
        let n = rc.read(&mut buffer).ok().filter(|n| *n > 0)?;
        told += &String::from_utf8_lossy(&buffer[..n]);
    }
    Some(told)
}

#[test]
fn shaka_player_vlc_and_gstreamer_play_at_a_relay() {
    let Some(stage) = Stage::or_skip(62) else {
        return;
    };
    let (stream, _encoder) = relayed(&stage);
    let (cmaf, ts) = (url(&stream, "cmaf"), url(&stream, "hls"));
    let (stage, cmaf, ts) = (&stage, &*cmaf, &*ts);
    let work: [Box<dyn FnOnce() + Send + '_>; 5] = [
        Box::new(|| watches(stage, cmaf, "shaka")),
        Box::new(|| gstreamer_watches(stage, cmaf, "GstHLSDemux2")),
        Box::new(|| gstreamer_watches(stage, ts, "GstHLSDemux2")),
        Box::new(|| vlc_watches(stage, cmaf, 4212)),
        Box::new(|| vlc_watches(stage, ts, 4213)),
    ];
    all(work);
}

/// What is at this path below the stream's, by the name that viewers ask for.
fn at(stream: &Stream, path: &str) -> String {
    format!("http://foghorn.{DOMAIN}/play/{}{path}", stream.playback)
}

#[test]
fn dash_js_and_shaka_player_play_dash_at_a_relay() {
    let Some(stage) = Stage::or_skip(63) else {
        return;
    };
    let (stream, _encoder) = relayed(&stage);
    let mpd = at(&stream, "/cmaf/index.mpd");
    let (stage, mpd) = (&stage, &*mpd);
    all(["dash.js", "shaka"].map(|player| move || watches(stage, mpd, player)));
}

#[test]
fn chromium_vlc_and_gstreamer_play_files_and_rtmp_at_a_relay() {
    let Some(stage) = Stage::or_skip(64) else {
        return;
    };
    let (stream, _encoder) = relayed(&stage);
    let [mp4, mkv, ts] = [".mp4", ".mkv", ".ts"].map(|ending| at(&stream, ending));
    let rtmp = format!("rtmp://foghorn.{DOMAIN}/play/{}", stream.playback);
    let (stage, rtmp) = (&stage, &*rtmp);
    let work: [Box<dyn FnOnce() + Send + '_>; 4] = [
        Box::new(|| watches(stage, &mp4, "video")),
        Box::new(|| gstreamer_watches(stage, &mkv, "GstMatroskaDemux")),
        Box::new(|| vlc_watches(stage, &ts, 4212)),
        Box::new(|| vlc_watches(stage, rtmp, 4213)),
    ];
    all(work);
}
