//! From the live model to a view, doing again only what changed.
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use routing::model::EpochId;

use super::view::{Container, Hint, Rendition, Report, View, named};
use crate::{
    live::{Broadcast, Epoch, EpochLine, Follows, GroupSeq, Track, TrackId},
    pack::{Line, Piece, Segment, Tail, gaps_after, multiplexed, rescale, ticks, ts_line, walk},
};

/// What is kept of an epoch between two views.
#[derive(Debug, Default)]
struct Kept {
    pieces: Vec<BTreeMap<GroupSeq, Piece>>,
    lines: Vec<Line>,
    ts: Line,
    /// Whether it has its end mark, and whether it broke off.
    over: (bool, bool),
}

/// Keeps a broadcast's pieces up to date and derives views from them. A pure function of what the broadcast holds: what
/// it remembers only spares doing things twice.
#[derive(Debug, Default)]
pub struct Deriver {
    epochs: BTreeMap<EpochId, Kept>,
    current: Option<EpochId>,
    filled: bool,
}

/// How far behind this edge another rendition's report is taken, so that it does not depend on which of two tracks'
/// packets came first.
const REPORT_LAG: std::time::Duration = Epoch::SEGMENT_TARGET;

impl Deriver {
    /// Looks at the broadcast. `None` where nothing changed that a playlist shows.
    pub fn update(&mut self, broadcast: &Broadcast) -> Option<View> {
        let epochs = broadcast.epochs();
        let current = Arc::clone(broadcast.current()?.epoch());
        let filled = broadcast.backfilled();
        let gone = self.epochs.len();
        self.epochs
            .retain(|id, _| epochs.iter().any(|e| e.epoch().id == *id));
        let mut changed =
            gone != self.epochs.len() || self.current != Some(current.id) || self.filled != filled;
        (self.current, self.filled) = (Some(current.id), filled);
        for line in &epochs {
            let id = line.epoch().id;
            // Where it broke off, all nodes go by what its successor's header says.
            let broken = epochs
                .iter()
                .filter_map(|next| next.epoch().follows.as_ref())
                .find(|follows| follows.epoch == id && follows.broken);
            changed |= !self.epochs.contains_key(&id);
            changed |= self.epochs.entry(id).or_default().update(line, broken);
        }
        changed.then(|| self.view(&epochs, &current, filled))
    }

    fn view(&self, epochs: &[Arc<EpochLine>], current: &Arc<Epoch>, filled: bool) -> View {
        let chain = chain(epochs, current);
        let mut renditions = Vec::new();
        for (name, id) in named(current) {
            let lines = chain.iter().filter_map(|epoch| {
                let (_, id) = named(epoch).into_iter().find(|(n, _)| *n == name)?;
                let line = self.epochs.get(&epoch.id)?.lines.get(id.index())?;
                Some((epoch, id, line))
            });
            renditions.extend(rendition(name.clone(), Container::Cmaf, current, id, lines));
        }
        let lead = |epoch: &Epoch| multiplexed(epoch).map(|(lead, _)| lead.id);
        if let Some(id) = lead(current) {
            let lines = chain
                .iter()
                .filter_map(|e| Some((e, lead(e)?, &self.epochs.get(&e.id)?.ts)));
            renditions.extend(rendition("ts".into(), Container::Ts, current, id, lines));
        }
        let ended = self.epochs.get(&current.id).is_some_and(|k| k.over.0);
        let mut reports: HashMap<String, (Vec<Report>, bool)> = renditions
            .iter()
            .filter(|r| r.container == Container::Cmaf)
            .map(|r| (r.name.clone(), reports(r, &renditions)))
            .collect();
        for rendition in &mut renditions {
            let (reports, early) = reports.remove(&rendition.name).unwrap_or_default();
            (rendition.reports, rendition.early) = (reports, early && !ended);
        }
        View {
            epoch: Arc::clone(current),
            filled,
            renditions,
            text: Default::default(),
        }
    }
}

impl Kept {
    /// Takes in what came; true where a playlist may have changed.
    fn update(&mut self, line: &EpochLine, broken: Option<&Follows>) -> bool {
        let epoch = line.epoch();
        let over = (line.ended(), broken.is_some());
        let mut changed = over != self.over;
        self.over = over;
        let tail = |track: &Track| match broken.map(|b| b.last.get(track.id.index())) {
            Some(last) => last.map_or(Tail::Runs, |last| Tail::Broken(*last)),
            None if over.0 => Tail::Ended,
            None => Tail::Runs,
        };
        self.pieces.resize_with(epoch.tracks.len(), BTreeMap::new);
        self.lines.resize_with(epoch.tracks.len(), Line::default);
        let mut walked = false;
        for (track, (pieces, old)) in epoch
            .tracks
            .iter()
            .zip(self.pieces.iter_mut().zip(&mut self.lines))
        {
            let mut fresh = changed;
            let groups = line.groups(track.id);
            let kept = pieces.len();
            pieces.retain(|seq, _| groups.binary_search_by_key(seq, |g| g.header().seq).is_ok());
            fresh |= kept != pieces.len();
            for group in groups {
                let known = pieces
                    .get_mut(&group.header().seq)
                    .filter(|p| Arc::ptr_eq(p.group(), &group));
                if let Some(piece) = known {
                    fresh |= piece.update();
                } else {
                    fresh = true;
                    pieces.insert(group.header().seq, Piece::new(group));
                }
            }
            if fresh {
                let mut new = walk(epoch, track, pieces.values(), tail(track));
                new.adopt(old);
                *old = new;
                walked = true;
            }
        }
        changed |= walked;
        if changed
            && let Some((track, sound)) = multiplexed(epoch)
            && let Some(lead) = self.lines.get(track.id.index())
        {
            let pieces: Vec<&Piece> = sound
                .and_then(|t| self.pieces.get(t.id.index()))
                .map(|p| p.values().collect())
                .unwrap_or_default();
            self.ts = ts_line(
                epoch,
                lead,
                sound.map(|t| (t, &pieces[..], tail(t))),
                tail(track),
                &self.ts,
            );
        }
        changed
    }
}

/// The epochs that the current one continues, oldest first, itself last.
fn chain(epochs: &[Arc<EpochLine>], current: &Arc<Epoch>) -> Vec<Arc<Epoch>> {
    let mut chain = vec![Arc::clone(current)];
    while let Some(before) = chain
        .last()
        .and_then(|e| e.follows.as_ref())
        .and_then(|f| epochs.iter().find(|e| e.epoch().id == f.epoch))
        .filter(|b| chain.iter().all(|e| e.id > b.epoch().id))
    {
        chain.push(Arc::clone(before.epoch()));
    }
    chain.reverse();
    chain
}

fn rendition<'a>(
    name: String,
    container: Container,
    current: &Arc<Epoch>,
    id: TrackId,
    lines: impl Iterator<Item = (&'a Arc<Epoch>, TrackId, &'a Line)>,
) -> Option<Rendition> {
    let track = current.track(id)?.clone();
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let mut open: Option<Segment> = None;
    let mut hint = None;
    for (epoch, id, line) in lines {
        let Some(track) = epoch.track(id) else {
            continue;
        };
        let begun = line.segments.first().map(|s| s.number);
        let begun = begun.or(line.open.as_ref().map(|o| o.number));
        // The epoch before is over once this one has a segment: what it did not close is lost, and its successor's
        // header says what and up to where, so that all nodes have the same gaps of the same length.
        let follows = epoch.follows.as_ref().filter(|_| begun.is_some());
        while let Some((follows, last)) = follows.zip(segments.last())
            && follows.epoch == last.epoch.id
            && follows
                .void_from(last.track)
                .is_some_and(|v| last.number >= v)
        {
            segments.pop();
        }
        if let (Some(begun), Some(last)) = (begun, segments.last().cloned()) {
            if begun <= last.number || begun - last.number > 1_000 {
                segments.clear();
            } else {
                let lost = last.number + 1..begun;
                let end = follows.and_then(|f| f.last.get(last.track.index()));
                let end = end.map_or(last.end, |l| l.dts);
                segments.extend(gaps_after(&last, lost, end));
            }
        }
        if begun.is_some() {
            segments.extend(line.segments.iter().cloned());
            open.clone_from(&line.open);
        }
        let next = segments
            .last()
            .map_or(track.first_segment, |s| s.number + 1);
        hint = match &line.open {
            Some(o) => Some((o.number, u32::try_from(o.parts.len()).unwrap_or(u32::MAX))),
            None if line.lost.is_none() && line.segments.is_empty() => {
                Some((track.first_segment, 0))
            }
            None => None,
        }
        .filter(|(n, _)| *n >= next)
        .map(|(segment, part)| Hint {
            epoch: epoch.id,
            segment,
            part,
        });
    }
    // One behind the other: else the open segment is of no use.
    let next = segments.last().map(|s| s.number + 1);
    let open = open.filter(|o| next.is_none_or(|n| n == o.number));
    let (first, long) = Rendition::window(&segments);
    // A gap may still be filled: it does not count while something is being fetched.
    let unbroken = segments.iter().skip(first).all(|s| !s.is_gap());
    let begins = segments.first().map(|s| &**s).or(open.as_ref());
    let whole = begins.is_some_and(|s| {
        let first = s.epoch.track(s.track).map(|t| t.first_segment);
        s.epoch.follows.is_none() && first == Some(s.number)
    });
    Some(Rendition {
        name,
        track,
        container,
        segments,
        open,
        hint,
        first,
        full: (long || whole) && unbroken,
        reports: Vec::new(),
        early: false,
        text: Default::default(),
    })
}

/// Where the others stood [`REPORT_LAG`] before this edge, and whether one of them is not here so far yet.
fn reports(of: &Rendition, all: &[Rendition]) -> (Vec<Report>, bool) {
    let edge = |r: &Rendition| {
        let open = r.open.as_ref().filter(|o| !o.parts.is_empty());
        let last = open.or(r.segments.last().map(|s| &**s))?;
        Some((last.epoch.id, last.end, last.timescale()))
    };
    let Some((epoch, end, scale)) = edge(of) else {
        return (Vec::new(), false);
    };
    let until = end - ticks(REPORT_LAG, scale);
    let (mut reports, mut early) = (Vec::new(), false);
    for other in all
        .iter()
        .filter(|o| o.container == Container::Cmaf && o.name != of.name)
    {
        let limit = rescale(until, scale, other.track.timescale);
        let segments = other.segments.iter().map(|s| &**s).chain(&other.open);
        let mut parts = segments
            .rev()
            .filter(|s| s.epoch.id == epoch)
            .flat_map(|s| s.parts.iter().rev())
            .peekable();
        early |= limit > 0 && parts.peek().is_none_or(|last| last.end <= limit);
        if let Some(part) = parts.find(|p| p.end <= limit) {
            reports.push(Report {
                name: other.name.clone(),
                segment: part.segment,
                part: part.number,
            });
        }
    }
    (reports, early)
}
