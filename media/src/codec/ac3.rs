//! AC-3 and Enhanced AC-3 (ETSI TS 102 366): what a sync frame says, and the contents of `dac3` and `dec3` (annex F).
use bytes::Bytes;
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary};

use super::bits::{Bits, NoBits};

/// What a sync frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncFrame {
    /// [`Codec::Ac3`] or [`Codec::Eac3`].
    pub codec: Codec,
    /// In hertz.
    pub sample_rate: u32,
    /// Channels, the low-frequency one included.
    pub channels: u8,
    /// Samples of the frame.
    pub samples: u32,
    /// The frame's length in bytes.
    pub length: usize,
    /// Whether it adds to the frame before it, and has no time of its own.
    pub dependent: bool,
    codes: Codes,
}

/// What the boxes repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Codes {
    rate: u8,
    stream_id: u8,
    mode: u8,
    channel_mode: u8,
    low_frequency: bool,
    bit_rate: u8,
}

/// Channels by `acmod` (table 4.3).
const CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];
const RATES: [u32; 3] = [48_000, 44_100, 32_000];

impl SyncFrame {
    /// Bytes that are enough to read one by.
    pub const HEAD: usize = 8;

    /// Reads the sync frame that `data` begins with; `None` where there is none.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<Self> {
        let rest = data.strip_prefix(&[0x0b, 0x77])?;
        // `bsid` stands at the same place in both: 11 to 16 is E-AC-3.
        match data.get(5)? >> 3 {
            0..=10 => ac3(rest).ok().flatten(),
            11..=16 => eac3(rest).ok().flatten(),
            _ => None,
        }
    }

    /// Contents of the `dac3` or `dec3` box.
    #[must_use]
    pub fn record(&self) -> Bytes {
        let c = self.codes;
        let low = u32::from(c.low_frequency);
        let [rate, id, mode, channels] =
            [c.rate, c.stream_id, c.mode, c.channel_mode].map(u32::from);
        if self.codec == Codec::Ac3 {
            let bits = rate << 22 | id << 17 | mode << 14 | channels << 11 | low << 10;
            let [_, b @ ..] = (bits | u32::from(c.bit_rate) << 5).to_be_bytes();
            return Bytes::copy_from_slice(&b);
        }
        // One independent substream. The data rate is in kilobits.
        let head = u16::try_from(self.bitrate() / 1000)
            .unwrap_or(0x1fff)
            .min(0x1fff)
            << 3;
        let stream = rate << 22 | id << 17 | mode << 12 | channels << 9 | low << 8;
        let [_, b @ ..] = stream.to_be_bytes();
        let [h0, h1] = head.to_be_bytes();
        Bytes::copy_from_slice(&[h0, h1, b[0], b[1], b[2]])
    }

    fn bitrate(&self) -> u64 {
        self.length as u64 * 8 * u64::from(self.sample_rate) / u64::from(self.samples.max(1))
    }

    /// The track in short.
    #[must_use]
    pub fn summary(&self) -> TrackSummary {
        let name = if self.codec == Codec::Ac3 {
            "ac-3"
        } else {
            "ec-3"
        };
        TrackSummary {
            kind: TrackKind::Audio,
            codec: self.codec,
            codec_string: name.into(),
            bitrate: BitsPerSecond(self.bitrate()),
            detail: TrackDetail::Audio {
                sample_rate: self.sample_rate,
                channels: self.channels,
            },
        }
    }
}

/// After the sync word: 4.4.1.1, 4.4.2.
fn ac3(rest: &[u8]) -> Result<Option<SyncFrame>, NoBits> {
    const KILOBITS: [u32; 19] = [
        32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
    ];
    let mut bits = Bits::new(rest);
    bits.skip(16)?;
    let (rate, size) = (bits.small(2)?, bits.small(6)?);
    let (stream_id, mode, channel_mode) = (bits.small(5)?, bits.small(3)?, bits.small(3)?);
    if channel_mode & 1 == 1 && channel_mode != 1 {
        bits.skip(2)?;
    }
    if channel_mode & 4 != 0 {
        bits.skip(2)?;
    }
    if channel_mode == 2 {
        bits.skip(2)?;
    }
    let low_frequency = bits.flag()?;
    let (Some(sample_rate), Some(kilobits)) = (
        RATES.get(usize::from(rate)).copied(),
        KILOBITS.get(usize::from(size >> 1)).copied(),
    ) else {
        return Ok(None);
    };
    // In words of two bytes; at 44.1 kHz they do not come out even.
    let odd = if rate == 1 { u32::from(size & 1) } else { 0 };
    let words = kilobits * 96_000 / sample_rate + odd;
    // Above 8, each adds a halving of the rate.
    let sample_rate = sample_rate >> stream_id.saturating_sub(8);
    Ok(Some(SyncFrame {
        codec: Codec::Ac3,
        sample_rate,
        channels: CHANNELS[usize::from(channel_mode)] + u8::from(low_frequency),
        samples: 1536,
        length: usize::try_from(words * 2).unwrap_or(0),
        dependent: false,
        codes: Codes {
            rate,
            stream_id,
            mode,
            channel_mode,
            low_frequency,
            bit_rate: size >> 1,
        },
    }))
}

/// After the sync word: annex E.1.2.
fn eac3(rest: &[u8]) -> Result<Option<SyncFrame>, NoBits> {
    let mut bits = Bits::new(rest);
    let (kind, substream) = (bits.small(2)?, bits.small(3)?);
    let words = bits.read(11)? + 1;
    let rate = bits.small(2)?;
    let (sample_rate, blocks) = if rate == 3 {
        // Half the rate, always six blocks.
        (RATES.get(usize::from(bits.small(2)?)).map(|r| r / 2), 6)
    } else {
        let blocks = [1, 2, 3, 6][usize::from(bits.small(2)?)];
        (RATES.get(usize::from(rate)).copied(), blocks)
    };
    let channel_mode = bits.small(3)?;
    let low_frequency = bits.flag()?;
    let stream_id = bits.small(5)?;
    let Some(sample_rate) = sample_rate.filter(|_| kind != 3) else {
        return Ok(None);
    };
    Ok(Some(SyncFrame {
        codec: Codec::Eac3,
        sample_rate,
        channels: CHANNELS[usize::from(channel_mode)] + u8::from(low_frequency),
        samples: 256 * blocks,
        length: usize::try_from(words * 2).unwrap_or(0),
        dependent: kind == 1 || substream > 0,
        codes: Codes {
            rate,
            stream_id,
            mode: 0,
            channel_mode,
            low_frequency,
            bit_rate: 0,
        },
    }))
}
