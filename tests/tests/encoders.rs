//! Encoders that others wrote publish by name, all at once; what each sent is at its origin, whole.
//!
//! `rtmpsink` is librtmp, which OBS has too: connect, releaseStream, FCPublish, createStream, publish, `@setDataFrame`.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{fs, path::Path, time::Duration};

use rustix::process::Signal;
use shoal_tests::{
    lab::{Running, until},
    saved::{complaints, output, rendition as save},
    say,
    stage::{DOMAIN, Node, Stage, Stream},
};

const S: Duration = Duration::from_secs(1);
/// Segments of each rendition that have to be there before it is looked at.
const SEGMENTS: usize = 4;

/// An encoder and what is to come of it.
#[derive(Debug)]
struct Encoder {
    name: &'static str,
    program: Program,
    /// Pictures: numerator and denominator of their rate, and how exact their times are.
    video: Option<(u32, u32, Pace)>,
    audio: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The same distance from picture to picture.
    Exact,
    /// GStreamer's live sources: as their clock says.
    Uneven,
    /// GStreamer 1.22's flvmux moves decode times ahead of B-frames and takes these along: they are shown out of order.
    Torn,
}
use Pace::{Exact, Torn, Uneven};

#[derive(Clone, Copy, Debug)]
enum Program {
    /// What ffmpeg codes, and what it is told beside `-f flv`.
    Ffmpeg(&'static str, &'static str),
    /// x264enc's properties, the AAC encoder, the sink with its properties.
    Gstreamer(&'static str, &'static str, &'static str),
    /// ffmpeg over TLS, to this port.
    Rtmps(u16),
}
use Program::{Ffmpeg, Gstreamer, Rtmps};

const ENCODERS: [Encoder; 11] = [
    Encoder {
        name: "ffmpeg, rtmps at the port that its addresses leave out",
        program: Rtmps(443),
        video: Some((25, 1, Exact)),
        audio: true,
    },
    Encoder {
        name: "ffmpeg, rtmps at RTMP's own port",
        program: Rtmps(1935),
        video: Some((25, 1, Exact)),
        audio: true,
    },
    Encoder {
        name: "ffmpeg, live, three B-frames, 29.97",
        program: Ffmpeg("-bf 3", "-rtmp_live live"),
        video: Some((30_000, 1001, Exact)),
        audio: true,
    },
    Encoder {
        name: "ffmpeg, without duration and size, no B-frames, 23.976",
        program: Ffmpeg("-bf 0", "-flvflags no_duration_filesize"),
        video: Some((24_000, 1001, Exact)),
        audio: true,
    },
    Encoder {
        name: "ffmpeg, 50 a second",
        program: Ffmpeg("-bf 2", ""),
        video: Some((50, 1, Exact)),
        audio: true,
    },
    Encoder {
        name: "ffmpeg, sound alone",
        program: Ffmpeg("", "-rtmp_live live"),
        video: None,
        audio: true,
    },
    Encoder {
        name: "ffmpeg, pictures alone",
        program: Ffmpeg("-bf 3", "-flvflags no_duration_filesize"),
        video: Some((25, 1, Exact)),
        audio: false,
    },
    Encoder {
        name: "GStreamer rtmp2sink, no B-frames, voaacenc",
        program: Gstreamer("tune=zerolatency", "voaacenc", "rtmp2sink"),
        video: Some((30, 1, Uneven)),
        audio: true,
    },
    Encoder {
        name: "GStreamer rtmp2sink, B-frames, avenc_aac, large chunks",
        program: Gstreamer("bframes=2", "avenc_aac", "rtmp2sink chunk-size=4096"),
        video: Some((25, 1, Torn)),
        audio: true,
    },
    Encoder {
        name: "librtmp (rtmpsink), no B-frames, avenc_aac",
        program: Gstreamer("tune=zerolatency", "avenc_aac", "rtmpsink"),
        video: Some((30, 1, Uneven)),
        audio: true,
    },
    Encoder {
        name: "librtmp (rtmpsink), B-frames, voaacenc",
        program: Gstreamer("bframes=3", "voaacenc", "rtmpsink"),
        video: Some((25, 1, Torn)),
        audio: true,
    },
];

impl Encoder {
    fn start(&self, stage: &Stage, stream: &Stream) -> Running {
        let url = format!("rtmp://edge-ingest.{DOMAIN}/live/{}", stream.key);
        let rate = self.video.map(|(num, den, _)| format!("{num}/{den}"));
        let (program, line, last) = match self.program {
            Ffmpeg(..) | Rtmps(_) => {
                let (coding, muxing, url) = match self.program {
                    Rtmps(port) => {
                        let to = format!("edge-ingest.{DOMAIN}:{port}");
                        ("", "", format!("rtmps://{to}/live/{}", stream.key))
                    }
                    Ffmpeg(coding, muxing) => (coding, muxing, url),
                    Gstreamer(..) => unreachable!("it is not ffmpeg"),
                };
                let (mut inputs, mut codings) = (String::new(), String::new());
                if let Some(rate) = rate {
                    inputs += &format!("-re -f lavfi -i testsrc2=s=320x180:r={rate} ");
                    codings += "-c:v libx264 -preset ultrafast -g 50 -pix_fmt yuv420p -b:v 300k ";
                }
                if self.audio {
                    inputs += "-re -f lavfi -i sine=f=440:r=44100 ";
                    codings += "-c:a aac -ac 2 ";
                }
                let line = format!(
                    "-hide_banner -nostdin -loglevel warning {inputs} {codings} {coding} {muxing} -f flv"
                );
                ("ffmpeg", line, url)
            }
            Gstreamer(coding, aac, sink) => {
                let rate = rate.unwrap_or_default();
                // Sound waits here while x264enc holds pictures back.
                let queue = "queue max-size-time=5000000000";
                let line = format!(
                    "-q -e flvmux name=mux streamable=true \
                     videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate={rate} ! \
                     x264enc speed-preset=ultrafast bitrate=300 key-int-max=50 {coding} ! {queue} ! mux. \
                     audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! \
                     {aac} ! aacparse ! {queue} ! mux. \
                     mux. ! {sink}"
                );
                // librtmp takes options after the address; this one is what OBS sets.
                let live = if sink == "rtmpsink" { " live=1" } else { "" };
                ("gst-launch-1.0", line, format!("location={url}{live}"))
            }
        };
        let mut command = stage.streamer().command(program);
        command
            .args(line.split_whitespace())
            .arg(last)
            .env("GST_REGISTRY", stage.home().join("gst-registry"));
        stage.streamer().spawn(&mut command).unwrap()
    }
}

/// Presentation times of a saved rendition's pictures or sounds, in order, in seconds.
fn times(path: &Path, kind: &str) -> Vec<f64> {
    let entries = "packet=pts_time";
    let asked = ["-select_streams", kind, "-show_entries", entries];
    let (text, _) = output("ffprobe", &asked, path, &["-of", "csv=p=0"]).unwrap();
    let lines = text.lines().filter_map(|l| l.split(',').next());
    let mut times: Vec<f64> = lines.filter_map(|t| t.parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The shortest and the longest distance, and the mean of all.
fn steps(times: &[f64]) -> (f64, f64, f64) {
    let steps = times.windows(2).map(|w| w[1] - w[0]);
    let (short, long) = steps.fold((f64::MAX, 0.0_f64), |(s, l), d| (s.min(d), l.max(d)));
    let mean = (times[times.len() - 1] - times[0]) / (times.len() - 1) as f64;
    (short, long, mean)
}

fn whole(stage: &Stage, encoder: &Encoder, stream: &Stream) {
    let (node, name) = (stage.a(), encoder.name);
    let base = format!("/play/{}", stream.playback);
    let dir = stage.home().join(&stream.playback);
    fs::create_dir(&dir).unwrap();
    let list = |folder: &str| {
        let (status, text) = node.get(&format!("{base}/{folder}/index.m3u8")).unwrap();
        assert_eq!(status, 200, "{name}");
        String::from_utf8(text).unwrap()
    };
    for (folder, rendition, kinds) in [
        ("cmaf", "v0", "v"),
        ("cmaf", "a0", "a"),
        ("hls", "ts", "va"),
    ] {
        let kinds = kinds.chars().filter(|kind| match kind {
            'v' => encoder.video.is_some(),
            _ => encoder.audio,
        });
        let kinds: Vec<String> = kinds.map(String::from).collect();
        if kinds.is_empty() {
            assert!(!list(folder).contains(rendition), "{name}: {rendition}");
            continue;
        }
        let file = dir.join(rendition);
        save(
            node,
            &format!("{base}/{folder}"),
            rendition,
            SEGMENTS,
            &file,
        )
        .unwrap();
        let said = complaints("ffmpeg", &file).unwrap();
        let torn = encoder.video.is_some_and(|(.., pace)| pace == Torn);
        let other = |l: &&str| !(torn && l.contains("non monotonically increasing dts to muxer"));
        let said: Vec<&str> = said.lines().filter(other).collect();
        assert!(said.is_empty(), "{name}: {rendition}: {said:?}");
        for kind in kinds {
            let times = times(&file, &kind);
            let (short, long, mean) = steps(&times);
            say(&format!(
                "{name}: {rendition} {kind}: {} each {mean:.5} s, {short:.5} to {long:.5}",
                times.len()
            ));
            let (step, pace) = match (kind.as_str(), encoder.video) {
                ("v", Some((num, den, pace))) => (f64::from(den) / f64::from(num), pace),
                _ => (times[1] - times[0], Exact),
            };
            assert!(
                (mean - step).abs() < step * 0.02,
                "{name}: {rendition} {kind}"
            );
            if pace == Exact {
                // MPEG-TS and ffprobe count in microseconds and 90,000ths.
                let off = (short - step).abs().max((long - step).abs());
                assert!(off < 0.000_1, "{name}: {rendition} {kind}: {off}");
            }
            let length = times[times.len() - 1] - times[0];
            assert!(length > SEGMENTS as f64 * 1.5, "{name}: {length} s");
        }
    }
}

#[test]
fn encoders_that_others_wrote_are_taken_whole() {
    let Some(stage) = Stage::or_skip(54) else {
        return;
    };
    let streams = ENCODERS.map(|encoder| {
        let stream = stage.create(stage.a(), encoder.name).unwrap();
        (encoder, stream)
    });
    let running: Vec<Running> = streams
        .iter()
        .map(|(encoder, stream)| encoder.start(&stage, stream))
        .collect();
    for (encoder, stream) in &streams {
        stage.playable(stage.a(), stream).unwrap();
        let origin = stage.origin(stage.a(), stream).map(Node::name);
        assert_eq!(origin, Some("a"), "{}", encoder.name);
    }
    for (encoder, stream) in &streams {
        whole(&stage, encoder, stream);
    }
    // They say goodbye, each in its own way, and the stream is over.
    for encoder in &running {
        assert_eq!(encoder.ended(), None, "{}", encoder.tail(5));
        encoder.signal(Signal::INT).unwrap();
    }
    for (encoder, stream) in &streams {
        until(&format!("the end of {}", encoder.name), 10 * S, || {
            stage.origin(stage.a(), stream).is_none().then_some(())
        })
        .unwrap();
    }
}
