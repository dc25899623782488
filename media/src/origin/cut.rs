//! Where segments, parts and groups begin in one track.
use std::time::Duration;

use crate::live::{Cut, Epoch, Group, GroupSeq};

/// A track's constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) timescale: i64,
    /// A frame's nominal duration in ticks, at least 1.
    pub(super) frame: i64,
    pub(super) frames_per_part: u32,
    pub(super) part_target: i64,
}

impl Measure {
    /// For frames of `num / den` seconds; `slack` per mille of the part target above the nominal duration.
    pub(super) fn new(timescale: u32, num: i64, den: i64, slack: i64) -> Self {
        let scale = i64::from(timescale);
        let near = i64::try_from(Epoch::PART_NEAR.as_millis()).unwrap_or(200);
        // The count whose duration is nearest: n and n + 1 frames are equally near at n + 1/2.
        let frames = super::clock::div_round(near * den, 1000 * num).max(1);
        let part = frames * num * scale;
        Self {
            timescale: scale,
            frame: super::clock::div_round(num * scale, den).max(1),
            frames_per_part: u32::try_from(frames).unwrap_or(u32::MAX),
            part_target: (part * (1000 + slack) + den * 1000 - 1) / (den * 1000),
        }
    }

    /// A duration in ticks.
    pub(super) fn ticks(&self, d: Duration) -> i64 {
        i64::try_from(d.as_millis()).unwrap_or(i64::MAX / 1_000_000) * self.timescale / 1000
    }
}

/// What a frame asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    pub(super) segment: bool,
    pub(super) group: bool,
}

/// Where a frame was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) cut: Cut,
    /// The group that begins with it.
    pub(super) group: Option<GroupSeq>,
    pub(super) segment: u64,
    pub(super) part: u32,
}

/// One track's counters.
#[derive(Debug)]
pub(super) struct Cutter {
    pub(super) measure: Measure,
    pub(super) segment: u64,
    pub(super) segment_start: i64,
    pub(super) group_start: i64,
    part: u32,
    part_start: i64,
    part_frames: u32,
    next_group: GroupSeq,
    group_bytes: usize,
    group_frames: usize,
    begun: bool,
}

impl Cutter {
    pub(super) const fn new(measure: Measure) -> Self {
        Self {
            measure,
            segment: 0,
            segment_start: 0,
            group_start: 0,
            part: 0,
            part_start: 0,
            part_frames: 0,
            next_group: GroupSeq(0),
            group_bytes: 0,
            group_frames: 0,
            begun: false,
        }
    }

    /// From which age on, in ticks, the running segment may close.
    pub(super) fn target(&self) -> i64 {
        let target = if self.segment == 0 {
            Epoch::FIRST_TARGET
        } else {
            Epoch::SEGMENT_TARGET
        };
        self.measure.ticks(target) - self.measure.frame / 2
    }

    /// Puts the next frame somewhere.
    pub(super) fn place(&mut self, dts: i64, bytes: usize, wish: Wish) -> Spot {
        let first = !std::mem::replace(&mut self.begun, true);
        let cut = if first || wish.segment {
            self.segment += u64::from(!first);
            self.segment_start = dts;
            self.part = 0;
            Cut::Segment
        } else if self.part_is_full(dts) {
            self.part += 1;
            Cut::Part
        } else {
            Cut::None
        };
        if cut == Cut::None {
            self.part_frames += 1;
        } else {
            (self.part_start, self.part_frames) = (dts, 1);
        }
        let full =
            self.group_bytes + bytes > Group::MAX_BYTES || self.group_frames >= Group::MAX_FRAMES;
        let mut group = None;
        if cut == Cut::Segment || wish.group || full {
            group = Some(self.next_group);
            self.next_group = self.next_group.next();
            (self.group_start, self.group_bytes, self.group_frames) = (dts, 0, 0);
        }
        self.group_bytes += bytes;
        self.group_frames += 1;
        Spot {
            cut,
            group,
            segment: self.segment,
            part: self.part,
        }
    }

    /// Whether the running part is to end before a frame at `dts`. Where the encoder's rate is the announced one, it is
    /// the number of frames that decides; the two other rules are for encoders that send more or fewer frames, or none
    /// for a while.
    fn part_is_full(&self, dts: i64) -> bool {
        let Measure {
            frame,
            frames_per_part,
            part_target,
            ..
        } = self.measure;
        let so_far = dts - self.part_start;
        let frames = i64::from(self.part_frames);
        let counted = frames >= i64::from(frames_per_part) && so_far * 100 >= part_target * 85;
        let late = so_far > part_target - frame / 2;
        let dense =
            (frames + 1) * frame > part_target && so_far * (frames + 1) / frames > part_target;
        counted || late || dense
    }
}
