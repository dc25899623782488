//! FLV, H.264 and AAC under any bytes.
use bytes::Bytes;
use fuzz_kit::{Input, join};
use routing::model::TrackKind;

use crate::{
    codec::{
        aac,
        h264::{AccessUnit, Sps, VideoConfig},
    },
    flv::{self, Content, Looped, Tag, TagKind},
    live::{Track, TrackConfig, TrackId},
    pack::{
        self,
        codec::{Adts, annex_b, parameter_sets},
    },
};

fuzz_kit::targets! {
    flv_bodies: bodies, body_seeds;
    flv_file: file, file_seeds;
    h264_sps: sps, sps_seeds;
    h264_config: config, config_seeds;
    h264_unit: unit, unit_seeds;
    aac_config: audio, audio_seeds;
}

/// x264, 640x360, 30 a second, High 3.0.
pub(super) const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
    0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
];
pub(super) const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
/// Baseline, 320x180, without timing.
const BASELINE: &[u8] = &[0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe8];
/// AAC-LC, 48 kHz, stereo.
pub(super) const ASC: &[u8] = &[0x11, 0x90];

fn bodies(bytes: &[u8]) {
    for kind in [TagKind::Video, TagKind::Audio] {
        let packets = tag(kind, 0, bytes.to_vec()).packets().unwrap_or_default();
        let held = packets.iter().map(|packet| match &packet.content {
            Content::Config(data) | Content::Frame { data, .. } => data.len(),
        });
        assert!(
            held.sum::<usize>() <= bytes.len(),
            "what was not there was read"
        );
    }
}

/// The body of a picture of one NAL unit.
pub(super) fn picture(keyframe: bool, composition: u8) -> Vec<u8> {
    let (head, nal) = if keyframe { (0x17, 0x65) } else { (0x27, 0x41) };
    vec![head, 1, 0, 0, composition, 0, 0, 0, 4, nal, 1, 2, 3]
}

/// The body of a video configuration.
pub(super) fn video_config() -> Vec<u8> {
    [&[0x17, 0, 0, 0, 0][..], &avcc(SPS)].concat()
}

fn avcc(sps: &'static [u8]) -> Bytes {
    let sets = (vec![Bytes::from_static(sps)], vec![Bytes::from_static(PPS)]);
    let config = VideoConfig::of(4, sets.0, sets.1).expect("an encoder made these sets");
    config.write()
}

fn body_seeds() -> Vec<Vec<u8>> {
    vec![
        video_config(),
        picture(true, 40),
        [&[0xaf, 0][..], ASC].concat(),
        vec![0xaf, 1, 1, 2, 3],
        b"\x90hvc1".to_vec(),
        b"\x90Opus".to_vec(),
        b"\xa1hvc1\0\0\x28data".to_vec(),
        b"\x97\x02\0\0\x64\x01av01data".to_vec(),
        b"\xa6\x23av01\0\0\0\x01ahvc1\x01\0\0\x02bc".to_vec(),
        b"\x95\x11Opus\0\0\0\x01a\x01\0\0\x02bc".to_vec(),
    ]
}

fn file(bytes: &[u8]) {
    let Ok(tags) = flv::file(bytes) else {
        return;
    };
    let bodies: usize = tags.iter().map(|t| t.body.len() + 11).sum();
    assert!(bodies <= bytes.len(), "what was not there was read");
    if let Ok(looped) = Looped::new(tags) {
        assert_eq!(looped.take(100).count(), 100);
    }
}

fn file_seeds() -> Vec<Vec<u8>> {
    let mut all = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    let tags = [
        (9, 0, video_config()),
        (9, 0, picture(true, 0)),
        (8, 5, vec![0xaf, 1, 1]),
        (9, 40, picture(false, 80)),
        (18, 40, vec![5]),
    ];
    for (kind, time, body) in tags {
        let size = u8::try_from(body.len()).unwrap_or(0);
        all.extend([kind, 0, 0, size, 0, 0, time, 0, 0, 0, 0]);
        all.extend(body);
        all.extend([0, 0, 0, size + 11]);
    }
    vec![all]
}

fn sps(bytes: &[u8]) {
    if let Ok(read) = Sps::read(bytes) {
        assert!(read.width <= 16_384 && read.height <= 32_768);
        if let Some((pictures, seconds)) = read.rate {
            assert!(seconds > 0 && (1..=240).contains(&(pictures / seconds)));
        }
    }
}

fn sps_seeds() -> Vec<Vec<u8>> {
    // High 4:4:4 with scaling lists; picture order count of type 1; fields and cropping.
    let rare = [
        0x67, 0xf4, 0x00, 0x1e, 0x91, 0x9b, 0x28, 0x28, 0x3f, 0x60, 0x22, 0x00, 0x00, 0x03, 0x00,
        0x02, 0x00, 0x00, 0x03, 0x00, 0x64, 0x1e, 0x2c, 0x5b, 0x2c,
    ];
    let fields = [
        0x67, 0x4d, 0x40, 0x1e, 0x96, 0x35, 0x41, 0x60, 0x24, 0xa4, 0x80,
    ];
    vec![
        SPS.to_vec(),
        BASELINE.to_vec(),
        rare.to_vec(),
        fields.to_vec(),
    ]
}

/// What was read is written, for lengths of four bytes, and read again as the same; and others read it too.
fn written(config: &VideoConfig) {
    let record = config.write();
    let expected = VideoConfig {
        length_size: 4,
        ..config.clone()
    };
    assert_eq!(VideoConfig::read(&record), Ok(expected));
    let sets = parameter_sets(&record).expect("mp4-atom reads what we write");
    let bytes: usize = config
        .sps
        .iter()
        .chain(&config.pps)
        .map(|s| s.len() + 4)
        .sum();
    assert_eq!(sets.len(), bytes);
    let track = Track {
        id: TrackId(0),
        kind: TrackKind::Video,
        timescale: 90_000,
        frames_per_part: 6,
        part_target: 18_000,
        first_segment: 0,
        config: std::sync::Arc::new(TrackConfig {
            number: 0,
            since: 0,
            data: record,
            summary: config.summary(None),
        }),
    };
    pack::init(&track, &track.config).expect("an initialisation segment can be made of it");
}

fn config(bytes: &[u8]) {
    if let Ok(config) = VideoConfig::read(&Bytes::copy_from_slice(bytes)) {
        written(&config);
    }
}

fn config_seeds() -> Vec<Vec<u8>> {
    vec![avcc(SPS).to_vec(), avcc(BASELINE).to_vec()]
}

fn unit(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let size = [1, 2, 4][usize::from(input.byte()) % 3];
    let unit = Bytes::copy_from_slice(input.rest());
    let mut annexed = Vec::new();
    annex_b(&unit, &mut annexed);
    assert!(annexed.len() <= unit.len());
    let Ok(read) = AccessUnit::read(&unit, size) else {
        return;
    };
    assert!(read.data.len() <= unit.len() * 4);
    let again = AccessUnit::read(&read.data, 4).expect("what was cleaned is an access unit");
    assert_eq!(again.data, read.data, "what is clean stays as it is");
    assert!(again.sps.is_empty() && again.pps.is_empty());
    assert_eq!((again.idr, again.recovery), (read.idr, read.recovery));
    if let Ok(config) = VideoConfig::of(size, read.sps, read.pps) {
        written(&config);
    }
}

fn unit_seeds() -> Vec<Vec<u8>> {
    let nals: [&[u8]; 7] = [
        &[9, 0xf0],
        SPS,
        PPS,
        &[6, 5, 1, 0, 0x80],
        &[6, 6, 1, 0xc4, 0x80],
        &[0x65, 1, 2],
        &[12, 0xff],
    ];
    let of = |size: usize, place: u8| {
        let mut out = vec![place];
        for nal in nals {
            let len = u32::try_from(nal.len()).unwrap_or(0).to_be_bytes();
            out.extend(&len[4 - size..]);
            out.extend(nal);
        }
        out
    };
    // Blocks of `join` are NAL units with lengths of two bytes.
    vec![of(1, 0), of(4, 2), [vec![1], join(nals)].concat()]
}

fn audio(bytes: &[u8]) {
    let (read, adts) = (aac::config(bytes), Adts::read(bytes));
    let Ok(read) = read else { return };
    assert!((7_000..=96_000).contains(&read.sample_rate) && (1..=8).contains(&read.channels));
    if let Some(header) = adts.and_then(|a| a.header(100)) {
        const RATES: [u32; 13] = [
            96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025,
            8_000, 7_350,
        ];
        let rate = RATES.get(usize::from(header[2] >> 2 & 0xf));
        assert_eq!(rate, Some(&read.sample_rate), "both readers agree");
        let channels = header[2] << 2 & 4 | header[3] >> 6;
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 8][usize::from(channels)],
            read.channels
        );
    }
}

fn audio_seeds() -> Vec<Vec<u8>> {
    vec![
        ASC.to_vec(),
        vec![0x12, 0x10],
        // HE-AAC with its extension told; an escaped rate; 960 samples a frame.
        vec![0x2b, 0x92, 0x08, 0x00],
        vec![0x17, 0x80, 0x5d, 0xc0, 0x10],
        vec![0x11, 0x94],
    ]
}

/// A tag of this kind.
pub(super) fn tag(kind: TagKind, timestamp: u32, body: impl Into<Bytes>) -> Tag {
    Tag {
        kind,
        timestamp,
        body: body.into(),
    }
}
