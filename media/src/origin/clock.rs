//! From an encoder's clock to exact ticks.

/// Ticks a second of video, and of a packet's times.
pub(super) const VIDEO_TIMESCALE: u32 = 90_000;
/// Ticks a millisecond.
pub(super) const MILLI: i64 = 90;
/// An unwrapped time is never further from zero: 2000 years of milliseconds, and far from where sums overflow.
const FARTHEST: i64 = 1 << 46;

/// Unwraps a clock of less than 64 bits that all tracks of a publisher share, each time against the one before.
#[derive(Clone, Copy, Debug)]
pub struct Unwrap {
    /// Bits above the clock's.
    spare: u32,
    last: Option<i64>,
}

impl Unwrap {
    /// A clock of `bits` bits, at most 40.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        Self {
            spare: 64 - bits,
            last: None,
        }
    }

    /// The time nearest to the one before that reads `raw`; the first is `raw` itself, and so is one after wraps
    /// without end, as only somebody makes them who jumps on purpose.
    pub fn time(&mut self, raw: u64) -> i64 {
        let low = (raw << self.spare >> self.spare).cast_signed();
        let near = self.last.map(|last| {
            // The difference modulo the clock's size, read as a signed number.
            let off = (low.wrapping_sub(last) << self.spare) >> self.spare;
            last + off
        });
        let time = near.filter(|t| t.abs() <= FARTHEST).unwrap_or(low);
        self.last = Some(time);
        time
    }
}

/// `a / b` to the nearest whole number, halves up; `b` positive.
pub(super) const fn div_round(a: i64, b: i64) -> i64 {
    (2 * a + b).div_euclid(2 * b)
}

/// Settles a video track's times.
#[derive(Debug)]
pub(super) struct VideoClock {
    /// Pictures a second.
    rate: (i64, i64),
    anchor: i64,
    last: Option<i64>,
}

impl VideoClock {
    pub(super) fn new(rate: (u32, u32)) -> Self {
        Self {
            rate: (i64::from(rate.0.max(1)), i64::from(rate.1.max(1))),
            anchor: 0,
            last: None,
        }
    }

    /// Where picture `k` after the anchor stands on the grid.
    fn grid(&self, k: i64) -> i64 {
        let (num, den) = self.rate;
        self.anchor + div_round(k * i64::from(VIDEO_TIMESCALE) * den, num)
    }

    fn nearest(&self, ticks: i64) -> i64 {
        let (num, den) = self.rate;
        div_round(
            (ticks - self.anchor) * num,
            i64::from(VIDEO_TIMESCALE) * den,
        )
    }

    /// Decode time, and presentation less decode time, of a frame that the encoder puts `raw` ticks after zero.
    pub(super) fn settle(&mut self, raw: i64, composition: i32) -> (i64, i32) {
        let shown = raw + i64::from(composition);
        let on_grid = self.grid(self.nearest(raw));
        let (mut dts, mut pts) = (raw, shown);
        if (on_grid - raw).abs() <= MILLI {
            dts = on_grid;
            // Two roundings: that of the decode time and that of the difference.
            let shown_on_grid = self.grid(self.nearest(shown));
            if (shown_on_grid - shown).abs() <= 2 * MILLI {
                pts = shown_on_grid;
            }
        } else {
            self.anchor = raw;
        }
        dts = dts.min(pts);
        if let Some(last) = self.last {
            dts = dts.max(last + 1);
        }
        self.last = Some(dts);
        (dts, i32::try_from((pts - dts).max(0)).unwrap_or(i32::MAX))
    }
}

/// Counts an audio track's samples.
#[derive(Debug)]
pub(super) struct AudioClock {
    rate: i64,
    samples: i64,
    next: Option<i64>,
    ahead: bool,
}

impl AudioClock {
    pub(super) fn new(rate: u32, samples: u32) -> Self {
        Self {
            rate: i64::from(rate.max(1)),
            samples: i64::from(samples.max(1)),
            next: None,
            ahead: false,
        }
    }

    /// The time in samples of a frame that the encoder puts `time` ticks after zero; `None` when it has to go.
    pub(super) fn settle(&mut self, time: i64) -> Option<i64> {
        let clock = div_round(time * self.rate, i64::from(VIDEO_TIMESCALE));
        let mut at = self.next.unwrap_or(clock);
        let off = clock - at;
        if off > self.rate / 10 {
            at = clock;
        }
        self.ahead = off < 0 && (self.ahead || off < -self.rate / 10);
        if self.ahead {
            return None;
        }
        self.next = Some(at + self.samples);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_unwrap_in_both_directions() {
        for bits in [32, 33] {
            let top = (1i64 << bits) - 1;
            let mut clock = Unwrap::new(bits);
            let times = [top - 4, 5, top, 0].map(|raw| clock.time(raw.cast_unsigned()));
            assert_eq!(times, [top - 4, top + 6, top, top + 1]);
            assert_eq!(Unwrap::new(bits).time(1000), 1000);
        }
    }

    #[test]
    fn who_wraps_without_end_never_gets_far() {
        let (mut clock, mut raw) = (Unwrap::new(40), 0u64);
        for _ in 0..1_000 {
            raw = raw.wrapping_add((1 << 39) - 1);
            assert!(clock.time(raw).abs() <= FARTHEST);
        }
    }

    #[test]
    fn a_constant_rate_is_exact_and_a_wrong_one_never_drifts() {
        for (num, den) in [
            (30_000u32, 1001u32),
            (24_000, 1001),
            (50, 1),
            (60_000, 1001),
        ] {
            let mut clock = VideoClock::new((num, den));
            let mut last = None;
            for k in 0..200_000i64 {
                // Encoders cut to milliseconds; the composition of two frames is cut by itself.
                let ms = |k: i64| k * 1000 * i64::from(den) / i64::from(num);
                let composition = i32::try_from((ms(k + 2) - ms(k)) * MILLI).unwrap();
                let (dts, cts) = clock.settle(ms(k) * MILLI, composition);
                let exact = |k| div_round(k * 90_000 * i64::from(den), i64::from(num));
                assert_eq!((dts, i64::from(cts)), (exact(k), exact(k + 2) - exact(k)));
                assert!(last.is_none_or(|l| l < dts));
                last = Some(dts);
            }
        }
        let mut wrong = VideoClock::new((30, 1));
        for k in 0..100_000i64 {
            let time = k * 1001 / 30 * MILLI;
            assert!((wrong.settle(time, 0).0 - time).abs() <= MILLI);
        }
    }

    #[test]
    fn decode_times_rise_and_presentation_is_never_before_them() {
        let mut clock = VideoClock::new((25, 1));
        assert_eq!(clock.settle(0, 0), (0, 0));
        assert_eq!(clock.settle(0, 7200), (1, 7199));
        assert_eq!(clock.settle(7200, -1800), (5400, 0));
        assert_eq!(clock.settle(8100, -7200), (5401, 0));
    }

    #[test]
    fn sound_is_counted_and_resynchronised_past_100_ms() {
        let mut clock = AudioClock::new(48_000, 1024);
        assert_eq!(clock.settle(0), Some(0));
        assert_eq!(
            clock.settle(90 * MILLI),
            Some(1024),
            "jitter does not move it"
        );
        assert_eq!(clock.settle(243 * MILLI), Some(11_664), "a hole does");
        let mut clock = AudioClock::new(48_000, 1024);
        let kept = (0..2000)
            .filter_map(|i| clock.settle(i * 21 * MILLI))
            .collect::<Vec<_>>();
        assert!(kept.windows(2).all(|w| w[1] - w[0] == 1024));
        let off = kept.last().unwrap() - 1999 * 21 * 48;
        assert!(off.abs() <= 4800 + 1024, "{off}");
        assert!(kept.len() < 2000, "frames of a fast clock are dropped");
    }
}
