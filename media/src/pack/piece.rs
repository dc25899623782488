//! What packaging must know of a group without looking at every frame again.
use std::{ops::Range, sync::Arc};

use crate::live::{Cut, Frame, Group, GroupSeq, Phase};

/// A frame at which a run of frames begins: a group's first, or one that opens a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: usize,
    pub(super) dts: i64,
    pub(super) pts: i64,
    pub(super) cut: Cut,
    pub(super) keyframe: bool,
}

/// A group with its marks, brought up to date by [`Piece::update`].
#[derive(Clone, Debug)]
pub struct Piece {
    group: Arc<Group>,
    pub(super) marks: Vec<Mark>,
    pub(super) frames: usize,
    pub(super) last_dts: i64,
    pub(super) before_last: Option<i64>,
    pub(super) finished: bool,
}

impl Piece {
    /// The piece of this group as it is now.
    #[must_use]
    pub fn new(group: Arc<Group>) -> Self {
        let mut piece = Self {
            group,
            marks: Vec::new(),
            frames: 0,
            last_dts: 0,
            before_last: None,
            finished: false,
        };
        piece.update();
        piece
    }

    /// Takes in the frames that came since. True where that can change a playlist: a mark more, or the group's end.
    pub fn update(&mut self) -> bool {
        if self.finished {
            return false;
        }
        let before = self.marks.len();
        let group = Arc::clone(&self.group);
        group.with_frames(|frames, phase| {
            for (at, frame) in frames.iter().enumerate().skip(self.frames) {
                if at == 0 || frame.cut != Cut::None {
                    self.marks.push(Mark {
                        at,
                        dts: frame.dts,
                        pts: frame.pts(),
                        cut: frame.cut,
                        keyframe: frame.keyframe,
                    });
                }
                self.before_last = (at > 0).then_some(self.last_dts);
                self.last_dts = frame.dts;
            }
            self.frames = frames.len();
            self.finished = phase == Phase::Finished;
        });
        self.finished || self.marks.len() != before
    }

    /// The group.
    #[must_use]
    pub const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// The group's place in its track's line.
    #[must_use]
    pub fn seq(&self) -> GroupSeq {
        self.group.header().seq
    }

    /// Decode time of its first frame.
    pub(super) fn first_dts(&self) -> i64 {
        self.marks.first().map_or(0, |m| m.dts)
    }

    /// The frames whose decode time is in `range`.
    pub(super) fn between(&self, range: &Range<i64>) -> Run {
        let frames = self.group.with_frames(|frames, _| {
            let below = |limit| frames.partition_point(|f: &Frame| f.dts < limit);
            below(range.start)..below(range.end)
        });
        Run {
            group: Arc::clone(&self.group),
            frames,
        }
    }
}

/// Neighbouring frames of one group.
#[derive(Clone, Debug)]
pub struct Run {
    pub(super) group: Arc<Group>,
    pub(super) frames: Range<usize>,
}

impl Run {
    /// The frames, their bytes shared.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        self.group.with_frames(|frames, _| {
            frames
                .get(self.frames.clone())
                .map(<[Frame]>::to_vec)
                .unwrap_or_default()
        })
    }

    /// The group that they are of.
    #[must_use]
    pub const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}
