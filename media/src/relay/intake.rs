//! Where a replica's groups are put together: any number of streams, from old and new sources, offer the frames of a
//! group from its first; each frame enters the model once. So a change of source in mid-group leaves the same bytes.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use routing::model::{EpochId, Uptime};

use super::wire::{Announce, End, Position, Resume};
use crate::live::{Broadcast, Frame, GroupHeader, GroupSeq, GroupWriter, ModelError, TrackId};

/// A group by name.
pub(super) type Key = (EpochId, TrackId, GroupSeq);

/// Groups being written at once. When full the one with the lowest name is given up, as broken.
const MAX_OPEN: usize = 256;
/// Missing groups that are told of one track at once; the next ones when these are there.
const MAX_MISSING: usize = 64;

/// Why a stream's frames are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IntakeError {
    /// The group is whole, left the window, or is of an epoch that is not open here: nothing wrong, nothing to do.
    #[error("the group is not wanted")]
    NotWanted,
    /// A frame differs from the one that another source gave, or breaks the model's rules: this source does not
    /// carry the epoch that it says it carries.
    #[error("the source's frames are not those of this epoch")]
    Foreign,
}

#[derive(Debug)]
struct Slot {
    writer: Option<GroupWriter>,
    count: usize,
    feeders: usize,
}

#[derive(Debug, Default)]
struct Line {
    /// What is wanted at all: from here.
    low: GroupSeq,
    /// Below this, what is missing comes only by asking; from here on it may be under way.
    live: GroupSeq,
    /// After the last group that was begun, or that the end mark tells of.
    high: GroupSeq,
    heard: Option<Uptime>,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<Key, Arc<Mutex<Slot>>>,
    lines: BTreeMap<EpochId, Vec<Line>>,
    /// Epochs whose end mark waits for their last groups.
    ending: BTreeSet<EpochId>,
}

impl State {
    fn is_past(&self, key: &Key) -> bool {
        let line = self.lines.get(&key.0).and_then(|l| l.get(key.1.index()));
        line.is_some_and(|line| key.2 < line.live)
    }
}

/// The groups of one replica under construction.
#[derive(Debug)]
pub(super) struct Intake {
    broadcast: Arc<Broadcast>,
    state: Mutex<State>,
}

/// A group that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) key: Key,
    /// It comes only by asking: nobody will send it by itself.
    pub(super) past: bool,
}

impl Intake {
    pub(super) fn new(broadcast: Arc<Broadcast>) -> Arc<Self> {
        Arc::new(Self {
            broadcast,
            state: Mutex::default(),
        })
    }

    /// What it writes to.
    pub(super) const fn broadcast(&self) -> &Arc<Broadcast> {
        &self.broadcast
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An epoch that a source announces. Its end mark, where it is due, follows by [`Intake::end`].
    pub(super) fn announce(&self, announce: &Announce) {
        let epoch = &announce.epoch;
        let mut state = self.state();
        let lines = state
            .lines
            .entry(epoch.id)
            .or_insert_with(|| announce.spans.iter().map(|_| Line::default()).collect());
        for (line, span) in lines.iter_mut().zip(&announce.spans) {
            if line.high == GroupSeq::default() {
                // The first word on this epoch; a later source neither shortens nor lengthens what is wanted.
                *line = Line {
                    low: span.back,
                    live: span.live,
                    high: span.live,
                    heard: line.heard,
                };
            }
        }
        drop(state);
        self.broadcast.open(Arc::clone(epoch));
        let known: BTreeSet<EpochId> = self
            .broadcast
            .epochs()
            .iter()
            .map(|line| line.epoch().id)
            .collect();
        self.state().lines.retain(|id, _| known.contains(id));
    }

    /// From which group on this replica wants a track, held or not.
    pub(super) fn low(&self, epoch: EpochId, track: TrackId) -> Option<GroupSeq> {
        let state = self.state();
        Some(state.lines.get(&epoch)?.get(track.index())?.low)
    }

    /// A source says that an epoch is over. It is here too once its last groups are, or are given up.
    pub(super) fn end(&self, end: &End) {
        let mut state = self.state();
        if let Some(lines) = state.lines.get_mut(&end.epoch) {
            for (line, next) in lines.iter_mut().zip(&end.next) {
                // A number far above what was begun would make a list of holes without end.
                line.high = line
                    .high
                    .max((*next).min(GroupSeq(line.high.0 + super::wire::MAX_FETCH)));
            }
            state.ending.insert(end.epoch);
        }
    }

    /// Whether an epoch was announced.
    pub(super) fn knows(&self, epoch: EpochId) -> bool {
        self.state().lines.contains_key(&epoch)
    }

    /// A stream opens with this header.
    pub(super) fn feed(self: &Arc<Self>, header: GroupHeader) -> Result<Feed, IntakeError> {
        let key = (header.epoch, header.track, header.seq);
        let mut state = self.state();
        let lines = state.lines.get_mut(&key.0).ok_or(IntakeError::NotWanted)?;
        let line = lines.get_mut(key.1.index()).ok_or(IntakeError::Foreign)?;
        line.high = line.high.max(key.2.next());
        let slot = if let Some(slot) = state.open.get(&key) {
            if slot
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .writer
                .as_ref()
                .is_some_and(|w| *w.group().header() != header)
            {
                return Err(IntakeError::Foreign);
            }
            Arc::clone(slot)
        } else {
            let writer = match self.broadcast.begin(header) {
                Ok(writer) => writer,
                Err(ModelError::Unknown) => return Err(IntakeError::Foreign),
                Err(_) => return Err(IntakeError::NotWanted),
            };
            if state.open.len() >= MAX_OPEN
                && let Some((_, oldest)) = state.open.pop_first()
            {
                give_up(&oldest);
            }
            let slot = Arc::new(Mutex::new(Slot {
                writer: Some(writer),
                count: 0,
                feeders: 0,
            }));
            state.open.insert(key, Arc::clone(&slot));
            slot
        };
        slot.lock().unwrap_or_else(PoisonError::into_inner).feeders += 1;
        Ok(Feed {
            intake: Arc::clone(self),
            key,
            slot,
            next: 0,
        })
    }

    /// Since when each track of the current epoch is silent, the longest: data tracks may be silent at will.
    pub(super) fn heard(&self) -> Option<Uptime> {
        let current = self.broadcast.current()?;
        let state = self.state();
        let lines = state.lines.get(&current.epoch().id)?;
        let tracks = current.epoch().tracks.iter().zip(lines);
        tracks
            .filter(|(track, _)| track.kind != routing::model::TrackKind::Data)
            .filter_map(|(_, line)| line.heard)
            .min()
    }

    /// What is missing and should be fetched, and whether that includes what a playlist lists.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let state = self.state();
        let mut all = Vec::new();
        for (epoch, lines) in &state.lines {
            let Some(held) = self.broadcast.epoch(*epoch) else {
                continue;
            };
            for (line, track) in lines.iter().zip(0..) {
                let track = TrackId(track);
                let absent = held.missing(track, line.low, line.high, MAX_MISSING);
                all.extend(absent.into_iter().map(|seq| Missing {
                    key: (*epoch, track, seq),
                    past: seq < line.live,
                }));
            }
        }
        all.extend(state.open.iter().filter_map(|(key, slot)| {
            let idle = slot.lock().unwrap_or_else(PoisonError::into_inner).feeders == 0;
            let past = state.is_past(key);
            idle.then_some(Missing { key: *key, past })
        }));
        all
    }

    /// Whether a group that came by asking is still being written.
    pub(super) fn is_filling(&self) -> bool {
        let state = self.state();
        state.open.keys().any(|key| state.is_past(key))
    }

    /// Gives a group up: its readers go on to the next.
    pub(super) fn abandon(&self, key: Key) {
        if let Some(slot) = self.state().open.remove(&key) {
            give_up(&slot);
        }
    }

    /// Sets the end marks that no group holds up any more. `lost` says which missing groups were given up.
    pub(super) fn settle(&self, lost: impl Fn(&Key) -> bool) {
        let missing = self.missing();
        let mut state = self.state();
        let ready: Vec<EpochId> = state
            .ending
            .iter()
            .filter(|epoch| {
                !state.open.keys().any(|key| key.0 == **epoch)
                    && missing
                        .iter()
                        .all(|hole| hole.key.0 != **epoch || lost(&hole.key))
            })
            .copied()
            .collect();
        for epoch in &ready {
            state.ending.remove(epoch);
        }
        drop(state);
        for epoch in ready {
            self.broadcast.end(epoch);
        }
    }

    /// Ends every epoch but this one: another publisher took over, and the others' sources are left. This one may have
    /// been ended so before, as after a partition in which its publisher was out of sight.
    pub(super) fn supersede(&self, current: EpochId) {
        let mut ended = Vec::new();
        let mut state = self.state();
        state.ending.remove(&current);
        self.broadcast.reopen(current);
        for line in self.broadcast.epochs() {
            let id = line.epoch().id;
            if id != current && !line.ended() && !state.ending.contains(&id) {
                ended.push(id);
            }
        }
        state.open.retain(|key, slot| {
            let over = ended.contains(&key.0);
            if over {
                give_up(slot);
            }
            !over
        });
        drop(state);
        for epoch in ended {
            self.broadcast.end(epoch);
        }
    }

    /// Where a subscription to a new source goes on: at the first group that is not whole.
    pub(super) fn resume(&self) -> Option<Resume> {
        let current = self.broadcast.current()?;
        let epoch = current.epoch().id;
        let state = self.state();
        let next = state.lines.get(&epoch)?.iter().zip(0..).map(|(line, t)| {
            let open = state.open.keys().find(|key| (key.0, key.1.0) == (epoch, t));
            open.map_or(line.high, |key| key.2)
        });
        Some(Resume {
            epoch,
            next: next.collect(),
        })
    }
}

/// Leaves a group broken, whoever still feeds it.
fn give_up(slot: &Mutex<Slot>) {
    slot.lock().unwrap_or_else(PoisonError::into_inner).writer = None;
}

/// Where a broadcast stands.
pub(super) fn position(
    broadcast: &Broadcast,
    path: Vec<routing::model::NodeId>,
) -> Option<Position> {
    let line = broadcast.current()?;
    let epoch = line.epoch();
    let newest = |track: &crate::live::Track| {
        let newest = line.groups(track.id).pop();
        newest.map_or((GroupSeq(0), 0), |group| {
            let frames = group.with_frames(|frames, _| frames.len());
            (group.header().seq, u32::try_from(frames).unwrap_or(0))
        })
    };
    Some(Position {
        epoch: epoch.id,
        stamp: epoch.claim,
        origin: epoch.origin,
        ended: line.ended(),
        tracks: epoch.tracks.iter().map(newest).collect(),
        path,
    })
}

/// One stream's frames on their way into a group. Dropped before the end, it leaves the group to others.
#[derive(Debug)]
pub(super) struct Feed {
    intake: Arc<Intake>,
    key: Key,
    slot: Arc<Mutex<Slot>>,
    next: usize,
}

impl Feed {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream's next frame came.
    pub(super) fn offer(&mut self, frame: Frame, now: Uptime) -> Result<(), IntakeError> {
        let mut slot = self.slot();
        let count = slot.count;
        let writer = slot.writer.as_mut().ok_or(IntakeError::NotWanted)?;
        if self.next < count {
            let same = writer
                .group()
                .with_frames(|frames, _| frames.get(self.next) == Some(&frame));
            if !same {
                return Err(IntakeError::Foreign);
            }
        } else {
            writer.push(frame).map_err(|_| IntakeError::Foreign)?;
            slot.count += 1;
        }
        drop(slot);
        if self.next >= count {
            self.heard(now);
        }
        self.next += 1;
        Ok(())
    }

    fn heard(&self, now: Uptime) {
        let mut state = self.intake.state();
        let lines = state.lines.get_mut(&self.key.0);
        // What is fetched back says nothing of whether the source lives.
        if let Some(line) = lines.and_then(|l| l.get_mut(self.key.1.index()))
            && self.key.2 >= line.live
        {
            line.heard = Some(now);
        }
    }

    /// The stream says that the group has all its frames.
    pub(super) fn finish(self) -> Result<(), IntakeError> {
        let mut slot = self.slot();
        if slot.count != self.next {
            // Somebody gave more frames than this source says there are.
            return Err(IntakeError::Foreign);
        }
        let writer = slot.writer.take().ok_or(IntakeError::NotWanted)?;
        drop(slot);
        self.intake.state().open.remove(&self.key);
        writer.finish();
        Ok(())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.slot().feeders -= 1;
    }
}
