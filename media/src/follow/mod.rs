//! What a viewer of single frames sees of a broadcast: RTMP play, a container by HTTP, and whatever else sends frames as
//! they come.
//!
//! ```text
//! Audience ── Gate, Supply ──► Follow (one viewer) ── Cursor ── live::Broadcast
//!                                └── Event: Lines, Frame, Frame, Lines, … ──► a muxer, a session
//! ```
//! - It begins at the newest keyframe that there is, at once, and takes the other tracks from there on.
//! - Frames come in the order of their decode times as far as they are here, else as they arrive: none waits for another.
//! - It is pulled. What a viewer does not take stays where all share it, and one who is [`BEHIND`] when a later keyframe is
//!   there goes on at the newest: so a viewer costs no memory, however slow.
//! - Time is one line over all epochs, from zero and rising in each track: an epoch goes on where the one before ended.
//!   Other configurations come as [`Event::Lines`] before the first frame that needs them.
//! - A hole is waited for as long as later groups are not whole; then pictures go on at the next keyframe.
//! - It ends when the broadcast has, see [`GONE`] and [`STALLED`], when it is told to, or when it is dropped.
mod audience;
mod cursor;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use routing::model::TrackKind;

pub use self::{
    audience::{Audience, Follow, SessionInfo},
    cursor::{Cursor, Takes},
};
use crate::live::TrackConfig;

/// How far behind the newest keyframe a viewer may be at the end of a group.
pub const BEHIND: Duration = Duration::from_secs(6);
/// How long after a publisher's end the next one is waited for.
pub const GONE: Duration = Duration::from_secs(10);
/// How long frames may stay away while nobody said that it is over.
pub const STALLED: Duration = Duration::from_secs(30);

/// A track as a viewer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Picture or sound.
    pub kind: TrackKind,
    /// Ticks a second in which its times are exact.
    pub timescale: u32,
    /// What a decoder needs from here on.
    pub config: Arc<TrackConfig>,
}

/// A frame on a viewer's own timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Index of its line.
    pub line: usize,
    /// Decode time since the viewer began.
    pub dts: Duration,
    /// Presentation less decode time.
    pub cts: Duration,
    /// How long it lasts, as far as the frames before it tell.
    pub lasts: Duration,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// By codec as in [`codec`](crate::codec).
    pub data: Bytes,
}

impl Shown {
    /// Presentation time since the viewer began.
    #[must_use]
    pub const fn pts(&self) -> Duration {
        self.dts.saturating_add(self.cts)
    }
}

/// What a viewer gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The tracks, pictures first: at the start, and again with every epoch and every other configuration.
    Lines(Vec<Line>),
    /// The next frame.
    Frame(Shown),
}
