//! FLV (Adobe, "Video File Format Specification" 10.1, annex E): tag bodies as RTMP carries them, and whole files.
//!
//! Bodies with the Enhanced RTMP header (a FourCC) are recognised and named, not read.
use std::time::Duration;

use bytes::{Buf, Bytes};

/// Why an FLV body or file was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlvError {
    /// A codec that this program does not take.
    #[error("{0} is not taken. Publish H.264 video and AAC audio")]
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
    /// Whether it is a picture or sound, not a configuration, an end mark or data.
    #[must_use]
    pub fn is_frame(&self) -> bool {
        match self.kind {
            TagKind::Video => matches!(video(&self.body), Ok(Video::Frame { .. })),
            TagKind::Audio => matches!(audio(&self.body), Ok(Audio::Frame(_))),
            TagKind::Data => false,
        }
    }
}

/// A video body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Video {
    /// An `AVCDecoderConfigurationRecord`.
    Config(Bytes),
    /// One access unit in length-prefixed NAL units.
    Frame {
        /// The encoder says that it is a key frame.
        keyframe: bool,
        /// Presentation less decode time in milliseconds, signed 24 bits.
        composition: i32,
        /// The NAL units.
        data: Bytes,
    },
    /// The end of a sequence, a command frame, or nothing.
    Other,
}

/// Reads a video body.
///
/// # Errors
/// [`FlvError`].
pub fn video(body: &Bytes) -> Result<Video, FlvError> {
    let Some(&first) = body.first() else {
        return Ok(Video::Other);
    };
    if first & 0x80 != 0 {
        return Err(FlvError::Codec(format!("{} video", fourcc(body))));
    }
    let frame_type = first >> 4;
    if frame_type == 5 {
        return Ok(Video::Other);
    }
    match first & 0x0f {
        7 => {}
        2 => return Err(FlvError::Codec("Sorenson H.263 video".into())),
        4 | 5 => return Err(FlvError::Codec("VP6 video".into())),
        12 => return Err(FlvError::Codec("HEVC video in the unofficial form".into())),
        other => return Err(FlvError::Codec(format!("FLV video codec {other}"))),
    }
    if body.len() < 5 {
        return Err(FlvError::Broken("a video body shorter than its header"));
    }
    let data = body.slice(5..);
    Ok(match body[1] {
        0 => Video::Config(data),
        1 if !data.is_empty() => Video::Frame {
            keyframe: frame_type == 1,
            composition: i32::from_be_bytes([body[2], body[3], body[4], 0]) >> 8,
            data,
        },
        _ => Video::Other,
    })
}

/// An audio body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audio {
    /// An `AudioSpecificConfig`.
    Config(Bytes),
    /// One raw access unit.
    Frame(Bytes),
    /// Nothing.
    Other,
}

/// Reads an audio body.
///
/// # Errors
/// [`FlvError::Codec`].
pub fn audio(body: &Bytes) -> Result<Audio, FlvError> {
    let Some(&first) = body.first() else {
        return Ok(Audio::Other);
    };
    match first >> 4 {
        10 => {}
        9 => return Err(FlvError::Codec(format!("{} audio", fourcc(body)))),
        2 | 14 => return Err(FlvError::Codec("MP3 audio".into())),
        11 => return Err(FlvError::Codec("Speex audio".into())),
        other => return Err(FlvError::Codec(format!("FLV audio codec {other}"))),
    }
    if body.len() <= 2 {
        return Ok(Audio::Other);
    }
    let data = body.slice(2..);
    Ok(match body[1] {
        0 => Audio::Config(data),
        1 => Audio::Frame(data),
        _ => Audio::Other,
    })
}

/// The FourCC of an Enhanced RTMP body, for a message to the user.
fn fourcc(body: &[u8]) -> String {
    body.get(1..5)
        .filter(|b| b.iter().all(u8::is_ascii_graphic))
        .map_or_else(
            || "Enhanced RTMP".to_owned(),
            |b| b.iter().map(|c| char::from(*c)).collect(),
        )
}

/// Reads a whole FLV file. What is cut short at its end is left out.
///
/// # Errors
/// [`FlvError::Broken`] when it is no FLV file.
pub fn file(mut bytes: Bytes) -> Result<Vec<Tag>, FlvError> {
    if bytes.len() < 13 || bytes[..3] != *b"FLV" {
        return Err(FlvError::Broken("no FLV header"));
    }
    let header = usize::try_from(u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]))
        .unwrap_or(usize::MAX);
    if header.saturating_add(4) > bytes.len() {
        return Err(FlvError::Broken("a header longer than the file"));
    }
    bytes.advance(header + 4);
    let mut tags = Vec::new();
    while bytes.len() >= 11 {
        let kind = TagKind::from_byte(bytes[0] & 0x1f);
        let size = usize::from(bytes[1]) << 16 | usize::from(bytes[2]) << 8 | usize::from(bytes[3]);
        let timestamp = u32::from_be_bytes([bytes[7], bytes[4], bytes[5], bytes[6]]);
        if bytes.len() < 11 + size {
            break;
        }
        bytes.advance(11);
        let body = bytes.split_to(size);
        bytes.advance(bytes.len().min(4));
        if let Some(kind) = kind {
            tags.push(Tag {
                kind,
                timestamp,
                body,
            });
        }
    }
    Ok(tags)
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
            video(&body).unwrap(),
            Video::Frame {
                keyframe: true,
                composition: -40,
                data: Bytes::from_static(&[0])
            }
        );
    }

    #[test]
    fn a_codec_that_is_not_taken_is_named() {
        let hevc = Bytes::from_static(b"\x90hvc1rest");
        assert_eq!(
            video(&hevc).unwrap_err().to_string(),
            "hvc1 video is not taken. Publish H.264 video and AAC audio"
        );
        assert!(audio(&Bytes::from_static(b"\x90Opus")).is_err());
        assert!(audio(&Bytes::from_static(&[0x2f, 1])).is_err());
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
            let _ = (video(&body), audio(&body));
            if flv && bytes.len() > 13 {
                bytes[..3].copy_from_slice(b"FLV");
                bytes[5..9].copy_from_slice(&[0, 0, 0, 9]);
            }
            if let Ok(tags) = file(Bytes::from(bytes))
                && let Ok(looped) = Looped::new(tags)
            {
                prop_assert!(looped.take(100).count() <= 100);
            }
        }
    }
}
