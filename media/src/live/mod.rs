//! The live model: broadcasts, their epochs, tracks, groups and frames, in a bounded window of memory.
//!
//! One [`Broadcast`] is the same object at its origin and at every replica; only who writes differs: ingest at the
//! origin (through `media::origin`, which settles time and stamps), the relay at a replica. Readers are relays, packagers and frame-wise
//! outputs; they hold cheap handles and never block a writer.
//!
//! ```text
//! Broadcast ── EpochLine (one publisher's timeline) ── Track ── Group ── Frame (Bytes, shared by everything)
//! ```
//! Time inside an epoch is exact: every track counts ticks of its own timescale from one common zero, whose wall-clock
//! time is the epoch's `programme_time`.
mod broadcast;
mod epoch;
mod frame;
mod group;
#[cfg(test)]
mod tests;

pub use broadcast::{Broadcast, Broadcasts, EpochLine, Limits, ModelError, TrackReader};
pub use epoch::{Epoch, Follows, Last, Track, TrackConfig, TrackId};
pub use frame::{Cut, Frame};
pub use group::{Group, GroupHeader, GroupReader, GroupSeq, GroupWriter, Phase, Stamp};
