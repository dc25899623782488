//! FLV (Adobe, "Video File Format Specification" 10.1, annex E): tag bodies as RTMP carries them, and whole files.
//!
//! Bodies in the old form and with the Enhanced RTMP header (a FourCC) are read alike.
mod body;
mod reader;

use std::time::Duration;

use bytes::Bytes;
use routing::model::Codec;

pub use self::reader::{Reader, file};

/// Why an FLV body or file was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlvError {
    /// A codec that this program does not take.
    #[error(
        "{0} is not taken. Publish H.264, HEVC, AV1 or VP9 video, and AAC, Opus, MP3, AC-3 or FLAC audio"
    )]
    Codec(String),
    /// The bytes are broken.
    #[error("the FLV data is broken: {0}")]
    Broken(&'static str),
}

/// What a tag holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// AMF0 data, such as `onMetaData`.
    Data,
}

impl TagKind {
    /// By its number in FLV and RTMP.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            8 => Some(Self::Audio),
            9 => Some(Self::Video),
            18 => Some(Self::Data),
            _ => None,
        }
    }

    /// Its number in FLV and RTMP.
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        match self {
            Self::Audio => 8,
            Self::Video => 9,
            Self::Data => 18,
        }
    }
}

/// A tag: one picture, audio packet, configuration or data message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What it holds.
    pub kind: TagKind,
    /// Decode time in milliseconds, wrapping at 32 bits.
    pub timestamp: u32,
    /// Its body, from the codec byte on.
    pub body: Bytes,
}

impl Tag {
    /// What it holds, by track; nothing where it is data, an end mark, a command or empty.
    ///
    /// # Errors
    /// [`FlvError`].
    pub fn packets(&self) -> Result<Vec<Packet>, FlvError> {
        match self.kind {
            TagKind::Video => body::video(&self.body),
            TagKind::Audio => body::audio(&self.body),
            TagKind::Data => Ok(Vec::new()),
        }
    }

    /// Whether it is a picture or sound, not a configuration, an end mark or data.
    #[must_use]
    pub fn is_frame(&self) -> bool {
        let packets = self.packets().unwrap_or_default();
        let frame = |p: &Packet| matches!(p.content, Content::Frame { .. });
        packets.iter().any(frame)
    }
}

/// What a body holds of one track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The track's number within its kind: 0 but for multitrack bodies.
    pub track: u8,
    /// How it is coded.
    pub codec: Codec,
    /// What it is.
    pub content: Content,
}

/// What a packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A decoder's configuration, as the container carries it.
    Config(Bytes),
    /// One unit.
    Frame {
        /// The encoder says that it is a key frame.
        keyframe: bool,
        /// Presentation less decode time in milliseconds, signed 24 bits.
        composition: i32,
        /// The unit.
        data: Bytes,
    },
}

/// A file's tags over and over: configurations and metadata once, times going on across the seam.
///
/// The loop's length is that of its pictures (its sound, where there are none), last frame included; sound goes on
/// without a seam where it has the same length, as 375 AAC frames at 48 kHz and 8 s of pictures have.
#[derive(Clone, Debug)]
pub struct Looped {
    tags: Vec<Tag>,
    length: u64,
    next: usize,
    offset: u64,
    first_round: bool,
}

impl Looped {
    /// Loops over these tags.
    ///
    /// # Errors
    /// [`FlvError::Broken`] when there are less than two frames of one kind: their distance gives the seam's.
    pub fn new(tags: Vec<Tag>) -> Result<Self, FlvError> {
        let length = [TagKind::Video, TagKind::Audio]
            .into_iter()
            .find_map(|kind| {
                let mut media = tags.iter().filter(|t| t.kind == kind && t.is_frame());
                let first = media.next()?.timestamp;
                let last = media.next_back()?.timestamp;
                let before = media.next_back().map_or(first, |t| t.timestamp);
                (last > first)
                    .then(|| u64::from(last - first) + u64::from(last.saturating_sub(before)))
            })
            .ok_or(FlvError::Broken("too few tags to loop over"))?;
        Ok(Self {
            tags,
            length,
            next: 0,
            offset: 0,
            first_round: true,
        })
    }
}

impl Iterator for Looped {
    type Item = (Duration, Tag);

    /// The next tag and when it is due, from the first.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(tag) = self.tags.get(self.next) else {
                self.next = 0;
                self.offset += self.length;
                self.first_round = false;
                continue;
            };
            self.next += 1;
            if !self.first_round && !tag.is_frame() {
                continue;
            }
            let at = u64::from(tag.timestamp) + self.offset;
            let tag = Tag {
                timestamp: (at & u64::from(u32::MAX)) as u32,
                ..tag.clone()
            };
            return Some((Duration::from_millis(at), tag));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(timestamp: u32) -> Tag {
        Tag {
            kind: TagKind::Video,
            timestamp,
            body: Bytes::from_static(&[0x27, 1, 0, 0, 0, 1]),
        }
    }

    #[test]
    fn composition_time_is_signed() {
        let body = Bytes::from_static(&[0x17, 1, 0xff, 0xff, 0xd8, 0]);
        assert_eq!(
            body::video(&body).unwrap(),
            [Packet {
                track: 0,
                codec: Codec::H264,
                content: Content::Frame {
                    keyframe: true,
                    composition: -40,
                    data: Bytes::from_static(&[0])
                }
            }]
        );
    }

    fn read(kind: TagKind, body: &'static [u8]) -> Vec<(u8, Codec, Content)> {
        let tag = Tag {
            kind,
            timestamp: 0,
            body: Bytes::from_static(body),
        };
        let packets = tag.packets().unwrap();
        let parts = |p: Packet| (p.track, p.codec, p.content);
        packets.into_iter().map(parts).collect()
    }

    fn unit(keyframe: bool, composition: i32, data: &'static [u8]) -> Content {
        Content::Frame {
            keyframe,
            composition,
            data: Bytes::from_static(data),
        }
    }

    #[test]
    fn enhanced_bodies_name_their_codec_and_hevc_has_a_composition_time() {
        use TagKind::{Audio, Video};
        let config = Content::Config(Bytes::from_static(b"record"));
        assert_eq!(
            read(Video, b"\x90hvc1record"),
            [(0, Codec::Hevc, config.clone())]
        );
        assert_eq!(
            read(Video, b"\xa1hvc1\x00\x00\x28data"),
            [(0, Codec::Hevc, unit(false, 40, b"data"))]
        );
        assert_eq!(
            read(Video, b"\x93hvc1data"),
            [(0, Codec::Hevc, unit(true, 0, b"data"))]
        );
        assert_eq!(
            read(Video, b"\x91av01data"),
            [(0, Codec::Av1, unit(true, 0, b"data"))]
        );
        assert_eq!(read(Audio, b"\x90Opusrecord"), [(0, Codec::Opus, config)]);
        assert_eq!(
            read(Audio, b"\x91ac-3data"),
            [(0, Codec::Ac3, unit(true, 0, b"data"))]
        );
        // Metadata, the end of a sequence, a command.
        assert_eq!(read(Video, b"\x94hvc1whatever"), []);
        assert_eq!(read(Video, b"\x92hvc1"), []);
        assert_eq!(read(Video, b"\xd0\x01"), []);
    }

    #[test]
    fn a_finer_time_is_passed_over_and_tracks_in_one_body_are_told_apart() {
        use TagKind::{Audio, Video};
        // Three bytes of nanoseconds; then coded frames.
        assert_eq!(
            read(Video, b"\x97\x02\x00\x00\x64\x01av01data"),
            [(0, Codec::Av1, unit(true, 0, b"data"))]
        );
        // One track with a number; several of one codec; several of several.
        assert_eq!(
            read(Audio, b"\x95\x01Opus\x03data"),
            [(3, Codec::Opus, unit(true, 0, b"data"))]
        );
        assert_eq!(
            read(Audio, b"\x95\x11Opus\x00\0\0\x01a\x01\0\0\x02bc"),
            [
                (0, Codec::Opus, unit(true, 0, b"a")),
                (1, Codec::Opus, unit(true, 0, b"bc"))
            ]
        );
        assert_eq!(
            read(Video, b"\xa6\x23av01\x00\0\0\x01ahvc1\x01\0\0\x02bc"),
            [
                (0, Codec::Av1, unit(false, 0, b"a")),
                (1, Codec::Hevc, unit(false, 0, b"bc"))
            ]
        );
    }

    #[test]
    fn a_codec_that_is_not_taken_is_named() {
        let vvc = body::video(&Bytes::from_static(b"\x90vvc1rest"));
        assert_eq!(
            vvc.unwrap_err().to_string(),
            "\"vvc1\" is not taken. Publish H.264, HEVC, AV1 or VP9 video, and AAC, Opus, MP3, AC-3 or FLAC audio"
        );
        assert!(body::audio(&Bytes::from_static(&[0xbf, 1])).is_err());
        assert!(body::video(&Bytes::from_static(&[0x22, 1])).is_err());
    }

    #[test]
    fn a_file_in_pieces_is_the_file() {
        let whole: &[u8] = include_bytes!("../../../node/assets/demo.flv");
        let tags = file(whole).unwrap();
        assert!(tags.len() > 1_000);
        for piece in [1, 7, 4_096] {
            let (mut reader, mut read) = (Reader::new(), Vec::new());
            for bytes in whole.chunks(piece) {
                reader.receive(bytes);
                while let Some(tag) = reader.poll().unwrap() {
                    read.push(tag);
                }
            }
            assert_eq!(read, tags, "in pieces of {piece}");
        }
        assert!(file(b"GIF89a").is_err());
        assert!(file(b"FLV").is_err());
        let long = b"FLV\x01\x05\0\0\0\x09\0\0\0\0\x09\xff\xff\xff\0\0\0\0\0\0\0";
        assert!(file(long).is_err());
    }

    #[test]
    fn a_loop_goes_on_in_time_and_repeats_no_configuration() {
        let config = Tag {
            kind: TagKind::Video,
            timestamp: 0,
            body: Bytes::from_static(&[0x17, 0, 0, 0, 0, 1]),
        };
        let looped = Looped::new(vec![config, frame(0), frame(40), frame(80)]).unwrap();
        let times: Vec<_> = looped.take(8).map(|(at, _)| at.as_millis()).collect();
        assert_eq!(times, [0, 0, 40, 80, 120, 160, 200, 240]);
        assert!(Looped::new(vec![frame(0)]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), flv: bool) {
            let body = Bytes::from(bytes.clone());
            let _ = (body::video(&body), body::audio(&body));
            if flv && bytes.len() > 13 {
                bytes[..3].copy_from_slice(b"FLV");
                bytes[5..9].copy_from_slice(&[0, 0, 0, 9]);
            }
            if let Ok(tags) = file(&bytes)
                && let Ok(looped) = Looped::new(tags)
            {
                prop_assert!(looped.take(100).count() <= 100);
            }
        }
    }
}
