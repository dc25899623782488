//! Matroska (RFC 9559) and WebM in the layout of a live stream: Segment and Clusters of unknown size, a SimpleBlock a frame.
use bytes::{BufMut, Bytes, BytesMut};
use routing::model::{Codec, TrackDetail, TrackKind};

use super::{flac_header, record, with};
use crate::follow::{Line, Shown};

const EBML: u32 = 0x1a45_dfa3;
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_a966;
const TRACKS: u32 = 0x1654_ae6b;
const CLUSTER: u32 = 0x1f43_b675;
/// A size that is not known (RFC 8794 section 6.2).
const UNKNOWN: u64 = 0x01ff_ffff_ffff_ffff;
/// A cluster's blocks are less than this after its start, in milliseconds: their times have 16 bits with a sign.
const CLUSTER_MAX: i64 = 30_000;
/// A cluster without a keyframe, as of sound, lasts no longer than this, in milliseconds.
const CLUSTER_SOUND: i64 = 5_000;

/// A codec's name, where Matroska has one.
pub(super) const fn codec_id(codec: Codec) -> Option<&'static str> {
    Some(match codec {
        Codec::H264 => "V_MPEG4/ISO/AVC",
        Codec::Hevc => "V_MPEGH/ISO/HEVC",
        Codec::Av1 => "V_AV1",
        Codec::Vp8 => "V_VP8",
        Codec::Vp9 => "V_VP9",
        Codec::Aac => "A_AAC",
        Codec::Opus => "A_OPUS",
        Codec::Mp2 => "A_MPEG/L2",
        Codec::Mp3 => "A_MPEG/L3",
        Codec::Ac3 => "A_AC3",
        Codec::Eac3 => "A_EAC3",
        Codec::Flac => "A_FLAC",
        _ => return None,
    })
}

/// A stream on its way out.
#[derive(Debug)]
pub(super) struct Matroska {
    doc_type: &'static str,
    /// Whether there are pictures, with whose keyframes clusters begin.
    pictures: bool,
    /// Where the open cluster begins, in milliseconds.
    cluster: Option<i64>,
}

/// Writes EBML elements.
#[derive(Default)]
struct Ebml(BytesMut);

impl Ebml {
    fn id(&mut self, id: u32) {
        let bytes = id.to_be_bytes();
        let from = bytes.iter().position(|b| *b != 0).unwrap_or(3);
        self.0.put_slice(bytes.get(from..).unwrap_or(&[]));
    }

    /// An element's size in as few bytes as hold it.
    fn size(&mut self, size: usize) {
        let size = size as u64;
        let len = (1..8).find(|n| size < (1 << (7 * n)) - 1).unwrap_or(8);
        let marked = size | 1 << (7 * len);
        self.0.put_uint(marked, len);
    }

    fn bytes(&mut self, id: u32, content: &[u8]) {
        self.id(id);
        self.size(content.len());
        self.0.put_slice(content);
    }

    fn number(&mut self, id: u32, value: u64) {
        let bytes = value.to_be_bytes();
        let from = bytes.iter().position(|b| *b != 0).unwrap_or(7);
        self.bytes(id, bytes.get(from..).unwrap_or(&[]));
    }

    fn float(&mut self, id: u32, value: f64) {
        self.bytes(id, &value.to_be_bytes());
    }

    fn text(&mut self, id: u32, text: &str) {
        self.bytes(id, text.as_bytes());
    }

    fn within(&mut self, id: u32, inside: impl FnOnce(&mut Self)) {
        let mut content = Self::default();
        inside(&mut content);
        self.bytes(id, &content.0);
    }

    fn endless(&mut self, id: u32) {
        self.id(id);
        self.0.put_u64(UNKNOWN);
    }
}

impl Matroska {
    pub(super) const fn new(doc_type: &'static str) -> Self {
        Self {
            doc_type,
            pictures: false,
            cluster: None,
        }
    }

    /// The head of a stream of these tracks. After other tracks it is a stream of its own behind the first.
    pub(super) fn begin(&mut self, lines: &[Line]) -> Bytes {
        self.pictures = lines.iter().any(|l| l.kind == TrackKind::Video);
        self.cluster = None;
        let mut out = Ebml::default();
        out.within(EBML, |head| {
            head.number(0x4286, 1);
            head.number(0x42f7, 1);
            head.number(0x42f2, 4);
            head.number(0x42f3, 8);
            head.text(0x4282, self.doc_type);
            head.number(0x4287, 4);
            head.number(0x4285, 2);
        });
        out.endless(SEGMENT);
        out.within(INFO, |info| {
            // Times are in milliseconds.
            info.number(0x2a_d7b1, 1_000_000);
            info.text(0x4d80, "Shoal");
            info.text(0x5741, "Shoal");
        });
        out.within(TRACKS, |tracks| {
            for (line, number) in lines.iter().zip(1..) {
                tracks.within(0xae, |entry| track(entry, number, line));
            }
        });
        out.0.freeze()
    }

    /// A frame, and before it a cluster's head where one begins.
    pub(super) fn frame(&mut self, kind: TrackKind, shown: Shown) -> Vec<Bytes> {
        let time = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let at = time(shown.pts());
        let mut out = Ebml::default();
        let start = self.cluster.filter(|start| {
            let age = at - start;
            let due = if self.pictures {
                kind == TrackKind::Video && shown.keyframe
            } else {
                age >= CLUSTER_SOUND
            };
            !due && age < CLUSTER_MAX && age > -CLUSTER_MAX
        });
        let start = start.unwrap_or_else(|| {
            out.endless(CLUSTER);
            out.number(0xe7, at.unsigned_abs());
            at
        });
        self.cluster = Some(start);
        // SimpleBlock: track, time from the cluster's start, flags.
        out.id(0xa3);
        out.size(shown.data.len() + 4);
        out.0
            .put_u8(0x80 | u8::try_from(shown.line + 1).unwrap_or(1));
        out.0.put_i16(i16::try_from(at - start).unwrap_or(0));
        out.0.put_u8(u8::from(shown.keyframe) << 7);
        with(out.0, shown.data)
    }
}

fn track(entry: &mut Ebml, number: u64, line: &Line) {
    let codec = line.config.codec();
    entry.number(0xd7, number);
    entry.number(0x73c5, number);
    entry.number(0x83, if line.kind == TrackKind::Video { 1 } else { 2 });
    // Frames are not laced.
    entry.number(0x9c, 0);
    entry.text(0x86, codec_id(codec).unwrap_or_default());
    match codec {
        Codec::Vp8 | Codec::Mp2 | Codec::Mp3 | Codec::Ac3 | Codec::Eac3 => {}
        Codec::Flac => entry.bytes(0x63a2, &flac_header(&line.config.data)),
        _ => entry.bytes(0x63a2, &record(line)),
    }
    if codec == Codec::Opus {
        // What a decoder leaves out at the start, by the identification header, in nanoseconds; and the usual 80 ms
        // that it needs to converge.
        let skip = line
            .config
            .data
            .get(10..12)
            .map_or(0, |b| u64::from(b[0]) | u64::from(b[1]) << 8);
        entry.number(0x56aa, skip * 1_000_000_000 / 48_000);
        entry.number(0x56bb, 80_000_000);
    }
    match *line.config.detail() {
        TrackDetail::Video { width, height, .. } => entry.within(0xe0, |video| {
            video.number(0xb0, width.into());
            video.number(0xba, height.into());
        }),
        TrackDetail::Audio {
            sample_rate,
            channels,
        } => entry.within(0xe1, |audio| {
            audio.float(0xb5, sample_rate.into());
            audio.number(0x9f, channels.into());
        }),
        TrackDetail::Data {} => {}
    }
}
