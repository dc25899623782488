//! The origin: settles time and stamps the cut rule, once, before frames enter the live model.
//!
//! ```text
//! FLV tags ─ Feed ─ Packet, Config ─ Origin ─ Output (epoch, group, frame) ─ Writer ─ live::Broadcast, Holders
//! ```
//! [`Origin`] and [`Feed`] have no I/O and no clock: arrival times come with the packets, and every decision is made
//! on a packet, by media time, so there is no timer either. [`Writer`] gives the outputs their epoch's id and numbers
//! and writes them into the model.
//!
//! # Time
//! - A packet's times are ticks of 90 kHz, which is a multiple of every container's clock. Whoever reads a container
//!   unwraps its clock against one reference for all tracks ([`Unwrap`]).
//! - Tick 0 is the decode time of the first keyframe of the leading track: the first video, without video the first
//!   sound. What is earlier is dropped; what arrived before that keyframe but belongs after it is kept.
//! - Where the time of a picture is within 1 ms of the grid of a known constant rate, it is put on the grid (3003 ticks
//!   at 29.97). It is never more than 1 ms off what the encoder said, so it cannot drift. A time that does not rise is
//!   moved one tick past the one before. Where presentation is before decoding, decoding moves ahead as far as it can,
//!   and the rest is cut to zero.
//! - Sound is counted in samples. More than 100 ms behind the encoder's clock, it jumps there; more than 100 ms ahead,
//!   frames are dropped until it no longer is ahead.
//!
//! # Epochs
//! A new one opens after: a jump over 10 s forward, or over 1 s backward within a track; a hole of more than 4 s in a
//! track, since no segment may be longer; another audio configuration; a track that comes, or is silent for 5 s
//! while another goes on; another codec. It opens at a keyframe of the first video; configurations of other tracks are
//! waited for up to 500 ms of media time, as many as metadata says that there are, else one of sound; without video, at the first sound, at once where metadata says
//! so, after 5 s where metadata says that pictures come, else after 1 s. A video configuration that changes opens a segment at the next keyframe within the epoch.
//!
//! # Cuts
//! - A segment of the leading video opens at the first keyframe at least 2 s (less half a frame) after the start of the one before (an
//!   epoch's second already after 0.5 s, so that players can start),
//!   at 4 s (plus half a frame at most) without one, and where the configuration changes.
//! - Segment n of any other track opens at its first sound or keyframe presented at or after the start of segment n of
//!   the leading one; when it is ahead in arrival, at the next after that start is known; by itself at 4.25 s, which
//!   rounds to the 4 s of EXT-X-TARGETDURATION. Without video, the first sound's open every 2 s.
//! - A group starts at every video keyframe, every second of sound, at every segment, and where the model's limits ask
//!   for it. (No group lasts 8 s, as a segment opens after 4.)
//! - A part closes when it has its number of frames and 85 % of the part target at least; where the encoder's rate is
//!   not what was announced, as near below the target as can be told from the frames so far. The target of video is 4 %
//!   above the nominal duration, so that milliseconds and jitter stay between 85 and 100 %; that of audio is exact.
mod clock;
mod core;
mod cut;
mod feed;
mod past;
mod running;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use routing::model::{TrackKind, UnixMillis};

pub use self::{
    clock::Unwrap,
    core::Origin,
    feed::{Feed, FeedError},
    past::{Nobody, Past, Recall},
    writer::Writer,
};
pub use crate::codec::reader::Config;
use crate::live::{Frame, GroupSeq, Track, TrackConfig, TrackId};

/// What the encoder's metadata says will come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Tracks of pictures.
    pub video: usize,
    /// Tracks of sound.
    pub audio: usize,
    /// Pictures a second of the first, numerator and denominator.
    pub rate: Option<(u32, u32)>,
}

/// A track as a publisher numbers it: within its kind, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input {
    /// Video or audio.
    pub kind: TrackKind,
    /// Which of its kind. The first video leads; without video, the first audio.
    pub number: u8,
}

impl Input {
    /// The first pictures.
    pub const VIDEO: Self = Self::of(TrackKind::Video, 0);
    /// The first sound.
    pub const AUDIO: Self = Self::of(TrackKind::Audio, 0);
    /// Tracks that an epoch may have; more are left out.
    pub const MAX: usize = 16;

    /// A track of this kind.
    #[must_use]
    pub const fn of(kind: TrackKind, number: u8) -> Self {
        Self { kind, number }
    }
}

/// One picture or audio packet with the encoder's own times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Of which track.
    pub input: Input,
    /// Decode time in ticks of 90 kHz, unwrapped ([`Unwrap`]).
    pub time: i64,
    /// Presentation less decode time in the same ticks.
    pub composition: i32,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// As in [`Frame::data`].
    pub data: Bytes,
}

/// What the origin decided, in the order in which it is to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// An epoch opens; the one before, if any, was ended.
    Open(Opening),
    /// A group begins, and the track's group before it is finished.
    Group(Beginning),
    /// The next frame of the track's group.
    Frame(TrackId, Frame),
    /// The epoch ends with what is there.
    End,
}

/// An epoch's constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// The wall-clock time of tick 0: when its frame arrived.
    pub programme_time: UnixMillis,
    /// Its tracks, video first, with segments counted from 0.
    pub tracks: Vec<Track>,
}

/// A group's header, with segments counted from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Beginning {
    /// Of which track.
    pub track: TrackId,
    /// Which in the track's line.
    pub seq: GroupSeq,
    /// Whether decoding can start at its first frame.
    pub independent: bool,
    /// The segment of its first frame, from 0.
    pub segment: u64,
    /// The part of its first frame.
    pub part: u32,
    /// Decode time of its first frame in ticks.
    pub base_decode_time: i64,
    /// What a decoder needs.
    pub config: Arc<TrackConfig>,
}
