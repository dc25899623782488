//! A publisher's pictures, as [`Reader`] takes them.
use bytes::Bytes;
use routing::model::{Codec, TrackDetail};

use crate::{
    codec::{annex_b::with_lengths, reader::Reader},
    origin::Config,
};

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
            Codec::H264 => with_lengths(data, |_| true),
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
