//! FLAC (RFC 9639): what the `STREAMINFO` block says.
use bytes::Bytes;
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary};

use super::bits::{Bits, NoBits};

/// The `STREAMINFO` block is missing, broken, or of a kind that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the FLAC stream information is missing, broken, or has blocks of different sizes")]
pub struct FlacError;

impl From<NoBits> for FlacError {
    fn from(_: NoBits) -> Self {
        Self
    }
}

/// What `STREAMINFO` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioConfig {
    /// The block, 34 bytes.
    pub block: Bytes,
    /// Samples of a frame.
    pub frame_samples: u32,
    /// In hertz.
    pub sample_rate: u32,
    /// 1 to 8.
    pub channels: u8,
}

impl AudioConfig {
    /// Bytes of the block.
    pub const LEN: usize = 34;

    /// Reads the block alone, or behind the mark `fLaC` and its block header (RFC 9639 6, 8.1).
    ///
    /// # Errors
    /// [`FlacError`].
    pub fn read(data: &Bytes) -> Result<Self, FlacError> {
        let start = match data.strip_prefix(b"fLaC") {
            // The first block is STREAMINFO, type 0.
            Some([kind, ..]) if kind & 0x7f == 0 => 8,
            Some(_) => return Err(FlacError),
            None => 0,
        };
        if data.len() < start + Self::LEN {
            return Err(FlacError);
        }
        let block = data.slice(start..start + Self::LEN);
        let mut bits = Bits::new(&block);
        let (least, most) = (bits.read(16)?, bits.read(16)?);
        bits.skip(48)?;
        let sample_rate = bits.read(20)?;
        let channels = bits.small(3)? + 1;
        // Sound is counted in frames of one length; only the last of a file may be shorter.
        if least != most || most < 16 || sample_rate == 0 {
            return Err(FlacError);
        }
        Ok(Self {
            block,
            frame_samples: most,
            sample_rate,
            channels,
        })
    }

    /// The track in short.
    #[must_use]
    pub fn summary(&self) -> TrackSummary {
        TrackSummary {
            kind: TrackKind::Audio,
            codec: Codec::Flac,
            codec_string: "fLaC".into(),
            bitrate: BitsPerSecond(0),
            detail: TrackDetail::Audio {
                sample_rate: self.sample_rate,
                channels: self.channels,
            },
        }
    }
}
