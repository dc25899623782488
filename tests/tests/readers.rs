//! Other programs read what every node serves.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{collections::BTreeMap, time::Duration};

use shoal_tests::{
    film::{Beats, Film},
    lab::{Host, until},
    say,
    stage::{Node, Stage, Stream},
};

const S: Duration = Duration::from_secs(1);
/// The playlists' folders.
const CONTAINERS: [&str; 2] = ["cmaf", "hls"];
/// How far sound may be off the pictures, beside the film itself, in seconds. People notice from about 50 ms on; here only
/// RTMP's whole milliseconds and the place of a sound packet's border lie between the film and what is served.
const IN_STEP: f64 = 0.01;
/// How much of a stream is read, in seconds.
const READ: u32 = 12;

fn url(node: &Node, stream: &Stream, container: &str) -> String {
    let (ip, id) = (node.ip(), &stream.playback);
    format!("http://{ip}/play/{id}/{container}/index.m3u8")
}

#[test]
fn ffmpeg_and_ffprobe_read_every_node_without_a_warning() {
    let Some(stage) = Stage::or_skip(52) else {
        return;
    };
    let stream = stage.create(stage.a(), "Kelp").unwrap();
    let _encoder = stage.publish_hard(&stream).unwrap();
    for node in [stage.a(), stage.b(), stage.c()] {
        stage.playable(node, &stream).unwrap();
        for container in CONTAINERS {
            let url = url(node, &stream, container);
            let quiet = |program: &str, arguments: &[&str]| {
                let mut command = stage.viewer().command(program);
                let out = command
                    .args(["-hide_banner", "-loglevel", "warning"])
                    .args(arguments)
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                assert!(out.status.success(), "{program} {url}: {said}");
                // With every reload of a live playlist that has a map, ffmpeg 5.1 reads the map again and says so.
                let other = |l: &&str| !l.contains("Found duplicated MOOV Atom. Skipped it");
                let said: Vec<&str> = said.lines().filter(other).collect();
                assert!(said.is_empty(), "{program} {url}: {said:?}");
                String::from_utf8(out.stdout).unwrap()
            };
            let entries = "stream=codec_name";
            let probed = quiet(
                "ffprobe",
                &["-show_entries", entries, "-of", "csv=p=0", &url],
            );
            assert!(
                probed.contains("h264") && probed.contains("aac"),
                "{url}: {probed}"
            );
            quiet("ffmpeg", &["-i", &url, "-t", "4", "-f", "null", "-"]);
        }
    }
}

/// Packets by stream, as ffprobe reads them: decode times in seconds.
fn decode_times(host: &Host, url: &str) -> BTreeMap<String, Vec<f64>> {
    let read = format!("%+{READ}");
    let text = host
        .run(
            "ffprobe",
            &[
                "-v",
                "error",
                "-live_start_index",
                "0",
                "-read_intervals",
                &read,
                "-show_entries",
                "packet=codec_type,dts_time",
                "-of",
                "csv=p=0",
                url,
            ],
        )
        .unwrap();
    let mut packets: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(',');
        let (Some(kind), Some(time)) = (fields.next(), fields.next()) else {
            continue;
        };
        let time = time.parse().expect("a packet with its decode time");
        packets.entry(kind.to_owned()).or_default().push(time);
    }
    packets
}

/// What one node serves in one container: in step with the film, and in order. Gives the flashes' times.
fn in_step(stage: &Stage, url: &str, scratch: &str, film: f64) -> Vec<f64> {
    let packets = decode_times(stage.viewer(), url);
    assert_eq!(packets.len(), 2, "{url}: sound and pictures: {packets:?}");
    for (kind, times) in &packets {
        let length = times.last().unwrap() - times[0];
        assert!(
            length > f64::from(READ) - 2.5,
            "{url}: {length} s of {kind}"
        );
        let back = times.windows(2).find(|w| w[0] >= w[1]);
        assert!(back.is_none(), "{url}: {kind} goes back in time: {back:?}");
        // Nothing is left out: at 30 pictures a second, and 47 packets of sound.
        let hole = times.windows(2).find(|w| w[1] - w[0] > 0.1);
        assert!(hole.is_none(), "{url}: {kind} has a hole: {hole:?}");
    }
    let ffmpeg = stage.viewer().command("ffmpeg");
    let beats = Beats::read(ffmpeg, url, READ, &stage.home().join(scratch)).unwrap();
    let offsets = beats.offsets().unwrap();
    assert!(offsets.len() >= 6, "{url}: {beats:?}");
    for offset in &offsets {
        let off = offset - film;
        assert!(
            off.abs() < IN_STEP,
            "{url}: sound is {off} s off: {beats:?}"
        );
    }
    let worst = offsets.iter().map(|o| (o - film).abs());
    let worst = worst.fold(0.0, f64::max) * 1000.0;
    say(&format!(
        "{scratch}: {worst:.1} ms off at most, of {}",
        offsets.len()
    ));
    beats.flashes
}

#[test]
fn sound_and_pictures_are_in_step_at_every_node_in_every_order_of_arrival() {
    let Some(stage) = Stage::or_skip(53) else {
        return;
    };
    let film = Film::beats(stage.home(), 90).unwrap();
    let path = film.path().to_string_lossy();
    let own = std::process::Command::new("ffmpeg");
    let own = Beats::read(own, &path, 60, &stage.home().join("film")).unwrap();
    let own = own.offsets().unwrap();
    assert!(own.len() >= 47, "the film has its beats: {own:?}");
    let own = own.iter().sum::<f64>() / own.len() as f64;
    say(&format!("the film itself: {:.1} ms", own * 1000.0));

    let streams = ["in-order", "sound-first", "pictures-first"].map(|name| {
        let stream = stage.create(stage.a(), name).unwrap();
        (name, stream)
    });
    let [(_, ffmpeg), (_, ahead), (_, behind)] = &streams;
    let _encoder = stage.publish_film(ffmpeg, &film).unwrap();
    let feeds = [(ahead, 400), (behind, -400)]
        .map(|(stream, lead)| stage.publish_arriving(stream, &film, lead).unwrap());
    let nodes = [stage.a(), stage.b(), stage.c()];
    for (_, stream) in &streams {
        for node in nodes {
            stage.playable(node, stream).unwrap();
        }
    }
    for (name, stream) in &streams {
        assert_eq!(stage.origin(stage.b(), stream).unwrap().name(), "a");
        for node in nodes {
            let list = format!("/play/{}/hls/ts.m3u8", stream.playback);
            until("enough to read", 60 * S, || {
                let (status, text) = node.get(&list).ok()?;
                let segments = String::from_utf8(text).ok()?.matches("#EXTINF").count();
                (status == 200 && segments * 2 >= READ as usize).then_some(())
            })
            .unwrap();
        }
        let flashes = std::thread::scope(|s| {
            let of = |node: &Node, container: &str| {
                let scratch = format!("{name}-{}-{container}", node.name());
                in_step(&stage, &url(node, stream, container), &scratch, own)
            };
            let readers: Vec<_> = nodes
                .iter()
                .flat_map(|node| CONTAINERS.map(|c| s.spawn(move || of(node, c))))
                .collect();
            let joined = readers.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined
                .map(|t| t.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Vec<_>>()
        });
        // A player that changes nodes goes on at the same time: that of each flash is one, wherever it is read.
        let (first, others) = flashes.split_first().unwrap();
        for other in others {
            let near = |t: &f64| first.iter().find(|f| (**f - t).abs() < 0.5);
            let pairs: Vec<_> = other.iter().filter_map(|t| Some((t, near(t)?))).collect();
            let same = |(t, f): &&(&f64, &f64)| (**t - **f).abs() < 0.002;
            let count = pairs.iter().filter(same).count();
            assert!(count == pairs.len() && count >= 5, "{name}: {pairs:?}");
        }
    }
    for feed in feeds {
        feed.end().unwrap();
    }
}
