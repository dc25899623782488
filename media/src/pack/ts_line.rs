//! Which sound goes into which MPEG-TS segment.
use std::sync::{Arc, OnceLock};

use super::{
    piece::{Piece, Run},
    segment::{Recipe, Segment},
    walk::{Line, Tail, rescale, ticks},
};
use crate::live::{Epoch, GroupSeq, Track};

enum Sound {
    /// The frames are all here.
    Here(Vec<Run>),
    /// They may come.
    Wait,
    /// Groups are missing.
    Hole,
}

/// The MPEG-TS segments over `lead`, the line of the epoch's first track: each has its frames, and those of `other`
/// with a decode time from its first frame up to the next segment's. The epoch's first segment has also what is
/// earlier, its last one also what is later.
///
/// A segment waits for its sound, until the lead is [`Epoch::SEGMENT_MAX`] ahead of it: then sound that stands still is
/// left out, and sound with a hole makes the segment a gap.
#[must_use]
pub fn ts_line(
    epoch: &Arc<Epoch>,
    lead: &Line,
    other: Option<(&Track, &[&Piece], Tail)>,
    tail: Tail,
    older: &Line,
) -> Line {
    let mut line = Line {
        lost: lead.lost,
        ..Line::default()
    };
    let first_old = older.segments.first().map_or(u64::MAX, |s| s.number);
    let edge = lead.open.as_ref().map(|o| o.end);
    let edge = edge.or(lead.segments.last().map(|s| s.end)).unwrap_or(0);
    for (i, segment) in lead.segments.iter().enumerate() {
        let known = segment
            .number
            .checked_sub(first_old)
            .and_then(|index| older.segments.get(usize::try_from(index).ok()?));
        if let Some(known) = known.filter(|k| k.same(segment)) {
            line.segments.push(Arc::clone(known));
            continue;
        }
        let mut lines = vec![(
            segment.track,
            segment.parts.iter().flat_map(|p| p.runs.clone()).collect(),
        )];
        let mut gap = segment.is_gap();
        if let (Some((track, pieces, other_tail)), false) = (other, gap) {
            let scale = segment.timescale();
            // The first tick of the other track at or after a time of the lead.
            let tick =
                |t: i64| rescale(t.saturating_neg(), scale, track.timescale).saturating_neg();
            let lead_track = epoch.track(segment.track);
            let first = lead_track.is_some_and(|t| t.first_segment == segment.number);
            let last = tail == Tail::Ended && lead.open.is_none() && i + 1 == lead.segments.len();
            let from = if first { i64::MIN } else { tick(segment.start) };
            let to = if last { i64::MAX } else { tick(segment.end) };
            if matches!(other_tail, Tail::Broken(last) if to > last.start) {
                // Its sound is of a segment that is whole nowhere.
                return line;
            }
            let patience = ticks(Epoch::SEGMENT_MAX, segment.timescale());
            let late = edge - segment.end >= patience;
            match sound(pieces, from, to, other_tail, late) {
                Sound::Here(runs) => lines.push((track.id, runs)),
                Sound::Hole => gap = true,
                Sound::Wait => return line,
            }
        }
        // Whose sound left the window, or was never fetched, is left out like a track's first, partial segment.
        if gap && line.segments.is_empty() {
            continue;
        }
        line.segments.push(Arc::new(Segment {
            parts: Vec::new(),
            recipe: if gap { Recipe::Gap } else { Recipe::Ts(lines) },
            made: OnceLock::new(),
            ..Segment::clone(segment)
        }));
    }
    line.open = lead.open.clone().map(|open| Segment {
        parts: Vec::new(),
        end: open.start,
        ..open
    });
    line
}

fn sound(pieces: &[&Piece], from: i64, to: i64, tail: Tail, late: bool) -> Sound {
    let begins = |p: &&Piece| p.first_dts() <= from;
    let start = match pieces.iter().rposition(begins) {
        Some(start) => start,
        None if pieces.first().is_some_and(|p| p.seq() == GroupSeq(0)) => 0,
        None if pieces.is_empty() && !late => return Sound::Wait,
        None if pieces.is_empty() => return Sound::Here(Vec::new()),
        None => return Sound::Hole,
    };
    let mut runs = Vec::new();
    let mut before: Option<&Piece> = None;
    for piece in pieces.iter().skip(start) {
        if before.is_some_and(|b| !b.finished || b.seq().next() != piece.seq()) {
            return if late { Sound::Hole } else { Sound::Wait };
        }
        let run = piece.between(&(from..to));
        if !run.is_empty() {
            runs.push(run);
        }
        if piece.last_dts >= to {
            return Sound::Here(runs);
        }
        before = Some(piece);
    }
    let whole = before.is_some_and(|piece| match tail {
        Tail::Ended => piece.finished,
        // Sound of the segment that broke off is not asked for.
        _ => tail.closes(piece).is_some(),
    });
    if late || whole {
        Sound::Here(runs)
    } else {
        Sound::Wait
    }
}
