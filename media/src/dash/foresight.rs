//! How long segments will last that are not closed yet.
use std::collections::BTreeMap;

use super::periods::{place, renditions};
use crate::{
    hls::{Rendition, View},
    pack::{Segment, rescale},
};

/// Where segments of the current epoch begin that are not closed yet, by place, in ticks of the first track.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    starts: BTreeMap<u64, i64>,
    timescale: u32,
}

/// Where a segment of the current epoch is presented, in ticks of its track from the epoch's zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Foresight {
    /// What the first rendition foretells: nothing, unless its last two segments last equally long, but for 2 %. An
    /// epoch's first segment is shorter than the others and does not count.
    pub(super) fn of(view: &View) -> Self {
        let Some(lead) = renditions(view).next() else {
            return Self::default();
        };
        let Some(open) = current(view, lead) else {
            return Self::default();
        };
        let closed = lead.segments.iter().rev().map(|s| &**s);
        let known: Vec<&Segment> = std::iter::once(open)
            .chain(closed)
            .take(3)
            .take_while(|s| s.epoch.id == open.epoch.id && !s.is_gap() && place(s) > 0)
            .collect();
        let [open, last, before] = known[..] else {
            return Self::default();
        };
        let (length, other) = (open.pts - last.pts, last.pts - before.pts);
        if length <= 0 || (length - other).abs() > length / 50 {
            return Self::default();
        }
        let at = place(open);
        let starts = [last, open].map(|s| (place(s), s.pts));
        let later = (1..=2).map(|i| {
            (
                at + i,
                open.pts
                    .saturating_add(length.saturating_mul(i.cast_signed())),
            )
        });
        Self {
            starts: starts.into_iter().chain(later).collect(),
            timescale: lead.track.timescale,
        }
    }

    /// Whether anything is foreseen.
    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The segment at a rendition's edge and the one after it, as far as they are foreseen. Sound ends with the first
    /// whole frame at or after the pictures' end.
    pub(super) fn ahead(&self, view: &View, rendition: &Rendition) -> Vec<Ahead> {
        let Some(open) = current(view, rendition).filter(|o| o.number == self.next(rendition))
        else {
            return Vec::new();
        };
        let track = &rendition.track;
        let frame = i64::try_from(track.part_target / u64::from(track.frames_per_part.max(1)));
        let frame = match track.kind {
            routing::model::TrackKind::Audio => frame.unwrap_or(1).max(1),
            _ => 1,
        };
        let mut ahead = Vec::new();
        let (mut at, mut start) = (place(open), open.pts);
        while let (Some(end), true) = (self.starts.get(&(at + 1)), ahead.len() < 2) {
            let end = rescale(*end, self.timescale, track.timescale);
            let length = end.saturating_sub(start).max(frame);
            let whole = length.saturating_add(frame - 1) / frame * frame;
            let end = start.saturating_add(whole);
            ahead.push(Ahead { start, end });
            (at, start) = (at + 1, end);
        }
        ahead
    }

    fn next(&self, rendition: &Rendition) -> u64 {
        rendition.segments.last().map_or(0, |s| s.number + 1)
    }
}

fn current<'a>(view: &View, rendition: &'a Rendition) -> Option<&'a Segment> {
    let open = rendition.open.as_ref()?;
    (open.epoch.id == view.epoch.id).then_some(open)
}
