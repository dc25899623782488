//! AV1: OBUs in a temporal unit, what a sequence header says, `AV1CodecConfigurationRecord` ("AV1 Codec ISO Media File
//! Format Binding" 2.3) read and written. Sections are those of the AV1 bitstream specification.
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary};

use super::{
    bits::{Bits, NoBits},
    h264::frame_rate,
};

/// Why video data was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Av1Error {
    /// The configuration record is broken or has no sequence header.
    #[error("the AV1 configuration record is broken or has no sequence header")]
    Config,
    /// The sequence header is broken.
    #[error("the AV1 sequence header is broken")]
    Sequence,
    /// The OBUs' sizes do not fill the temporal unit.
    #[error("the AV1 temporal unit is broken: its OBUs' sizes do not fill it")]
    Unit,
}

impl From<NoBits> for Av1Error {
    fn from(_: NoBits) -> Self {
        Self::Sequence
    }
}

/// OBU types (6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

/// What a sequence header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// `seq_profile`.
    pub profile: u8,
    /// `seq_level_idx[0]`.
    pub level: u8,
    /// `seq_tier[0]`.
    pub tier: bool,
    /// Bits of a sample.
    pub depth: u8,
    /// Whether there is no colour.
    pub monochrome: bool,
    /// Whether chroma has half the samples across, and down.
    pub subsampling: (bool, bool),
    /// Largest picture, across.
    pub width: u32,
    /// Largest picture, down.
    pub height: u32,
    /// Pictures a second, where it says so.
    pub rate: Option<(u32, u32)>,
}

impl Sequence {
    /// Reads a sequence header OBU's payload (5.5).
    ///
    /// # Errors
    /// [`Av1Error::Sequence`].
    pub fn read(payload: &[u8]) -> Result<Self, Av1Error> {
        let mut bits = Bits::new(payload);
        let profile = bits.small(3)?;
        bits.bit()?;
        let reduced = bits.flag()?;
        let (mut level, mut tier, mut rate) = (0, false, None);
        if reduced {
            level = bits.small(5)?;
        } else {
            let mut delay_bits = None;
            if bits.flag()? {
                let (units, scale) = (bits.read(32)?, bits.read(32)?);
                if bits.flag()? {
                    let ticks = bits.ue()?.saturating_add(1);
                    rate = frame_rate(u64::from(scale), u64::from(units) * u64::from(ticks));
                }
                if bits.flag()? {
                    delay_bits = Some(bits.read(5)? + 1);
                    bits.skip(32 + 5 + 5)?;
                }
            }
            let display_delays = bits.flag()?;
            for point in 0..=bits.read(5)? {
                bits.skip(12)?;
                let its_level = bits.small(5)?;
                let its_tier = its_level > 7 && bits.flag()?;
                if point == 0 {
                    (level, tier) = (its_level, its_tier);
                }
                if let Some(n) = delay_bits
                    && bits.flag()?
                {
                    bits.skip(2 * n + 1)?;
                }
                if display_delays && bits.flag()? {
                    bits.skip(4)?;
                }
            }
        }
        let (across, down) = (bits.read(4)? + 1, bits.read(4)? + 1);
        let (width, height) = (bits.read(across)? + 1, bits.read(down)? + 1);
        if !reduced && bits.flag()? {
            bits.skip(7)?;
        }
        bits.skip(3)?;
        if !reduced {
            tools(&mut bits)?;
        }
        bits.skip(3)?;
        let (depth, monochrome, subsampling) = colour(&mut bits, profile)?;
        Ok(Self {
            profile,
            level,
            tier,
            depth,
            monochrome,
            subsampling,
            width,
            height,
            rate,
        })
    }

    /// The RFC 6381 string ("Codecs Parameter String" of the binding).
    #[must_use]
    pub fn codec_string(&self) -> String {
        format!(
            "av01.{}.{:02}{}.{:02}",
            self.profile,
            self.level,
            if self.tier { 'H' } else { 'M' },
            self.depth
        )
    }
}

/// The tools between the frame ids and super-resolution, passed over.
fn tools(bits: &mut Bits<'_>) -> Result<(), NoBits> {
    bits.skip(4)?;
    let order_hint = bits.flag()?;
    if order_hint {
        bits.skip(2)?;
    }
    let screen_content = bits.flag()? || bits.flag()?;
    if screen_content && !bits.flag()? {
        bits.bit()?;
    }
    if order_hint {
        bits.skip(3)?;
    }
    Ok(())
}

/// Depth, absence of colour, subsampling (5.5.2).
fn colour(bits: &mut Bits<'_>, profile: u8) -> Result<(u8, bool, (bool, bool)), NoBits> {
    let high = bits.flag()?;
    let twelve = profile == 2 && high && bits.flag()?;
    let depth = match (high, twelve) {
        (_, true) => 12,
        (true, _) => 10,
        _ => 8,
    };
    let monochrome = profile != 1 && bits.flag()?;
    // Unspecified where it does not say.
    let described = if bits.flag()? {
        bits.read(24)?
    } else {
        0x0002_0202
    };
    if monochrome {
        return Ok((depth, true, (true, true)));
    }
    // BT.709 primaries, sRGB transfer, identity matrix: RGB, which is never subsampled.
    if described == 0x0001_0d00 {
        return Ok((depth, false, (false, false)));
    }
    bits.bit()?;
    let subsampling = match profile {
        0 => (true, true),
        1 => (false, false),
        _ if depth == 12 => {
            let across = bits.flag()?;
            (across, across && bits.flag()?)
        }
        _ => (true, false),
    };
    Ok((depth, false, subsampling))
}

/// An OBU: its type, its whole, its payload.
struct Obu {
    kind: u8,
    whole: Range<usize>,
    payload: Range<usize>,
}

/// The OBU at `at`. One without a size goes to the end (5.3.1).
fn obu(unit: &[u8], at: usize) -> Option<Obu> {
    let header = *unit.get(at)?;
    let mut start = at + 1 + usize::from(header >> 2 & 1);
    let mut size = 0;
    if header & 2 == 0 {
        size = unit.len().checked_sub(start)?;
    } else {
        // leb128 (4.10.5); sizes beyond 32 bits are not.
        for i in 0.. {
            let byte = *unit.get(start)?;
            start += 1;
            size |= usize::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                break;
            }
            if i == 3 {
                return None;
            }
        }
    }
    let end = start.checked_add(size).filter(|end| *end <= unit.len())?;
    Some(Obu {
        kind: header >> 3 & 0xf,
        whole: at..end,
        payload: start..end,
    })
}

/// A decoder configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoConfig {
    /// What the sequence header says.
    pub sequence: Sequence,
    /// The sequence header OBU, with its size.
    pub obu: Bytes,
}

impl VideoConfig {
    /// Reads an `AV1CodecConfigurationRecord`.
    ///
    /// # Errors
    /// [`Av1Error::Config`] or [`Av1Error::Sequence`].
    pub fn read(record: &Bytes) -> Result<Self, Av1Error> {
        if record.len() < 4 || record[0] != 0x81 {
            return Err(Av1Error::Config);
        }
        TemporalUnit::read(&record.slice(4..))?
            .config
            .ok_or(Av1Error::Config)
    }

    /// The record.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let s = &self.sequence;
        let bit = |flag: bool, at: u8| u8::from(flag) << at;
        let mut out = BytesMut::new();
        out.put_slice(&[
            0x81,
            s.profile << 5 | s.level,
            bit(s.tier, 7)
                | bit(s.depth > 8, 6)
                | bit(s.depth == 12, 5)
                | bit(s.monochrome, 4)
                | bit(s.subsampling.0, 3)
                | bit(s.subsampling.1, 2),
            0,
        ]);
        out.put_slice(&self.obu);
        out.freeze()
    }

    /// The track in short.
    #[must_use]
    pub fn summary(&self, rate: Option<(u32, u32)>) -> TrackSummary {
        TrackSummary {
            kind: TrackKind::Video,
            codec: Codec::Av1,
            codec_string: self.sequence.codec_string(),
            bitrate: BitsPerSecond(0),
            detail: TrackDetail::Video {
                width: self.sequence.width,
                height: self.sequence.height,
                rate: rate.or(self.sequence.rate).unwrap_or((0, 1)),
            },
        }
    }
}

/// A temporal unit, cleaned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemporalUnit {
    /// OBUs with sizes; no temporal delimiter, tile list or padding.
    pub data: Bytes,
    /// The configuration that its sequence header makes.
    pub config: Option<VideoConfig>,
}

impl TemporalUnit {
    /// Takes a temporal unit of OBUs apart; the last may be without a size.
    ///
    /// # Errors
    /// [`Av1Error::Unit`], [`Av1Error::Sequence`].
    pub fn read(unit: &Bytes) -> Result<Self, Av1Error> {
        let mut this = Self::default();
        let mut out = BytesMut::with_capacity(unit.len());
        let mut at = 0;
        while at < unit.len() {
            let Obu {
                kind,
                whole,
                payload,
            } = obu(unit, at).ok_or(Av1Error::Unit)?;
            at = whole.end;
            let start = out.len();
            match kind {
                TEMPORAL_DELIMITER | TILE_LIST | PADDING => continue,
                _ if unit[whole.start] & 2 != 0 => out.put_slice(&unit[whole]),
                _ => {
                    let body = unit.get(whole.start + 1..payload.start);
                    out.put_u8(unit[whole.start] | 2);
                    out.put_slice(body.unwrap_or_default());
                    let mut size = payload.len();
                    while size > 0x7f {
                        out.put_u8(u8::try_from(size & 0x7f).unwrap_or(0) | 0x80);
                        size >>= 7;
                    }
                    out.put_u8(u8::try_from(size).unwrap_or(0));
                    out.put_slice(&unit[payload.clone()]);
                }
            }
            if kind == SEQUENCE_HEADER && this.config.is_none() {
                this.config = Some(VideoConfig {
                    sequence: Sequence::read(&unit[payload])?,
                    obu: Bytes::copy_from_slice(&out[start..]),
                });
            }
        }
        this.data = if out.len() == unit.len() {
            unit.clone()
        } else {
            out.freeze()
        };
        Ok(this)
    }
}
