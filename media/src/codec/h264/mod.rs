//! H.264 (ISO/IEC 14496-10) as far as a relay needs it: what a sequence parameter set says, access units taken apart
//! and put together, `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 5.3.3.1) read and written.
//!
//! Its own sequence parameter set reader, since h264-reader refuses what many encoders send (a level too low for the
//! picture size, stray bytes after the set) and what is needed here is the first half of the set and the timing.
//!
//! # What a keyframe is
//! An access unit with an IDR slice; or one that the encoder flags as a keyframe and that has a recovery point message,
//! as open groups of pictures and intra refresh have. The flag alone is not believed: a plain I picture can be
//! followed by pictures that refer to what was before it.
mod sps;

use bytes::{BufMut, Bytes, BytesMut};
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary};

pub use self::sps::{Sps, frame_rate};
use super::{
    bits::NoBits,
    nal::{self, BrokenUnit, Verdict, take, take_sets},
};

/// Why video data was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum H264Error {
    /// The decoder configuration record is broken, or has no parameter sets.
    #[error("the H.264 configuration record is broken or has no parameter sets")]
    Config,
    /// A sequence parameter set is broken.
    #[error("the H.264 sequence parameter set is broken")]
    Sps,
    /// The NAL unit lengths do not fill the access unit.
    #[error(transparent)]
    Unit(#[from] BrokenUnit),
}

impl From<NoBits> for H264Error {
    fn from(_: NoBits) -> Self {
        Self::Sps
    }
}

/// Parameter sets that one record may have of each kind: the format's own limit for sequence sets.
const MAX_SETS: usize = 31;
/// The longest set that a record can have, in bytes.
const MAX_SET: usize = 0xffff;

/// A decoder configuration: its parameter sets, and how long the NAL units' lengths are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoConfig {
    /// Bytes of a NAL unit's length: 1, 2 or 4.
    pub length_size: usize,
    /// Sequence parameter sets, NAL headers included; at least one.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets, NAL headers included.
    pub pps: Vec<Bytes>,
    /// What the first sequence parameter set says.
    pub first: Sps,
}

impl VideoConfig {
    /// Reads an `AVCDecoderConfigurationRecord`.
    ///
    /// # Errors
    /// [`H264Error::Config`] or [`H264Error::Sps`].
    pub fn read(record: &Bytes) -> Result<Self, H264Error> {
        let head = record.first_chunk::<5>().ok_or(H264Error::Config)?;
        let length_size = usize::from(head[4] & 3) + 1;
        if head[0] != 1 || length_size == 3 {
            return Err(H264Error::Config);
        }
        let mut rest = record.slice(5..);
        let mut sets = |mask: u8| {
            let count = take(&mut rest, 1)?[0] & mask;
            take_sets(&mut rest, usize::from(count))
        };
        let sps = sets(0x1f).ok_or(H264Error::Config)?;
        let pps = sets(0xff).ok_or(H264Error::Config)?;
        Self::of(length_size, sps, pps)
    }

    /// A configuration of these sets.
    ///
    /// # Errors
    /// [`H264Error::Config`] without sets or with too many or too long ones, [`H264Error::Sps`] when the first cannot be read.
    pub fn of(length_size: usize, sps: Vec<Bytes>, pps: Vec<Bytes>) -> Result<Self, H264Error> {
        let first = Sps::read(sps.first().ok_or(H264Error::Config)?)?;
        if pps.is_empty() || sps.len() > MAX_SETS || pps.len() > MAX_SETS {
            return Err(H264Error::Config);
        }
        // The record has two bytes for a set's length; a set within an access unit has four.
        if sps.iter().chain(&pps).any(|s| s.len() > MAX_SET) {
            return Err(H264Error::Config);
        }
        Ok(Self {
            length_size,
            sps,
            pps,
            first,
        })
    }

    /// The record, for NAL units with lengths of four bytes.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(1);
        out.put_slice(&self.first.profile);
        out.put_u8(0xff);
        for (flags, sets) in [(0xe0, &self.sps), (0, &self.pps)] {
            out.put_u8(flags | u8::try_from(sets.len()).unwrap_or(31));
            for set in sets {
                out.put_u16(u16::try_from(set.len()).unwrap_or(u16::MAX));
                out.put_slice(set);
            }
        }
        if matches!(self.first.profile[0], 100 | 110 | 122 | 144 | 244) {
            let [format, luma, chroma] = self.first.chroma;
            out.put_slice(&[0xfc | format, 0xf8 | luma, 0xf8 | chroma, 0]);
        }
        out.freeze()
    }

    /// The track in short; `rate` where the first set's is not the one to show.
    #[must_use]
    pub fn summary(&self, rate: Option<(u32, u32)>) -> TrackSummary {
        let [profile, flags, level] = self.first.profile;
        TrackSummary {
            kind: TrackKind::Video,
            codec: Codec::H264,
            codec_string: format!("avc1.{profile:02x}{flags:02x}{level:02x}"),
            bitrate: BitsPerSecond(0),
            detail: TrackDetail::Video {
                width: self.first.width,
                height: self.first.height,
                rate: rate.or(self.first.rate).unwrap_or((0, 1)),
            },
        }
    }
}

/// An access unit, cleaned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// NAL units with lengths of four bytes; no parameter sets, delimiters, end marks or filler. Empty when nothing
    /// is left.
    pub data: Bytes,
    /// Whether it has an IDR slice.
    pub idr: bool,
    /// Whether it has a recovery point message.
    pub recovery: bool,
    /// Sequence parameter sets that were in it.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets that were in it.
    pub pps: Vec<Bytes>,
}

impl AccessUnit {
    /// Takes an access unit of NAL units with lengths of `length_size` bytes apart. Its bytes are shared where nothing
    /// has to go, copied where something has.
    ///
    /// # Errors
    /// [`H264Error::Unit`].
    pub fn read(unit: &Bytes, length_size: usize) -> Result<Self, H264Error> {
        let mut this = Self {
            data: Bytes::new(),
            idr: false,
            recovery: false,
            sps: Vec::new(),
            pps: Vec::new(),
        };
        this.data = nal::clean(unit, length_size, |nal| {
            match nal.first().map_or(0, |header| header & 0x1f) {
                7 if this.sps.len() < MAX_SETS => this.sps.push(nal),
                8 if this.pps.len() < MAX_SETS => this.pps.push(nal),
                7..=13 => {}
                kind => {
                    this.idr |= kind == 5;
                    this.recovery |= kind == 6 && has_recovery_point(&nal[1..]);
                    return Verdict::Keep;
                }
            }
            Verdict::Drop
        })?;
        Ok(this)
    }
}

/// Whether a supplemental enhancement message (7.3.2.3.1) has a payload of type 6. Escaped bytes inside payloads can
/// hide a later one: encoders put the recovery point first.
fn has_recovery_point(mut sei: &[u8]) -> bool {
    let number = |sei: &mut &[u8]| {
        let mut n = 0usize;
        loop {
            let (first, rest) = sei.split_first()?;
            *sei = rest;
            n += usize::from(*first);
            if *first != 255 {
                return Some(n);
            }
        }
    };
    while sei.len() > 2 {
        let (Some(kind), Some(size)) = (number(&mut sei), number(&mut sei)) else {
            return false;
        };
        if kind == 6 {
            return true;
        }
        sei = sei.get(size..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// x264, 640x360, 30/1, High 3.0.
    const SPS: &[u8] = &[
        0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03,
        0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
    ];
    const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

    fn config() -> VideoConfig {
        VideoConfig::of(
            4,
            vec![Bytes::from_static(SPS)],
            vec![Bytes::from_static(PPS)],
        )
        .unwrap()
    }

    fn unit(nals: &[&[u8]], length_size: usize) -> Bytes {
        let mut out = Vec::new();
        for nal in nals {
            out.extend(&u32::try_from(nal.len()).unwrap().to_be_bytes()[4 - length_size..]);
            out.extend(*nal);
        }
        out.into()
    }

    #[test]
    fn a_sequence_parameter_set_gives_size_rate_and_codec_string() {
        let config = config();
        assert_eq!((config.first.width, config.first.height), (640, 360));
        assert_eq!(config.first.rate, Some((30, 1)));
        let summary = config.summary(None);
        assert_eq!(summary.codec_string, "avc1.64001e");
        assert_eq!(VideoConfig::read(&config.write()).unwrap(), config);
    }

    #[test]
    fn a_set_that_no_record_can_have_is_refused() {
        let long = |len| {
            let pps = [PPS, &vec![0xff; len - PPS.len()]].concat();
            VideoConfig::of(4, vec![Bytes::from_static(SPS)], vec![pps.into()])
        };
        let fits = long(0xffff).unwrap();
        assert_eq!(VideoConfig::read(&fits.write()).unwrap(), fits);
        assert_eq!(long(0x1_0000), Err(H264Error::Config));
    }

    #[test]
    fn an_access_unit_is_shared_or_cleaned() {
        let plain = unit(&[&[0x06, 5, 1, 0, 0x80], &[0x41, 9]], 4);
        let read = AccessUnit::read(&plain, 4).unwrap();
        assert_eq!(read.data.as_ptr(), plain.as_ptr());
        assert!(!read.idr && !read.recovery);

        let full = unit(&[&[9, 0xf0], SPS, PPS, &[0x65, 1], &[12, 0xff]], 2);
        let read = AccessUnit::read(&full, 2).unwrap();
        assert_eq!(read.data, unit(&[&[0x65, 1]], 4));
        assert!(read.idr);
        assert_eq!((read.sps, read.pps), (config().sps, config().pps));

        let open = unit(&[&[0x06, 6, 1, 0xc4, 0x80], &[0x41, 1]], 4);
        assert!(AccessUnit::read(&open, 4).unwrap().recovery);
        assert_eq!(
            AccessUnit::read(&Bytes::from_static(&[0, 0, 0, 9, 1]), 4),
            Err(H264Error::Unit(BrokenUnit))
        );
    }

    #[test]
    fn rates_are_in_lowest_terms_and_plausible() {
        assert_eq!(frame_rate(60_000, 2002), Some((30_000, 1001)));
        assert_eq!(frame_rate(1000, 1), None);
        assert_eq!(frame_rate(0, 0), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in prop::sample::select(vec![1usize, 2, 4])) {
            let bytes = Bytes::from(bytes);
            let _ = (Sps::read(&bytes), VideoConfig::read(&bytes));
            if let Ok(read) = AccessUnit::read(&bytes, size) {
                prop_assert!(read.data.len() <= bytes.len() * 4);
            }
        }

        #[test]
        fn mutated_sets_never_panic(at in 0usize..26, to: u8, cut in 1usize..26) {
            let mut set = SPS.to_vec();
            set[at] = to;
            let _ = Sps::read(&set);
            let _ = Sps::read(&set[..cut]);
        }
    }
}
