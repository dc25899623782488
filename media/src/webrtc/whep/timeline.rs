//! One rising timeline for a viewer, whatever epochs it is shown and however far back it starts.
//!
//! ```text
//!  media  K ─────────────── L ──── L+W ────────────►   K: the keyframe that is cached, L: the newest frame at joining
//!         └───┐   squeezed  │  ┌────┘   as it comes
//!  axis       0 ────────────┴─ W ──────────────────►   what RTP time counts, and when frames are due
//! ```
//! A viewer joins at a keyframe of the past. What lies between it and now is sent in W, 1.2 s at most, with its RTP times
//! squeezed as much: the player shows it faster, and is live when it ends, with no delay left.
use std::time::{Duration, Instant};

/// Ticks a second of the axis: a multiple of both RTP clocks.
pub(super) const AXIS: i64 = 720_000;
/// How long catching up may take.
const CATCH_UP: i64 = AXIS * 12 / 10;
/// Catching up takes this many times of what is behind, where that is less.
const GENTLE: i64 = 4;
/// Between what is shown before a new start and after it, at least.
const APART: i64 = AXIS / 1_000;
/// The wall clock of the axis's zero is so far back that no frame's is in the future: sender reports need that.
const BACK: Duration = Duration::from_secs(10);

/// A media time in axis ticks.
pub(super) fn axis(ticks: i64, timescale: u32) -> i64 {
    let scale = i128::from(timescale.max(1));
    i64::try_from(i128::from(ticks) * i128::from(AXIS) / scale).unwrap_or(0)
}

#[derive(Clone, Copy, Debug)]
struct Join {
    /// Axis time of the keyframe.
    base: i64,
    /// Media time of the keyframe, of the newest frame, and how long catching up takes.
    from: i64,
    edge: i64,
    takes: i64,
}

/// The timeline.
#[derive(Debug)]
pub(super) struct Timeline {
    zero: Instant,
    join: Option<Join>,
    last: i64,
}

impl Timeline {
    pub(super) const fn new(zero: Instant) -> Self {
        Self {
            zero,
            join: None,
            last: -APART,
        }
    }

    fn at(&self, now: Instant) -> i64 {
        let nanos = now.saturating_duration_since(self.zero).as_nanos();
        i64::try_from(nanos * AXIS.unsigned_abs() as u128 / 1_000_000_000).unwrap_or(i64::MAX)
    }

    /// Starts, or starts again, at `now` with the frame of media time `from`, while the newest is of `edge`.
    pub(super) fn join(&mut self, now: Instant, from: i64, edge: i64) {
        let behind = (edge - from).max(0);
        let base = self.at(now).max(self.last + APART);
        self.join = Some(Join {
            base,
            from,
            edge: from + behind,
            takes: (behind * GENTLE).min(CATCH_UP),
        });
    }

    /// Where a picture of this media time stands.
    pub(super) fn picture(&mut self, media: i64) -> i64 {
        let Some(join) = self.join else { return 0 };
        let span = join.edge - join.from + join.takes;
        let axis = if media < join.edge + join.takes && span > 0 {
            let squeezed = i128::from(media - join.from) * i128::from(join.takes);
            join.base + i64::try_from(squeezed / i128::from(span)).unwrap_or(0)
        } else {
            Self::live(join, media)
        };
        self.last = self.last.max(axis);
        axis
    }

    /// Where a sound of this media time stands; `None` before the newest frame at joining.
    pub(super) fn sound(&mut self, media: i64) -> Option<i64> {
        let join = self.join.filter(|join| media >= join.edge)?;
        let axis = Self::live(join, media);
        self.last = self.last.max(axis);
        Some(axis)
    }

    const fn live(join: Join, media: i64) -> i64 {
        join.base + (media - join.edge)
    }

    /// When what stands there is due: in catching up not before, else now.
    pub(super) fn due(&self, media: i64, axis: i64) -> Instant {
        match self.join {
            Some(join) if media < join.edge + join.takes => self.zero + duration(axis),
            _ => self.zero,
        }
    }

    /// The wall clock of the axis, for sender reports.
    pub(super) fn wallclock(&self, axis: i64) -> Instant {
        let at = self.zero + duration(axis);
        at.checked_sub(BACK).unwrap_or(at)
    }
}

fn duration(axis: i64) -> Duration {
    Duration::from_nanos(
        (axis.unsigned_abs() as u128 * 1_000_000_000 / AXIS.unsigned_abs() as u128) as u64,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    const SECOND: i64 = AXIS;

    #[test]
    fn a_viewer_is_live_within_two_seconds_whatever_the_keyframe_distance() {
        for behind in [0, 1, 20] {
            let zero = start();
            let mut timeline = Timeline::new(zero);
            timeline.join(zero, 0, behind * SECOND);
            assert_eq!(timeline.picture(0), 0);
            // 2 s later the frame of that moment stands at that moment.
            let media = (behind + 2) * SECOND;
            let axis = timeline.picture(media);
            assert_eq!(axis, 2 * SECOND);
            assert!(timeline.due(media, axis) <= zero + Duration::from_secs(2));
            assert_eq!(timeline.sound(media), Some(axis));
        }
    }

    #[test]
    fn what_is_cached_is_spread_and_sound_starts_at_the_edge() {
        let zero = start();
        let mut timeline = Timeline::new(zero);
        timeline.join(zero, 0, 10 * SECOND);
        let axis = timeline.picture(5 * SECOND);
        assert!(axis > CATCH_UP / 3 && axis < CATCH_UP / 2);
        assert!(timeline.due(5 * SECOND, axis) > zero + Duration::from_millis(400));
        assert_eq!(timeline.sound(9 * SECOND), None);
        assert_eq!(timeline.sound(10 * SECOND), Some(0));
    }

    proptest! {
        #[test]
        fn it_rises_over_joins_and_epochs(joins in prop::collection::vec((0i64..30, 0u64..5_000), 1..5), fps in 10i64..60) {
            let zero = start();
            let mut timeline = Timeline::new(zero);
            let (mut now, mut last) = (zero, -1);
            for (behind, stays) in joins {
                timeline.join(now, 0, behind * SECOND);
                let frames = (behind * 1000 + i64::try_from(stays).unwrap()) * fps / 1000;
                for n in 0..frames {
                    let axis = timeline.picture(n * SECOND / fps);
                    prop_assert!(axis > last);
                    last = axis;
                }
                now += Duration::from_millis(stays);
            }
        }
    }
}
