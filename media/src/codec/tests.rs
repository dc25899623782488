//! What is read from a codec's bytes is what the programs that made them wrote about them.
use bytes::Bytes;
use routing::model::{Codec, TrackDetail, TrackSummary};

use super::{ac3::SyncFrame, av1, flac, hevc, mpeg_audio, opus, vpx};

fn hex(text: &str) -> Bytes {
    let digit = |c: u8| u8::try_from(char::from(c).to_digit(16).unwrap()).unwrap();
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn size(summary: &TrackSummary) -> (u32, u32) {
    match summary.detail {
        TrackDetail::Video { width, height, .. } => (width, height),
        _ => (0, 0),
    }
}

/// x265, 320x180, Main.
pub(crate) const HEVC_SETS: [&str; 3] = [
    "40010c01ffff01600000030090000003000003003c959809",
    "42010101600000030090000003000003003ca00a080b9f796566924caf016808000003000800000300c840",
    "4401c172b46240",
];

#[test]
fn hevc_sets_make_the_record_that_ffmpeg_writes_of_them() {
    let config = hevc::VideoConfig::of(4, HEVC_SETS.map(|set| vec![hex(set)])).unwrap();
    let summary = config.summary(None);
    assert_eq!(summary.codec_string, "hvc1.1.6.L60.90");
    assert_eq!(size(&summary), (320, 180));
    let record = config.write();
    // Without its message to the user, a fourth array; its arrays are marked as not whole.
    assert_eq!(
        record[..23],
        hex("0101600000009000000000003cf000fcfdf8f800000f03")
    );
    assert_eq!(hevc::VideoConfig::read(&record).unwrap(), config);
}

#[test]
fn an_hevc_access_unit_is_cleaned_of_sets_and_delimiters() {
    let nals = [
        &[0x46, 1, 0x10][..],
        &hex(HEVC_SETS[0]),
        &hex(HEVC_SETS[1]),
        &hex(HEVC_SETS[2]),
        &[0x28, 1, 0xaf],
        &[0x02, 1, 0xd0],
    ];
    let mut unit = Vec::new();
    for nal in nals {
        unit.extend(u16::try_from(nal.len()).unwrap().to_be_bytes());
        unit.extend(nal);
    }
    let read = hevc::AccessUnit::read(&unit.into(), 2).unwrap();
    assert!(read.keyframe);
    assert_eq!(read.data, hex("000000032801af000000030201d0"));
    assert_eq!(read.sets, HEVC_SETS.map(|set| vec![hex(set)]));
    let inter = hevc::AccessUnit::read(&hex("000000030201d0"), 4).unwrap();
    assert!(!inter.keyframe && inter.sets.iter().all(Vec::is_empty));
    assert!(hevc::AccessUnit::read(&hex("000000040201d0"), 4).is_err());
}

#[test]
fn an_av1_keyframe_makes_the_record_that_ffmpeg_writes_of_it() {
    let unit = hex("12000a0b000000043cfeccdaf900403202aabb");
    let read = av1::TemporalUnit::read(&unit).unwrap();
    assert_eq!(read.data, unit.slice(2..), "the temporal delimiter goes");
    let config = read.config.unwrap();
    assert_eq!(config.write(), hex("81000c000a0b000000043cfeccdaf90040"));
    assert_eq!(av1::VideoConfig::read(&config.write()).unwrap(), config);
    let summary = config.summary(None);
    assert_eq!(
        (&*summary.codec_string, size(&summary)),
        ("av01.0.00M.08", (320, 180))
    );
    // A last OBU without a size is given one.
    let open = av1::TemporalUnit::read(&hex("30aabb")).unwrap();
    assert_eq!(open.data, hex("3202aabb"));
    assert!(av1::TemporalUnit::read(&hex("3203aabb")).is_err());
}

#[test]
fn vp9_and_vp8_keyframes_make_the_record_that_ffmpeg_writes_of_them() {
    let frame = hex("824983420013f00b360638241c184a000ce05fcd");
    let vp9 = vpx::Keyframe::vp9(&frame).unwrap();
    assert_eq!(vp9.record(), hex("000b820202020000"));
    let summary = vp9.summary(None);
    assert_eq!(
        (&*summary.codec_string, size(&summary)),
        ("vp09.00.11.08", (320, 180))
    );
    let frame = hex("1062009d012a4001b400000708");
    let vp8 = vpx::Keyframe::vp8(&frame).unwrap();
    assert_eq!(size(&vp8.summary(None)), (320, 180));
    assert_eq!(vpx::Keyframe::vp8(&hex("1162009d012a4001b400000708")), None);
    assert_eq!(vpx::Keyframe::vp9(&hex("860040")), None);
}

#[test]
fn opus_says_how_long_a_packet_is() {
    let header = opus::AudioConfig::plain(2, 312).write();
    assert_eq!(header, hex("4f707573486561640102380180bb0000000000"));
    let read = opus::AudioConfig::read(&header).unwrap();
    assert_eq!((read.channels, read.pre_skip), (2, 312));
    // CELT, 20 ms, stereo, one frame; then two; then three of 60 ms, which is too long.
    assert_eq!(opus::samples(&hex("fcb4")), Some(960));
    assert_eq!(opus::samples(&hex("fdb4")), Some(1920));
    assert_eq!(opus::samples(&hex("1b03")), None);
    assert!(opus::AudioConfig::read(&header.slice(..18)).is_err());
}

#[test]
fn mpeg_audio_headers_say_length_and_layer() {
    let mp3 = mpeg_audio::Header::read(&hex("fffb9464")).unwrap();
    assert_eq!(
        (mp3.codec, mp3.length, mp3.samples),
        (Codec::Mp3, 384, 1152)
    );
    let mp2 = mpeg_audio::Header::read(&hex("fffde404")).unwrap();
    assert_eq!((mp2.codec, mp2.length), (Codec::Mp2, 1152));
    assert_eq!((mp2.sample_rate, mp2.channels), (48_000, 2));
    assert_eq!(mpeg_audio::Header::read(&hex("fffb0464")), None);
}

#[test]
fn ac3_sync_frames_make_the_boxes_that_ffmpeg_writes_of_them() {
    let ac3 = SyncFrame::read(&hex("0b77fe95144043e106f4")).unwrap();
    assert_eq!(ac3.record(), hex("101140"));
    assert_eq!(
        (ac3.sample_rate, ac3.channels, ac3.length),
        (48_000, 2, 768)
    );
    let eac3 = SyncFrame::read(&hex("0b77017f3487c0002084")).unwrap();
    assert_eq!(eac3.record(), hex("0600200400"));
    assert_eq!(
        (eac3.samples, eac3.length, eac3.dependent),
        (1536, 768, false)
    );
    assert_eq!(SyncFrame::read(&hex("0b77fe95")), None);
}

#[test]
fn flac_is_read_with_and_without_its_mark() {
    let block = hex("1200120000010e0005170bb802f000004b00581c026f9fb198c5a69bdefdd58a1c2c");
    let alone = flac::AudioConfig::read(&block).unwrap();
    assert_eq!((alone.frame_samples, alone.channels), (4608, 2));
    let marked = [b"fLaC\x80\0\0\x22", &block[..]].concat();
    assert_eq!(flac::AudioConfig::read(&marked.into()).unwrap(), alone);
    assert!(flac::AudioConfig::read(&block.slice(1..)).is_err());
}
