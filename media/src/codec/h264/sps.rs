//! What a sequence parameter set says (ISO/IEC 14496-10 7.3.2.1.1).
use super::{
    super::bits::{Bits, NoBits},
    H264Error,
};

/// What a sequence parameter set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`, the constraint flags and `level_idc`, as they stand in the codec string.
    pub profile: [u8; 3],
    /// Pixels shown, across.
    pub width: u32,
    /// Pixels shown, down.
    pub height: u32,
    /// Pictures a second as numerator and denominator, where it says so plausibly.
    pub rate: Option<(u32, u32)>,
    /// `chroma_format_idc` and both bit depths less 8: what a high profile's record ends with.
    pub chroma: [u8; 3],
}

impl Sps {
    /// Reads a NAL unit of type 7, its header byte included.
    ///
    /// # Errors
    /// [`H264Error::Sps`].
    pub fn read(nal: &[u8]) -> Result<Self, H264Error> {
        let profile = *nal
            .get(1..)
            .and_then(|b| b.first_chunk::<3>())
            .ok_or(H264Error::Sps)?;
        let mut bits = Bits::of_nal(nal.get(4..).ok_or(H264Error::Sps)?);
        bits.ue()?;
        let (mut chroma_format, mut luma_depth, mut chroma_depth) = (1, 0, 0);
        if has_chroma(profile[0]) {
            chroma_format = bits.ue()?;
            if chroma_format == 3 {
                bits.bit()?;
            }
            luma_depth = bits.ue()?;
            chroma_depth = bits.ue()?;
            bits.bit()?;
            if bits.flag()? {
                for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if bits.flag()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        if chroma_format > 3 || luma_depth > 6 || chroma_depth > 6 {
            return Err(H264Error::Sps);
        }
        bits.ue()?;
        match bits.ue()? {
            0 => {
                bits.ue()?;
            }
            1 => {
                bits.bit()?;
                bits.se()?;
                bits.se()?;
                let cycle = bits.ue()?;
                if cycle > 255 {
                    return Err(H264Error::Sps);
                }
                for _ in 0..cycle {
                    bits.se()?;
                }
            }
            _ => {}
        }
        bits.ue()?;
        bits.bit()?;
        let (across, down) = (bits.ue()?, bits.ue()?);
        if across >= 1024 || down >= 1024 {
            return Err(H264Error::Sps);
        }
        let fields = if bits.flag()? { 1 } else { 2 };
        if fields == 2 {
            bits.bit()?;
        }
        bits.bit()?;
        let (mut width, mut height) = ((across + 1) * 16, (down + 1) * 16 * fields);
        if bits.flag()? {
            let crop = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?];
            let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
            let unit_y = if chroma_format == 1 { 2 } else { 1 } * fields;
            let cut = |a: u32, b: u32, unit: u32| a.checked_add(b)?.checked_mul(unit);
            width = cut(crop[0], crop[1], unit_x)
                .and_then(|c| width.checked_sub(c))
                .ok_or(H264Error::Sps)?;
            height = cut(crop[2], crop[3], unit_y)
                .and_then(|c| height.checked_sub(c))
                .ok_or(H264Error::Sps)?;
        }
        let byte = |n: u32| u8::try_from(n).unwrap_or(0);
        Ok(Self {
            profile,
            width,
            height,
            // A set that ends here, or breaks off in what follows, is good all the same.
            rate: timing(&mut bits).ok().flatten(),
            chroma: [byte(chroma_format), byte(luma_depth), byte(chroma_depth)],
        })
    }
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Result<(), NoBits> {
    let (mut last, mut next) = (8_i64, 8);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.se()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Ok(())
}

/// The profiles whose sets say chroma format and bit depths (7.3.2.1.1).
const fn has_chroma(profile: u8) -> bool {
    matches!(
        profile,
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
    )
}

/// The timing of the VUI (annex E.1.1), from the flag that says whether there is a VUI.
fn timing(bits: &mut Bits<'_>) -> Result<Option<(u32, u32)>, NoBits> {
    if !bits.flag()? {
        return Ok(None);
    }
    if bits.flag()? && bits.read(8)? == 255 {
        bits.read(32)?;
    }
    if bits.flag()? {
        bits.bit()?;
    }
    if bits.flag()? {
        bits.read(4)?;
        if bits.flag()? {
            bits.read(24)?;
        }
    }
    if bits.flag()? {
        bits.ue()?;
        bits.ue()?;
    }
    if !bits.flag()? {
        return Ok(None);
    }
    let (units, scale) = (bits.read(32)?, bits.read(32)?);
    Ok(frame_rate(u64::from(scale), u64::from(units) * 2))
}

/// A rate in lowest terms, where it is between 1 and 240 pictures a second.
#[must_use]
pub fn frame_rate(numerator: u64, denominator: u64) -> Option<(u32, u32)> {
    if denominator == 0 || !(denominator..=denominator.saturating_mul(240)).contains(&numerator) {
        return None;
    }
    let (mut a, mut b) = (numerator, denominator);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Some((
        u32::try_from(numerator / a).ok()?,
        u32::try_from(denominator / a).ok()?,
    ))
}
