//! NAL units with lengths before them, as records and live frames of H.264 and HEVC have them.
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

/// The lengths do not fill the access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access unit is broken: its NAL units' lengths do not fill it")]
pub struct BrokenUnit;

/// What becomes of a NAL unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays in the frame.
    Keep,
    /// It goes: a delimiter, filler, or a parameter set that was noted.
    Drop,
}

/// Shows every NAL unit, which are not empty, to `judge` and gives those that stay, with lengths of four bytes. The bytes are shared where nothing
/// has to go, copied where something has.
pub(super) fn clean(
    unit: &Bytes,
    length_size: usize,
    mut judge: impl FnMut(Bytes) -> Verdict,
) -> Result<Bytes, BrokenUnit> {
    let mut keep: Vec<Range<usize>> = Vec::new();
    let mut same = length_size == 4;
    let mut at = 0;
    while at < unit.len() {
        let length = unit
            .get(at..at + length_size)
            .ok_or(BrokenUnit)?
            .iter()
            .fold(0usize, |n, b| n << 8 | usize::from(*b));
        let start = at + length_size;
        let end = start.checked_add(length).ok_or(BrokenUnit)?;
        if end > unit.len() {
            return Err(BrokenUnit);
        }
        at = end;
        if length > 0 && judge(unit.slice(start..end)) == Verdict::Keep {
            keep.push(start..end);
        } else {
            same = false;
        }
    }
    if same {
        return Ok(unit.clone());
    }
    let mut out = BytesMut::with_capacity(unit.len() + keep.len() * 4);
    for nal in keep {
        out.put_u32(u32::try_from(nal.len()).map_err(|_| BrokenUnit)?);
        out.put_slice(&unit[nal]);
    }
    Ok(out.freeze())
}

/// Takes `n` bytes off the front.
pub(super) fn take(bytes: &mut Bytes, n: usize) -> Option<Bytes> {
    (n <= bytes.len()).then(|| bytes.split_to(n))
}

/// Takes a number of two bytes off the front.
pub(super) fn take_u16(bytes: &mut Bytes) -> Option<u16> {
    let two = take(bytes, 2)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

/// Takes sets, each with a length of two bytes, off the front; an empty one is an error.
pub(super) fn take_sets(bytes: &mut Bytes, count: usize) -> Option<Vec<Bytes>> {
    let mut set = || {
        let len = take_u16(bytes)?;
        take(bytes, usize::from(len)).filter(|set| !set.is_empty())
    };
    (0..count).map(|_| set()).collect()
}
