//! Which segments make a Period.
use std::{collections::BTreeMap, sync::Arc};

use routing::model::EpochId;

use crate::{
    hls::{Container, Rendition, View},
    live::{Epoch, Track},
    pack::Segment,
};

/// What a Period is: its epoch, and its tracks' configurations, told by the sum of their numbers.
type Key = (EpochId, u32);

/// A rendition's listed segments in a Period, in order; at least one.
pub(super) struct Run<'a> {
    pub(super) rendition: &'a Rendition,
    pub(super) segments: Vec<&'a Segment>,
}

impl<'a> Run<'a> {
    pub(super) fn first(&self) -> &'a Segment {
        // A run is made with its first segment.
        self.segments[0]
    }

    /// The track in the Period's epoch.
    pub(super) fn track(&self) -> Option<&'a Track> {
        let first = self.first();
        first.epoch.track(first.track)
    }
}

/// A Period.
pub(super) struct Period<'a> {
    pub(super) key: Key,
    pub(super) epoch: &'a Arc<Epoch>,
    /// Where it begins, in microseconds from the epoch's tick 0.
    pub(super) from: i64,
    pub(super) runs: Vec<Run<'a>>,
}

impl Period<'_> {
    /// When it begins, in microseconds since 1970.
    pub(super) fn start(&self) -> i64 {
        let zero = i64::try_from(self.epoch.programme_time.0).unwrap_or(i64::MAX);
        zero.saturating_mul(1000).saturating_add(self.from)
    }
}

/// A segment's place in its epoch, the same for the segments of all tracks that go in step.
pub(super) fn place(segment: &Segment) -> u64 {
    let track = segment.epoch.track(segment.track);
    let first = track.map_or(0, |t| t.first_segment);
    segment.number.saturating_sub(first)
}

/// The renditions that DASH shows: one a track.
pub(super) fn renditions(view: &View) -> impl Iterator<Item = &Rendition> + Clone {
    let all = view.renditions.iter();
    all.filter(|r| r.container == Container::Cmaf)
}

fn listed(rendition: &Rendition) -> impl DoubleEndedIterator<Item = &Segment> {
    let listed = rendition.segments.get(rendition.first..).unwrap_or(&[]);
    listed.iter().map(|s| &**s)
}

/// From which place of which epoch on a rendition has which configuration, and since when in microseconds. A gap has
/// none of its own.
type Configs = BTreeMap<(EpochId, u64), (u32, i64)>;

fn configs(rendition: &Rendition) -> Configs {
    let mut holds = Configs::new();
    for segment in rendition.segments.iter().filter(|s| !s.is_gap()) {
        let (id, config) = (segment.epoch.id, &segment.config);
        let last = holds.last_key_value();
        let same =
            last.is_some_and(|((epoch, _), (number, _))| (*epoch, *number) == (id, config.number));
        if !same {
            let since = super::mpd::micros(config.since, segment.timescale());
            holds.insert((id, place(segment)), (config.number, since));
        }
    }
    holds
}

/// Which configurations hold at a place, told by the sum of their numbers, and since when.
fn holding(all: &[Configs], id: EpochId, at: u64) -> (u32, i64) {
    let of = |holds: &Configs| {
        let before = holds.range((id, 0)..=(id, at)).next_back();
        let config = before.or_else(|| holds.range((id, at)..=(id, u64::MAX)).next());
        config.map_or((0, 0), |(_, config)| *config)
    };
    all.iter()
        .map(of)
        .fold((0, 0), |(sum, since), (number, from)| {
            (sum.saturating_add(number), since.max(from))
        })
}

/// The Periods of a view, oldest first.
pub(super) fn periods(view: &View) -> Vec<Period<'_>> {
    let all: Vec<Configs> = renditions(view).map(configs).collect();
    let mut periods: BTreeMap<Key, Period<'_>> = BTreeMap::new();
    for rendition in renditions(view) {
        for segment in listed(rendition) {
            let (number, from) = holding(&all, segment.epoch.id, place(segment));
            let key = (segment.epoch.id, number);
            let period = periods.entry(key).or_insert_with(|| Period {
                key,
                epoch: &segment.epoch,
                from,
                runs: Vec::new(),
            });
            let last = period.runs.last_mut();
            match last.filter(|r| std::ptr::eq(r.rendition, rendition)) {
                Some(run) => run.segments.push(segment),
                None => period.runs.push(Run {
                    rendition,
                    segments: vec![segment],
                }),
            }
        }
    }
    periods.into_values().collect()
}
