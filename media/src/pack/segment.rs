//! Segments and parts: which frames they hold, and their bytes, made once when first asked for.
use std::sync::{Arc, OnceLock};

use super::{Chain, cmaf, piece::Run, ts};
use crate::live::{Epoch, TrackConfig, TrackId};

/// A closed part (RFC 8216bis "Partial Segment"): one CMAF chunk.
#[derive(Debug)]
pub struct Part {
    /// The number of the segment that it is in.
    pub segment: u64,
    /// Its number there, from 0.
    pub number: u32,
    /// Decode time of its first frame, in ticks of its track.
    pub start: i64,
    /// Decode time of the frame after its last.
    pub end: i64,
    /// Whether a decoder can start at its first frame.
    pub independent: bool,
    /// Ticks a second of its times.
    pub timescale: u32,
    pub(super) runs: Vec<Run>,
    pub(super) made: OnceLock<Chain>,
}

impl Part {
    /// Its bytes: `moof` and `mdat`.
    pub fn body(&self) -> &Chain {
        self.made.get_or_init(|| cmaf::chunk(self))
    }

    fn same(&self, other: &Self) -> bool {
        (self.segment, self.number, self.start, self.end)
            == (other.segment, other.number, other.start, other.end)
    }
}

/// What a segment is made of.
#[derive(Clone, Debug)]
pub(super) enum Recipe {
    /// Its parts, one behind the other.
    Cmaf,
    /// Frames of these runs, multiplexed: the first line carries the clock.
    Ts(Vec<(TrackId, Vec<Run>)>),
    /// Frames are missing and cannot be had: `EXT-X-GAP`.
    Gap,
}

/// A segment of one track, or of one broadcast in MPEG-TS: closed, or the one at the edge with the parts closed so far.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The epoch that it is in, which names it.
    pub epoch: Arc<Epoch>,
    /// Its track; in MPEG-TS the track whose cuts it follows.
    pub track: TrackId,
    /// Its media sequence number.
    pub number: u64,
    /// Its discontinuity sequence number.
    pub discontinuity: u64,
    /// Decode time of its first frame, in ticks of its track.
    pub start: i64,
    /// Presentation time of its first frame.
    pub pts: i64,
    /// Decode time of the frame after its last; at the edge, of the frame after its last closed part.
    pub end: i64,
    /// Whether a decoder can start at its first frame.
    pub independent: bool,
    /// What a decoder needs before it.
    pub config: Arc<TrackConfig>,
    /// Its closed parts. None in a gap and in MPEG-TS.
    pub parts: Vec<Arc<Part>>,
    pub(super) recipe: Recipe,
    pub(super) made: OnceLock<Chain>,
}

impl Segment {
    /// Ticks a second of its times.
    #[must_use]
    pub fn timescale(&self) -> u32 {
        self.epoch.track(self.track).map_or(1, |t| t.timescale)
    }

    /// Whether frames of it are missing and cannot be had.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        matches!(self.recipe, Recipe::Gap)
    }

    /// Its bytes; none for a gap.
    pub fn body(&self) -> &Chain {
        self.made.get_or_init(|| match &self.recipe {
            Recipe::Cmaf => {
                let buffers = self.parts.iter().flat_map(|p| p.body().buffers());
                Chain::new(buffers.cloned().collect())
            }
            Recipe::Ts(lines) => ts::segment(&self.epoch, lines),
            Recipe::Gap => Chain::default(),
        })
    }

    /// Keeps the parts of `older`, and with them the bytes that were made already.
    pub(super) fn adopt(&mut self, older: &Self) {
        for (part, old) in self.parts.iter_mut().zip(&older.parts) {
            if part.same(old) {
                *part = Arc::clone(old);
            }
        }
    }

    /// Whether `self` and `other` have the same name and hold the same frames.
    pub(super) fn same(&self, other: &Self) -> bool {
        (self.epoch.id, self.number, self.start, self.end)
            == (other.epoch.id, other.number, other.start, other.end)
            && self.is_gap() == other.is_gap()
    }
}
