//! What MPEG-TS needs of the codecs' own configurations: parameter sets, ADTS headers, Annex B.
//!
//! Both readers take what a publisher sent: they return `None` for anything that is not as the standards say.
use bytes::Bytes;
use mp4_atom::{Atom, Avcc};

use crate::codec::{bits::Bits, hevc};

/// The parameter sets of an `AVCDecoderConfigurationRecord` in Annex B form, sequence parameter sets first.
#[must_use]
pub fn parameter_sets(record: &[u8]) -> Option<Bytes> {
    let avcc = Avcc::decode_body(&mut &record[..]).ok()?;
    let mut out = Vec::new();
    for set in avcc
        .sequence_parameter_sets
        .iter()
        .chain(&avcc.picture_parameter_sets)
    {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(set);
    }
    (!out.is_empty()).then(|| out.into())
}

/// The parameter sets of an `HEVCDecoderConfigurationRecord` in Annex B form: video, sequence, picture.
#[must_use]
pub fn hevc_parameter_sets(record: &Bytes) -> Option<Bytes> {
    let config = hevc::VideoConfig::read(record).ok()?;
    let mut out = Vec::new();
    for set in config.sets.iter().flatten() {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(set);
    }
    Some(out.into())
}

/// Appends NAL units with four-byte lengths to `out` in Annex B form. What follows a length that points beyond the end
/// is left out.
pub fn annex_b(mut units: &[u8], out: &mut Vec<u8>) {
    while let Some((len, rest)) = units.split_first_chunk::<4>() {
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        let Some((unit, rest)) = rest.split_at_checked(len) else {
            return;
        };
        if !unit.is_empty() {
            out.extend_from_slice(&[0, 0, 0, 1]);
            out.extend_from_slice(unit);
        }
        units = rest;
    }
}

/// What an ADTS header says (ISO/IEC 13818-7 6.2), read from an `AudioSpecificConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adts {
    profile: u8,
    frequency: u8,
    channels: u8,
}

impl Adts {
    /// An ADTS header's length without a checksum, in bytes.
    pub const LEN: usize = 7;

    /// Reads an `AudioSpecificConfig` (ISO/IEC 14496-3 1.6.2.1). With explicit SBR or PS signalling the core's values
    /// count. `None` for object types and sampling rates that ADTS cannot say.
    #[must_use]
    pub fn read(config: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(config);
        let mut take = |n| bits.small(n).ok();
        let mut object = take(5)?;
        let frequency = take(4)?;
        let channels = take(4)?;
        if object == 5 || object == 29 {
            if take(4)? == 15 {
                for _ in 0..3 {
                    take(8)?;
                }
            }
            object = take(5)?;
        }
        ((1..=4).contains(&object) && frequency < 13 && (1..8).contains(&channels)).then_some(())?;
        Some(Self {
            profile: object - 1,
            frequency,
            channels,
        })
    }

    /// The header of an access unit of `len` bytes; `None` beyond 8,184 bytes, which no AAC frame has.
    #[must_use]
    pub fn header(self, len: usize) -> Option<[u8; Self::LEN]> {
        let len = u16::try_from(len + Self::LEN)
            .ok()
            .filter(|l| *l < 1 << 13)?;
        let low = |v: u16| v.to_be_bytes()[1];
        Some([
            0xff,
            0xf1,
            self.profile << 6 | self.frequency << 2 | self.channels >> 2,
            // Two bits of channels, four of nothing, the two highest of the length.
            (self.channels & 3) << 6 | low(len >> 11),
            low(len >> 3),
            low(len << 5) | 0x1f,
            0xfc,
        ])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn adts_says_what_the_configuration_says() {
        // AAC-LC, 48 kHz, stereo; a frame of 249 bytes.
        let header = Adts::read(&[0x11, 0x90]).unwrap().header(249).unwrap();
        assert_eq!(header, [0xff, 0xf1, 0x4c, 0x80, 0x20, 0x1f, 0xfc]);
        // HE-AAC with its extension told: the core is AAC-LC at 24 kHz.
        let he = Adts::read(&[0x2b, 0x11, 0x88, 0x00]).unwrap();
        assert_eq!((he.profile, he.frequency, he.channels), (1, 6, 2));
        assert_eq!(Adts::read(&[0x11, 0x90]).unwrap().header(9_000), None);
    }

    proptest! {
        #[test]
        fn no_bytes_end_the_process(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Adts::read(&data);
            let _ = parameter_sets(&data);
            let mut out = Vec::new();
            annex_b(&data, &mut out);
            prop_assert!(out.len() <= data.len());
        }
    }
}
