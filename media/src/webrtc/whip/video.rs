//! A publisher's pictures, as [`Reader`] takes them.
use bytes::{BufMut, Bytes, BytesMut};
use routing::model::{Codec, TrackDetail};

use crate::{codec::reader::Reader, origin::Config};

/// A picture, with the configuration that it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Picture {
    pub(super) config: Option<Config>,
    pub(super) keyframe: bool,
    pub(super) data: Bytes,
}

/// Reads one layer's pictures.
#[derive(Debug)]
pub(super) struct Video {
    reader: Reader,
    config: Option<Config>,
}

impl Video {
    /// `None` for a codec that is not taken.
    pub(super) const fn new(codec: str0m::format::Codec) -> Option<Self> {
        use str0m::format::Codec as Rtp;
        let codec = match codec {
            Rtp::H264 => Codec::H264,
            Rtp::Vp8 => Codec::Vp8,
            Rtp::Vp9 => Codec::Vp9,
            Rtp::Av1 => Codec::Av1,
            _ => return None,
        };
        Some(Self {
            reader: Reader::new(codec),
            config: None,
        })
    }

    /// A picture; `None` where it is broken, or cannot be decoded yet.
    pub(super) fn read(&mut self, data: &[u8], keyframe: bool) -> Option<Picture> {
        let data = match self.reader.codec() {
            Codec::H264 => with_lengths(data),
            _ => Bytes::copy_from_slice(data),
        };
        let unit = self.reader.unit(&data, keyframe).ok()?;
        if unit.config.is_some() {
            self.config.clone_from(&unit.config);
        }
        self.config.as_ref()?;
        (!unit.data.is_empty()).then_some(Picture {
            config: unit.config,
            keyframe: unit.keyframe,
            data: unit.data,
        })
    }

    /// The configuration that holds now.
    pub(super) fn config(&self) -> Option<Config> {
        self.config.clone()
    }

    /// Pixels of a picture.
    pub(super) fn pixels(&self) -> u64 {
        match self.config.as_ref().map(|c| &c.summary.detail) {
            Some(TrackDetail::Video { width, height, .. }) => {
                u64::from(*width) * u64::from(*height)
            }
            _ => 0,
        }
    }
}

/// NAL units after start codes (ISO/IEC 14496-10 annex B) as NAL units with four-byte lengths.
fn with_lengths(data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 16);
    let mut rest = data;
    let mut begun = false;
    loop {
        let next = rest.windows(3).position(|w| w == [0, 0, 1]);
        let nal = &rest[..next.unwrap_or(rest.len())];
        // A start code of four bytes has its first zero here; a NAL unit never ends in one.
        let end = nal.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        if begun && end > 0 {
            out.put_u32(u32::try_from(end).unwrap_or(u32::MAX));
            out.put_slice(&nal[..end]);
        }
        let Some(at) = next else { return out.freeze() };
        rest = &rest[at + 3..];
        begun = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_become_lengths() {
        let annex_b = [
            0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 3, 3,
        ];
        let expected = [
            0, 0, 0, 2, 0x67, 1, 0, 0, 0, 2, 0x68, 2, 0, 0, 0, 3, 0x65, 3, 3,
        ];
        assert_eq!(with_lengths(&annex_b), expected[..]);
        assert!(with_lengths(&[1, 2, 3]).is_empty());
    }
}
