//! Containers as long as the broadcast lasts, read by ffprobe and ffmpeg.
use std::{path::Path, process::Stdio};

use media::{
    flv::{self, Tag, TagKind},
    follow::{GONE, SessionInfo},
    ports::Protocol,
};
use tokio::process::Command;

use super::house::{House, ID, RealClock, clip, ffmpeg};

/// Streams and packets as ffprobe sees them.
pub(crate) struct Probed {
    pub(crate) codecs: Vec<String>,
    /// Stream, decode time and presentation time in seconds, keyframe.
    pub(crate) packets: Vec<(usize, f64, f64, bool)>,
}

/// What is wrong by ffmpeg's words; that ADTS does not say how long it lasts is not.
fn complaint(said: &str) -> Option<&str> {
    let mut lines = said.lines();
    lines.find(|l| !l.contains("Estimating duration from bitrate"))
}

pub(crate) async fn probe(path: &Path) -> Probed {
    let output = Command::new("ffprobe")
        .args(["-v", "warning", "-of", "json", "-show_entries"])
        .arg("stream=codec_name:packet=stream_index,dts_time,pts_time,flags")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(complaint(&said), None, "{}", path.display());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    let all = |name: &str| json[name].as_array().unwrap().clone();
    let packet = |p: serde_json::Value| {
        let pts = text(&p["pts_time"]).parse().unwrap();
        let dts = text(&p["dts_time"]).parse().unwrap_or(pts);
        let stream = usize::try_from(p["stream_index"].as_u64().unwrap()).unwrap();
        (stream, dts, pts, text(&p["flags"]).starts_with('K'))
    };
    Probed {
        codecs: all("streams")
            .iter()
            .map(|s| text(&s["codec_name"]))
            .collect(),
        packets: all("packets").into_iter().map(packet).collect(),
    }
}

impl Probed {
    fn of(&self, codec: &str) -> Vec<(usize, f64, f64, bool)> {
        let index = self.codecs.iter().position(|c| c == codec).unwrap();
        self.packets
            .iter()
            .filter(|p| p.0 == index)
            .copied()
            .collect()
    }
}

const FORMS: [(&str, &str); 5] = [
    ("ts", "video/mp2t"),
    ("mp4", "video/mp4"),
    ("flv", "video/x-flv"),
    ("mkv", "video/x-matroska"),
    ("aac", "audio/aac"),
];

#[tokio::test]
async fn each_begins_at_the_newest_keyframe_and_has_every_frame_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let tags = clip("25", 10, "expr:gte(t,n_forced*1)").await;
    let (past, later) = tags.split_at(tags.partition_point(|t| t.timestamp < 4_500));
    let mut house = House::open(RealClock::start());
    for tag in past {
        house.push(tag);
    }
    let mut bodies = Vec::new();
    for (ending, kind) in FORMS {
        let head = house.head(&format!("/play/{ID}.{ending}")).await;
        assert_eq!((head.status, head.header("content-type")), (200, kind));
        assert_eq!(head.header("cache-control"), "no-store");
        bodies.push((ending, house.body(&format!("/play/{ID}.{ending}")).await));
    }
    assert_eq!(
        house.http.sessions(),
        [(super::house::BROADCAST, FORMS.len())]
    );
    for tag in later {
        house.push(tag);
    }
    house.end();
    for (ending, mut body) in bodies {
        let path = dir.path().join(format!("live.{ending}"));
        std::fs::write(&path, body.there().await).unwrap();
        let probed = probe(&path).await;
        let sound = probed.of("aac");
        // 6 s of 1024 samples at 48 kHz, from the keyframe at 4 s on.
        assert!(
            (275..=286).contains(&sound.len()),
            "{ending}: {}",
            sound.len()
        );
        if ending != "aac" {
            let pictures = probed.of("h264");
            assert_eq!(pictures.len(), 150, "{ending}");
            assert!(pictures[0].3, "{ending} begins with a keyframe");
            // Matroska has no decode times.
            let rises = pictures.windows(2).all(|w| w[0].1 < w[1].1);
            assert!(ending == "mkv" || rises, "{ending}");
            let first =
                |of: &[(usize, f64, f64, bool)]| of.iter().map(|p| p.2).fold(f64::MAX, f64::min);
            let (v, a) = (first(&pictures), first(&sound));
            assert!((v - a).abs() < 0.13, "{ending}: pictures {v}, sound {a}");
        }
        assert!(sound.windows(2).all(|w| w[0].1 < w[1].1), "{ending}");
        let said = ffmpeg(&format!("-i {} -map 0 -f null -", path.display())).await;
        assert_eq!(complaint(&said), None, "{ending}");
    }
    assert!(house.http.sessions().is_empty());
}

#[tokio::test]
async fn viewers_stay_when_the_encoder_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let tags = clip("25", 4, "expr:gte(t,n_forced*1)").await;
    let mut house = House::open(RealClock::start());
    for tag in tags.iter().filter(|t| t.timestamp < 500) {
        house.push(tag);
    }
    let mut bodies = Vec::new();
    for (ending, _) in FORMS {
        bodies.push((ending, house.body(&format!("/play/{ID}.{ending}")).await));
    }
    for tag in tags.iter().filter(|t| t.timestamp >= 500) {
        house.push(tag);
    }
    house.end();
    house.come_back();
    for tag in &tags {
        house.push(tag);
    }
    house.end();
    for (ending, mut body) in bodies {
        let path = dir.path().join(format!("live.{ending}"));
        std::fs::write(&path, body.there().await).unwrap();
        let probed = probe(&path).await;
        for (codec, count) in [("h264", 200), ("aac", 374)] {
            if ending == "aac" && codec == "h264" {
                continue;
            }
            let of = probed.of(codec);
            assert!(of.len() >= count, "{ending} {codec}: {}", of.len());
            let rises = of.windows(2).all(|w| w[0].1 < w[1].1);
            assert!(
                rises || (ending, codec) == ("mkv", "h264"),
                "{ending} {codec}"
            );
            let last = of.last().unwrap().1 - of[0].1;
            assert!((7.5..8.3).contains(&last), "{ending} {codec}: {last}");
        }
        // The seam is a moment longer than a frame, which misleads ffmpeg's guess at a constant rate.
        let said = ffmpeg(&format!(
            "-i {} -map 0 -fps_mode passthrough -enc_time_base 1:90000 -f null -",
            path.display()
        ))
        .await;
        assert_eq!(complaint(&said), None, "{ending}");
    }
}

#[tokio::test]
async fn what_a_container_cannot_carry_is_said_with_what_can() {
    let mut house = House::open(RealClock::start());
    for tag in clip("25", 2, "0").await {
        house.push(&tag);
    }
    let got = house.get(&format!("/play/{ID}.webm")).await;
    assert_eq!(got.status, 406);
    let text = got.json()["error"].as_str().unwrap().to_owned();
    assert!(
        text.contains("H264") && text.contains("/play/ID.mp4") && !text.contains(".webm,"),
        "{text}"
    );
}

#[tokio::test]
async fn a_body_ends_with_the_stream_and_when_its_viewer_is_ended() {
    let mut house = House::open(RealClock::start());
    for tag in clip("25", 2, "0").await {
        house.push(&tag);
    }
    let mut ended = house.body(&format!("/play/{ID}.ts")).await;
    let mut lasts = house.body(&format!("/play/{ID}.mkv")).await;
    let sessions = house.audience.sessions();
    assert_eq!(sessions.len(), 2);
    let all = |info: &SessionInfo| {
        info.protocol == Protocol::Progressive && info.watch.broadcast == super::house::BROADCAST
    };
    assert!(sessions.iter().all(|(_, info)| all(info)));
    house.audience.end(|id, _| id == sessions[0].0);
    while ended.chunk().await.is_some() {}
    assert_eq!(house.audience.sessions().len(), 1);
    house.end();
    let gone = async { while lasts.chunk().await.is_some() {} };
    tokio::time::timeout(GONE * 2, gone).await.unwrap();
    assert!(house.audience.sessions().is_empty());
}

/// Pictures of an IVF file as Enhanced RTMP has them.
fn enhanced(ivf: &[u8], four: &[u8; 4], millis: u32, key: fn(&[u8]) -> bool) -> Vec<Tag> {
    let (mut rest, mut tags) = (&ivf[32..], Vec::new());
    while let Some((size, _)) = rest.split_first_chunk::<4>() {
        let size = u32::from_le_bytes(*size) as usize;
        let data = &rest[12..12 + size];
        let head = 0x81 | if key(data) { 0x10 } else { 0x20 };
        tags.push(Tag {
            kind: TagKind::Video,
            timestamp: millis * u32::try_from(tags.len()).unwrap(),
            body: [&[head], &four[..], data].concat().into(),
        });
        rest = &rest[12 + size..];
    }
    tags
}

#[tokio::test]
async fn vp8_and_vp9_are_had_as_webm_mkv_and_mp4_and_flv_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let vp9: (_, _, _, fn(&[u8]) -> bool) = ("vp9", b"vp09", "libvpx-vp9", |d| d[0] & 4 == 0);
    let vp8: (_, _, _, fn(&[u8]) -> bool) = ("vp8", b"vp08", "libvpx", |d| d[0] & 1 == 0);
    // ffmpeg reads no VP8 from MP4.
    let forms = [&["webm", "mkv", "mp4"][..], &["webm", "mkv"]];
    for ((name, four, encoder, key), forms) in [vp9, vp8].into_iter().zip(forms) {
        let ivf = dir.path().join("clip.ivf");
        let said = ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=320x180:r=25:d=4 -c:v {encoder} -b:v 300k -deadline realtime -cpu-used 8 -g 25 -lag-in-frames 0 {}",
            ivf.display()
        ))
        .await;
        assert_eq!(said, "");
        let tags = enhanced(&std::fs::read(ivf).unwrap(), four, 40, key);
        let mut house = House::open(RealClock::start());
        let (past, later) = tags.split_at(50);
        for tag in past {
            house.push(tag);
        }
        let refused = house.get(&format!("/play/{ID}.ts")).await;
        assert_eq!(refused.status, 406);
        let mut bodies = Vec::new();
        for ending in forms.iter().chain(&["flv"]) {
            bodies.push((*ending, house.body(&format!("/play/{ID}.{ending}")).await));
        }
        for tag in later {
            house.push(tag);
        }
        house.end();
        for (ending, mut body) in bodies {
            let bytes = body.there().await;
            if ending == "flv" {
                let tags = flv::file(&bytes).unwrap();
                let frames: Vec<&Tag> = tags.iter().filter(|t| t.is_frame()).collect();
                assert_eq!(frames.len(), 75);
                let first = &frames[0].packets().unwrap()[0];
                assert_eq!(first.codec.name().to_ascii_lowercase(), name);
                continue;
            }
            let path = dir.path().join(format!("live.{ending}"));
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(probe(&path).await.of(name).len(), 75, "{ending}");
            let said = ffmpeg(&format!("-i {} -f null -", path.display())).await;
            assert_eq!(complaint(&said), None, "{ending}");
        }
    }
}
