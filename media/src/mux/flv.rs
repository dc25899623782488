//! FLV (Adobe, annex E): tags as files and RTMP have them.
use bytes::{BufMut, Bytes, BytesMut};
use routing::model::{Codec, TrackDetail, TrackKind};

use super::{flac_header, record, with};
use crate::{
    flv::{Tag, TagKind},
    follow::{Line, Shown},
    rtmp::amf::{self, Value},
};

/// A file that began, or did not yet.
#[derive(Debug, Default)]
pub(super) struct Flv {
    begun: bool,
    /// The last tag's time.
    time: u32,
}

impl Flv {
    /// The file's head, where it is the beginning, metadata and configurations.
    pub(super) fn begin(&mut self, lines: &[Line]) -> Vec<Bytes> {
        let mut out = BytesMut::new();
        if !std::mem::replace(&mut self.begun, true) {
            let flags = lines.iter().fold(0, |flags, l| match l.kind {
                TrackKind::Video => flags | 1,
                TrackKind::Audio => flags | 4,
                TrackKind::Data => flags,
            });
            out.put_slice(b"FLV\x01");
            out.put_u8(flags);
            out.put_slice(&[0, 0, 0, 9, 0, 0, 0, 0]);
        }
        let tags = std::iter::once(metadata(lines, self.time)).chain(config_tags(lines, self.time));
        let heads = tags.flat_map(|t| file_tag(t.kind, t.timestamp, &[], t.body));
        std::iter::once(out.freeze()).chain(heads).collect()
    }

    /// A frame as a file's tag.
    pub(super) fn frame(&mut self, line: &Line, shown: &Shown) -> Vec<Bytes> {
        self.time = time(shown);
        let head = head(line, Some(shown));
        file_tag(kind(line), self.time, &head, shown.data.clone())
    }
}

/// A tag: its head, `head` of its body and the rest of that, and its length.
fn file_tag(kind: TagKind, timestamp: u32, head: &[u8], data: Bytes) -> Vec<Bytes> {
    let len = u32::try_from(head.len() + data.len()).unwrap_or(0);
    let mut out = BytesMut::with_capacity(32 + head.len() + data.len().min(super::COPY_UP_TO));
    let [_, a, b, c] = len.to_be_bytes();
    let [high, x, y, z] = timestamp.to_be_bytes();
    out.put_slice(&[kind.as_byte(), a, b, c, x, y, z, high, 0, 0, 0]);
    out.put_slice(head);
    let mut buffers = with(out, data);
    let length = Bytes::copy_from_slice(&(len + 11).to_be_bytes());
    buffers.push(length);
    buffers
}

const fn kind(line: &Line) -> TagKind {
    match line.kind {
        TrackKind::Video => TagKind::Video,
        TrackKind::Audio => TagKind::Audio,
        TrackKind::Data => TagKind::Data,
    }
}

/// Milliseconds, wrapping at 32 bits as FLV's times do.
fn time(shown: &Shown) -> u32 {
    (shown.dts.as_millis() & u128::from(u32::MAX)) as u32
}

/// How a body names its codec.
#[derive(Clone, Copy)]
pub(super) enum Name {
    /// By the old numbers, which every player knows.
    Old(u8),
    /// By FourCC ("Enhanced RTMP").
    Four(&'static [u8; 4]),
}

/// A codec's name, where there is one.
pub(super) const fn name(codec: Codec) -> Option<Name> {
    Some(match codec {
        Codec::H264 => Name::Old(7),
        Codec::Aac => Name::Old(10),
        Codec::Mp3 => Name::Old(2),
        Codec::Hevc => Name::Four(b"hvc1"),
        Codec::Av1 => Name::Four(b"av01"),
        Codec::Vp8 => Name::Four(b"vp08"),
        Codec::Vp9 => Name::Four(b"vp09"),
        Codec::Opus => Name::Four(b"Opus"),
        Codec::Ac3 => Name::Four(b"ac-3"),
        Codec::Eac3 => Name::Four(b"ec-3"),
        Codec::Flac => Name::Four(b"fLaC"),
        _ => return None,
    })
}

/// What stands before a body's own bytes: of a frame, or of a configuration.
fn head(line: &Line, shown: Option<&Shown>) -> BytesMut {
    let mut head = BytesMut::with_capacity(8);
    let codec = line.config.codec();
    // Both times rounded the same way, so that presentation times are exact to the millisecond.
    let composition = shown.map_or(0, |s| s.pts().as_millis() - s.dts.as_millis());
    let [_, a, b, c] = u32::try_from(composition).unwrap_or(0).to_be_bytes();
    let kind = if shown.is_none_or(|s| s.keyframe) {
        1
    } else {
        2
    };
    let coded = u8::from(shown.is_some());
    match name(codec) {
        Some(Name::Old(number)) if codec.is_video() => {
            head.put_slice(&[kind << 4 | number, coded, a, b, c]);
        }
        // 44 kHz, 16 bits, stereo: AAC says so always, and MP3 tells its own.
        Some(Name::Old(number)) => {
            head.put_u8(number << 4 | 0xf);
            if codec == Codec::Aac {
                head.put_u8(coded);
            }
        }
        Some(Name::Four(four)) if codec.is_video() => {
            head.put_u8(0x80 | kind << 4 | coded);
            head.put_slice(four);
            if codec == Codec::Hevc && coded == 1 {
                head.put_slice(&[a, b, c]);
            }
        }
        Some(Name::Four(four)) => {
            head.put_u8(0x90 | coded);
            head.put_slice(four);
        }
        None => {}
    }
    head
}

/// A frame as RTMP carries it.
pub(crate) fn frame_tag(line: &Line, shown: &Shown) -> Tag {
    let mut body = head(line, Some(shown));
    body.extend_from_slice(&shown.data);
    Tag {
        kind: kind(line),
        timestamp: time(shown),
        body: body.freeze(),
    }
}

/// The configurations of tracks that have one.
pub(crate) fn config_tags(lines: &[Line], timestamp: u32) -> Vec<Tag> {
    let tag = |line: &Line| {
        // Frames of the others say all themselves.
        let data = match line.config.codec() {
            Codec::Mp2 | Codec::Mp3 | Codec::Ac3 | Codec::Eac3 => return None,
            Codec::Flac => flac_header(&line.config.data),
            _ => record(line),
        };
        let mut body = head(line, None);
        body.extend_from_slice(&data);
        Some(Tag {
            kind: kind(line),
            timestamp,
            body: body.freeze(),
        })
    };
    lines.iter().filter_map(tag).collect()
}

/// `onMetaData`.
pub(crate) fn metadata(lines: &[Line], timestamp: u32) -> Tag {
    let mut all = Vec::new();
    let mut put = |name: &str, value: f64| all.push((name.to_owned(), Value::Number(value)));
    for line in lines {
        let kilobits = line.config.summary.bitrate.0 as f64 / 1000.0;
        let code = match name(line.config.codec()) {
            Some(Name::Old(number)) => number.into(),
            Some(Name::Four(four)) => u32::from_be_bytes(*four).into(),
            None => continue,
        };
        match *line.config.detail() {
            TrackDetail::Video {
                width,
                height,
                rate: (n, d),
            } => {
                put("width", width.into());
                put("height", height.into());
                put("videocodecid", code);
                put("videodatarate", kilobits);
                if n > 0 && d > 0 {
                    put("framerate", f64::from(n) / f64::from(d));
                }
            }
            TrackDetail::Audio {
                sample_rate,
                channels,
            } => {
                put("audiocodecid", code);
                put("audiosamplerate", sample_rate.into());
                put("audiosamplesize", 16.0);
                put("audiochannels", channels.into());
                put("audiodatarate", kilobits);
            }
            TrackDetail::Data {} => {}
        }
    }
    let body = amf::encode(&[Value::text("onMetaData"), Value::Object(all)]);
    Tag {
        kind: TagKind::Data,
        timestamp,
        body: body.into(),
    }
}
