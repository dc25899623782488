//! MPEG-TS (ISO/IEC 13818-1) read: any bytes in, access units out.
//!
//! ```text
//! bytes ─ demux ─ tables ─ pes ── Event ── feed ─ annex_b, frames, sounds ── Packet, Config ── Origin
//! ```
//! [`Demuxer`] finds packets and puts PES packets together; [`Feed`] takes their access units apart for
//! [`Origin`](crate::origin::Origin). Neither has I/O or a clock.
//!
//! # Invariants
//! - The bytes can be cut anywhere, begin anywhere, and have holes: what a hole damaged is left out, the rest is read.
//! - Tables may come, change and go at any time. The first program that has pictures or sound is read.
//! - At most [`MAX_HELD`] bytes of unfinished PES packets are held, whatever arrives.
mod demux;
mod feed;
mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod pes;
mod sounds;
mod tables;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub(crate) use self::tables::crc32;
pub use self::{demux::Demuxer, feed::Feed};

/// Bytes of a transport packet.
pub(crate) const PACKET: usize = 188;
/// Bytes of unfinished PES packets held at most, all elementary streams together. A PES packet that does not fit any
/// more is left out.
pub const MAX_HELD: usize = 8 << 20;

/// What an elementary stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// H.264 in Annex B form.
    H264,
    /// HEVC in Annex B form.
    Hevc,
    /// AAC with ADTS headers.
    Adts,
    /// MPEG-1 or MPEG-2 audio, layer II or III.
    MpegAudio,
    /// AC-3 or E-AC-3.
    Ac3,
    /// Opus with control headers, and how many channels the table says.
    Opus(u8),
    /// Something that is not taken, by its `stream_type`.
    Other(u8),
}

impl Format {
    /// Whether it codes pictures.
    #[must_use]
    pub const fn is_video(self) -> bool {
        matches!(self, Self::H264 | Self::Hevc)
    }

    /// Whether it codes sound.
    #[must_use]
    pub const fn is_audio(self) -> bool {
        !self.is_video() && !matches!(self, Self::Other(_))
    }
}

/// An elementary stream of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its packets' number.
    pub pid: u16,
    /// What it carries.
    pub format: Format,
}

/// A whole PES packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pes {
    /// Of which elementary stream.
    pub pid: u16,
    /// Presentation time, 33 bits of 90 kHz.
    pub pts: Option<u64>,
    /// Decode time, likewise; that of presentation where it says no other.
    pub dts: Option<u64>,
    /// The multiplexer says that decoding can start here.
    pub random_access: bool,
    /// Bytes of this stream were lost before it.
    pub after_loss: bool,
    /// What it carries.
    pub data: Bytes,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The program's elementary streams: these, from now on.
    Streams(Vec<Stream>),
    /// One of them goes on.
    Pes(Pes),
}
