//! AAC: what an `AudioSpecificConfig` (ISO/IEC 14496-3 1.6.2.1) says.
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary};

use super::bits::{Bits, NoBits};

/// Why a configuration was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the AAC configuration is broken or of a kind that is not taken")]
pub struct AacError;

const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// What a configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioConfig {
    /// The audio object type of the signal: 2 is LC, 5 HE-AAC (with SBR), 29 HE-AAC v2 (with PS).
    pub object_type: u8,
    /// Samples a second of the core coder: what [`AudioConfig::frame_samples`] counts. Under HE-AAC half of what is
    /// heard.
    pub sample_rate: u32,
    /// Channels of the core coder; 2 where a program config element says more than the header.
    pub channels: u8,
    /// Samples of one access unit: 1024, or 960.
    pub frame_samples: u32,
}

impl From<NoBits> for AacError {
    fn from(_: NoBits) -> Self {
        Self
    }
}

fn object_type(bits: &mut Bits<'_>) -> Result<u8, AacError> {
    let short = bits.small(5)?;
    Ok(if short == 31 {
        32 + bits.small(6)?
    } else {
        short
    })
}

fn rate(bits: &mut Bits<'_>) -> Result<u32, AacError> {
    let index = bits.small(4)?;
    if index == 15 {
        return Ok(bits.read(24)?);
    }
    RATES.get(usize::from(index)).copied().ok_or(AacError)
}

/// Reads an `AudioSpecificConfig` of AAC Main, LC, SSR or LTP, with or without SBR and PS.
///
/// # Errors
/// [`AacError`].
pub fn config(bytes: &[u8]) -> Result<AudioConfig, AacError> {
    let mut bits = Bits::new(bytes);
    let kind = object_type(&mut bits)?;
    let sample_rate = rate(&mut bits)?;
    let channel_config = bits.read(4)?;
    let mut core = kind;
    if matches!(kind, 5 | 29) {
        rate(&mut bits)?;
        core = object_type(&mut bits)?;
    }
    if !(1..=4).contains(&core) || !(7_000..=96_000).contains(&sample_rate) {
        return Err(AacError);
    }
    let short_frames = bits.read(1)? == 1;
    let channels = match channel_config {
        0 => 2,
        7 => 8,
        n @ 1..=6 => u8::try_from(n).map_err(|_| AacError)?,
        _ => return Err(AacError),
    };
    Ok(AudioConfig {
        object_type: kind,
        sample_rate,
        channels,
        frame_samples: if short_frames { 960 } else { 1024 },
    })
}

impl AudioConfig {
    /// The track in short.
    #[must_use]
    pub fn summary(&self) -> TrackSummary {
        TrackSummary {
            kind: TrackKind::Audio,
            codec: Codec::Aac,
            codec_string: format!("mp4a.40.{}", self.object_type),
            bitrate: BitsPerSecond(0),
            detail: TrackDetail::Audio {
                sample_rate: self.sample_rate,
                channels: self.channels,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn common_configurations_are_read() {
        let lc = config(&[0x12, 0x10]).unwrap();
        assert_eq!(
            (
                lc.object_type,
                lc.sample_rate,
                lc.channels,
                lc.frame_samples
            ),
            (2, 44_100, 2, 1024)
        );
        assert_eq!(lc.summary().codec_string, "mp4a.40.2");
        // 960 samples a frame: the bit after the channels.
        assert_eq!(config(&[0x11, 0x94]).unwrap().frame_samples, 960);
        // HE-AAC: SBR over LC, 22.05 kHz core, 44.1 kHz heard.
        let he = config(&[0x2b, 0x92, 0x08, 0x00]).unwrap();
        assert_eq!(
            (he.object_type, he.sample_rate, he.channels),
            (5, 22_050, 2)
        );
        assert_eq!(he.summary().codec_string, "mp4a.40.5");
        assert_eq!(config(&[0x12]), Err(AacError));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            if let Ok(c) = config(&bytes) {
                prop_assert!(c.sample_rate >= 7_000 && c.channels > 0);
            }
        }
    }
}
