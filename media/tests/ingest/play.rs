//! RTMP play: ffmpeg, GStreamer and VLC as players of what our own client publishes.
use std::{path::Path, process::Stdio, time::Duration};

use media::{
    flv::{self, Content, Tag, TagKind},
    ports::Protocol,
    rtmp::{Limits, Publisher, Target},
};
use routing::model::StreamKey;
use tokio::{net::TcpStream, process::Command};

use super::house::{House, ID, KEY};

/// Eight seconds with a keyframe each second.
async fn film(dir: &Path) -> Vec<Tag> {
    let path = dir.join("film.flv");
    let done = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin"])
        .args(["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=8"])
        .args([
            "-f",
            "lavfi",
            "-i",
            "sine=r=48000:d=8",
            "-c:v",
            "libx264",
            "-bf",
            "2",
            "-g",
            "25",
        ])
        .args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "flv"])
        .arg(&path)
        .status()
        .await
        .unwrap();
    assert!(done.success());
    flv::file(&std::fs::read(path).unwrap()).unwrap()
}

async fn publish(house: &House) -> Publisher<TcpStream> {
    let target = Target {
        host: house.address.to_string(),
        app: "live".into(),
        key: StreamKey::new(KEY),
    };
    Publisher::connect(&target, 1).await.unwrap()
}

/// Half of the film is published, a player comes, it gets the rest.
async fn played(player: &mut Command, house: &House, film: &[Tag]) -> (bool, String) {
    let (past, later) = film.split_at(film.partition_point(|t| t.timestamp < 4_500));
    let mut publisher = publish(house).await;
    for tag in past {
        publisher.send(tag).await.unwrap();
    }
    let child = player
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    while house.audience.sessions().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, info) = house.audience.sessions().remove(0);
    assert_eq!(info.protocol, Protocol::Rtmp);
    for tag in later {
        publisher.send(tag).await.unwrap();
    }
    publisher.finish().await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stderr) + &text(&output.stdout),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_plays_from_the_newest_keyframe_at_either_name() {
    let dir = tempfile::tempdir().unwrap();
    let film = film(dir.path()).await;
    for app in ["live", "play"] {
        let house = House::open(Limits::default()).await;
        let out = dir.path().join(format!("{app}.flv"));
        let mut player = Command::new("ffmpeg");
        player
            .args(["-hide_banner", "-loglevel", "warning", "-nostdin", "-i"])
            .arg(format!("rtmp://{}/{app}/{ID}", house.address))
            .args(["-c", "copy"])
            .arg(&out);
        let (done, said) = played(&mut player, &house, &film).await;
        assert!(done && said.is_empty(), "{said}");
        let tags = flv::file(&std::fs::read(&out).unwrap()).unwrap();
        let frames = |kind| {
            let of = tags.iter().filter(|t| t.kind == kind && t.is_frame());
            of.cloned().collect::<Vec<Tag>>()
        };
        let pictures = frames(TagKind::Video);
        let first = &pictures[0].packets().unwrap()[0].content;
        assert!(matches!(first, Content::Frame { keyframe: true, .. }));
        assert_eq!(
            pictures.len(),
            100,
            "from the keyframe at 4 s to the end at 8 s"
        );
        let sounds = frames(TagKind::Audio).len();
        assert!((184..=194).contains(&sounds), "{sounds}");
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_plays() {
    let dir = tempfile::tempdir().unwrap();
    let film = film(dir.path()).await;
    let house = House::open(Limits::default()).await;
    let mut player = Command::new("gst-launch-1.0");
    player
        .args(["-v", "rtmp2src"])
        .arg(format!("location=rtmp://{}/live/{ID}", house.address))
        .args([
            "!",
            "flvdemux",
            "name=d",
            "d.video",
            "!",
            "queue",
            "!",
            "h264parse",
            "!",
        ])
        .args([
            "identity",
            "silent=false",
            "!",
            "fakesink",
            "d.audio",
            "!",
            "queue",
            "!",
            "fakesink",
        ])
        .env("GST_REGISTRY", dir.path().join("registry"));
    let (done, said) = played(&mut player, &house, &film).await;
    assert!(done && !said.contains("ERROR"), "{said}");
    let pictures = said.matches("chain   *******").count();
    assert!((99..=101).contains(&pictures), "{pictures}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_may_not_play_is_told_so() {
    let house = House::open(Limits::default()).await;
    for (name, words) in [
        ("live/nothere000000000", "There is no such stream."),
        ("other/abcdefghij012345", "There is no playback id"),
        ("play/short", "There is no playback id"),
    ] {
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i"])
            .arg(format!("rtmp://{}/{name}", house.address))
            .args(["-f", "null", "-"])
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(words),
            "{name}: {said}"
        );
    }
    house.close().await;
}
