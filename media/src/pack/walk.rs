//! From groups to segments and parts, by what the origin stamped.
use std::sync::{Arc, OnceLock};

use super::{
    piece::{Mark, Piece, Run},
    segment::{Part, Recipe, Segment},
};
use crate::live::{Cut, Epoch, Last, Track};

/// What an epoch's groups of one track give.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// Closed segments and gaps, numbers without holes.
    pub segments: Vec<Arc<Segment>>,
    /// The segment at the edge, with the parts closed so far.
    pub open: Option<Segment>,
    /// Where there is no segment at the edge because frames of it are missing: its number and where it starts.
    pub lost: Option<(u64, i64)>,
}

impl Line {
    /// Takes over from `older` what is the same, so that bytes are made once.
    pub fn adopt(&mut self, older: &Self) {
        let Some(first) = older.segments.first().map(|s| s.number) else {
            if let (Some(open), Some(old)) = (&mut self.open, &older.open) {
                open.adopt(old);
            }
            return;
        };
        for segment in &mut self.segments {
            let index = usize::try_from(segment.number.wrapping_sub(first)).unwrap_or(usize::MAX);
            match older.segments.get(index) {
                Some(old) if old.same(segment) => *segment = Arc::clone(old),
                _ => {
                    if let Some(old) = older.open.as_ref().filter(|o| o.number == segment.number) {
                        // Just walked, so nobody else has it.
                        if let Some(segment) = Arc::get_mut(segment) {
                            segment.adopt(old);
                        }
                    }
                }
            }
        }
        if let (Some(open), Some(old)) = (&mut self.open, &older.open)
            && open.number == old.number
        {
            open.adopt(old);
        }
    }
}

/// A segment under construction.
struct Building {
    segment: Segment,
    part: Option<Part>,
}

impl Building {
    fn open(epoch: &Arc<Epoch>, track: &Track, piece: &Piece, mark: Mark) -> Self {
        let header = piece.group().header();
        let segment = Segment {
            epoch: Arc::clone(epoch),
            track: track.id,
            number: header.stamp.segment,
            discontinuity: header.stamp.discontinuity,
            start: mark.dts,
            pts: mark.pts,
            end: mark.dts,
            independent: header.independent,
            config: Arc::clone(&header.config),
            parts: Vec::new(),
            recipe: Recipe::Cmaf,
            made: OnceLock::new(),
        };
        Self {
            segment,
            part: None,
        }
    }

    fn open_part(&mut self, mark: Mark) {
        self.part = Some(Part {
            segment: self.segment.number,
            number: u32::try_from(self.segment.parts.len()).unwrap_or(u32::MAX),
            start: mark.dts,
            end: mark.dts,
            independent: mark.keyframe,
            timescale: self.segment.timescale(),
            runs: Vec::new(),
            made: OnceLock::new(),
        });
    }

    fn close_part(&mut self, end: i64) {
        if let Some(mut part) = self.part.take() {
            part.end = end;
            self.segment.end = end;
            self.segment.parts.push(Arc::new(part));
        }
    }

    fn close(mut self, end: i64) -> Arc<Segment> {
        self.close_part(end);
        Arc::new(self.segment)
    }

    fn add(&mut self, run: Run) {
        if let Some(part) = &mut self.part {
            part.runs.push(run);
        }
    }
}

/// No origin leaves so many numbers out: what claims to is not listed.
const MAX_GAP: u64 = 1_000;

/// How a track goes on behind the groups that are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// It may.
    Runs,
    /// The epoch's end mark is there.
    Ended,
    /// The epoch broke off in this segment, which is whole nowhere.
    Broken(Last),
}

impl Tail {
    /// Where the segment before the one that broke off closes, if `piece` is its last group.
    pub(super) fn closes(&self, piece: &Piece) -> Option<&Last> {
        match self {
            Self::Broken(last) if piece.finished && piece.seq().next() == last.group => Some(last),
            _ => None,
        }
    }
}

/// Packages a track's groups, in order of their place.
///
/// - A part or segment closes with the next frame of the track, or with the end mark; then its last frame lasts as
///   long as the frame before it. Where the epoch broke off, the last whole segment closes where the next one began.
/// - Frames before the first that opens a segment are left out: their segment cannot be whole.
/// - At a hole the line waits, until there are [`Epoch::SEGMENT_MAX`] of frames behind it; then the segments that the
///   hole touches are gaps, which share the missing time evenly.
#[must_use]
pub fn walk<'a>(
    epoch: &Arc<Epoch>,
    track: &Track,
    pieces: impl Iterator<Item = &'a Piece> + Clone,
    tail: Tail,
) -> Line {
    let mut line = Line::default();
    let mut building: Option<Building> = None;
    let mut before: Option<&Piece> = None;
    let pieces = pieces.filter(|p| p.frames > 0);
    let edge = pieces.clone().map(|p| p.last_dts).max().unwrap_or(0);
    let patience = ticks(Epoch::SEGMENT_MAX, track.timescale);
    for piece in pieces {
        let follows = before.is_none_or(|b| b.finished && b.seq().next() == piece.seq());
        if !follows {
            if edge - piece.first_dts() < patience {
                before = None;
                break;
            }
            if let Some(b) = building.take() {
                line.lost = Some((b.segment.number, b.segment.start));
            }
        }
        let stamp = piece.group().header().stamp;
        for (i, mark) in piece.marks.iter().enumerate() {
            match mark.cut {
                Cut::Segment => {
                    if let Some(b) = building.take() {
                        line.segments.push(b.close(mark.dts));
                    }
                    let next = line.segments.last().map(|s| s.number + 1);
                    let from = line.lost.take().or(next.map(|n| (n, mark.dts)));
                    if let Some((number, start)) = from {
                        if stamp.segment < number || stamp.segment - number > MAX_GAP {
                            return line;
                        }
                        let gap = (number..stamp.segment, start..mark.dts);
                        line.segments
                            .extend(gaps(epoch, track, gap, stamp.discontinuity));
                    }
                    let mut b = Building::open(epoch, track, piece, *mark);
                    b.open_part(*mark);
                    building = Some(b);
                }
                Cut::Part => {
                    if let Some(b) = &mut building {
                        b.close_part(mark.dts);
                        b.open_part(*mark);
                    }
                }
                Cut::None => {}
            }
            if let Some(b) = &mut building {
                let to = piece.marks.get(i + 1).map_or(piece.frames, |m| m.at);
                b.add(Run {
                    group: Arc::clone(piece.group()),
                    frames: mark.at..to,
                });
            }
        }
        before = Some(piece);
    }
    let end = before.and_then(|piece| match tail {
        Tail::Ended if piece.finished => Some(piece.last_dts + last_duration(track, piece)),
        _ => tail.closes(piece).map(|last| last.start),
    });
    if let Some(end) = end
        && let Some(b) = building.take()
    {
        line.segments.push(b.close(end));
    }
    line.open = building.map(|b| b.segment);
    line
}

/// How long an epoch's last frame lasts: as long as the one before it in its group; a frame alone in its group, as
/// long as a part's frames on average.
fn last_duration(track: &Track, piece: &Piece) -> i64 {
    piece.before_last.map_or_else(
        || {
            let frame = track.part_target / u64::from(track.frames_per_part.max(1));
            i64::try_from(frame).unwrap_or(1)
        },
        |before| piece.last_dts - before,
    )
}

/// Gap entries with these numbers that share this time.
pub(super) fn gaps(
    epoch: &Arc<Epoch>,
    track: &Track,
    (numbers, time): (std::ops::Range<u64>, std::ops::Range<i64>),
    discontinuity: u64,
) -> Vec<Arc<Segment>> {
    let count = i64::try_from(numbers.end.saturating_sub(numbers.start)).unwrap_or(i64::MAX);
    let at = |i: i64| time.start + (time.end - time.start).max(0) / count.max(1) * i;
    let gap = |(number, i): (u64, i64)| {
        Arc::new(Segment {
            epoch: Arc::clone(epoch),
            track: track.id,
            number,
            discontinuity,
            start: at(i),
            pts: at(i),
            end: if i + 1 == count { time.end } else { at(i + 1) },
            independent: true,
            config: Arc::clone(&track.config),
            parts: Vec::new(),
            recipe: Recipe::Gap,
            made: OnceLock::new(),
        })
    };
    numbers.zip(0..).map(gap).collect()
}

/// A duration in ticks of a track, rounded down.
pub(crate) fn ticks(duration: std::time::Duration, timescale: u32) -> i64 {
    i64::try_from(duration.as_millis() * u128::from(timescale) / 1000).unwrap_or(i64::MAX)
}

/// A time in ticks of another timescale, rounded down; no overflow, whatever the times and timescales of an epoch are.
pub(crate) fn rescale(time: i64, from: u32, to: u32) -> i64 {
    let scaled = i128::from(time) * i128::from(to);
    let scaled = scaled.div_euclid(i128::from(from.max(1)));
    let end = if time < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(scaled).unwrap_or(end)
}

/// Gap entries with these numbers behind `last`, of its epoch and track, up to `end`: what an epoch that broke off left
/// unfinished. At least a tick each, at most [`Epoch::SEGMENT_MAX`].
pub(crate) fn gaps_after(
    last: &Segment,
    numbers: std::ops::Range<u64>,
    end: i64,
) -> Vec<Arc<Segment>> {
    let Some(track) = last.epoch.track(last.track) else {
        return Vec::new();
    };
    let count = i64::try_from(numbers.end.saturating_sub(numbers.start)).unwrap_or(1);
    let longest = ticks(Epoch::SEGMENT_MAX, track.timescale).saturating_mul(count);
    let end = end.clamp(
        last.end.saturating_add(count),
        last.end.saturating_add(longest.max(count)),
    );
    gaps(
        &last.epoch,
        track,
        (numbers, last.end..end),
        last.discontinuity,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_another_timescale_is_rounded_down_and_never_wraps() {
        assert_eq!(rescale(48_001, 48_000, 90_000), 90_001);
        assert_eq!(rescale(-1, 48_000, 90_000), -2);
        assert_eq!(rescale(1 << 60, 1, 90_000), i64::MAX);
        assert_eq!(rescale(-(1 << 60), 1, u32::MAX), i64::MIN);
        assert_eq!(rescale(i64::MAX, u32::MAX, u32::MAX), i64::MAX);
    }
}
