//! What our own multiplexer writes is read back: whole, in any pieces, from any place, with holes.
use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;
use routing::model::{Codec, TrackKind, UnixMillis};

use super::*;
use crate::{
    hls::{Container, Deriver},
    live::{Frame, Track, TrackId},
    origin::{Origin, Output},
    pack::tests::{Made, Raw, cut, epoch, random, rng, track, whole},
};

/// All segments of an epoch as one transport stream.
fn multiplexed(made: &Made) -> Vec<u8> {
    let view = Deriver::default().update(&whole(made)).unwrap();
    let ts = view
        .renditions
        .iter()
        .find(|r| r.container == Container::Ts);
    let segments = ts.unwrap().segments.iter();
    segments.flat_map(|s| s.body().to_bytes()).collect()
}

/// What an origin makes of a transport stream that comes in these pieces, by track.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> [Vec<Frame>; 2] {
    let (mut feed, mut origin) = (Feed::new(), Origin::new());
    origin.set_live(true);
    for piece in pieces {
        feed.push(&mut origin, UnixMillis(0), piece);
    }
    feed.end(&mut origin, UnixMillis(0));
    let mut frames = [Vec::new(), Vec::new()];
    let mut sound = TrackId(1);
    while let Some(output) = origin.poll() {
        match output {
            Output::Open(opening) => {
                let audio = |t: &&Track| t.kind == TrackKind::Audio;
                sound = opening.tracks.iter().find(audio).unwrap().id;
            }
            Output::Frame(track, frame) => frames[usize::from(track == sound)].push(frame),
            Output::Group(_) | Output::End => {}
        }
    }
    frames
}

/// A track's frames as they were; zeros at the end of a picture are not part of it in Annex B.
fn written(made: &Made, track: usize) -> Vec<Frame> {
    let frames = made.groups[track].iter().flat_map(|(_, frames)| frames);
    let trimmed = |frame: &Frame| {
        let mut frame = frame.clone();
        if track == 0 {
            let len = 1 + frame.data.iter().rposition(|b| *b != 0).unwrap();
            let mut data = frame.data[..len].to_vec();
            data[..4].copy_from_slice(&u32::try_from(len - 4).unwrap().to_be_bytes());
            frame.data = data.into();
        }
        frame
    };
    frames.map(trimmed).collect()
}

fn data(frames: &[Frame]) -> Vec<&Bytes> {
    frames.iter().map(|f| &f.data).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_frame_is_read_back_with_its_times_whatever_the_pieces(seed: u64) {
        let mut rng = rng(seed);
        let made = random(&mut rng, 1, 8.0);
        let ts = multiplexed(&made);
        let mut rest = &ts[..];
        let longest = [1, 188, 1316, 70_000][rng.random_range(0..4)];
        let pieces = std::iter::from_fn(|| {
            let (piece, after) = rest.split_at(rng.random_range(1..=longest).min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        });
        let [video, audio] = read(pieces);
        let (pictures, sounds) = (written(&made, 0), written(&made, 1));
        prop_assert_eq!(data(&video), data(&pictures));
        let zero = pictures[0].dts;
        for (read, was) in video.iter().zip(&pictures) {
            prop_assert!((read.dts - (was.dts - zero)).abs() <= 90);
            prop_assert!((i64::from(read.cts) - i64::from(was.cts)).abs() <= 180);
            prop_assert_eq!(read.keyframe, was.keyframe);
        }
        // Sound from before the first picture goes.
        let dropped = sounds.len() - audio.len();
        prop_assert_eq!(data(&audio), data(&sounds[dropped..]));
        // Its configuration says 48 kHz, whatever its times say.
        if made.epoch.tracks[1].timescale == 48_000 {
            for (read, was) in audio.iter().zip(&sounds[dropped..]) {
                prop_assert!((read.dts - was.dts).abs() <= 1);
            }
        }
        prop_assert!(dropped <= 25, "{} sounds went", dropped);
    }

    #[test]
    fn what_is_read_after_losses_was_written(seed: u64, garbage in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut rng = rng(seed);
        let made = random(&mut rng, 1, 8.0);
        let ts = multiplexed(&made);
        let mut kept = garbage;
        for packet in ts.chunks(188).skip(rng.random_range(0..400)) {
            match rng.random_range(0..200) {
                0 => {}
                1 => kept.extend_from_slice(&packet[rng.random_range(0..188)..]),
                2 => kept.extend([packet, packet].concat()),
                _ => kept.extend_from_slice(packet),
            }
        }
        let read = read(kept.chunks(1316));
        for (track, read) in read.iter().enumerate() {
            let written = written(&made, track);
            let there: BTreeSet<_> = data(&written).into_iter().collect();
            // A frame is read whole, or with a hole that no counter could tell.
            let found = read.iter().filter(|f| there.contains(&f.data)).count();
            prop_assert!(found * 100 >= read.len() * 97, "{} of {} of track {}", found, read.len(), track);
            // Pictures are read from a keyframe on, which may come late or never, and sound waits for it.
            prop_assert!(track == 0 || found > 50, "{}", found);
        }
    }
}

/// One packet that is all payload, or is filled up in its adaptation field.
fn packet(pid: u16, counter: u8, start: bool, payload: &[u8]) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let mut out = vec![
        0x47,
        high | u8::from(start) << 6,
        low,
        counter & 0x0f | 0x10,
    ];
    let stuffing = PACKET - 4 - payload.len();
    if stuffing > 0 {
        out[3] |= 0x20;
        out.push(u8::try_from(stuffing - 1).unwrap());
        out.extend([0].iter().take(stuffing - 1));
        out.resize(4 + stuffing, 0xff);
    }
    out.extend(payload);
    out
}

fn table(id: u8, version: u8, body: &[u8]) -> Vec<u8> {
    let len = u8::try_from(body.len() + 9).unwrap();
    let mut out = vec![0, id, 0xb0, len, 0, 1, 0xc1 | version << 1, 0, 0];
    out.extend(body);
    out.extend(crc32(&out[1..]).to_be_bytes());
    out
}

fn events(packets: &[Vec<u8>]) -> Vec<Event> {
    let mut demuxer = Demuxer::new();
    demuxer.push(&packets.concat());
    demuxer.push(&packet(0x1fff, 0, false, &[]));
    std::iter::from_fn(|| demuxer.poll()).collect()
}

const H264: Stream = Stream {
    pid: 0x100,
    format: Format::H264,
};

#[test]
fn the_first_program_with_media_is_read_and_followed_when_its_table_changes() {
    let pat = |version, programs: &[u8]| packet(0, version, true, &table(0, version, programs));
    let pmt = |pid, version, streams: &[u8]| {
        let body = [&[0xe1, 0, 0xf0, 0], streams].concat();
        packet(pid, version, true, &table(2, version, &body))
    };
    let video = [0x1b, 0xe1, 0, 0xf0, 0];
    let audio = [0x0f, 0xe1, 1, 0xf0, 0];
    let data = [0x86, 0xe1, 2, 0xf0, 0];
    let all = [&video[..], &audio, &data].concat();
    let two = [0, 0, 0xe0, 0x10, 0, 1, 0xf0, 0, 0, 2, 0xf0, 1];
    let streams = events(&[
        pat(0, &two),
        pmt(0x1000, 0, &data),
        pmt(0x1001, 0, &video),
        pmt(0x1000, 1, &audio),
        pmt(0x1001, 1, &all),
        pmt(0x1001, 2, &all),
        pat(1, &two[..8]),
        pmt(0x1001, 3, &audio),
        pmt(0x1000, 2, &audio),
    ]);
    let adts = Stream {
        pid: 0x101,
        format: Format::Adts,
    };
    let scte = Stream {
        pid: 0x102,
        format: Format::Other(0x86),
    };
    assert_eq!(
        streams,
        [
            Event::Streams(vec![H264]),
            Event::Streams(vec![H264, adts, scte]),
            Event::Streams(vec![adts]),
        ]
    );
}

/// Tables for [`H264`], and the packets of a stream.
fn with_tables(rest: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let pat = table(0, 0, &[0, 1, 0xf0, 0]);
    let pmt = table(2, 0, &[0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0]);
    let mut all = vec![packet(0, 0, true, &pat), packet(0x1000, 0, true, &pmt)];
    all.extend(rest);
    all
}

const PES: [u8; 14] = [0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1];

#[test]
fn a_pes_packet_without_times_goes_on_with_the_picture_before() {
    let timeless = [0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0, 3, 4];
    let found = events(&with_tables(vec![
        packet(0x100, 0, true, &[&PES[..], &[1, 2]].concat()),
        packet(0x100, 1, true, &timeless),
        packet(0x100, 2, true, &[&PES[..], &[5]].concat()),
        packet(0x100, 4, true, &PES),
        packet(0x100, 5, true, &PES),
    ]));
    let pes = |data: &'static [u8], after_loss| {
        Event::Pes(Pes {
            pid: 0x100,
            pts: Some(0),
            dts: Some(0),
            random_access: false,
            after_loss,
            data: Bytes::from_static(data),
        })
    };
    assert_eq!(
        found,
        [
            Event::Streams(vec![H264]),
            pes(&[1, 2, 3, 4], false),
            pes(&[], true)
        ],
        "and what a hole may have damaged is left out"
    );
}

#[test]
fn a_picture_without_end_is_not_held() {
    let mut demuxer = Demuxer::new();
    let mut counter = 0;
    demuxer.push(&with_tables(vec![packet(0x100, 0, true, &PES)]).concat());
    for _ in 0..MAX_HELD / 184 + 2 {
        counter = (counter + 1) & 0x0f;
        demuxer.push(&packet(0x100, counter, false, &[7; 184]));
    }
    demuxer.end();
    let found: Vec<_> = std::iter::from_fn(|| demuxer.poll()).collect();
    assert_eq!(found, [Event::Streams(vec![H264])]);
}

#[test]
fn several_sounds_in_one_pes_packet_and_across_two_have_exact_times() {
    use super::{
        frames::{Frames, Sound},
        sounds::Adts,
    };
    let frame = |len: u8| {
        let mut bytes = vec![0xff, 0xf1, 0x4c, 0x80, len >> 3, len << 5, 0xfc];
        bytes.resize(usize::from(len), len);
        bytes
    };
    let all = [frame(20), frame(30), frame(25), frame(9)].concat();
    let mut frames = Frames::new();
    let mut found: Vec<Sound<Adts>> = Vec::new();
    frames.push(&all[..60], Some(90_000), false, |s| found.push(s));
    frames.push(&all[60..], Some(200_000), false, |s| found.push(s));
    let times: Vec<_> = found.iter().map(|s| (s.time, s.data.len())).collect();
    assert_eq!(
        times,
        [(90_000, 13), (91_920, 23), (93_840, 18), (200_000, 2)]
    );
    assert_eq!(found[0].head.config, [0x11, 0x90]);
    let garbage = [&[0xff, 0xf1, 1][..], &frame(40), &frame(41)].concat();
    found.clear();
    frames.push(&garbage, Some(0), true, |s| found.push(s));
    assert_eq!(found.len(), 2, "after a loss frames are found again");
}

/// A codec, the container's configuration, a frame, samples a second and of the frame.
type Sound = (Codec, Bytes, Vec<u8>, (u32, u32));

fn sounds() -> Vec<Sound> {
    let filled = |head: &[u8], len| {
        let mut frame = head.to_vec();
        frame.resize(len, 0x33);
        frame
    };
    let surround = super::sounds::opus_header(6).unwrap();
    vec![
        (
            Codec::Mp2,
            Bytes::new(),
            filled(&[0xff, 0xfd, 0x84, 0], 384),
            (48_000, 1152),
        ),
        (
            Codec::Mp3,
            Bytes::new(),
            filled(&[0xff, 0xfb, 0x90, 0], 417),
            (44_100, 1152),
        ),
        (
            Codec::Ac3,
            Bytes::new(),
            filled(&[0x0b, 0x77, 0, 0, 0x14, 0x40, 0x40], 768),
            (48_000, 1536),
        ),
        (
            Codec::Eac3,
            Bytes::new(),
            // An independent substream of 256 bytes, and a dependent one of 128.
            [
                filled(&[0x0b, 0x77, 0, 0x7f, 0x34, 0x87, 0xc0], 256),
                filled(&[0x0b, 0x77, 0x40, 0x3f, 0x34, 0x87, 0xc0], 128),
            ]
            .concat(),
            (48_000, 1536),
        ),
        (Codec::Opus, surround, filled(&[0xfc], 700), (48_000, 960)),
    ]
}

#[test]
fn sounds_of_every_format_are_read_back_with_their_configuration_and_times() {
    for (codec, data, frame, (rate, samples)) in sounds() {
        let mut reader = crate::codec::reader::Reader::new(codec);
        reader.configure(&data).unwrap();
        let unit = reader.unit(&Bytes::from(frame.clone()), true).unwrap();
        let config = unit.config.unwrap();
        let mut sound = track(0, TrackKind::Audio, (rate, 1), &config.data);
        sound.config = Arc::new(crate::live::TrackConfig {
            number: 0,
            data: config.data.clone(),
            summary: config.summary,
        });
        let epoch = epoch(1, vec![sound.clone()], None);
        let raw = |n: i64| Raw {
            dts: n * i64::from(samples),
            cts: 0,
            key: true,
            data: Bytes::from(frame.clone()),
        };
        let all: Vec<_> = (0..300).map(raw).collect();
        let groups = vec![cut(&epoch, &sound, &all)];
        let ts = multiplexed(&Made { epoch, groups });
        let (mut feed, mut origin) = (Feed::new(), Origin::new());
        origin.set_live(true);
        for piece in ts.chunks(1316) {
            feed.push(&mut origin, UnixMillis(0), piece);
        }
        let Some(Output::Open(opening)) = origin.poll() else {
            panic!("{codec:?}: no epoch opens");
        };
        assert_eq!(opening.tracks[0].config.codec(), codec);
        assert_eq!(opening.tracks[0].config.data, config.data, "{codec:?}");
        let mut count = 0;
        while let Some(output) = origin.poll() {
            if let Output::Frame(_, read) = output {
                assert_eq!(read.data, frame, "{codec:?}");
                assert_eq!(read.dts, count * i64::from(samples), "{codec:?}");
                count += 1;
            }
        }
        assert!(count >= 299, "{codec:?}: {count}");
    }
}

#[test]
fn the_origin_has_the_tracks_of_the_stream() {
    let made = random(&mut rng(7), 1, 4.0);
    let ts = multiplexed(&made);
    let (mut feed, mut origin) = (Feed::new(), Origin::new());
    origin.set_live(true);
    feed.push(&mut origin, UnixMillis(5), &ts);
    let Some(Output::Open(opening)) = origin.poll() else {
        panic!("no epoch opens");
    };
    let kinds: Vec<_> = opening.tracks.iter().map(|t| (t.id, t.kind)).collect();
    assert_eq!(
        kinds,
        [
            (TrackId(0), TrackKind::Video),
            (TrackId(1), TrackKind::Audio)
        ]
    );
    let was = &made.epoch.tracks;
    for (read, was) in opening.tracks.iter().zip(was) {
        assert_eq!(Arc::clone(&read.config).data, was.config.data);
    }
}
