//! Packaging as a pure function: from an epoch's header, its groups' stamps and their frames to parts, segments and
//! initialisation segments. No counter of its own, no clock, no randomness, so every node makes the same bytes.
//!
//! ```text
//! Group ── Piece (marks: where parts and segments open)
//!   Piece, Piece, … ── walk ── Line: segments and parts ── cmaf: init, chunk
//!                                        └── ts_line: + the sound of their time ── ts: segment
//! ```
//! A part closes when the next frame of its own track is there, or the epoch's end mark. A segment is whole groups. A
//! hole that is not filled becomes gap entries, never a shorter segment under the same name.
//!
//! Bytes are made on first request and then shared: a [`Segment`] holds its [`Part`]s, a part its [`Chain`] of small
//! headers and slices of the frames, and a segment's chain is its parts' chains in a row, so that a part is a byte range
//! of its segment.
mod chain;
mod cmaf;
pub mod codec;
mod elementary;
mod entry;
mod piece;
mod segment;
mod ts;
mod ts_line;
mod ts_stream;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

pub use chain::{Chain, ChainBody};
pub use cmaf::{InitError, init};
pub(crate) use cmaf::{head, movie, sample, trak};
pub(crate) use elementary::{carries, multiplexed};
pub use piece::{Piece, Run};
pub use segment::{Part, Segment};
pub use ts_line::ts_line;
pub(crate) use ts_stream::Multiplex;
pub use walk::{Line, Tail, walk};
pub(crate) use walk::{gaps_after, rescale, ticks};

/// What both containers show for an epoch's zero: containers count from 0 upwards, and a track may begin a little
/// before the epoch's zero. All tracks are moved alike.
pub const EPOCH_ZERO: Duration = Duration::from_secs(10);
