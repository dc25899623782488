//! SRT from programs that others wrote, over a wire that loses and reorders: what is found at the origin and one relay away.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{fs, path::Path, time::Duration};

use rustix::process::Signal;
use shoal_tests::{
    lab::Running,
    saved::{complaints, modern_ffmpeg, output, rendition},
    say,
    stage::{DOMAIN, Node, Stage, Stream},
    wire::Link,
};

/// Segments of each rendition that are looked at.
const SEGMENTS: usize = 4;

/// Picture and sound as ffmpeg codes them, and as ffprobe names them.
#[derive(Debug)]
struct Film {
    video: &'static str,
    audio: &'static str,
    names: [&'static str; 2],
}

const FILMS: [Film; 4] = [
    Film {
        video: "libx264 -preset ultrafast -g 50 -bf 2 -pix_fmt yuv420p",
        audio: "aac -ar 48000",
        names: ["h264", "aac"],
    },
    Film {
        video: "libx265 -preset ultrafast -x265-params log-level=error:keyint=50:bframes=2",
        audio: "libopus -ar 48000",
        names: ["hevc", "opus"],
    },
    Film {
        video: "libx264 -preset ultrafast -g 50 -pix_fmt yuv420p",
        audio: "ac3 -ar 48000",
        names: ["h264", "ac3"],
    },
    Film {
        video: "libx264 -preset ultrafast -g 50 -pix_fmt yuv420p",
        audio: "mp2 -ar 48000",
        // MP4 has one number for all layers of MPEG-1 audio.
        names: ["h264", "mp3"],
    },
];

/// ffmpeg at the streamer's sends one of them by SRT, to the name that the tenant's domain has.
fn start(stage: &Stage, ffmpeg: &Path, film: &Film, stream: &Stream) -> Running {
    let line = format!(
        "-hide_banner -nostdin -loglevel warning -re -f lavfi -i testsrc2=s=320x180:r=25 \
         -re -f lavfi -i sine=f=440:r=48000 -ac 2 -c:v {} -c:a {} -f mpegts",
        film.video, film.audio
    );
    let mut command = stage.streamer().command(ffmpeg);
    command.args(line.split_whitespace()).arg(format!(
        "srt://edge-ingest.{DOMAIN}:8889?streamid={}&pkt_size=1316&latency=400000",
        stream.key
    ));
    stage.streamer().spawn(&mut command).unwrap()
}

/// A rendition at a node is whole: the right codec, no complaint, and each picture 40 ms after the one before.
fn look(stage: &Stage, node: &Node, film: &Film, stream: &Stream) {
    let base = format!("/play/{}/cmaf", stream.playback);
    let dir = stage
        .home()
        .join(format!("{}-{}", stream.playback, node.name()));
    fs::create_dir(&dir).unwrap();
    for (name, codec) in ["v0", "a0"].into_iter().zip(film.names) {
        let file = dir.join(name);
        rendition(node, &base, name, SEGMENTS, &file).unwrap();
        let said = complaints("ffmpeg", &file).unwrap();
        assert!(said.is_empty(), "{film:?}: {said}");
        let asked = ["-show_entries", "stream=codec_name:packet=pts_time"];
        let (text, _) = output("ffprobe", &asked, &file, &["-of", "csv=p=0"]).unwrap();
        let words: Vec<_> = text.lines().map(|l| l.trim_matches(',')).collect();
        assert!(words.contains(&codec), "{film:?}: {words:?}");
        let mut times: Vec<f64> = words.iter().filter_map(|w| w.parse().ok()).collect();
        times.sort_by(f64::total_cmp);
        assert!(times.len() > 150, "{} packets", times.len());
        let steps: Vec<f64> = times.windows(2).map(|t| t[1] - t[0]).collect();
        let (least, most) = (
            steps.iter().copied().fold(1.0, f64::min),
            steps.iter().copied().fold(0.0, f64::max),
        );
        assert!(
            most - least < 0.002,
            "{film:?} {name}: steps of {least} to {most} s"
        );
    }
    say(&format!("{:?} at {}: whole", film.names, node.name()));
}

#[test]
fn every_frame_of_a_stream_over_a_bad_wire_is_at_the_origin_and_at_a_relay() {
    let Some(stage) = Stage::or_skip(61) else {
        return;
    };
    let ffmpeg = modern_ffmpeg().unwrap();
    let bad = Link {
        delay: Duration::from_millis(20),
        loss: 0.1,
        reorder: 0.05,
        ..Link::default()
    };
    let found = stage.a().resolve(stage.streamer(), "edge-ingest");
    assert_eq!(found.first(), Some(&stage.a().ip()), "the nearest takes it");
    // Coding for real takes its time: two at once.
    for films in FILMS.chunks(2) {
        stage.lab().wire().set("streamer", "a", bad);
        let streams: Vec<(&Film, Stream, Running)> = films
            .iter()
            .map(|film| {
                let stream = stage.create(stage.a(), film.names[1]).unwrap();
                let running = start(&stage, &ffmpeg, film, &stream);
                (film, stream, running)
            })
            .collect();
        for (film, stream, running) in &streams {
            for node in [stage.a(), stage.b()] {
                let playable = stage.playable(node, stream);
                assert!(
                    playable.is_ok(),
                    "{film:?}: {playable:?} {}",
                    running.tail(5)
                );
                look(&stage, node, film, stream);
            }
        }
        for (_, _, running) in &streams {
            assert_eq!(running.ended(), None, "{}", running.tail(5));
            running.signal(Signal::INT).unwrap();
        }
    }
}
