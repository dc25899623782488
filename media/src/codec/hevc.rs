//! HEVC (ISO/IEC 23008-2): what a sequence parameter set says, access units taken apart,
//! `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 8.3.3.1) read and written.
//!
//! A keyframe is an intra random access point: instantaneous, broken-link or clean. Pictures that lead the last of these
//! in presentation and refer to what was before it are left out by decoders that start there.
use bytes::{BufMut, Bytes, BytesMut};
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary};

use super::{
    bits::{Bits, NoBits},
    nal::{self, BrokenUnit, Verdict, take, take_sets, take_u16},
};

/// Why video data was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HevcError {
    /// The decoder configuration record is broken, or lacks a parameter set.
    #[error("the HEVC configuration record is broken or lacks a parameter set")]
    Config,
    /// A sequence parameter set is broken.
    #[error("the HEVC sequence parameter set is broken")]
    Sps,
    /// The NAL unit lengths do not fill the access unit.
    #[error(transparent)]
    Unit(#[from] BrokenUnit),
}

impl From<NoBits> for HevcError {
    fn from(_: NoBits) -> Self {
        Self::Sps
    }
}

/// `VPS_NUT`, `SPS_NUT`, `PPS_NUT` (table 7-1).
const SETS: [u8; 3] = [32, 33, 34];
/// Parameter sets of each kind: more than the 16, 16 and 64 ids that a stream may use at a time at no level is needed.
const MAX_SETS: usize = 64;

fn kind(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header >> 1 & 0x3f)
}

/// What a sequence parameter set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sps {
    /// Profile space, tier and profile; 32 compatibility flags; 48 constraint flags; level: as they stand in a record.
    pub profile: [u8; 12],
    /// Temporal layers, and whether they nest.
    pub layers: (u8, bool),
    /// `chroma_format_idc` and both bit depths less 8.
    pub chroma: [u8; 3],
    /// Pixels shown, across.
    pub width: u32,
    /// Pixels shown, down.
    pub height: u32,
}

impl Sps {
    /// Reads a NAL unit of type 33, its header of two bytes included (7.3.2.2.1).
    ///
    /// # Errors
    /// [`HevcError::Sps`].
    pub fn read(nal: &[u8]) -> Result<Self, HevcError> {
        let mut bits = Bits::of_nal(nal.get(2..).ok_or(HevcError::Sps)?);
        bits.skip(4)?;
        let more_layers = bits.read(3)?;
        let nested = bits.flag()?;
        let mut profile = [0; 12];
        for byte in &mut profile {
            *byte = bits.small(8)?;
        }
        sub_layers(&mut bits, more_layers)?;
        bits.ue()?;
        let chroma_format = bits.ue()?;
        let separate = chroma_format == 3 && bits.flag()?;
        let (mut width, mut height) = (bits.ue()?, bits.ue()?);
        if bits.flag()? {
            let crop = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?];
            let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
            let unit_y = if chroma_format == 1 { 2 } else { 1 };
            let cut = |size: u32, a: u32, b: u32, unit: u32| {
                size.checked_sub(a.checked_add(b)?.checked_mul(unit)?)
            };
            width = cut(width, crop[0], crop[1], unit_x).ok_or(HevcError::Sps)?;
            height = cut(height, crop[2], crop[3], unit_y).ok_or(HevcError::Sps)?;
        }
        let (luma, chroma) = (bits.ue()?, bits.ue()?);
        let plausible = (1..=16_384).contains(&width) && (1..=16_384).contains(&height);
        if !plausible || chroma_format > 3 || luma > 8 || chroma > 8 {
            return Err(HevcError::Sps);
        }
        let byte = |n: u32| u8::try_from(n).unwrap_or(0);
        Ok(Self {
            profile,
            layers: (byte(more_layers + 1), nested),
            chroma: [
                if separate { 0 } else { byte(chroma_format) },
                byte(luma),
                byte(chroma),
            ],
            width,
            height,
        })
    }

    /// The RFC 6381 string (ISO/IEC 14496-15 annex E.3).
    #[must_use]
    pub fn codec_string(&self) -> String {
        let [first, c0, c1, c2, c3, constraints @ .., level] = self.profile;
        let space = ["", "A", "B", "C"][usize::from(first >> 6)];
        let tier = if first >> 5 & 1 == 1 { 'H' } else { 'L' };
        let compatible = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
        let mut text = format!("hvc1.{space}{}.{compatible:X}.{tier}{level}", first & 0x1f);
        let last = constraints.iter().rposition(|b| *b != 0);
        for byte in constraints.iter().take(last.map_or(0, |last| last + 1)) {
            text.push_str(&format!(".{byte:X}"));
        }
        text
    }
}

/// What a profile says of temporal layers below the highest (7.3.3), passed over.
fn sub_layers(bits: &mut Bits<'_>, more: u32) -> Result<(), NoBits> {
    let mut present = Vec::new();
    for _ in 0..more {
        present.push((bits.flag()?, bits.flag()?));
    }
    if more > 0 {
        bits.skip(2 * (8 - more))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 })?;
        bits.skip(if level { 8 } else { 0 })?;
    }
    Ok(())
}

/// A decoder configuration: its parameter sets, and how long the NAL units' lengths are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoConfig {
    /// Bytes of a NAL unit's length: 1, 2 or 4.
    pub length_size: usize,
    /// Video, sequence and picture parameter sets, NAL headers included; at least one each.
    pub sets: [Vec<Bytes>; 3],
    /// What the first sequence parameter set says.
    pub first: Sps,
}

impl VideoConfig {
    /// Reads an `HEVCDecoderConfigurationRecord`.
    ///
    /// # Errors
    /// [`HevcError::Config`] or [`HevcError::Sps`].
    pub fn read(record: &Bytes) -> Result<Self, HevcError> {
        Self::sets_of(record)
            .ok_or(HevcError::Config)
            .and_then(|(length_size, sets)| Self::of(length_size, sets))
    }

    fn sets_of(record: &Bytes) -> Option<(usize, [Vec<Bytes>; 3])> {
        let mut rest = record.clone();
        let head = take(&mut rest, 23)?;
        let length_size = usize::from(head[21] & 3) + 1;
        if head[0] != 1 || length_size == 3 {
            return None;
        }
        let mut sets: [Vec<Bytes>; 3] = Default::default();
        for _ in 0..head[22] {
            let kind = take(&mut rest, 1)?[0] & 0x3f;
            let count = take_u16(&mut rest)?;
            let more = take_sets(&mut rest, usize::from(count))?;
            if let Some(place) = SETS.iter().position(|k| *k == kind) {
                sets[place].extend(more);
            }
        }
        Some((length_size, sets))
    }

    /// A configuration of these sets.
    ///
    /// # Errors
    /// [`HevcError::Config`] where a kind is missing, or has too many or too long ones; [`HevcError::Sps`] when the first
    /// sequence parameter set cannot be read.
    pub fn of(length_size: usize, sets: [Vec<Bytes>; 3]) -> Result<Self, HevcError> {
        let fits = |sets: &Vec<Bytes>| {
            (1..=MAX_SETS).contains(&sets.len())
                && sets.iter().all(|s| s.len() <= usize::from(u16::MAX))
        };
        let first = match (sets.iter().all(fits), sets[1].first()) {
            (true, Some(sps)) => Sps::read(sps)?,
            _ => return Err(HevcError::Config),
        };
        Ok(Self {
            length_size,
            sets,
            first,
        })
    }

    /// The record, for NAL units with lengths of four bytes.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let Sps {
            profile,
            layers: (layers, nested),
            chroma: [format, luma, chroma],
            ..
        } = self.first;
        let mut out = BytesMut::new();
        out.put_u8(1);
        out.put_slice(&profile);
        // No word of spatial segments, parallelism or a constant rate.
        out.put_slice(&[
            0xf0,
            0,
            0xfc,
            0xfc | format,
            0xf8 | luma,
            0xf8 | chroma,
            0,
            0,
        ]);
        out.put_u8((layers & 7) << 3 | u8::from(nested) << 2 | 3);
        out.put_u8(3);
        for (kind, sets) in SETS.iter().zip(&self.sets) {
            // All sets of the kind are here.
            out.put_u8(0x80 | kind);
            out.put_u16(u16::try_from(sets.len()).unwrap_or(u16::MAX));
            for set in sets {
                out.put_u16(u16::try_from(set.len()).unwrap_or(u16::MAX));
                out.put_slice(set);
            }
        }
        out.freeze()
    }

    /// The track in short.
    #[must_use]
    pub fn summary(&self, rate: Option<(u32, u32)>) -> TrackSummary {
        TrackSummary {
            kind: TrackKind::Video,
            codec: Codec::Hevc,
            codec_string: self.first.codec_string(),
            bitrate: BitsPerSecond(0),
            detail: TrackDetail::Video {
                width: self.first.width,
                height: self.first.height,
                rate: rate.unwrap_or((0, 1)),
            },
        }
    }
}

/// An access unit, cleaned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessUnit {
    /// NAL units with lengths of four bytes; no parameter sets, delimiters, end marks or filler. Empty when nothing
    /// is left.
    pub data: Bytes,
    /// Whether it is an intra random access point.
    pub keyframe: bool,
    /// Video, sequence and picture parameter sets that were in it.
    pub sets: [Vec<Bytes>; 3],
}

impl AccessUnit {
    /// Takes an access unit of NAL units with lengths of `length_size` bytes apart.
    ///
    /// # Errors
    /// [`HevcError::Unit`].
    pub fn read(unit: &Bytes, length_size: usize) -> Result<Self, HevcError> {
        let mut this = Self::default();
        this.data = nal::clean(unit, length_size, |nal| match kind(&nal) {
            kind @ 32..=34 => {
                let sets = &mut this.sets[usize::from(kind - 32)];
                if sets.len() < MAX_SETS {
                    sets.push(nal);
                }
                Verdict::Drop
            }
            // Delimiters, end marks, filler.
            35..=38 => Verdict::Drop,
            kind => {
                this.keyframe |= (16..=23).contains(&kind);
                Verdict::Keep
            }
        })?;
        Ok(this)
    }
}
