//! ffmpeg and ffprobe read what is served.
use std::{path::Path, process::Stdio, time::Duration};

use routing::model::Clock;
use tokio::process::Command;

use super::house::{House, ID, RealClock, clip, ffmpeg, uris};

/// Packets of a file: stream index, presentation time in seconds.
async fn packets(path: &Path) -> Vec<(usize, f64)> {
    let output = Command::new("ffprobe")
        .args(["-v", "warning", "-of", "csv=p=0", "-show_entries"])
        .arg("packet=stream_index,pts_time")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(',');
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect()
}

/// All segments of a playlist in one file, their maps before them.
async fn save(house: &House, folder: &str, name: &str, to: &Path) {
    let base = format!("/play/{ID}/{folder}");
    let playlist = house.get(&format!("{base}/{name}")).await;
    assert_eq!(playlist.status, 200, "{}", playlist.text());
    let mut all = Vec::new();
    let names = uris(playlist.text(), "#EXT-X-MAP");
    for uri in names.into_iter().chain(uris(playlist.text(), "")) {
        let got = house.get(&format!("{base}/{uri}")).await;
        assert_eq!(got.status, 200, "{uri}");
        all.extend_from_slice(&got.body);
    }
    std::fs::write(to, all).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_segments_are_whole_and_in_step() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (rate, keys) in [
        ("25", "expr:gte(t,n_forced*1.3)"),
        ("30000/1001", "0,0.5,5,6,9.5"),
    ] {
        let mut house = House::open(RealClock::start());
        for tag in clip(rate, 12, keys).await {
            house.push(&tag);
        }
        house.end();
        for (folder, name) in [("cmaf", "v0"), ("cmaf", "a0"), ("hls", "ts")] {
            let file = at(name);
            save(&house, folder, &format!("{name}.m3u8"), &file).await;
            let said = ffmpeg(&format!("-i {} -map 0 -f null -", file.display())).await;
            assert_eq!(said, "", "{rate} {name}");
        }
        let (video, audio) = (packets(&at("v0")).await, packets(&at("a0")).await);
        let ts = packets(&at("ts")).await;
        let first = |all: &[(usize, f64)], stream| {
            let times = all.iter().filter(|(s, _)| *s == stream).map(|(_, t)| *t);
            (times.clone().fold(f64::MAX, f64::min), times.count())
        };
        let (v, a) = (first(&video, 0), first(&audio, 0));
        let (tv, ta) = (first(&ts, 0), first(&ts, 1));
        assert_eq!(
            (v.1, a.1),
            (tv.1, ta.1),
            "as many frames in both containers"
        );
        assert!(v.1 >= 290 && a.1 >= 550, "{} {}", v.1, a.1);
        // The source starts picture and sound together; its AAC starts one frame of priming earlier.
        assert!((v.0 - a.0).abs() < 0.05, "{} {}", v.0, a.0);
        assert!(((tv.0 - ta.0) - (v.0 - a.0)).abs() < 0.001);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_plays_both_containers_live_without_a_word() {
    let mut house = House::open(RealClock::start());
    let address = house.listen().await;
    let tags = clip("30", 24, "expr:gte(t,n_forced*1)").await;
    let (past, live) = tags.split_at(tags.partition_point(|t| t.timestamp < 14_000));
    for tag in past {
        house.push(tag);
    }
    let feed = async {
        let clock = RealClock::start();
        for tag in live {
            let at = Duration::from_millis(u64::from(tag.timestamp) - 14_000);
            tokio::time::sleep(at.saturating_sub(clock.uptime().0)).await;
            house.push(tag);
        }
    };
    let play = async |path: &str| {
        let args = format!("-i http://{address}/play/{ID}/{path} -t 12 -f null -");
        ffmpeg(&args).await
    };
    let (ts, cmaf, ()) = tokio::join!(play("hls/index.m3u8"), play("cmaf/index.m3u8"), feed);
    assert_eq!(ts, "");
    // With every reload of a live playlist that has a map, ffmpeg 5.1 reads the map again and says so.
    let other = |line: &&str| !line.contains("Found duplicated MOOV Atom. Skipped it");
    let said: Vec<&str> = cmaf.lines().filter(other).collect();
    assert!(said.is_empty(), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_reads_the_dash_description_without_a_word() {
    let mut house = House::open(RealClock::start());
    let address = house.listen().await;
    for tag in clip("30", 16, "expr:gte(t,n_forced*2)").await {
        house.push(&tag);
    }
    let args = format!("-i http://{address}/play/{ID}/cmaf/index.mpd -t 10 -f null -");
    assert_eq!(ffmpeg(&args).await, "");
}
