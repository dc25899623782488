//! Enhanced RTMP with every codec, from a modern ffmpeg: what other programs find at the origin and one relay away.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{fs, path::Path};

use rustix::process::Signal;
use shoal_tests::{
    lab::Running,
    saved::{complaints, modern_ffmpeg, output, rendition},
    say,
    stage::{DOMAIN, Node, Stage, Stream},
};

/// Segments of each rendition that are looked at.
const SEGMENTS: usize = 3;

/// Picture and sound as ffmpeg codes them, as ffprobe names them, and whether MPEG-TS carries them.
#[derive(Debug)]
struct Pair {
    video: &'static str,
    audio: &'static str,
    names: [&'static str; 2],
    ts: &'static [&'static str],
}

const PAIRS: [Pair; 6] = [
    Pair {
        video: "libx265 -preset ultrafast -x265-params log-level=error:keyint=50:bframes=3",
        audio: "libopus -ar 48000",
        names: ["hevc", "opus"],
        ts: &["hevc", "opus"],
    },
    Pair {
        video: "libsvtav1 -preset 12 -g 50 -svtav1-params pred-struct=1",
        audio: "flac -ar 48000",
        names: ["av1", "flac"],
        ts: &[],
    },
    Pair {
        video: "libvpx-vp9 -deadline realtime -cpu-used 8 -g 50",
        audio: "ac3 -ar 48000",
        names: ["vp9", "ac3"],
        ts: &[],
    },
    Pair {
        video: "libx264 -preset ultrafast -g 50 -bf 2 -pix_fmt yuv420p",
        audio: "eac3 -ar 48000",
        names: ["h264", "eac3"],
        ts: &["h264", "eac3"],
    },
    Pair {
        video: "libx264 -preset ultrafast -g 50 -pix_fmt yuv420p",
        audio: "libmp3lame -ar 44100",
        names: ["h264", "mp3"],
        ts: &["h264", "mp3"],
    },
    Pair {
        video: "libx265 -preset ultrafast -x265-params log-level=error:keyint=50",
        audio: "ac3 -ac 6 -ar 48000",
        names: ["hevc", "ac3"],
        ts: &["hevc", "ac3"],
    },
];

fn start(stage: &Stage, ffmpeg: &Path, pair: &Pair, stream: &Stream) -> Running {
    let line = format!(
        "-hide_banner -nostdin -loglevel warning -re -f lavfi -i testsrc2=s=320x180:r=25 \
         -re -f lavfi -i sine=f=440:r=48000 -ac 2 -c:v {} -c:a {} -f flv",
        pair.video, pair.audio
    );
    let mut command = stage.streamer().command(ffmpeg);
    command
        .args(line.split_whitespace())
        .arg(format!("rtmp://edge-ingest.{DOMAIN}/live/{}", stream.key));
    stage.streamer().spawn(&mut command).unwrap()
}

/// The codecs that ffprobe finds in a saved rendition, which a modern ffmpeg decodes without complaint.
fn found(ffmpeg: &Path, file: &Path) -> Vec<String> {
    let said = complaints(ffmpeg, file).unwrap();
    assert!(said.is_empty(), "{file:?}: {said}");
    let asked = ["-show_entries", "stream=codec_name"];
    let (text, _) = output("ffprobe", &asked, file, &["-of", "csv=p=0"]).unwrap();
    // Programs of a transport stream are listed too.
    let mut names: Vec<String> = Vec::new();
    for name in text.lines().map(|l| l.trim_matches(',').to_owned()) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn look(stage: &Stage, ffmpeg: &Path, node: &Node, pair: &Pair, stream: &Stream) {
    let base = format!("/play/{}", stream.playback);
    let dir = stage
        .home()
        .join(format!("{}-{}", stream.playback, node.name()));
    fs::create_dir(&dir).unwrap();
    for (name, codec) in ["v0", "a0"].into_iter().zip(pair.names) {
        let file = dir.join(name);
        rendition(node, &format!("{base}/cmaf"), name, SEGMENTS, &file).unwrap();
        assert_eq!(found(ffmpeg, &file), [codec], "{pair:?}");
    }
    let (status, text) = node.get(&format!("{base}/hls/index.m3u8")).unwrap();
    if pair.ts.is_empty() {
        let text = String::from_utf8(text).unwrap();
        assert_eq!(status, 404, "{text}");
        assert!(text.contains("MPEG-TS does not carry"), "{text}");
    } else {
        let file = dir.join("ts");
        rendition(node, &format!("{base}/hls"), "ts", SEGMENTS, &file).unwrap();
        assert_eq!(found(ffmpeg, &file), pair.ts, "{pair:?}");
    }
    say(&format!("{:?} at {}: whole", pair.names, node.name()));
}

#[test]
fn every_codec_of_enhanced_rtmp_is_whole_at_the_origin_and_at_a_relay() {
    let Some(stage) = Stage::or_skip(57) else {
        return;
    };
    let ffmpeg = modern_ffmpeg().unwrap();
    // Coding for real takes its time: two at once.
    for pairs in PAIRS.chunks(2) {
        let streams: Vec<(&Pair, Stream, Running)> = pairs
            .iter()
            .map(|pair| {
                let stream = stage.create(stage.a(), pair.names[0]).unwrap();
                let running = start(&stage, &ffmpeg, pair, &stream);
                (pair, stream, running)
            })
            .collect();
        for (pair, stream, running) in &streams {
            for node in [stage.a(), stage.b()] {
                let playable = stage.playable(node, stream);
                assert!(
                    playable.is_ok(),
                    "{pair:?}: {playable:?} {}",
                    running.tail(5)
                );
                look(&stage, &ffmpeg, node, pair, stream);
            }
        }
        for (_, _, running) in &streams {
            assert_eq!(running.ended(), None, "{}", running.tail(5));
            running.signal(Signal::INT).unwrap();
        }
    }
}

#[test]
fn several_pictures_and_sounds_are_renditions_of_one_stream() {
    let Some(stage) = Stage::or_skip(58) else {
        return;
    };
    let ffmpeg = modern_ffmpeg().unwrap();
    let stream = stage.create(stage.a(), "ladder").unwrap();
    let line = "-hide_banner -nostdin -loglevel warning -re -f lavfi -i testsrc2=s=640x360:r=25 \
        -re -f lavfi -i sine=f=440:r=48000 -re -f lavfi -i sine=f=880:r=48000 \
        -filter_complex [0:v]split=2[v][w];[w]scale=320:180[x] -map [v] -map [x] -map 1:a -map 2:a \
        -c:v libx264 -preset ultrafast -g 50 -sc_threshold 0 -pix_fmt yuv420p \
        -c:a:0 aac -ac:a:0 2 -c:a:1 libopus -ac:a:1 1 -f flv";
    let mut command = stage.streamer().command(&ffmpeg);
    command
        .args(line.split_whitespace())
        .arg(format!("rtmp://edge-ingest.{DOMAIN}/live/{}", stream.key));
    let running = stage.streamer().spawn(&mut command).unwrap();
    let base = format!("/play/{}/cmaf", stream.playback);
    for node in [stage.a(), stage.b()] {
        let playable = stage.playable(node, &stream);
        assert!(playable.is_ok(), "{playable:?} {}", running.tail(5));
        let (_, text) = node.get(&format!("{base}/index.m3u8")).unwrap();
        let text = String::from_utf8(text).unwrap();
        for part in [
            "RESOLUTION=640x360",
            "RESOLUTION=320x180",
            "NAME=\"a0\",DEFAULT=YES",
            "CHANNELS=\"2\"",
            "NAME=\"a1\",DEFAULT=NO",
            "CHANNELS=\"1\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let dir = stage.home().join(node.name()).join("ladder");
        fs::create_dir_all(&dir).unwrap();
        for (name, codec) in [
            ("v0", "h264"),
            ("v1", "h264"),
            ("a0", "aac"),
            ("a1", "opus"),
        ] {
            let file = dir.join(name);
            rendition(node, &base, name, SEGMENTS, &file).unwrap();
            assert_eq!(found(&ffmpeg, &file), [codec], "{name}");
        }
    }
    running.signal(Signal::INT).unwrap();
}
