//! Byte streams of NAL units (ISO/IEC 14496-10 Annex B, ISO/IEC 23008-2 Annex B).
use bytes::{BufMut, Bytes, BytesMut};

/// Where the next start code stands.
fn start_code(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(three) = bytes.get(at..at + 3) {
        match three {
            [0, 0, 1] => return Some(at),
            [_, _, third] if *third > 1 => at += 3,
            _ => at += 1,
        }
    }
    None
}

/// The NAL units of a byte stream that `keep` wants by their first byte, each with its length in four bytes.
pub(crate) fn with_lengths(stream: &[u8], keep: impl Fn(u8) -> bool) -> Bytes {
    let mut out = BytesMut::with_capacity(stream.len() + 32);
    let mut rest = start_code(stream).map_or(&[][..], |at| &stream[at + 3..]);
    while !rest.is_empty() {
        let (unit, after) = match start_code(rest) {
            Some(at) => (&rest[..at], &rest[at + 3..]),
            None => (rest, &[][..]),
        };
        rest = after;
        // A unit ends in a bit that is set; zeros after it are the start code's or filler.
        let len = unit
            .iter()
            .rposition(|b| *b != 0)
            .map_or(0, |last| last + 1);
        if let (Some(first), Ok(size)) = (unit[..len].first(), u32::try_from(len))
            && keep(*first)
        {
            out.put_u32(size);
            out.put_slice(&unit[..len]);
        }
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_found_between_start_codes_of_both_lengths() {
        let stream = [
            0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 1, 0, 2, 0, 0, 0, 0, 1, 0x41, 3, 0, 0,
        ];
        let all = with_lengths(&stream, |_| true);
        let units = [
            0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 4, 0x65, 1, 0, 2, 0, 0, 0, 2, 0x41, 3,
        ];
        assert_eq!(all[..], units);
        assert_eq!(with_lengths(&stream, |b| b & 0x1f != 9)[..], units[6..]);
        assert!(with_lengths(&[0, 0, 2, 1], |_| true).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(units in prop::collection::vec(prop::collection::vec(1u8.., 1..40), 0..6)) {
            let lengths: Vec<u8> = units.iter().flat_map(|u| {
                let mut unit = u32::try_from(u.len()).unwrap().to_be_bytes().to_vec();
                unit.extend(u);
                unit
            }).collect();
            let mut stream = Vec::new();
            crate::pack::codec::annex_b(&lengths, &mut stream);
            prop_assert_eq!(&with_lengths(&stream, |_| true)[..], &lengths[..]);
        }
    }
}
