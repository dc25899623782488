//! How a track's frames become packetised elementary streams of MPEG-TS (ISO/IEC 13818-1), and how its program map names
//! them. AV1, VP8, VP9 and FLAC have no agreed form there.
use bytes::Bytes;
use routing::model::{Codec, TrackDetail, TrackKind};

use super::codec::{Adts, annex_b, hevc_parameter_sets, parameter_sets};
use crate::live::{Epoch, Frame, Track, TrackConfig, TrackId};

pub(super) const MASK: i64 = (1 << 33) - 1;
/// Stream ids of PES headers (table 2-22): video, audio, private stream 1.
const VIDEO: u8 = 0xe0;
const AUDIO: u8 = 0xc0;
const PRIVATE: u8 = 0xbd;

/// One access unit as a packetised elementary stream packet.
pub(super) struct Unit {
    pub(super) dts: i64,
    pub(super) track: TrackId,
    pub(super) key: bool,
    pub(super) pes: Vec<u8>,
}

/// How a track's frames become elementary stream bytes.
pub(super) enum Elementary {
    /// The delimiter, and what goes before a keyframe.
    Pictures(&'static [u8], Option<Bytes>),
    Aac(Option<Adts>),
    /// Each packet has a header with its length.
    Opus,
    /// Frames that begin with a sync word of their own.
    Framed(u8),
}

/// Whether MPEG-TS carries it.
pub(crate) const fn carries(codec: Codec) -> bool {
    !matches!(codec, Codec::Av1 | Codec::Vp8 | Codec::Vp9 | Codec::Flac)
}

/// Which tracks of an epoch go into one transport stream: the one whose cuts it follows, and the sound beside it. The
/// first pictures, or without pictures the first sound, and the first sound that it can carry; `None` where it cannot
/// carry the first of these.
pub(crate) fn multiplexed(epoch: &Epoch) -> Option<(&Track, Option<&Track>)> {
    let carries = |t: &&Track| carries(t.config.codec());
    let of = |kind| epoch.tracks.iter().filter(move |t| t.kind == kind);
    let sound = of(TrackKind::Audio).find(carries);
    match of(TrackKind::Video).next() {
        Some(pictures) => Some((pictures, sound)).filter(|(p, _)| carries(p)),
        None => sound.map(|s| (s, None)),
    }
}

impl Elementary {
    pub(super) fn new(config: &TrackConfig) -> Option<Self> {
        Some(match config.codec() {
            // An access unit delimiter: any kind of picture may follow.
            Codec::H264 => Self::Pictures(&[0x09, 0xf0], parameter_sets(&config.data)),
            Codec::Hevc => Self::Pictures(&[0x46, 0x01, 0x50], hevc_parameter_sets(&config.data)),
            Codec::Aac => Self::Aac(Adts::read(&config.data)),
            Codec::Opus => Self::Opus,
            Codec::Mp2 | Codec::Mp3 => Self::Framed(AUDIO),
            Codec::Ac3 | Codec::Eac3 => Self::Framed(PRIVATE),
            _ => return None,
        })
    }

    /// Stream type and descriptors of a program map's entry: ISO/IEC 13818-1 table 2-34; ATSC A/52 A and G; "Opus in
    /// MPEG-TS" with the channels as mapping family 0 or 1 has them.
    pub(super) fn table_entry(config: &TrackConfig) -> Option<(u8, Vec<u8>)> {
        let registration = |name: &[u8; 4]| [&[0x05, 4], &name[..]].concat();
        let (rate, channels) = match config.detail() {
            TrackDetail::Audio {
                sample_rate,
                channels,
            } => (*sample_rate, *channels),
            _ => (0, 0),
        };
        Some(match config.codec() {
            Codec::H264 => (0x1b, Vec::new()),
            Codec::Hevc => (0x24, registration(b"HEVC")),
            Codec::Aac => (0x0f, Vec::new()),
            Codec::Mp2 | Codec::Mp3 if rate < 32_000 => (0x04, Vec::new()),
            Codec::Mp2 | Codec::Mp3 => (0x03, Vec::new()),
            Codec::Ac3 => (0x81, registration(b"AC-3")),
            Codec::Eac3 => (0x87, registration(b"EAC3")),
            Codec::Opus => {
                let mut descriptors = registration(b"Opus");
                descriptors.extend_from_slice(&[0x7f, 2, 0x80, channels]);
                (0x06, descriptors)
            }
            _ => return None,
        })
    }

    pub(super) fn unit(
        &self,
        track: TrackId,
        frame: &Frame,
        clock: impl Fn(i64) -> i64,
    ) -> Option<Unit> {
        let (pts, dts) = (clock(frame.pts()), clock(frame.dts));
        let mut pes = Vec::with_capacity(frame.data.len() + 96);
        match self {
            Self::Pictures(delimiter, sets) => {
                pes_header(&mut pes, VIDEO, pts, Some(dts));
                pes.extend_from_slice(&[0, 0, 0, 1]);
                pes.extend_from_slice(delimiter);
                if let (Some(sets), true) = (sets, frame.keyframe) {
                    pes.extend_from_slice(sets);
                }
                annex_b(&frame.data, &mut pes);
            }
            Self::Aac(adts) => {
                pes_header(&mut pes, AUDIO, pts, None);
                pes.extend_from_slice(&adts.as_ref()?.header(frame.data.len())?);
                pes.extend_from_slice(&frame.data);
            }
            Self::Opus => {
                pes_header(&mut pes, PRIVATE, pts, None);
                pes.extend_from_slice(&[0x7f, 0xe0]);
                // 255 for every full byte, then the rest, as lacing does.
                pes.resize(pes.len() + frame.data.len() / 255, 255);
                pes.push(u8::try_from(frame.data.len() % 255).unwrap_or(0));
                pes.extend_from_slice(&frame.data);
            }
            Self::Framed(stream) => {
                pes_header(&mut pes, *stream, pts, None);
                pes.extend_from_slice(&frame.data);
            }
        }
        // A packet too long for its field says 0, as video may.
        let len = u16::try_from(pes.len() - 6).unwrap_or(0);
        pes.get_mut(4..6)?.copy_from_slice(&len.to_be_bytes());
        Some(Unit {
            dts,
            track,
            key: frame.keyframe,
            pes,
        })
    }
}

fn pes_header(out: &mut Vec<u8>, stream: u8, pts: i64, dts: Option<i64>) {
    out.extend_from_slice(&[0, 0, 1, stream, 0, 0, 0x84]);
    match dts.filter(|dts| *dts != pts) {
        Some(dts) => {
            out.extend_from_slice(&[0xc0, 10]);
            out.extend_from_slice(&stamp(3, pts));
            out.extend_from_slice(&stamp(1, dts));
        }
        None => {
            out.extend_from_slice(&[0x80, 5]);
            out.extend_from_slice(&stamp(2, pts));
        }
    }
}

/// A 33-bit time in the five bytes of a PES header.
fn stamp(tag: u8, time: i64) -> [u8; 5] {
    let t = (time & MASK).to_be_bytes();
    let bits = u64::from_be_bytes(t);
    let byte = |v: u64| v.to_be_bytes()[7];
    [
        tag << 4 | byte(bits >> 29) & 0x0e | 1,
        byte(bits >> 22),
        byte(bits >> 14) | 1,
        byte(bits >> 7),
        byte(bits << 1) | 1,
    ]
}
