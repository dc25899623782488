//! A broadcast's renditions at one moment.
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use routing::model::{EpochId, TrackKind};

use crate::{
    live::{Epoch, Track, TrackConfig, TrackId},
    pack::Segment,
};

/// What segments are wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// One fragmented MP4 a track.
    Cmaf,
    /// All tracks in one MPEG transport stream.
    Ts,
}

/// Where the preload hint points: a part that does not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Its epoch.
    pub epoch: EpochId,
    /// Its segment.
    pub segment: u64,
    /// Its number in the segment.
    pub part: u32,
}

/// One media playlist's content: a track, or the broadcast in MPEG-TS.
#[derive(Clone, Debug)]
pub struct Rendition {
    /// Its name in URLs: `v0`, `a0`; `ts`.
    pub name: String,
    /// The track in the current epoch; in MPEG-TS the one whose cuts it follows.
    pub track: Track,
    /// What it is wrapped in.
    pub container: Container,
    /// Closed segments and gaps, oldest first, numbers without holes, over all epochs that continue each other.
    pub segments: Vec<Arc<Segment>>,
    /// The segment at the edge and its closed parts.
    pub open: Option<Segment>,
    /// What will come next.
    pub hint: Option<Hint>,
    /// Index of the first segment that the playlist lists.
    pub first: usize,
    /// Whether the window is as long as it is at every node, and without a gap, which may be one that is being fetched.
    pub full: bool,
    /// Where the other renditions stand, as this edge tells it.
    pub reports: Vec<Report>,
    /// Whether a report will be another at this edge, because its rendition is not here as far as it looks.
    pub early: bool,
    pub(super) text: [OnceLock<Bytes>; 2],
}

/// A line of EXT-X-RENDITION-REPORT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The rendition's name.
    pub name: String,
    /// LAST-MSN.
    pub segment: u64,
    /// LAST-PART.
    pub part: u32,
}

impl Rendition {
    /// What a playlist lists at least, where there is as much: two target durations more than a delta update may not
    /// skip, so that there is something to skip.
    pub const WINDOW: Duration = Duration::from_secs(8 * Epoch::SEGMENT_MAX.as_secs());

    /// Its playlist at this edge; `skip`: older segments may be left out. Rendered once, shared by all who ask.
    pub fn playlist(&self, skip: bool) -> Bytes {
        let [full, delta] = &self.text;
        let slot = if skip { delta } else { full };
        slot.get_or_init(|| super::playlist::media(self, skip).into())
            .clone()
    }

    /// The last segment number that has anything: closed, or with a closed part.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        let open = self.open.as_ref().filter(|o| !o.parts.is_empty());
        open.map(|o| o.number)
            .or_else(|| self.segments.last().map(|s| s.number))
    }

    /// The epoch of the last segment that has anything.
    #[must_use]
    pub fn edge_epoch(&self) -> Option<EpochId> {
        let open = self.open.as_ref().filter(|o| !o.parts.is_empty());
        let edge = open.or(self.segments.last().map(|s| &**s));
        edge.map(|s| s.epoch.id)
    }

    /// A closed segment.
    #[must_use]
    pub fn segment(&self, number: u64) -> Option<&Arc<Segment>> {
        let first = self.segments.first()?.number;
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.segments.get(index)
    }

    /// A segment, closed or at the edge.
    #[must_use]
    pub fn any(&self, number: u64) -> Option<&Segment> {
        let open = self.open.as_ref().filter(|o| o.number == number);
        self.segment(number).map(|s| &**s).or(open)
    }

    /// The index of the first segment such that it and those after it last [`Rendition::WINDOW`], and whether they do.
    pub(super) fn window(segments: &[Arc<Segment>]) -> (usize, bool) {
        let mut listed = Duration::ZERO;
        for (i, segment) in segments.iter().enumerate().rev() {
            listed += duration(segment);
            if listed >= Self::WINDOW {
                return (i, true);
            }
        }
        (0, false)
    }
}

/// How long a segment lasts.
pub(super) fn duration(segment: &Segment) -> Duration {
    Duration::from_micros(micros(segment.end - segment.start, segment.timescale()))
}

/// Ticks as microseconds, rounded to the nearest; negative ones as none.
pub(super) fn micros(ticks: i64, timescale: u32) -> u64 {
    let scale = u128::from(timescale.max(1));
    let ticks = u128::try_from(ticks).unwrap_or(0);
    u64::try_from((ticks * 1_000_000 + scale / 2) / scale).unwrap_or(u64::MAX)
}

/// A broadcast at one moment.
#[derive(Debug)]
pub struct View {
    /// The current epoch.
    pub epoch: Arc<Epoch>,
    /// Whether this node has fetched back what there is to fetch.
    pub filled: bool,
    /// Its media playlists.
    pub renditions: Vec<Rendition>,
    pub(super) text: [OnceLock<Bytes>; 3],
}

impl View {
    /// The rendition of this name.
    #[must_use]
    pub fn rendition(&self, name: &str) -> Option<&Rendition> {
        self.renditions.iter().find(|r| r.name == name)
    }

    /// The multivariant playlist.
    pub fn multivariant(&self, container: Container) -> Bytes {
        let [cmaf, ts, _] = &self.text;
        let slot = if container == Container::Cmaf {
            cmaf
        } else {
            ts
        };
        slot.get_or_init(|| super::playlist::multivariant(&self.epoch, container).into())
            .clone()
    }

    /// The DASH description.
    pub fn mpd(&self) -> Bytes {
        let [.., slot] = &self.text;
        slot.get_or_init(|| crate::dash::mpd(self).into()).clone()
    }

    /// The track and the configuration of this number, as far as the window reaches.
    #[must_use]
    pub fn config(
        &self,
        epoch: EpochId,
        name: &str,
        number: u32,
    ) -> Option<(Track, Arc<TrackConfig>)> {
        let rendition = self.rendition(name)?;
        let segments = rendition.segments.iter().map(|s| &**s);
        let found = segments
            .chain(&rendition.open)
            .find(|s| s.epoch.id == epoch && s.config.number == number && !s.is_gap())
            .map(|s| (s.epoch.track(s.track), &s.config));
        if let Some((Some(track), config)) = found {
            return Some((track.clone(), Arc::clone(config)));
        }
        let header = (self.epoch.id == epoch).then_some(&rendition.track)?;
        (header.config.number == number).then(|| (header.clone(), Arc::clone(&header.config)))
    }
}

/// The tracks of an epoch that have renditions of their own: `v0`, `v1` for pictures, `a0`, `a1` for sound.
pub(super) fn named(epoch: &Epoch) -> Vec<(String, TrackId)> {
    let of = |kind: TrackKind, letter: char| {
        let tracks = epoch.tracks.iter().filter(move |t| t.kind == kind);
        tracks
            .enumerate()
            .map(move |(i, t)| (format!("{letter}{i}"), t.id))
    };
    of(TrackKind::Video, 'v')
        .chain(of(TrackKind::Audio, 'a'))
        .collect()
}
