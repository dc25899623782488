//! VP8 (RFC 6386) and VP9 ("VP9 Bitstream & Decoding Process Specification"): what a keyframe's header says, and the
//! `VPCodecConfigurationRecord` ("VP Codec ISO Media File Format Binding") that it makes. Neither codec has a
//! configuration of its own.
use bytes::Bytes;
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary};

use super::bits::{Bits, NoBits};

/// What a keyframe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyframe {
    codec: Codec,
    /// The bitstream's profile, 0 to 3.
    pub profile: u8,
    /// Bits of a sample.
    pub depth: u8,
    /// `chromaSubsampling` of the record.
    pub chroma: u8,
    /// Whether samples use their whole range.
    pub full_range: bool,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl Keyframe {
    /// Reads a frame of VP8 (RFC 6386 9.1); `None` where it is no keyframe, or broken.
    #[must_use]
    pub fn vp8(frame: &[u8]) -> Option<Self> {
        let head = frame.first_chunk::<10>()?;
        if head[0] & 1 != 0 || head[3..6] != [0x9d, 0x01, 0x2a] {
            return None;
        }
        let size = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
        Some(Self {
            codec: Codec::Vp8,
            profile: head[0] >> 1 & 3,
            depth: 8,
            chroma: 1,
            full_range: false,
            width: size(head[6], head[7]),
            height: size(head[8], head[9]),
        })
        .filter(Self::has_size)
    }

    /// Reads a frame or superframe of VP9 (6.2); `None` where it is no keyframe, or broken.
    #[must_use]
    pub fn vp9(frame: &[u8]) -> Option<Self> {
        read_vp9(frame).ok().flatten().filter(Self::has_size)
    }

    const fn has_size(&self) -> bool {
        self.width > 0 && self.height > 0
    }

    /// The lowest level that has its picture size (annex A); rates are not known here. VP8 has no levels.
    fn level(&self) -> u8 {
        const SIZES: [(u64, u8); 9] = [
            (36_864, 10),
            (73_728, 11),
            (122_880, 20),
            (245_760, 21),
            (552_960, 30),
            (983_040, 31),
            (2_228_224, 40),
            (8_912_896, 50),
            (35_651_584, 60),
        ];
        let pixels = u64::from(self.width) * u64::from(self.height);
        let fits = SIZES.iter().find(|(most, _)| pixels <= *most);
        match self.codec {
            Codec::Vp8 => 0,
            _ => fits.map_or(62, |(_, level)| *level),
        }
    }

    /// The record, as in [`crate::codec`].
    #[must_use]
    pub fn record(&self) -> Bytes {
        let sample = self.depth << 4 | self.chroma << 1 | u8::from(self.full_range);
        // Colours are not told: "unspecified" is 2. No initialisation data.
        Bytes::copy_from_slice(&[self.profile, self.level(), sample, 2, 2, 2, 0, 0])
    }

    /// The track in short.
    #[must_use]
    pub fn summary(&self, rate: Option<(u32, u32)>) -> TrackSummary {
        let name = if self.codec == Codec::Vp8 {
            "vp08"
        } else {
            "vp09"
        };
        TrackSummary {
            kind: TrackKind::Video,
            codec: self.codec,
            codec_string: format!(
                "{name}.{:02}.{:02}.{:02}",
                self.profile,
                self.level(),
                self.depth
            ),
            bitrate: BitsPerSecond(0),
            detail: TrackDetail::Video {
                width: self.width,
                height: self.height,
                rate: rate.unwrap_or((0, 1)),
            },
        }
    }
}

fn read_vp9(frame: &[u8]) -> Result<Option<Keyframe>, NoBits> {
    let mut bits = Bits::new(frame);
    if bits.read(2)? != 2 {
        return Ok(None);
    }
    let profile = bits.small(1)? | bits.small(1)? << 1;
    if profile == 3 {
        bits.bit()?;
    }
    let (shown_again, inter) = (bits.flag()?, bits.flag()?);
    bits.skip(2)?;
    if shown_again || inter || bits.read(24)? != 0x0049_8342 {
        return Ok(None);
    }
    let depth = match profile >= 2 {
        true if bits.flag()? => 12,
        true => 10,
        false => 8,
    };
    let (mut chroma, mut full_range) = (1, true);
    if bits.read(3)? == 7 {
        // RGB.
        chroma = 3;
        bits.skip(u32::from(profile & 1))?;
    } else {
        full_range = bits.flag()?;
        if profile & 1 == 1 {
            chroma = match (bits.flag()?, bits.flag()?) {
                (true, true) => 1,
                (true, false) => 2,
                _ => 3,
            };
            bits.bit()?;
        }
    }
    let (width, height) = (bits.read(16)? + 1, bits.read(16)? + 1);
    Ok(Some(Keyframe {
        codec: Codec::Vp9,
        profile,
        depth,
        chroma,
        full_range,
        width,
        height,
    }))
}
