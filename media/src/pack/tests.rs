//! A generator of epochs, and what packaging makes of them.
use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use routing::model::{
    BitsPerSecond, BroadcastId, Codec, EpochId, Hlc, NodeId, TrackDetail, TrackKind, TrackSummary,
    UnixMillis,
};

use super::*;
use crate::live::{
    Broadcast, Cut, Epoch, Follows, Frame, GroupHeader, GroupSeq, GroupWriter, Limits, Stamp,
    Track, TrackConfig, TrackId,
};

/// Baseline, 320x180.
const AVCC: &[u8] = &[
    1, 0x42, 0xc0, 0x0d, 0xff, 0xe1, 0, 8, 0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe8, 1, 0, 4,
    0x68, 0xce, 0x3c, 0x80,
];

pub(crate) fn track(id: u8, kind: TrackKind, rate: (u32, u32), data: &[u8]) -> Track {
    let video = kind == TrackKind::Video;
    let timescale = if video { 90_000 } else { rate.0 };
    // Ticks of one frame, and how many of them are nearest 200 ms.
    let frame = if video {
        f64::from(timescale) * f64::from(rate.1) / f64::from(rate.0)
    } else {
        1024.0
    };
    let per_part = (f64::from(timescale) * 0.2 / frame).round().max(1.0);
    let (codec, codec_string, detail) = if video {
        let detail = TrackDetail::Video {
            width: 320,
            height: 180,
            rate,
        };
        (Codec::H264, "avc1.42c00d", detail)
    } else {
        let detail = TrackDetail::Audio {
            sample_rate: rate.0,
            channels: 2,
        };
        (Codec::Aac, "mp4a.40.2", detail)
    };
    let config = Arc::new(TrackConfig {
        number: 0,
        since: 0,
        data: Bytes::copy_from_slice(data),
        summary: TrackSummary {
            kind,
            codec,
            codec_string: codec_string.into(),
            bitrate: BitsPerSecond(0),
            detail,
        },
    });
    Track {
        id: TrackId(id),
        kind,
        timescale,
        frames_per_part: per_part as u32,
        part_target: (per_part * frame).ceil() as u64,
        first_segment: 1000,
        config,
    }
}

pub(crate) fn epoch(n: u64, tracks: Vec<Track>, follows: Option<Follows>) -> Arc<Epoch> {
    Arc::new(Epoch {
        id: EpochId::from_u64(n),
        broadcast: BroadcastId::from_bytes([1; 16]),
        origin: NodeId::from_bytes([2; 32]),
        claim: Hlc(0),
        programme_time: UnixMillis(1_795_383_723_000),
        discontinuity: follows.as_ref().map_or(0, |_| 1),
        follows,
        tracks,
    })
}

/// A frame before it is cut.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) dts: i64,
    pub(crate) cts: i32,
    pub(crate) key: bool,
    pub(crate) data: Bytes,
}

/// An epoch with its groups, by track.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) epoch: Arc<Epoch>,
    pub(crate) groups: Vec<Vec<(GroupHeader, Vec<Frame>)>>,
}

/// Cuts a track as an origin does: a group from keyframe to keyframe (of sound, a second), a segment at the first
/// group after two seconds, a group of its own after four seconds without a keyframe.
pub(crate) fn cut(epoch: &Epoch, track: &Track, frames: &[Raw]) -> Vec<(GroupHeader, Vec<Frame>)> {
    let second = i64::from(track.timescale);
    let sound = track.kind == TrackKind::Audio;
    let mut groups: Vec<(GroupHeader, Vec<Frame>)> = Vec::new();
    let (mut segment, mut part, mut in_part) = (track.first_segment, 0, 0);
    let (mut opened, mut begun) = (i64::MIN, i64::MIN);
    for raw in frames {
        let since = raw.dts.saturating_sub(opened);
        let group = if sound {
            raw.dts.saturating_sub(begun) >= second
        } else {
            // One frame less than four seconds, so that no segment exceeds them.
            raw.key || since >= 4 * second - second / 20
        };
        let mut what = Cut::None;
        if groups.is_empty() {
            what = Cut::Segment;
            opened = raw.dts;
        } else if group && since >= 2 * second {
            what = Cut::Segment;
            (segment, part, opened) = (segment + 1, 0, raw.dts);
        } else if in_part == track.frames_per_part {
            what = Cut::Part;
            part += 1;
        }
        if what != Cut::None {
            in_part = 0;
        }
        in_part += 1;
        if group || groups.is_empty() {
            begun = raw.dts;
            let header = GroupHeader {
                epoch: epoch.id,
                track: track.id,
                seq: GroupSeq(groups.len() as u64),
                independent: raw.key,
                stamp: Stamp {
                    segment,
                    part,
                    discontinuity: epoch.discontinuity,
                    base_decode_time: raw.dts,
                },
                config: Arc::clone(&track.config),
            };
            groups.push((header, Vec::new()));
        }
        groups.last_mut().unwrap().1.push(Frame {
            dts: raw.dts,
            cts: raw.cts,
            keyframe: raw.key,
            cut: what,
            data: raw.data.clone(),
        });
    }
    groups
}

/// Frames of a made-up encoder.
pub(crate) fn frames(rng: &mut ChaCha8Rng, track: &Track, seconds: f64, offset: i64) -> Vec<Raw> {
    let scale = f64::from(track.timescale);
    let TrackDetail::Video { rate, .. } = *track.config.detail() else {
        let count = (seconds * scale / 1024.0) as i64;
        let make = |i: i64| Raw {
            dts: offset + i * 1024,
            cts: 0,
            key: true,
            data: Bytes::from(vec![rng.random(); rng.random_range(20..600)]),
        };
        return (0..count).map(make).collect();
    };
    let frame = scale * f64::from(rate.1) / f64::from(rate.0);
    let mut next_key = 0.0;
    let b_frames = rng.random_range(0..4) as f64;
    let mut raw = Vec::new();
    for i in 0..(seconds * scale / frame) as i64 {
        let at = i as f64 * frame;
        let key = at >= next_key;
        if key {
            next_key = at + scale * rng.random_range(0.5..5.0);
        }
        let cts = if key {
            1.0
        } else {
            rng.random_range(0.0..=b_frames + 1.0).floor()
        };
        let len = rng.random_range(8..if key { 20_000 } else { 3_000 });
        let mut data = vec![rng.random(); len];
        data[..5].copy_from_slice(&[0, 0, 0, 0, if key { 0x65 } else { 0x41 }]);
        data[..4].copy_from_slice(&(len as u32 - 4).to_be_bytes());
        raw.push(Raw {
            dts: offset + at.round() as i64,
            cts: (cts * frame) as i32,
            key,
            data: data.into(),
        });
    }
    raw
}

/// A random epoch: some rate, keyframes 0.5 to 5 s apart, B-frames, sound up to 400 ms ahead or behind.
pub(crate) fn random(rng: &mut ChaCha8Rng, n: u64, seconds: f64) -> Made {
    let rates = [(24_000, 1001), (25, 1), (30_000, 1001), (30, 1), (50, 1)];
    let rate = rates[rng.random_range(0..rates.len())];
    let sample_rate = [44_100, 48_000][rng.random_range(0..2)];
    let tracks = vec![
        track(0, TrackKind::Video, rate, AVCC),
        track(1, TrackKind::Audio, (sample_rate, 1), &[0x11, 0x90]),
    ];
    let epoch = epoch(n, tracks, None);
    let ahead = rng.random_range(-400..400) * i64::from(sample_rate) / 1000;
    let groups = epoch
        .tracks
        .iter()
        .map(|t| {
            let offset = if t.kind == TrackKind::Audio { ahead } else { 0 };
            let raw = frames(rng, t, seconds, offset);
            cut(&epoch, t, &raw)
        })
        .collect();
    Made { epoch, groups }
}

/// What arrives: the frame of a group, or its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: f64,
    pub(crate) track: usize,
    pub(crate) group: usize,
    pub(crate) frame: Option<usize>,
}

impl Made {
    /// All frames from group `from` of each track, in the order of their decode times, each track's later by `delay`
    /// seconds and each group's by up to `spread` more.
    pub(crate) fn arrivals(
        &self,
        rng: &mut ChaCha8Rng,
        from: f64,
        delay: &[f64],
        spread: f64,
    ) -> Vec<Arrival> {
        let mut all = Vec::new();
        for (track, groups) in self.groups.iter().enumerate() {
            let scale = f64::from(self.epoch.tracks[track].timescale);
            for (group, (header, frames)) in groups.iter().enumerate() {
                if (header.stamp.base_decode_time as f64) < from * scale {
                    continue;
                }
                let late = delay[track] + rng.random_range(0.0..=spread);
                for (i, frame) in frames.iter().enumerate() {
                    let at = frame.dts as f64 / scale + late;
                    all.push(Arrival {
                        at,
                        track,
                        group,
                        frame: Some(i),
                    });
                    if i + 1 == frames.len() {
                        all.push(Arrival {
                            at: at + 0.001,
                            track,
                            group,
                            frame: None,
                        });
                    }
                }
            }
        }
        all.sort_by(|a, b| a.at.total_cmp(&b.at));
        all
    }
}

/// Writes arrivals into a broadcast.
pub(crate) struct Feed<'a> {
    pub(crate) made: &'a Made,
    pub(crate) broadcast: Arc<Broadcast>,
    writers: BTreeMap<(usize, usize), GroupWriter>,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(made: &'a Made, broadcast: Arc<Broadcast>) -> Self {
        broadcast.open(Arc::clone(&made.epoch));
        Self {
            made,
            broadcast,
            writers: BTreeMap::new(),
        }
    }

    pub(crate) fn take(&mut self, arrival: Arrival) {
        let Arrival {
            track,
            group,
            frame,
            ..
        } = arrival;
        let (header, frames) = &self.made.groups[track][group];
        match frame {
            Some(i) => {
                let begin = || self.broadcast.begin(header.clone()).unwrap();
                let writer = self.writers.entry((track, group)).or_insert_with(begin);
                writer.push(frames[i].clone()).unwrap();
            }
            None => self.writers.remove(&(track, group)).unwrap().finish(),
        }
    }
}

pub(crate) fn broadcast() -> Arc<Broadcast> {
    Broadcast::new(BroadcastId::from_bytes([1; 16]), Limits::default())
}

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A broadcast that holds all of it, ended.
pub(crate) fn whole(made: &Made) -> Arc<Broadcast> {
    let broadcast = broadcast();
    let mut feed = Feed::new(made, Arc::clone(&broadcast));
    for arrival in made.arrivals(&mut rng(0), f64::MIN, &[0.0, 0.0], 0.0) {
        feed.take(arrival);
    }
    broadcast.end(made.epoch.id);
    broadcast
}

const fn tail(ended: bool) -> Tail {
    if ended { Tail::Ended } else { Tail::Runs }
}

fn line(made: &Made, track: usize, ended: bool) -> Line {
    let broadcast = whole(made);
    let id = TrackId(track as u8);
    let groups = broadcast.current().unwrap().groups(id);
    let pieces: Vec<Piece> = groups.into_iter().map(Piece::new).collect();
    walk(
        &made.epoch,
        &made.epoch.tracks[track],
        pieces.iter(),
        tail(ended),
    )
}

#[test]
fn segments_hold_every_frame_once_and_parts_are_byte_ranges_of_them() {
    for seed in 0..20 {
        let made = random(&mut rng(seed), 1, 20.0);
        for track in 0..2 {
            let line = line(&made, track, true);
            let all: Vec<&Frame> = made.groups[track].iter().flat_map(|(_, f)| f).collect();
            let packed: Vec<Frame> = line
                .segments
                .iter()
                .flat_map(|s| &s.parts)
                .flat_map(|p| &p.runs)
                .flat_map(Run::frames)
                .collect();
            assert!(all.into_iter().eq(&packed), "seed {seed}");
            let mut end = None;
            for segment in &line.segments {
                assert_eq!(
                    *end.get_or_insert(segment.start),
                    segment.start,
                    "seed {seed}"
                );
                end = Some(segment.end);
                let parts: Vec<u8> = segment
                    .parts
                    .iter()
                    .flat_map(|p| p.body().to_bytes())
                    .collect();
                assert_eq!(segment.body().to_bytes(), parts);
            }
        }
    }
}

#[test]
fn payload_is_shared_and_not_copied() {
    let made = random(&mut rng(1), 1, 4.0);
    let line = line(&made, 0, true);
    let frame = &made.groups[0][0].1[0].data;
    assert!(frame.len() > 1024);
    let buffers = line.segments[0].body().buffers();
    assert!(buffers.iter().any(|b| b.as_ptr() == frame.as_ptr()));
}

#[test]
fn a_part_closes_with_the_next_frame_of_its_track_or_the_end_mark() {
    let made = random(&mut rng(3), 1, 3.0);
    let broadcast = broadcast();
    let mut feed = Feed::new(&made, Arc::clone(&broadcast));
    let fpp = made.epoch.tracks[0].frames_per_part as usize;
    let look = || {
        let groups = broadcast.current().unwrap().groups(TrackId(0));
        let pieces: Vec<Piece> = groups.into_iter().map(Piece::new).collect();
        let ended = broadcast.current().unwrap().ended();
        let line = walk(
            &made.epoch,
            &made.epoch.tracks[0],
            pieces.iter(),
            tail(ended),
        );
        line.open.map(|o| o.parts.len())
    };
    let all = made.arrivals(&mut rng(0), f64::MIN, &[0.0, 0.0], 0.0);
    let video: Vec<_> = all.into_iter().filter(|a| a.track == 0).collect();
    for (i, arrival) in video.iter().take(fpp).enumerate() {
        feed.take(*arrival);
        assert_eq!(look(), Some(0), "after {} frames", i + 1);
    }
    feed.take(video[fpp]);
    assert_eq!(look(), Some(1));
    for arrival in &video[fpp + 1..] {
        feed.take(*arrival);
    }
    assert!(look().is_some());
    broadcast.end(made.epoch.id);
    assert_eq!(
        look(),
        None,
        "the end mark closes the last part and its segment"
    );
}

#[test]
fn a_hole_becomes_gaps_under_the_numbers_of_the_segments_it_touches() {
    let made = random(&mut rng(5), 1, 30.0);
    let groups = &made.groups[0];
    // A group in the middle of a segment.
    let lost = groups
        .iter()
        .position(|(h, f)| h.stamp.segment > 1003 && f[0].cut != Cut::Segment)
        .unwrap();
    let touched = groups[lost].0.stamp.segment;
    let broadcast = broadcast();
    let mut feed = Feed::new(&made, Arc::clone(&broadcast));
    for arrival in made.arrivals(&mut rng(0), f64::MIN, &[0.0, 0.0], 0.0) {
        if (arrival.track, arrival.group) != (0, lost) {
            feed.take(arrival);
        }
    }
    broadcast.end(made.epoch.id);
    let pieces: Vec<Piece> = broadcast
        .current()
        .unwrap()
        .groups(TrackId(0))
        .into_iter()
        .map(Piece::new)
        .collect();
    let with = walk(
        &made.epoch,
        &made.epoch.tracks[0],
        pieces.iter(),
        Tail::Ended,
    );
    let without = line(&made, 0, true);
    assert_eq!(with.segments.len(), without.segments.len());
    for (a, b) in with.segments.iter().zip(&without.segments) {
        assert_eq!((a.number, a.start), (b.number, b.start));
        assert_eq!(a.is_gap(), a.number == touched, "{}", a.number);
        assert!(a.is_gap() || a.body() == b.body());
    }
}

/// Reads a transport stream's packets: by PID, the counters and whether each has payload.
fn counters(ts: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    let mut pids: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    assert_eq!(ts.len() % 188, 0);
    for packet in ts.chunks(188) {
        assert_eq!(packet[0], 0x47);
        assert_eq!(packet[3] & 0xd0, 0x10, "every packet has payload");
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        pids.entry(pid).or_default().push(packet[3] & 0x0f);
    }
    pids
}

#[test]
fn transport_stream_segments_join_without_a_seam() {
    for seed in 0..20 {
        let made = random(&mut rng(seed), 1, 12.0);
        let broadcast = whole(&made);
        let current = broadcast.current().unwrap();
        let sound: Vec<Piece> = current
            .groups(TrackId(1))
            .into_iter()
            .map(Piece::new)
            .collect();
        let pieces: Vec<&Piece> = sound.iter().collect();
        let lead = line(&made, 0, true);
        let other = Some((&made.epoch.tracks[1], &pieces[..], Tail::Ended));
        let line = ts_line(&made.epoch, &lead, other, Tail::Ended, &Line::default());
        assert_eq!(line.segments.len(), lead.segments.len());
        let mut frames = 0;
        for segment in &line.segments {
            let bytes = segment.body().to_bytes();
            for (pid, counts) in counters(&bytes) {
                assert_eq!(counts.len() % 16, 0, "seed {seed} pid {pid}");
                assert!(
                    counts
                        .iter()
                        .enumerate()
                        .all(|(i, c)| usize::from(*c) == i % 16)
                );
            }
            let starts = |pid: u16| {
                let [high, low] = pid.to_be_bytes();
                bytes
                    .chunks(188)
                    .filter(|p| p[1] == 0x40 | high && p[2] == low)
                    .count()
            };
            frames += starts(0x100) + starts(0x101);
        }
        let all: usize = made.groups.iter().flatten().map(|(_, f)| f.len()).sum();
        assert_eq!(frames, all, "seed {seed}: every frame is in one segment");
    }
}
