//! A run of frames of one track that is sent, kept and counted whole.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use routing::model::EpochId;
use tokio::sync::watch;

use super::{Cut, Frame, TrackConfig, TrackId};

/// A group's place in its track's line in its epoch, from 0 without gaps.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(transparent)]
pub struct GroupSeq(#[n(0)] pub u64);

impl GroupSeq {
    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Where a group's first frame stands in every playlist: what the origin says once and everybody packages by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Stamp {
    /// Media sequence number of the segment that the first frame belongs to.
    #[n(0)]
    pub segment: u64,
    /// Number in that segment of the part that the first frame belongs to. A part may run on from the group before:
    /// the first frame's [`Cut`] says whether it opens one.
    #[n(1)]
    pub part: u32,
    /// EXT-X-DISCONTINUITY-SEQUENCE that holds for it.
    #[n(2)]
    pub discontinuity: u64,
    /// Decode time of its first frame, in ticks.
    #[n(3)]
    pub base_decode_time: i64,
}

/// A group's header. Immutable and the same on every node.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct GroupHeader {
    /// Of which epoch.
    #[n(0)]
    pub epoch: EpochId,
    /// Of which track.
    #[n(1)]
    pub track: TrackId,
    /// Which in the track's line.
    #[n(2)]
    pub seq: GroupSeq,
    /// Whether decoding can start at its first frame; false for a continuation after 4 s without a keyframe.
    #[n(3)]
    pub independent: bool,
    /// Where its first frame stands.
    #[n(4)]
    pub stamp: Stamp,
    /// What a decoder needs before its frames.
    #[cbor(n(5), with = "crate::wire::shared")]
    pub config: Arc<TrackConfig>,
}

/// How far a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// More frames may come.
    Open,
    /// It has all its frames.
    Finished,
    /// Its writer went away before its end: it counts for nothing until it is fetched again.
    Broken,
}

#[derive(Debug)]
struct State {
    frames: Vec<Frame>,
    bytes: usize,
    phase: Phase,
}

/// A group in memory: appended to by one writer, read by any number.
#[derive(Debug)]
pub struct Group {
    header: GroupHeader,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Group {
    /// A group has at most this many payload bytes; then the origin starts a continuation.
    pub const MAX_BYTES: usize = 8 << 20;
    /// And at most this many frames: 8 s at 240 a second, doubled.
    pub const MAX_FRAMES: usize = 4096;

    pub(super) fn new(header: GroupHeader) -> Arc<Self> {
        let state = Mutex::new(State {
            frames: Vec::new(),
            bytes: 0,
            phase: Phase::Open,
        });
        Arc::new(Self {
            header,
            state,
            changed: watch::Sender::new(()),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &GroupHeader {
        &self.header
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// The payload so far, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// The frames so far; their bytes are shared, not copied.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        self.state().frames.clone()
    }

    /// Looks at the frames so far without copying them. Keep `look` short: it holds up the writer.
    pub fn with_frames<T>(&self, look: impl FnOnce(&[Frame], Phase) -> T) -> T {
        let state = self.state();
        look(&state.frames, state.phase)
    }

    /// Reads its frames as they come, from the first.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> GroupReader {
        GroupReader {
            changed: self.changed.subscribe(),
            group: Arc::clone(self),
            next: 0,
        }
    }

    pub(super) fn push(&self, frame: Frame) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.bytes += frame.data.len();
            state.frames.push(frame);
        }
        drop(state);
        self.changed.send_replace(());
    }

    pub(super) fn end(&self, phase: Phase) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = phase;
        }
        drop(state);
        self.changed.send_replace(());
    }
}

/// Reads a group's frames as they come. Dropping it affects nobody.
#[derive(Debug)]
pub struct GroupReader {
    group: Arc<Group>,
    changed: watch::Receiver<()>,
    next: usize,
}

impl GroupReader {
    /// The group that it reads.
    #[must_use]
    pub const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// The next frame; `None` at the end. Ask [`Group::phase`] then whether the end is its end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            self.changed.borrow_and_update();
            let (frame, phase) = self
                .group
                .with_frames(|frames, phase| (frames.get(self.next).cloned(), phase));
            if let Some(frame) = frame {
                self.next += 1;
                return Some(frame);
            }
            if phase != Phase::Open || self.changed.changed().await.is_err() {
                return None;
            }
        }
    }
}

/// The one writer of a group. Dropped without [`GroupWriter::finish`], it leaves the group broken.
#[derive(Debug)]
pub struct GroupWriter {
    pub(super) group: Arc<Group>,
    pub(super) broadcast: Arc<super::Broadcast>,
    pub(super) frames: usize,
    pub(super) last_dts: Option<i64>,
}

impl GroupWriter {
    /// Appends a frame and wakes the readers.
    ///
    /// # Errors
    /// [`super::ModelError`] where the frame breaks the group's rules: decode time not rising, a segment that opens
    /// in mid-group, or the group's limits exceeded. The group is unchanged then.
    pub fn push(&mut self, frame: Frame) -> Result<(), super::ModelError> {
        use super::ModelError;
        if self.last_dts.is_some_and(|last| frame.dts <= last) {
            return Err(ModelError::DecodeTime);
        }
        if frame.cut == Cut::Segment && self.frames > 0 {
            return Err(ModelError::SegmentInMidGroup);
        }
        if self.group.bytes() + frame.data.len() > Group::MAX_BYTES
            || self.frames >= Group::MAX_FRAMES
        {
            return Err(ModelError::GroupFull);
        }
        self.frames += 1;
        self.last_dts = Some(frame.dts);
        self.group.push(frame);
        self.broadcast.grew();
        Ok(())
    }

    /// The group that it writes.
    #[must_use]
    pub const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// The group has all its frames.
    pub fn finish(self) {
        self.group.end(Phase::Finished);
        // Drop does the rest: ending twice has no effect.
    }
}

impl Drop for GroupWriter {
    fn drop(&mut self) {
        self.group.end(Phase::Broken);
        self.broadcast.grew();
    }
}
