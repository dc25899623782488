//! Every codec's reader under any configuration and units.
use std::sync::Arc;

use bytes::Bytes;
use fuzz_kit::{Input, join};
use routing::model::{Codec, TrackDetail};

use crate::{
    codec::{
        opus,
        reader::{Config, Reader},
    },
    live::{Track, TrackConfig, TrackId},
    pack,
};

fuzz_kit::targets! {
    codec_reader: reader, seeds;
}

/// An initialisation segment can be made of whatever was told.
fn told(config: &Config) {
    let TrackDetail::Audio { sample_rate, .. } = config.summary.detail else {
        assert_eq!(config.frame_samples, 0);
        return made(config, 90_000);
    };
    assert!(config.frame_samples > 0);
    made(config, sample_rate);
}

fn made(config: &Config, timescale: u32) {
    let track = Track {
        id: TrackId(0),
        kind: config.summary.kind,
        timescale,
        frames_per_part: 6,
        part_target: 18_000,
        first_segment: 0,
        config: Arc::new(TrackConfig {
            since: 0,
            number: 0,
            data: config.data.clone(),
            summary: config.summary.clone(),
        }),
    };
    pack::init(&track, &track.config).expect("an initialisation segment can be made of it");
}

fn reader(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let codec = Codec::ALL[usize::from(input.byte()) % Codec::ALL.len()];
    let flagged = input.byte() & 1 == 1;
    let mut reader = Reader::new(codec);
    let config = Bytes::copy_from_slice(input.block());
    if let Ok(Some(config)) = reader.configure(&config) {
        assert_eq!(config.summary.codec, codec);
        told(&config);
    }
    for _ in 0..16 {
        let data = Bytes::copy_from_slice(input.block());
        let Ok(unit) = reader.unit(&data, flagged) else {
            continue;
        };
        if let Some(config) = unit.config {
            told(&config);
        }
        assert!(unit.data.len() <= data.len() * 4 + 8);
        assert!(unit.keyframe || codec.is_video());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let of = |codec: Codec, blocks: &[&[u8]]| {
        let place = Codec::ALL.iter().position(|c| *c == codec).unwrap_or(0);
        [
            vec![u8::try_from(place).unwrap_or(0), 1],
            join(blocks.iter().copied()),
        ]
        .concat()
    };
    let av1: &[u8] = &[
        0x12, 0, 0x0a, 0x0b, 0, 0, 0, 4, 0x3c, 0xfe, 0xcc, 0xda, 0xf9, 0, 0x40, 0x32, 2, 1, 2,
    ];
    let vp9: &[u8] = &[0x82, 0x49, 0x83, 0x42, 0, 0x13, 0xf0, 0x0b, 0x36, 6, 0x38];
    let vp8: &[u8] = &[0x10, 0x62, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xb4, 0, 0];
    let ac3: &[u8] = &[0x0b, 0x77, 0xfe, 0x95, 0x14, 0x40, 0x43, 0xe1, 6];
    let eac3: &[u8] = &[0x0b, 0x77, 1, 0x7f, 0x34, 0x87, 0xc0, 0, 0x20];
    let head = opus::AudioConfig::plain(2, 312).write();
    vec![
        of(Codec::Hevc, &[&[], &hevc_keyframe()]),
        of(Codec::Av1, &[&[], av1, av1]),
        of(Codec::Vp9, &[&[], vp9]),
        of(Codec::Vp8, &[&[], vp8]),
        of(Codec::Opus, &[&head, &[0xfc, 1], &[0x03, 3, 1]]),
        of(Codec::Opus, &[&[], &[0xf8, 1]]),
        of(Codec::Mp3, &[&[], &[0xff, 0xfb, 0x94, 0x64, 0]]),
        of(Codec::Mp2, &[&[], &[0xff, 0xfd, 0xe4, 4, 0]]),
        of(Codec::Ac3, &[&[], ac3]),
        of(Codec::Eac3, &[&[], eac3]),
        of(Codec::Aac, &[super::codecs::ASC, &[1, 2]]),
    ]
}

/// Sets of x265, 320x180, Main, and the head of an IDR slice.
fn hevc_keyframe() -> Vec<u8> {
    let nals: [&[u8]; 4] = [
        &[
            0x40, 1, 0x0c, 1, 0xff, 0xff, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c,
            0x95, 0x98, 9,
        ],
        &[
            0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0xa0, 0x0a, 8, 0x0b,
            0x9f, 0x79, 0x65, 0x66, 0x92, 0x4c, 0xaf, 1, 0x68, 8, 0, 0, 3, 0, 8, 0, 0, 3, 0, 0xc8,
            0x40,
        ],
        &[0x44, 1, 0xc1, 0x72, 0xb4, 0x62, 0x40],
        &[0x28, 1, 0xaf],
    ];
    let mut unit = Vec::new();
    for nal in nals {
        unit.extend(u32::try_from(nal.len()).unwrap_or(0).to_be_bytes());
        unit.extend(nal);
    }
    unit
}
