//! Where one viewer stands in a broadcast: no clock, no task, nothing kept but the place.
use std::{sync::Arc, time::Duration};

use routing::model::{Codec, TrackDetail, TrackKind};

use super::{BEHIND, Event, Line, Shown};
use crate::{
    live::{Broadcast, EpochLine, Frame, Group, GroupSeq, Phase, Track, TrackConfig, TrackId},
    pack::{rescale, ticks},
};

/// Which codecs a viewer can be sent. Of each kind the first track counts whose codec is among them.
pub type Takes = fn(Codec) -> bool;

const NANOS: u32 = 1_000_000_000;

/// A viewer's place. [`Cursor::poll`] moves it.
#[derive(Debug)]
pub struct Cursor {
    takes: Takes,
    running: Option<Running>,
    /// Where the next epoch begins on the viewer's timeline, in nanoseconds.
    end: i64,
}

#[derive(Debug)]
struct Running {
    epoch: Arc<EpochLine>,
    readers: Vec<Reader>,
    /// What is added to the epoch's times to make the viewer's, in nanoseconds.
    offset: i64,
    /// Whether the lines are to be told before the next frame.
    untold: bool,
}

/// A place in one track.
#[derive(Debug)]
struct Reader {
    id: TrackId,
    kind: TrackKind,
    timescale: u32,
    config: Arc<TrackConfig>,
    group: Option<Arc<Group>>,
    /// The next frame's place in the group.
    at: usize,
    /// The group to read next.
    seq: GroupSeq,
    /// What is decoded before this is left out.
    from: i64,
    /// Frames were missed: nothing until a keyframe.
    lost: bool,
    /// The next frame, read but not given yet; it is of `group`.
    peeked: Option<Frame>,
    last: Option<i64>,
    /// How long a frame lasts.
    step: i64,
}

impl Cursor {
    /// A viewer who has seen nothing.
    #[must_use]
    pub const fn new(takes: Takes) -> Self {
        Self {
            takes,
            running: None,
            end: 0,
        }
    }

    /// The next event; `None` where there is none now.
    pub fn poll(&mut self, broadcast: &Broadcast) -> Option<Event> {
        loop {
            if self.running.is_none() {
                let epoch = broadcast.current()?;
                self.running = Some(Running::start(epoch, self.takes, self.end)?);
            }
            let running = self.running.as_mut()?;
            if let Some(event) = running.next() {
                return Some(event);
            }
            // Its end mark is no end for the viewer: it may be taken back. Another current epoch is.
            let current = broadcast.current()?;
            if Arc::ptr_eq(&current, &running.epoch) {
                return None;
            }
            self.end = running.end().max(self.end);
            self.running = None;
        }
    }
}

impl Running {
    fn start(epoch: Arc<EpochLine>, takes: Takes, base: i64) -> Option<Self> {
        let tracks = &epoch.epoch().tracks;
        let of = |kind| {
            let mut tracks = tracks.iter();
            tracks.find(|t| t.kind == kind && takes(t.config.codec()))
        };
        let mut readers: Vec<Reader> = [TrackKind::Video, TrackKind::Audio]
            .into_iter()
            .filter_map(of)
            .map(Reader::new)
            .collect();
        let lead = readers.first_mut()?;
        let group = begin(&epoch, lead, base > 0)?;
        let zero = rescale(group.header().stamp.base_decode_time, lead.timescale, NANOS);
        let mut this = Self {
            offset: base.saturating_sub(zero),
            readers,
            epoch,
            untold: true,
        };
        this.go_to(&group);
        Some(this)
    }

    /// On from this group of the first reader's track.
    fn go_to(&mut self, group: &Arc<Group>) {
        let start = group.header().stamp.base_decode_time;
        let Some((lead, others)) = self.readers.split_first_mut() else {
            return;
        };
        for reader in others {
            // The first tick at or after it.
            let from = rescale(start.saturating_neg(), lead.timescale, reader.timescale);
            reader.from = from.saturating_neg();
            let groups = self.epoch.groups(reader.id);
            let before = groups.iter().rev();
            let mut before = before.skip_while(|g| g.header().stamp.base_decode_time > reader.from);
            let group = before.next().or(groups.first());
            reader.open(group.cloned());
        }
        lead.open(Some(Arc::clone(group)));
    }

    fn next(&mut self) -> Option<Event> {
        self.skip_if_behind();
        let epoch = &self.epoch;
        for reader in &mut self.readers {
            reader.peek(epoch);
        }
        let due = |(i, reader): (usize, &Reader)| {
            let dts = reader.peeked.as_ref()?.dts;
            Some((rescale(dts, reader.timescale, NANOS), i))
        };
        let (_, i) = self.readers.iter().enumerate().filter_map(due).min()?;
        let reader = self.readers.get_mut(i)?;
        let config = reader.group.as_ref().map(|g| &g.header().config);
        if let Some(config) = config.filter(|c| c.number != reader.config.number) {
            reader.config = Arc::clone(config);
            self.untold = true;
        }
        if std::mem::take(&mut self.untold) {
            return Some(Event::Lines(
                self.readers.iter().map(Reader::line).collect(),
            ));
        }
        let frame = reader.peeked.take()?;
        let time = |t: i64| {
            let nanos = rescale(t, reader.timescale, NANOS);
            Duration::from_nanos(u64::try_from(nanos.saturating_add(self.offset)).unwrap_or(0))
        };
        if let Some(last) = reader.last.replace(frame.dts) {
            reader.step = frame.dts.saturating_sub(last);
        }
        let dts = time(frame.dts);
        Some(Event::Frame(Shown {
            line: i,
            dts,
            cts: time(frame.pts()).saturating_sub(dts),
            lasts: time(frame.dts.saturating_add(reader.step)).saturating_sub(dts),
            keyframe: frame.keyframe,
            data: frame.data,
        }))
    }

    /// Looks, at the end of a group, whether there is a keyframe too far ahead.
    fn skip_if_behind(&mut self) {
        let Some(lead) = self.readers.first().filter(|r| r.is_between_groups()) else {
            return;
        };
        let (Some(last), Some(newest)) = (lead.last, self.epoch.latest_independent(lead.id)) else {
            return;
        };
        let ahead = newest.header().stamp.base_decode_time.saturating_sub(last);
        if newest.header().seq > lead.seq && ahead > ticks(BEHIND, lead.timescale) {
            self.go_to(&newest);
        }
    }

    /// Where the last frame that was given ends.
    fn end(&self) -> i64 {
        let ends = self.readers.iter().filter_map(|r| {
            let end = r.last?.saturating_add(r.step);
            Some(rescale(end, r.timescale, NANOS).saturating_add(self.offset))
        });
        ends.max().unwrap_or(0)
    }
}

/// Where a viewer begins in an epoch: at the newest keyframe, so that it is live at once; one who comes from another
/// epoch at the oldest from which on it is not behind.
fn begin(epoch: &EpochLine, lead: &Reader, follows: bool) -> Option<Arc<Group>> {
    let newest = epoch.latest_independent(lead.id)?;
    let at = |group: &Group| group.header().stamp.base_decode_time;
    let from = at(&newest).saturating_sub(ticks(BEHIND, lead.timescale));
    let mut groups = epoch.groups(lead.id).into_iter();
    let oldest = groups.find(|g| follows && g.header().independent && at(g) >= from);
    Some(oldest.unwrap_or(newest))
}

impl Reader {
    fn new(track: &Track) -> Self {
        let step = match *track.config.detail() {
            TrackDetail::Video { rate: (n, d), .. } if n > 0 && d > 0 => {
                u64::from(track.timescale) * u64::from(d) / u64::from(n)
            }
            _ => track.part_target / u64::from(track.frames_per_part.max(1)),
        };
        Self {
            id: track.id,
            kind: track.kind,
            timescale: track.timescale,
            config: Arc::clone(&track.config),
            group: None,
            at: 0,
            seq: GroupSeq(0),
            from: i64::MIN,
            lost: false,
            peeked: None,
            last: None,
            step: i64::try_from(step).unwrap_or(1).max(1),
        }
    }

    fn line(&self) -> Line {
        Line {
            kind: self.kind,
            timescale: self.timescale,
            config: Arc::clone(&self.config),
        }
    }

    fn open(&mut self, group: Option<Arc<Group>>) {
        if let Some(group) = &group {
            self.seq = group.header().seq.next();
        }
        self.group = group;
        (self.at, self.peeked, self.lost) = (0, None, false);
        // What was given before is not given again.
        self.from = self
            .from
            .max(self.last.map_or(i64::MIN, |last| last.saturating_add(1)));
    }

    fn is_between_groups(&self) -> bool {
        let group = self.group.as_ref().filter(|_| self.peeked.is_none());
        group.is_some_and(|g| {
            g.with_frames(|frames, phase| phase != Phase::Open && self.at >= frames.len())
        })
    }

    /// Reads the next frame, if it is here.
    fn peek(&mut self, epoch: &EpochLine) {
        while self.peeked.is_none() {
            let read = self
                .group
                .as_ref()
                .map(|g| g.with_frames(|frames, phase| (frames.get(self.at).cloned(), phase)));
            match read {
                Some((Some(frame), _)) => {
                    self.at += 1;
                    self.lost &= !frame.keyframe;
                    if !self.lost && frame.dts >= self.from {
                        self.peeked = Some(frame);
                    }
                }
                Some((None, Phase::Open)) => return,
                Some((None, Phase::Broken)) => {
                    // The same group may come again, with the same frames; else it is a hole.
                    let seq = GroupSeq(self.seq.0.saturating_sub(1));
                    let later = epoch.next_group(self.id, self.seq);
                    match epoch.group(self.id, seq) {
                        Some(again) => self.group = Some(again),
                        None if later.is_none_or(|g| g.phase() == Phase::Open) => return,
                        None => {
                            self.advance(epoch);
                            self.lost = self.kind == TrackKind::Video;
                        }
                    }
                }
                Some((None, Phase::Finished)) | None => {
                    if !self.advance(epoch) {
                        return;
                    }
                }
            }
        }
    }

    /// To the next group; one that is missing is waited for until a later one is whole.
    fn advance(&mut self, epoch: &EpochLine) -> bool {
        let Some(group) = epoch.next_group(self.id, self.seq) else {
            return false;
        };
        let next = group.header().seq == self.seq;
        if !next && group.phase() != Phase::Finished && !epoch.ended() {
            return false;
        }
        self.lost |= !next && self.kind == TrackKind::Video;
        self.seq = group.header().seq.next();
        self.group = Some(group);
        self.at = 0;
        true
    }
}
