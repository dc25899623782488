//! DASH (ISO/IEC 23009-1, DASH-IF low-latency live): one description over the segments that LL-HLS lists.
//!
//! ```text
//! View ── periods: runs of segments of one epoch and one configuration ── mpd: text, rendered once a view
//!   └── foresight: how long the segments at the edge will last ──┘
//! ```
//! # What it says
//! - The availability timeline counts from 1970 in the origin's time; tick 0 of an epoch is at its programme time. So
//!   nothing in a description depends on the node or on when it is asked.
//! - A Period is an epoch, or the part of it in which no track's configuration changes: an initialisation segment holds
//!   for all of its Period. Periods keep their ids and starts for as long as they are listed.
//! - Closed segments are listed with their exact times. Where keyframes come at an even distance, the segment at the
//!   edge and the one after it are listed too, as long as those before: `availabilityTimeComplete` is false, a
//!   request for one is answered chunk by chunk, and one for the next is held until it begins. Their durations are
//!   exact as soon as they are closed.
//! - A segment that is missing keeps its place, so that those after it keep their numbers, and `FailoverContent`
//!   says that there is nothing to load.
//! - `publishTime` is the mean of where the renditions end, so it rises with each segment of any of them.
mod foresight;
mod mpd;
mod periods;
mod set;
mod xml;

use std::time::Duration;

pub use mpd::mpd;

use crate::live::Epoch;

/// How often a player looks again: each segment is listed before it begins where it can be foreseen.
const UPDATE: Duration = Duration::from_secs(1);
/// How far behind the live edge players are who take whole segments.
const DELAY: Duration = Duration::from_secs(2 * Epoch::SEGMENT_MAX.as_secs());
/// How far behind it those are who take the segment at the edge chunk by chunk.
const LOW_DELAY: Duration = Duration::from_secs(3);
