//! ffmpeg as publisher, and the crate's own publishing client.
use std::{process::Stdio, sync::Arc};

use media::{
    flv,
    live::Cut,
    rtmp::{Limits, PublishError, Publisher, Target},
};
use routing::model::{Clock, StreamKey, TrackDetail};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::house::{BROADCAST, House, KEY, Line, RealClock};

async fn ffmpeg(args: &str, url: &str) -> (bool, String) {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin"])
        .args(args.split_whitespace())
        .arg(url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text)
}

fn source(rate: &str, seconds: u32) -> String {
    format!(
        "-f lavfi -i testsrc2=s=320x180:r={rate}:d={seconds} -f lavfi -i sine=b=1:r=48000:d={seconds}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_with_and_without_b_frames() {
    for (rate, bframes, count) in [("30000/1001", 3, 180), ("25", 0, 150), ("50", 2, 300)] {
        let house = House::open(Limits::default()).await;
        let args = format!(
            "{} -c:v libx264 -preset veryfast -bf {bframes} -g 50 -pix_fmt yuv420p -c:a aac -ar 44100 -f flv",
            source(rate, 6)
        );
        let (done, text) = ffmpeg(&args, &house.url(KEY)).await;
        assert!(done, "{text}");
        let mut board = house.board.0.subscribe();
        board
            .wait_for(|all| matches!(all.as_slice(), [Some(_), None]))
            .await
            .unwrap();

        let broadcast = house.broadcasts.get(BROADCAST).unwrap();
        assert!(broadcast.current().unwrap().ended());
        let (video, audio) = (Line::of(&broadcast, 0), Line::of(&broadcast, 1));
        let (pictures, sounds) = (video.frames(), audio.frames());
        assert!(
            (count - 2..=count).contains(&pictures.len()),
            "{rate}: {}",
            pictures.len()
        );
        for line in [&video, &audio] {
            let frames = line.frames();
            assert!(frames.windows(2).all(|w| w[0].dts < w[1].dts));
            let seqs: Vec<_> = line.groups.iter().map(|(h, _)| h.seq.0).collect();
            assert!(seqs.iter().copied().eq(0..seqs.len() as u64));
            let segments: Vec<_> = line
                .groups
                .iter()
                .filter(|(_, f)| f[0].cut == Cut::Segment)
                .map(|(h, _)| h.stamp.segment)
                .collect();
            assert!(segments.windows(2).all(|w| w[1] == w[0] + 1));
            assert!((2..=4).contains(&segments.len()), "{rate}: {segments:?}");
        }
        assert!(pictures[0].keyframe && video.groups[0].0.independent);
        assert!(pictures.iter().all(|f| f.cts >= 0));
        assert_eq!(pictures.iter().any(|f| f.cts > 0), bframes > 0);
        // Both lines began together at the source: what is presented first differs by ffmpeg's priming at most.
        let first = |line: &Line| {
            let frames = line.frames();
            let pts = frames.iter().map(|f| f.pts()).min().unwrap();
            pts * 1000 / line.timescale
        };
        let last = |line: &Line| line.frames().last().unwrap().dts * 1000 / line.timescale;
        let delay = i64::from(pictures[0].cts) * 1000 / 90_000;
        assert!((first(&video) - first(&audio) - delay).abs() <= 50);
        assert!((last(&video) + delay - last(&audio)).abs() <= 120, "{rate}");
        assert!(sounds.windows(2).all(|w| w[1].dts - w[0].dts == 1024));
        let TrackDetail::Video {
            width,
            height,
            rate: (num, den),
        } = *video.groups[0].0.config.detail()
        else {
            panic!("video is video");
        };
        assert_eq!((width, height), (320, 180));
        let step = 90_000 * i64::from(den) / i64::from(num);
        assert!(
            pictures.windows(2).all(|w| w[1].dts - w[0].dts == step),
            "a constant rate is exact: {rate}"
        );
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_alone_and_pictures_alone_play() {
    for (args, scale) in [
        ("-f lavfi -i sine=d=4 -c:a aac -f flv", 44_100),
        (
            "-f lavfi -i testsrc2=s=320x180:r=30:d=4 -c:v libx264 -preset ultrafast -g 30 -pix_fmt yuv420p -f flv",
            90_000,
        ),
    ] {
        let house = House::open(Limits::default()).await;
        let (done, text) = ffmpeg(args, &house.url(KEY)).await;
        assert!(done, "{text}");
        let mut board = house.board.0.subscribe();
        board.wait_for(|all| all.len() == 2).await.unwrap();
        let broadcast = house.broadcasts.get(BROADCAST).unwrap();
        assert_eq!(broadcast.current().unwrap().epoch().tracks.len(), 1);
        let line = Line::of(&broadcast, 0);
        assert_eq!(line.timescale, scale);
        let length = line.frames().last().unwrap().dts * 1000 / scale;
        assert!((3_900..4_100).contains(&length), "{length}");
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_told_so_before_any_media() {
    let house = House::open(Limits::default()).await;
    let args = "-re -f lavfi -i testsrc2=s=160x90 -c:v libx264 -preset ultrafast -f flv";
    let (done, text) = ffmpeg(args, &house.url("sk_wrong")).await;
    assert!(!done);
    assert!(text.contains("No stream has this key. Check it."), "{text}");
    assert!(house.broadcasts.get(BROADCAST).is_none());
    house.close().await;
}

/// A clip as ffmpeg makes it: 4 s, 25 pictures a second, 48 kHz.
async fn clip() -> Vec<flv::Tag> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.flv");
    let args = format!(
        "{} -c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p -c:a aac -f flv -y",
        source("25", 4)
    );
    let (done, text) = ffmpeg(&args, path.to_str().unwrap()).await;
    assert!(done, "{text}");
    flv::file(&std::fs::read(path).unwrap()).unwrap()
}

fn target(house: &House, key: &str) -> Target {
    Target {
        host: house.address.to_string(),
        app: "live".into(),
        key: StreamKey::new(key),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_loops_a_clip_in_one_epoch() {
    let house = House::open(Limits::default()).await;
    let looped = flv::Looped::new(clip().await).unwrap();
    let mut publisher = Publisher::connect(&target(&house, KEY), 1).await.unwrap();
    for (due, tag) in looped {
        if due.as_secs() >= 20 {
            break;
        }
        publisher.send(&tag).await.unwrap();
    }
    publisher.finish().await.unwrap();
    let mut board = house.board.0.subscribe();
    board.wait_for(|all| all.len() == 2).await.unwrap();
    let broadcast = house.broadcasts.get(BROADCAST).unwrap();
    assert_eq!(broadcast.epochs().len(), 1);
    let video = Line::of(&broadcast, 0);
    assert_eq!(video.frames().len(), 500);
    assert!(
        video
            .frames()
            .windows(2)
            .all(|w| w[1].dts - w[0].dts == 3600)
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_is_refused_with_the_servers_words() {
    let house = House::open(Limits::default()).await;
    match Publisher::connect(&target(&house, "sk_wrong"), 1).await {
        Err(PublishError::Refused { code, text }) => {
            assert_eq!(code, "NetStream.Publish.BadName");
            assert_eq!(text, "No stream has this key. Check it.");
        }
        other => panic!("not refused: {other:?}"),
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_stands_by_and_follows_the_first() {
    let house = House::open(Limits::default()).await;
    let tags = clip().await;
    let mut first = Publisher::connect(&target(&house, KEY), 1).await.unwrap();
    for tag in &tags {
        first.send(tag).await.unwrap();
    }
    let mut board = house.board.0.subscribe();
    board.wait_for(|all| all.len() == 1).await.unwrap();
    let mut second = Publisher::connect(&target(&house, KEY), 2).await.unwrap();
    let mut rounds = flv::Looped::new(tags).unwrap();
    for (_, tag) in rounds.by_ref().take(300) {
        second.send(&tag).await.unwrap();
    }
    assert_eq!(house.publishers.sessions().len(), 2);
    first.finish().await.unwrap();
    board.wait_for(|all| all.len() >= 2).await.unwrap();
    for (_, tag) in rounds.take(400) {
        second.send(&tag).await.unwrap();
    }
    second.finish().await.unwrap();
    let all = board.wait_for(|all| all.len() == 4).await.unwrap().clone();
    assert!(
        matches!(all.as_slice(), [Some(a), None, Some(b), None] if a.epoch < b.epoch),
        "{all:?}"
    );
    let broadcast = house.broadcasts.get(BROADCAST).unwrap();
    let epochs = broadcast.epochs();
    let (before, after) = (epochs[0].epoch(), epochs[1].epoch());
    let follows = after.follows.as_ref().unwrap();
    assert_eq!(follows.epoch, before.id);
    assert_eq!(after.discontinuity, before.discontinuity + 1);
    for (track, last) in after.tracks.iter().zip(&follows.last) {
        assert_eq!(track.first_segment, last.segment + 1);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_publisher_gives_way_to_the_one_that_came_back() {
    let house = House::open(Limits::default()).await;
    let tags = clip().await;
    let mut lost = Publisher::connect(&target(&house, KEY), 1).await.unwrap();
    for tag in &tags {
        lost.send(tag).await.unwrap();
    }
    let mut board = house.board.0.subscribe();
    board.wait_for(|all| all.len() == 1).await.unwrap();
    let mut back = Publisher::connect(&target(&house, KEY), 2).await.unwrap();
    let clock: Arc<dyn Clock> = RealClock::start();
    let (stop, looped) = (CancellationToken::new(), flv::Looped::new(tags).unwrap());
    tokio::select! {
        sent = back.send_paced(looped, &clock, &stop) => panic!("it ends by itself: {sent:?}"),
        seen = board.wait_for(|all| matches!(all.as_slice(), [Some(_), None, Some(_)])) => drop(seen.unwrap()),
    }
    assert_eq!(house.publishers.sessions().len(), 1);
    drop(lost);
    back.finish().await.unwrap();
    house.close().await;
}
