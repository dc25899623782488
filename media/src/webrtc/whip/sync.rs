//! Puts a publisher's sound and pictures on one clock.
//!
//! RTP times of two lines have nothing to do with each other until a sender report of each has said which wall-clock
//! time they stand for (RFC 3550 6.4.1). Media is held for 500 ms for them. Where they do not come by then, as browsers
//! send the first report of sound after two seconds, each line is put where its packets arrived soonest; once the
//! reports are there, pictures move to where they belong, a millisecond a frame, so that no decoder sees a jump.
//! All times are in ticks of 90 kHz.
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long media is held for sender reports.
const HOLD: Duration = Duration::from_millis(500);
/// Media held at most; then it goes on without reports.
const MAX_HELD: usize = 1_024;
/// Pictures move by so much a frame.
const STEP: i64 = 90;
/// Reports that put sound and pictures further apart than two seconds are not believed.
const BELIEVED: i64 = 180_000;

/// Sound or pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Audio = 0,
    Video = 1,
}

#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    /// There will be media.
    expected: bool,
    /// Local less media time of the packet that was soonest.
    soonest: Option<i64>,
    /// Wall-clock less media time by the last sender report.
    report: Option<i64>,
    /// What is added to media time.
    offset: Option<i64>,
}

/// One clock for two lines; `T` is what is held.
#[derive(Debug)]
pub(super) struct Sync<T> {
    zero: Instant,
    clocks: [Clock; 2],
    held: VecDeque<(Line, i64, T)>,
    since: Option<Instant>,
    settled: bool,
}

impl<T> Sync<T> {
    /// Nothing is expected yet.
    pub(super) fn new(zero: Instant) -> Self {
        Self {
            zero,
            clocks: [Clock::default(); 2],
            held: VecDeque::new(),
            since: None,
            settled: false,
        }
    }

    /// Media of this line will come.
    pub(super) const fn expect(&mut self, line: Line) {
        self.clocks[line as usize].expected = true;
    }

    /// What comes of this line from now on has another media time.
    pub(super) fn restart(&mut self, line: Line) {
        let expected = self.clocks[line as usize].expected;
        self.clocks[line as usize] = Clock {
            expected,
            ..Clock::default()
        };
    }

    /// A sender report: wall-clock time and media time of one moment.
    pub(super) const fn report(&mut self, line: Line, wall: i64, media: i64) {
        self.clocks[line as usize].report = Some(wall - media);
    }

    /// Media that arrived at `now`.
    pub(super) fn push(&mut self, now: Instant, line: Line, media: i64, what: T) {
        let arrived = ticks(now.saturating_duration_since(self.zero));
        let clock = &mut self.clocks[line as usize];
        let late = arrived - media;
        clock.soonest = Some(clock.soonest.map_or(late, |soonest| soonest.min(late)));
        self.since.get_or_insert(now);
        self.held.push_back((line, media, what));
        self.settle(now);
    }

    /// The next media with its time since the session began, where it is known by `now`.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(Line, i64, T)> {
        self.settle(now);
        if !self.settled {
            return None;
        }
        let (line, media, what) = self.held.pop_front()?;
        let offset = self.offset(line);
        Some((line, (media + offset).max(0), what))
    }

    /// When held media goes on in any case.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.settled).then_some(self.since? + HOLD)
    }

    fn settle(&mut self, now: Instant) {
        let waits = |c: &Clock| c.expected && (c.report.is_none() || c.soonest.is_none());
        let alone = self.clocks.iter().filter(|c| c.expected).count() < 2;
        let over = self.since.is_some_and(|since| now >= since + HOLD);
        self.settled |=
            alone || over || self.held.len() >= MAX_HELD || !self.clocks.iter().any(waits);
    }

    fn offset(&mut self, line: Line) -> i64 {
        let [audio, video] = self.clocks;
        // By how much pictures are to be put later than sound, beyond their media times.
        let apart = audio.report.zip(video.report).map(|(a, v)| v - a);
        let clock = &mut self.clocks[line as usize];
        let arrival = clock.soonest.unwrap_or(0);
        let other = if line == Line::Audio { video } else { audio };
        let target = match (line, apart, other.offset) {
            (Line::Video, Some(apart), Some(audio)) => Some(audio + apart),
            (Line::Audio, Some(apart), Some(video)) => Some(video - apart),
            _ => None,
        };
        let target = target.filter(|target| (target - arrival).abs() < BELIEVED);
        let offset = match (clock.offset, target) {
            (None, target) => target.unwrap_or(arrival),
            (Some(now), Some(target)) if line == Line::Video => {
                now + (target - now).clamp(-STEP, STEP)
            }
            (Some(now), _) => now,
        };
        clock.offset = Some(offset);
        offset
    }
}

pub(super) fn ticks(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros() * 9 / 100).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 90;

    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn both() -> (Instant, Sync<u32>) {
        let zero = Instant::now();
        let mut sync = Sync::new(zero);
        sync.expect(Line::Audio);
        sync.expect(Line::Video);
        (zero, sync)
    }

    fn at(zero: Instant, ms: u64) -> Instant {
        zero + Duration::from_millis(ms)
    }

    #[test]
    fn media_is_held_for_reports_and_then_in_step() {
        let (zero, mut sync) = both();
        // The sound of 1000 ms by its own clock belongs to the pictures of 5000 ms by theirs, but arrives 80 ms later.
        sync.push(at(zero, 20), Line::Video, 5_000 * MS, 0);
        sync.push(at(zero, 100), Line::Audio, 1_000 * MS, 1);
        assert!(sync.poll(at(zero, 100)).is_none());
        sync.report(Line::Video, 900_000 * MS, 5_000 * MS);
        assert!(sync.poll(at(zero, 110)).is_none());
        sync.report(Line::Audio, 900_000 * MS, 1_000 * MS);
        let (_, video, _) = sync.poll(at(zero, 120)).unwrap();
        let (_, audio, _) = sync.poll(at(zero, 120)).unwrap();
        assert_eq!(video, audio);
    }

    #[test]
    fn without_reports_media_goes_on_after_500_ms_where_it_arrived() {
        let (zero, mut sync) = both();
        sync.push(at(zero, 50), Line::Video, 5_000 * MS, 0);
        sync.push(at(zero, 40), Line::Audio, 0, 1);
        sync.push(at(zero, 80), Line::Audio, 40 * MS, 2);
        assert_eq!(sync.deadline(), Some(at(zero, 550)));
        assert!(sync.poll(at(zero, 549)).is_none());
        assert_eq!(sync.poll(at(zero, 550)), Some((Line::Video, 50 * MS, 0)));
        assert_eq!(sync.poll(at(zero, 550)), Some((Line::Audio, 40 * MS, 1)));
        assert_eq!(sync.poll(at(zero, 550)), Some((Line::Audio, 80 * MS, 2)));
    }

    #[test]
    fn late_reports_move_pictures_gently() {
        let (zero, mut sync) = both();
        sync.push(at(zero, 60), Line::Video, 0, 0);
        sync.push(at(zero, 0), Line::Audio, 0, 1);
        while sync.poll(at(zero, 600)).is_some() {}
        // Both were captured at once, so pictures arrive 60 ms late.
        sync.report(Line::Video, 0, 0);
        sync.report(Line::Audio, 0, 0);
        let mut last = 60 * MS;
        for n in 1..100 {
            let media = n * 40 * MS;
            sync.push(at(zero, 700), Line::Video, media, 0);
            let (_, time, _) = sync.poll(at(zero, 700)).unwrap();
            assert!(((time - last) - 40 * MS).abs() <= STEP);
            last = time;
        }
        assert_eq!(last, 99 * 40 * MS);
    }

    #[test]
    fn one_line_alone_waits_for_nothing_and_wild_reports_are_not_believed() {
        let zero = both().0;
        let mut sync = Sync::new(zero);
        sync.expect(Line::Video);
        sync.push(at(zero, 5), Line::Video, 0, 0);
        assert_eq!(sync.poll(at(zero, 5)), Some((Line::Video, 5 * MS, 0)));

        let (zero, mut sync) = both();
        sync.report(Line::Video, 0, 0);
        sync.report(Line::Audio, 77_000_000 * MS, 0);
        sync.push(at(zero, 5), Line::Video, 0, 0);
        sync.push(at(zero, 5), Line::Audio, 0, 1);
        assert_eq!(sync.poll(at(zero, 9)), Some((Line::Video, 5 * MS, 0)));
        assert_eq!(sync.poll(at(zero, 9)), Some((Line::Audio, 5 * MS, 1)));
    }
}
