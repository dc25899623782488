//! Opus (RFC 6716): the identification header (RFC 7845 5.1), and how long a packet lasts.
use bytes::{BufMut, Bytes, BytesMut};
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary};

/// Opus counts time at this rate, whatever rate was put in.
pub const SAMPLE_RATE: u32 = 48_000;
/// The decoder needs so much of the past before what it gives is right (RFC 7845 4.6).
pub const PRE_ROLL_SAMPLES: u32 = 3_840;

/// The identification header is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Opus identification header is broken")]
pub struct OpusError;

/// What an identification header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioConfig {
    /// Channels put out, 1 to 255.
    pub channels: u8,
    /// Samples at 48 kHz to leave out at the start.
    pub pre_skip: u16,
    /// The rate that was put in, for information; 0 when unknown.
    pub input_rate: u32,
    /// In dB times 256.
    pub gain: i16,
    /// The channel mapping family, and its table where the family is not 0: streams, coupled streams, a byte a channel.
    pub mapping: (u8, Bytes),
}

impl AudioConfig {
    /// The header of a stream of one or two channels.
    #[must_use]
    pub const fn plain(channels: u8, pre_skip: u16) -> Self {
        Self {
            channels,
            pre_skip,
            input_rate: SAMPLE_RATE,
            gain: 0,
            mapping: (0, Bytes::new()),
        }
    }

    /// Reads an identification header, which begins with `OpusHead`.
    ///
    /// # Errors
    /// [`OpusError`].
    pub fn read(header: &Bytes) -> Result<Self, OpusError> {
        let head = header.first_chunk::<19>().ok_or(OpusError)?;
        let (channels, family) = (head[9], head[18]);
        let table = match family {
            0 => 0,
            _ => 2 + usize::from(channels),
        };
        let plausible = head[..8] == *b"OpusHead"
            && head[8] < 16
            && channels > 0
            && (family > 0 || channels < 3)
            && header.len() >= 19 + table;
        plausible.then_some(()).ok_or(OpusError)?;
        Ok(Self {
            channels,
            pre_skip: u16::from_le_bytes([head[10], head[11]]),
            input_rate: u32::from_le_bytes([head[12], head[13], head[14], head[15]]),
            gain: i16::from_le_bytes([head[16], head[17]]),
            mapping: (family, header.slice(19..19 + table)),
        })
    }

    /// The identification header.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(19 + self.mapping.1.len());
        out.put_slice(b"OpusHead");
        out.put_slice(&[1, self.channels]);
        out.put_u16_le(self.pre_skip);
        out.put_u32_le(self.input_rate);
        out.put_i16_le(self.gain);
        out.put_u8(self.mapping.0);
        out.put_slice(&self.mapping.1);
        out.freeze()
    }

    /// The track in short.
    #[must_use]
    pub fn summary(&self) -> TrackSummary {
        TrackSummary {
            kind: TrackKind::Audio,
            codec: Codec::Opus,
            codec_string: "opus".into(),
            bitrate: BitsPerSecond(0),
            detail: TrackDetail::Audio {
                sample_rate: SAMPLE_RATE,
                channels: self.channels,
            },
        }
    }
}

/// How many samples at 48 kHz a packet lasts (RFC 6716 3.1, 3.2); `None` for an empty one, one that breaks off, or one
/// of more than 120 ms.
#[must_use]
pub fn samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        // SILK: 10, 20, 40, 60 ms.
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        // Hybrid: 10, 20 ms.
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        // CELT: 2.5, 5, 10, 20 ms.
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    Some(frame * count).filter(|samples| (1..=5760).contains(samples))
}
