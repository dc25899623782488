//! A simulated encoder, and the check that every rule holds in what the origin made of it.
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary, UnixMillis};

use super::super::{clock::MILLI, *};
use crate::live::Cut;

/// One picture or sound, with the encoder's exact time in milliseconds from its start.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) at: u64,
    pub(super) packet: Packet,
}

/// What an encoder does.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    pub(super) rate: (u32, u32),
    pub(super) audio: (u32, u32),
    pub(super) millis: u64,
    /// Keyframes are so far apart at least and at most, in milliseconds.
    pub(super) keyframes: (u64, u64),
    pub(super) b_frames: u32,
    /// How much later than its pictures its sound arrives, in milliseconds.
    pub(super) sound_later: i64,
    /// Times are off by so many milliseconds at most.
    pub(super) jitter: i64,
    /// The 32-bit time of its start in milliseconds.
    pub(super) start: u32,
    pub(super) seed: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            rate: (30, 1),
            audio: (48_000, 1024),
            millis: 20_000,
            keyframes: (2_000, 2_000),
            b_frames: 0,
            sound_later: 0,
            jitter: 0,
            start: 0,
            seed: 1,
        }
    }
}

impl Encoder {
    /// Its packets in the order of their arrival.
    pub(super) fn packets(&self) -> Vec<Made> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut all = Vec::new();
        let (num, den) = (u64::from(self.rate.0), u64::from(self.rate.1));
        let ms = |k: u64| k * 1000 * den / num;
        let mut next_key = 0;
        let mut since_key = 0;
        for k in 0.. {
            let at = ms(k);
            if at >= self.millis {
                break;
            }
            let keyframe = at >= next_key;
            if keyframe {
                next_key = at + rng.random_range(self.keyframes.0..=self.keyframes.1);
                since_key = 0;
            }
            // The usual pattern: each P before its B pictures, everything shown `b_frames` pictures late.
            let b = u64::from(self.b_frames);
            let shown = match since_key % (b + 1) {
                _ if b == 0 => 0,
                0 => b,
                1 if since_key > 1 || b == 1 => b + b - 1,
                _ => b - 1,
            };
            let shown = if keyframe { b } else { shown };
            since_key += 1;
            let off = rng.random_range(-self.jitter..=self.jitter);
            let time = (i64::try_from(at).unwrap() + off).max(0);
            all.push(Made {
                at,
                packet: Packet {
                    input: Input::VIDEO,
                    time: self.time(time),
                    composition: i32::try_from(ms(k + shown) - at).unwrap() * 90,
                    keyframe,
                    data: Bytes::from_static(&[0; 40]),
                },
            });
        }
        let (rate, samples) = (u64::from(self.audio.0), u64::from(self.audio.1));
        for k in 0.. {
            let time = k * samples * 1000 / rate;
            if time >= self.millis || rate == 1 {
                break;
            }
            all.push(Made {
                at: time.saturating_add_signed(self.sound_later),
                packet: Packet {
                    input: Input::AUDIO,
                    time: self.time(i64::try_from(time).unwrap()),
                    composition: 0,
                    keyframe: true,
                    data: Bytes::from_static(&[1; 10]),
                },
            });
        }
        all.sort_by_key(|m| m.at);
        all
    }

    fn time(&self, ms: i64) -> i64 {
        let raw = |ms| u64::from(self.start.wrapping_add(ms));
        let mut clock = Unwrap::new(32);
        clock.time(raw(0));
        clock.time(raw(u32::try_from(ms).unwrap())) * MILLI
    }
}

pub(super) fn video(number: u8, rate: (u32, u32)) -> Config {
    Config {
        data: Bytes::from(vec![number]),
        summary: TrackSummary {
            kind: TrackKind::Video,
            codec: Codec::H264,
            codec_string: "avc1.64001f".into(),
            bitrate: BitsPerSecond(0),
            detail: TrackDetail::Video {
                width: 640,
                height: 360,
                rate,
            },
        },
        frame_samples: 0,
    }
}

pub(super) fn audio((sample_rate, samples): (u32, u32)) -> Config {
    Config {
        data: Bytes::from_static(&[0x12, 0x10]),
        summary: TrackSummary {
            kind: TrackKind::Audio,
            codec: Codec::Aac,
            codec_string: "mp4a.40.2".into(),
            bitrate: BitsPerSecond(0),
            detail: TrackDetail::Audio {
                sample_rate,
                channels: 2,
            },
        },
        frame_samples: samples,
    }
}

/// A live origin with both configurations of this encoder.
pub(super) fn origin(encoder: &Encoder) -> Origin {
    let mut origin = Origin::new();
    origin.set_live(true);
    origin.configure(Input::VIDEO, video(0, encoder.rate));
    origin.configure(Input::AUDIO, audio(encoder.audio));
    origin
}

pub(super) fn feed(origin: &mut Origin, packets: impl IntoIterator<Item = Made>) {
    for made in packets {
        origin.push(UnixMillis(1_000_000 + made.at), made.packet);
    }
}

/// A track as it came out, whole.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) track: Track,
    pub(super) groups: Vec<Beginning>,
    pub(super) frames: Vec<Frame>,
}

impl Line {
    /// By segment, its first frame.
    pub(super) fn segments(&self) -> Vec<&Frame> {
        let cuts = self.frames.iter().filter(|f| f.cut == Cut::Segment);
        cuts.collect()
    }

    pub(super) fn millis(&self, ticks: i64) -> i64 {
        ticks * 1000 / i64::from(self.track.timescale)
    }
}

/// An epoch as it came out, whole.
#[derive(Clone, Debug)]
pub(super) struct Result {
    pub(super) opening: Opening,
    pub(super) lines: Vec<Line>,
    pub(super) ended: bool,
}

impl Result {
    pub(super) fn video(&self) -> &Line {
        self.first(TrackKind::Video)
    }
    pub(super) fn audio(&self) -> &Line {
        self.first(TrackKind::Audio)
    }
    fn first(&self, kind: TrackKind) -> &Line {
        let mut lines = self.lines.iter();
        lines.find(|line| line.track.kind == kind).unwrap()
    }
}

/// Takes all outputs and checks the rules that hold for every stream.
pub(super) fn collect(origin: &mut Origin) -> Vec<Result> {
    let mut epochs: Vec<Result> = Vec::new();
    while let Some(output) = origin.poll() {
        if let Output::Open(opening) = output {
            assert!(epochs.last().is_none_or(|e| e.ended));
            let lines = opening.tracks.iter().map(|track| Line {
                track: track.clone(),
                groups: Vec::new(),
                frames: Vec::new(),
            });
            epochs.push(Result {
                lines: lines.collect(),
                opening,
                ended: false,
            });
            continue;
        }
        let epoch = epochs.last_mut().unwrap();
        assert!(!epoch.ended);
        match output {
            Output::Group(group) => {
                epoch.lines[group.track.index()].groups.push(group);
            }
            Output::Frame(track, frame) => {
                epoch.lines[track.index()].frames.push(frame);
            }
            _ => epoch.ended = true,
        }
    }
    for epoch in &epochs {
        for line in &epoch.lines {
            check(line);
        }
    }
    epochs
}

fn check(line: &Line) {
    let Line {
        track,
        groups,
        frames,
    } = line;
    assert!(frames.iter().all(|f| f.dts >= 0 && f.cts >= 0));
    for w in frames.windows(2) {
        assert!(w[0].dts < w[1].dts, "decode times rise: {w:?}");
    }
    let (mut group, mut segment, mut part) = (0, 0, 0);
    for (i, frame) in frames.iter().enumerate() {
        match frame.cut {
            Cut::Segment => (segment, part) = (segment + u64::from(i > 0), 0),
            Cut::Part => part += 1,
            Cut::None => assert!(i > 0),
        }
        let begins = groups
            .get(group)
            .is_some_and(|g| g.base_decode_time == frame.dts);
        if begins {
            let g = &groups[group];
            assert_eq!((g.seq.0, g.segment, g.part), (group as u64, segment, part));
            assert_eq!(g.independent, frame.keyframe);
            group += 1;
        }
        assert!(
            begins || frame.cut != Cut::Segment,
            "a segment is whole groups"
        );
        assert!(
            begins || !frame.keyframe || track.kind == TrackKind::Audio,
            "a keyframe begins a group"
        );
    }
    assert_eq!(group, groups.len());
    for (a, b) in line.segments().iter().zip(line.segments().iter().skip(1)) {
        let long = line.millis(b.dts - a.dts);
        assert!(long < 4_500, "EXT-X-TARGETDURATION is 4: {long} ms");
        if track.kind == TrackKind::Video && !b.keyframe {
            assert!(long > 3_900, "cut without a keyframe after {long} ms");
        }
    }
}

/// Checks that every part but the last of a segment has 85 to 100 % of the part target.
pub(super) fn check_parts(line: &Line) {
    let target = i64::try_from(line.track.part_target).unwrap();
    let near = line.millis(target);
    assert!((100..=300).contains(&near), "part target {near} ms");
    let cuts: Vec<_> = line.frames.iter().filter(|f| f.cut != Cut::None).collect();
    let mut parts = 0;
    for w in cuts.windows(2) {
        if w[1].cut == Cut::Part {
            let long = w[1].dts - w[0].dts;
            assert!(
                long <= target && long * 100 >= target * 85,
                "a part of {long} at a target of {target}"
            );
            parts += 1;
        }
    }
    assert!(parts > 10, "{parts} parts seen");
}

/// Checks that audio's segments start where video's do: at the first sound presented from then on, or, when sound
/// arrives `ahead` ms before pictures, not later than the first sound after that start is known.
pub(super) fn check_steps(epoch: &Result, ahead: i64) {
    let (video, audio) = (epoch.video(), epoch.audio());
    let frame = audio.millis(1024 + 512);
    let pairs: Vec<_> = video
        .segments()
        .into_iter()
        .zip(audio.segments())
        .skip(1)
        .map(|(v, a)| (video.millis(v.pts()), audio.millis(a.dts)))
        .collect();
    assert!(pairs.len() > 2, "{} segments", pairs.len());
    for (v, a) in pairs {
        assert!(
            (v - frame..=v + ahead + frame).contains(&a),
            "video's segment starts at {v} ms, audio's at {a} ms"
        );
    }
    let difference = video.segments().len().abs_diff(audio.segments().len());
    assert!(difference <= 1);
}
