//! AAC: what an `AudioSpecificConfig` (ISO/IEC 14496-3 1.6.2.1) says.
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary};

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

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn read(&mut self, n: usize) -> Result<u32, AacError> {
        let mut value = 0;
        for _ in 0..n {
            let byte = self.bytes.get(self.at / 8).ok_or(AacError)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    fn object_type(&mut self) -> Result<u8, AacError> {
        let short = self.read(5)?;
        let object = if short == 31 {
            32 + self.read(6)?
        } else {
            short
        };
        u8::try_from(object).map_err(|_| AacError)
    }

    fn rate(&mut self) -> Result<u32, AacError> {
        let index = self.read(4)?;
        if index == 15 {
            return self.read(24);
        }
        usize::try_from(index)
            .ok()
            .and_then(|i| RATES.get(i))
            .copied()
            .ok_or(AacError)
    }
}

/// Reads an `AudioSpecificConfig` of AAC Main, LC, SSR or LTP, with or without SBR and PS.
///
/// # Errors
/// [`AacError`].
pub fn config(bytes: &[u8]) -> Result<AudioConfig, AacError> {
    let mut bits = Bits { bytes, at: 0 };
    let object_type = bits.object_type()?;
    let sample_rate = bits.rate()?;
    let channel_config = bits.read(4)?;
    let mut core = object_type;
    if matches!(object_type, 5 | 29) {
        bits.rate()?;
        core = bits.object_type()?;
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
        object_type,
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
