//! What a subscriber is told of an epoch: where its frames start and how far back it should fetch. Pure.
use std::sync::Arc;

use super::wire::{Resume, Span};
use crate::live::{Broadcast, EpochLine, Group, GroupSeq, TrackId};

/// What a new replica fetches back: eight target durations of 4 s, what a playlist lists, and one for the segment that the keyframe at which it
/// starts is in.
const BACK_MS: i64 = 9 * 4_000;
/// Ended epochs that are announced before the current one; the model keeps fewer.
const MAX_PREDECESSORS: usize = 16;

/// Whether an epoch can be announced to a newcomer: it waits for the keyframe that it would start at.
pub(super) fn starts(line: &EpochLine) -> bool {
    let first = line.epoch().tracks.first();
    line.ended() || first.is_some_and(|first| line.latest_independent(first.id).is_some())
}

/// The ended epochs that a playlist of `current` may still list, oldest first.
pub(super) fn predecessors(broadcast: &Broadcast, current: &EpochLine) -> Vec<Arc<EpochLine>> {
    let mut chain: Vec<Arc<EpochLine>> = Vec::new();
    let mut epoch = Arc::clone(current.epoch());
    while let Some(before) = epoch
        .follows
        .as_ref()
        .and_then(|follows| broadcast.epoch(follows.epoch))
        .filter(|line| line.ended() && chain.len() < MAX_PREDECESSORS)
    {
        epoch = Arc::clone(before.epoch());
        chain.insert(0, before);
    }
    chain
}

/// By track: where a subscription starts and how far back a fetch would go.
pub(super) fn spans(
    line: &EpochLine,
    resume: Option<&Resume>,
    current: bool,
    whole: bool,
) -> Vec<Span> {
    let epoch = line.epoch();
    let millis = |track: TrackId, group: &Group| {
        let scale = epoch.track(track).map_or(1, |t| i64::from(t.timescale));
        group.header().stamp.base_decode_time.saturating_mul(1000) / scale
    };
    let first = epoch.tracks.first().map(|track| track.id);
    let key = first.and_then(|track| line.latest_independent(track));
    let start = first
        .zip(key)
        .map(|(track, key)| (key.header().seq, millis(track, &key)));
    let span = |track: &crate::live::Track| {
        let groups = line.groups(track.id);
        let after = groups.last().map_or(GroupSeq(0), |g| g.header().seq.next());
        // The last group that begins by then has the frames of that time.
        let at = |time: i64| {
            let earlier = groups.iter().rev().find(|g| millis(track.id, g) <= time);
            let group = earlier.or(groups.first());
            group.map_or(GroupSeq(0), |g| g.header().seq)
        };
        let live = match (resume.and_then(|r| r.next.get(track.id.index())), start) {
            (Some(next), _) => *next,
            (None, _) if whole => GroupSeq(0),
            (None, _) if !current => after,
            (None, Some((seq, _))) if Some(track.id) == first => seq,
            (None, Some((_, time))) => at(time),
            (None, None) => GroupSeq(0),
        };
        let back = start.map_or(live, |(_, time)| at(time - BACK_MS));
        Span {
            back: back.min(live),
            live,
        }
    };
    epoch.tracks.iter().map(span).collect()
}
