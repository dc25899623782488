//! A broadcast: its recent epochs, each with a bounded window of groups by track; and the table of all broadcasts.
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use routing::model::{BroadcastId, EpochId};
use tokio::sync::watch;

use super::{
    Epoch, Follows, Group, GroupHeader, GroupReader, GroupSeq, GroupWriter, Last, Phase, TrackId,
};

/// Why the model refused a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A frame's decode time does not rise.
    #[error("a frame's decode time is not later than that of the frame before it")]
    DecodeTime,
    /// A segment may open only with a group.
    #[error("a segment opens in the middle of a group")]
    SegmentInMidGroup,
    /// The group has its 8 MiB or its 4096 frames.
    #[error("the group is full: 8 MiB or 4096 frames")]
    GroupFull,
    /// The header names an epoch or a track that the broadcast does not have.
    #[error("the group belongs to an epoch or a track that this broadcast does not have")]
    Unknown,
    /// That group is there, or being written, or already left the window.
    #[error("the group is already there, or older than the window")]
    Present,
    /// The epoch ended.
    #[error("the epoch has ended")]
    Ended,
}

/// How much of a broadcast is kept in memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At least this much media time by track, while `bytes` allows. The default, 48 s, is eight target durations
    /// (32 s, what a playlist lists) and a few segments for those who are behind.
    pub window: Duration,
    /// Never more payload than this, all tracks together. The default is 112 MiB: 48 s at 19 Mbit/s.
    pub bytes: usize,
    /// Epochs kept, the current one included.
    pub epochs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(48),
            bytes: 112 << 20,
            epochs: 4,
        }
    }
}

#[derive(Debug, Default)]
struct Line {
    groups: BTreeMap<GroupSeq, Arc<Group>>,
    /// Groups below this left the window.
    floor: GroupSeq,
    /// With the epoch's end mark: what its last frame was.
    last: Option<Last>,
}

/// One epoch's window of groups, by track.
#[derive(Debug)]
pub struct EpochLine {
    epoch: Arc<Epoch>,
    lines: Mutex<(Vec<Line>, bool)>,
}

impl EpochLine {
    fn lines(&self) -> MutexGuard<'_, (Vec<Line>, bool)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its header.
    #[must_use]
    pub const fn epoch(&self) -> &Arc<Epoch> {
        &self.epoch
    }

    /// Whether its end mark is there: no group will follow.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.lines().1
    }

    /// The groups of a track now in the window, in order, broken ones left out.
    #[must_use]
    pub fn groups(&self, track: TrackId) -> Vec<Arc<Group>> {
        let lines = self.lines();
        let Some(line) = lines.0.get(track.index()) else {
            return Vec::new();
        };
        line.groups
            .values()
            .filter(|g| g.phase() != Phase::Broken)
            .cloned()
            .collect()
    }

    /// One group.
    #[must_use]
    pub fn group(&self, track: TrackId, seq: GroupSeq) -> Option<Arc<Group>> {
        self.lines()
            .0
            .get(track.index())?
            .groups
            .get(&seq)
            .filter(|g| g.phase() != Phase::Broken)
            .cloned()
    }

    /// The latest group of a track whose first frame can be decoded by itself: where a late joiner starts.
    #[must_use]
    pub fn latest_independent(&self, track: TrackId) -> Option<Arc<Group>> {
        self.groups(track)
            .into_iter()
            .rev()
            .find(|g| g.header().independent && g.with_frames(|f, _| !f.is_empty()))
    }

    /// The first group of a track from `from` on that is not broken.
    #[must_use]
    pub fn next_group(&self, track: TrackId, from: GroupSeq) -> Option<Arc<Group>> {
        self.lines()
            .0
            .get(track.index())?
            .groups
            .range(from..)
            .map(|(_, group)| group)
            .find(|group| group.phase() != Phase::Broken)
            .cloned()
    }

    /// Which groups of `from..to` a track lacks: neither here nor below the window. At most the first `limit`.
    #[must_use]
    pub fn missing(
        &self,
        track: TrackId,
        from: GroupSeq,
        to: GroupSeq,
        limit: usize,
    ) -> Vec<GroupSeq> {
        let lines = self.lines();
        let Some(line) = lines.0.get(track.index()) else {
            return Vec::new();
        };
        (from.max(line.floor).0..to.0)
            .map(GroupSeq)
            .filter(|seq| {
                line.groups
                    .get(seq)
                    .is_none_or(|group| group.phase() == Phase::Broken)
            })
            .take(limit)
            .collect()
    }

    /// The epoch's last numbers as its successor states them, from what is here. Without an end mark it broke off.
    #[must_use]
    pub fn follows(&self) -> Follows {
        let lines = self.lines();
        let broken = !lines.1;
        let last = lines.0.iter().zip(&self.epoch.tracks).map(|(line, track)| {
            line.last_numbers()
                .or(line.last)
                // Nothing was begun: the last is the one before the first.
                .unwrap_or(Last {
                    segment: track.first_segment.saturating_sub(1),
                    dts: 0,
                    start: 0,
                    group: GroupSeq(0),
                })
        });
        Follows {
            epoch: self.epoch.id,
            last: last.collect(),
            broken,
        }
    }
}

impl Line {
    /// Where the last frame here stands.
    fn last_numbers(&self) -> Option<Last> {
        let mut held = self.groups.values().rev().filter_map(|group| {
            let dts = group.with_frames(|frames, _| frames.last().map(|f| f.dts))?;
            (group.phase() != Phase::Broken).then_some((group.header(), dts))
        });
        let (newest, dts) = held.next()?;
        let segment = newest.stamp.segment;
        let first = held
            .map(|(header, _)| header)
            .take_while(|header| header.stamp.segment == segment)
            .last()
            .unwrap_or(newest);
        Some(Last {
            segment,
            dts,
            start: first.stamp.base_decode_time,
            group: first.seq,
        })
    }
}

/// A stream while it is live, on one node: origin or replica alike.
#[derive(Debug)]
pub struct Broadcast {
    id: BroadcastId,
    limits: Limits,
    epochs: Mutex<Vec<Arc<EpochLine>>>,
    filling: AtomicBool,
    changed: watch::Sender<u64>,
}

impl Broadcast {
    /// An empty broadcast.
    #[must_use]
    pub fn new(id: BroadcastId, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            id,
            limits,
            epochs: Mutex::new(Vec::new()),
            filling: AtomicBool::new(false),
            changed: watch::Sender::new(0),
        })
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> BroadcastId {
        self.id
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<EpochLine>>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its epochs in the window, oldest first.
    #[must_use]
    pub fn epochs(&self) -> Vec<Arc<EpochLine>> {
        self.lock().clone()
    }

    /// The current epoch: the newest that has no end mark; where all have ended, the newest. After a partition the
    /// epoch that stays may be the older one.
    #[must_use]
    pub fn current(&self) -> Option<Arc<EpochLine>> {
        let epochs = self.lock();
        let running = epochs.iter().rev().find(|line| !line.ended());
        running.or(epochs.last()).cloned()
    }

    /// Whether what a playlist lists is here as far as it can be had: true at an origin; at a replica once it has
    /// fetched the groups from before it joined, or nobody has them.
    #[must_use]
    pub fn backfilled(&self) -> bool {
        !self.filling.load(Ordering::Acquire)
    }

    /// Says whether [`Broadcast::backfilled`]; wakes [`Broadcast::changes`] where that is another answer.
    pub fn set_backfilled(&self, filled: bool) {
        if self.filling.swap(!filled, Ordering::AcqRel) == filled {
            self.changed.send_modify(|v| *v += 1);
        }
    }

    /// The epoch with this id.
    #[must_use]
    pub fn epoch(&self, id: EpochId) -> Option<Arc<EpochLine>> {
        self.lock().iter().find(|e| e.epoch.id == id).cloned()
    }

    /// Rises with every epoch, group, frame and end: wait on it, then look. Waking is cheap but not free; what wakes
    /// many should wait on something rarer that one task derives from it.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Opens an epoch, or finds it open. It becomes the current one where it is newer than the current one; the
    /// oldest beyond the limit leaves.
    pub fn open(&self, epoch: Arc<Epoch>) -> Arc<EpochLine> {
        let mut epochs = self.lock();
        if let Some(line) = epochs.iter().find(|e| e.epoch.id == epoch.id) {
            return Arc::clone(line);
        }
        let lines = Mutex::new((
            epoch.tracks.iter().map(|_| Line::default()).collect(),
            false,
        ));
        let line = Arc::new(EpochLine { epoch, lines });
        epochs.push(Arc::clone(&line));
        epochs.sort_by_key(|e| e.epoch.id);
        let excess = epochs.len().saturating_sub(self.limits.epochs);
        epochs.drain(..excess);
        drop(epochs);
        self.changed.send_modify(|v| *v += 1);
        line
    }

    /// Sets an epoch's end mark: no group will follow those begun.
    pub fn end(&self, epoch: EpochId) {
        if let Some(line) = self.epoch(epoch) {
            line.lines().1 = true;
            self.changed.send_modify(|v| *v += 1);
        }
    }

    /// Takes an epoch's end mark back: its publisher was thought gone, and goes on.
    pub fn reopen(&self, epoch: EpochId) {
        if let Some(line) = self.epoch(epoch)
            && std::mem::take(&mut line.lines().1)
        {
            self.changed.send_modify(|v| *v += 1);
        }
    }

    /// Begins a group; groups may begin in any order, as a relay receives them. A broken one may begin again.
    ///
    /// # Errors
    /// [`ModelError::Unknown`] or [`ModelError::Present`].
    pub fn begin(self: &Arc<Self>, header: GroupHeader) -> Result<GroupWriter, ModelError> {
        let line = self.epoch(header.epoch).ok_or(ModelError::Unknown)?;
        let group = Group::new(header);
        let (track, seq) = (group.header().track, group.header().seq);
        {
            let mut lines = line.lines();
            let line = lines.0.get_mut(track.index()).ok_or(ModelError::Unknown)?;
            if seq < line.floor
                || line
                    .groups
                    .get(&seq)
                    .is_some_and(|g| g.phase() != Phase::Broken)
            {
                return Err(ModelError::Present);
            }
            line.groups.insert(seq, Arc::clone(&group));
        }
        self.trim();
        self.changed.send_modify(|v| *v += 1);
        Ok(GroupWriter {
            group,
            broadcast: Arc::clone(self),
            frames: 0,
            last_dts: None,
        })
    }

    pub(super) fn grew(&self) {
        self.changed.send_modify(|v| *v += 1);
    }

    /// Reads a track's groups in order, from `from` or the oldest that is there after it.
    #[must_use]
    pub fn reader(self: &Arc<Self>, epoch: EpochId, track: TrackId, from: GroupSeq) -> TrackReader {
        TrackReader {
            changed: self.changes(),
            broadcast: Arc::clone(self),
            epoch,
            track,
            next: from,
        }
    }

    /// Drops the oldest groups that the window does not ask for, and older ones while there are too many bytes.
    fn trim(&self) {
        let epochs = self.epochs();
        let mut total = 0;
        for line in epochs.iter().rev() {
            let mut lines = line.lines();
            for (track, line) in line.epoch.tracks.iter().zip(lines.0.iter_mut()) {
                let Some(edge) = line
                    .groups
                    .values()
                    .next_back()
                    .map(|g| g.header().stamp.base_decode_time)
                else {
                    continue;
                };
                let window = i64::try_from(self.limits.window.as_millis()).unwrap_or(i64::MAX);
                let keep_from = edge - window.saturating_mul(i64::from(track.timescale)) / 1000;
                let mut cut = None;
                for (seq, group) in line.groups.iter().rev() {
                    total += group.with_frames(|frames, _| {
                        frames.iter().map(|f| f.data.len()).sum::<usize>()
                    });
                    let old = group.header().stamp.base_decode_time < keep_from;
                    if (old || total > self.limits.bytes)
                        && Some(seq) != line.groups.keys().next_back()
                    {
                        cut = Some(*seq);
                        break;
                    }
                }
                if let Some(cut) = cut {
                    line.last = line.last_numbers().or(line.last);
                    line.floor = cut.next();
                    line.groups = line.groups.split_off(&line.floor);
                }
            }
        }
    }
}

/// Reads one track's groups in order as they begin. Dropping it affects nobody.
#[derive(Debug)]
pub struct TrackReader {
    broadcast: Arc<Broadcast>,
    changed: watch::Receiver<u64>,
    epoch: EpochId,
    track: TrackId,
    next: GroupSeq,
}

impl TrackReader {
    /// The next group that begins; `None` once the epoch has ended, or left the window, and all were read. A group that
    /// is missing is waited for until a later one is there and finished. Cancel-safe.
    pub async fn next(&mut self) -> Option<GroupReader> {
        loop {
            self.changed.borrow_and_update();
            let line = self.broadcast.epoch(self.epoch)?;
            let (found, ended) = {
                let lines = line.lines();
                let groups = &lines.0.get(self.track.index())?.groups;
                let mut later = groups
                    .range(self.next..)
                    .map(|(_, g)| g)
                    .filter(|g| g.phase() != Phase::Broken);
                let first = later.next().cloned();
                let exact = first
                    .as_ref()
                    .is_some_and(|g| g.header().seq == self.next || g.phase() == Phase::Finished);
                (first.filter(|_| exact || lines.1), lines.1)
            };
            if let Some(group) = found {
                self.next = group.header().seq.next();
                return Some(group.reader());
            }
            if ended || self.changed.changed().await.is_err() {
                return None;
            }
        }
    }
}

/// The broadcasts of a node.
#[derive(Debug, Default)]
pub struct Broadcasts {
    table: Mutex<HashMap<BroadcastId, Arc<Broadcast>>>,
    limits: Limits,
}

impl Broadcasts {
    /// None yet; each will have these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            table: Mutex::default(),
            limits,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BroadcastId, Arc<Broadcast>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broadcast, where this node holds it.
    #[must_use]
    pub fn get(&self, id: BroadcastId) -> Option<Arc<Broadcast>> {
        self.lock().get(&id).cloned()
    }

    /// The broadcast, made empty where it was not there.
    #[must_use]
    pub fn get_or_create(&self, id: BroadcastId) -> Arc<Broadcast> {
        Arc::clone(
            self.lock()
                .entry(id)
                .or_insert_with(|| Broadcast::new(id, self.limits)),
        )
    }

    /// Puts a broadcast back that was removed while somebody still watches it, so that the next publisher feeds those
    /// too. False where another one took its place.
    pub fn keep(&self, broadcast: &Arc<Broadcast>) -> bool {
        let mut table = self.lock();
        let kept = table
            .entry(broadcast.id())
            .or_insert_with(|| Arc::clone(broadcast));
        Arc::ptr_eq(kept, broadcast)
    }

    /// Forgets it. Who holds a handle keeps what is there.
    pub fn remove(&self, id: BroadcastId) -> Option<Arc<Broadcast>> {
        self.lock().remove(&id)
    }

    /// All, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Broadcast>> {
        self.lock().values().cloned().collect()
    }
}
