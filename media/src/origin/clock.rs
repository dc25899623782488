//! From an encoder's milliseconds to exact ticks.

/// Ticks a second of video.
pub(super) const VIDEO_TIMESCALE: u32 = 90_000;
/// Ticks a millisecond of video.
const TICKS: i64 = 90;

/// Unwraps a 32-bit time against a time nearby.
pub(super) fn unwrap_time(raw: u32, near: Option<i64>) -> i64 {
    let Some(near) = near else {
        return i64::from(raw);
    };
    // The difference modulo 2^32, read as a signed number.
    let low = (near & i64::from(u32::MAX)) as u32;
    near + i64::from(raw.wrapping_sub(low).cast_signed())
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

    /// Decode time, and presentation less decode time, in ticks, of a frame `time` milliseconds after zero.
    pub(super) fn settle(&mut self, time: i64, composition: i32) -> (i64, i32) {
        let raw = time * TICKS;
        let shown = raw + i64::from(composition) * TICKS;
        let on_grid = self.grid(self.nearest(raw));
        let (mut dts, mut pts) = (raw, shown);
        if (on_grid - raw).abs() <= TICKS {
            dts = on_grid;
            // Two roundings: that of the decode time and that of the difference.
            let shown_on_grid = self.grid(self.nearest(shown));
            if (shown_on_grid - shown).abs() <= 2 * TICKS {
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

    /// The time in ticks of a frame that the encoder puts `time` milliseconds after zero; `None` when it has to go.
    pub(super) fn settle(&mut self, time: i64) -> Option<i64> {
        let clock = div_round(time * self.rate, 1000);
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
        let top = i64::from(u32::MAX);
        assert_eq!(unwrap_time(5, Some(top - 4)), top + 6);
        assert_eq!(unwrap_time(u32::MAX, Some(top + 6)), top);
        assert_eq!(unwrap_time(1000, None), 1000);
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
                let (dts, cts) = clock.settle(ms(k), i32::try_from(ms(k + 2) - ms(k)).unwrap());
                let exact = |k| div_round(k * 90_000 * i64::from(den), i64::from(num));
                assert_eq!((dts, i64::from(cts)), (exact(k), exact(k + 2) - exact(k)));
                assert!(last.is_none_or(|l| l < dts));
                last = Some(dts);
            }
        }
        let mut wrong = VideoClock::new((30, 1));
        for k in 0..100_000i64 {
            let ms = k * 1001 / 30;
            assert!((wrong.settle(ms, 0).0 - ms * 90).abs() <= 90);
        }
    }

    #[test]
    fn decode_times_rise_and_presentation_is_never_before_them() {
        let mut clock = VideoClock::new((25, 1));
        assert_eq!(clock.settle(0, 0), (0, 0));
        assert_eq!(clock.settle(0, 80), (1, 7199));
        assert_eq!(clock.settle(80, -20), (5400, 0));
        assert_eq!(clock.settle(90, -80), (5401, 0));
    }

    #[test]
    fn sound_is_counted_and_resynchronised_past_100_ms() {
        let mut clock = AudioClock::new(48_000, 1024);
        assert_eq!(clock.settle(0), Some(0));
        assert_eq!(clock.settle(90), Some(1024), "jitter does not move it");
        assert_eq!(clock.settle(43 + 200), Some(11_664), "a hole does");
        let mut clock = AudioClock::new(48_000, 1024);
        let kept = (0..2000)
            .filter_map(|i| clock.settle(i * 21))
            .collect::<Vec<_>>();
        assert!(kept.windows(2).all(|w| w[1] - w[0] == 1024));
        let off = kept.last().unwrap() - 1999 * 21 * 48;
        assert!(off.abs() <= 4800 + 1024, "{off}");
        assert!(kept.len() < 2000, "frames of a fast clock are dropped");
    }
}
