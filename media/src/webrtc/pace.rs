//! Spreads what is sent at once over a few milliseconds, so that a keyframe does not overflow the queues on its way.
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::peer::Datagram;

/// Sent at once at most.
const BURST: usize = 24 << 10;
/// The slowest that a longer queue goes out, in bytes a second: 25 Mbit/s.
const RATE: usize = 25_000_000 / 8;
/// A queue that would take longer at that rate goes out faster: nothing waits longer.
const LONGEST: Duration = Duration::from_millis(50);

/// A leaky bucket for one viewer's datagrams.
#[derive(Debug)]
pub(super) struct Pace {
    queue: VecDeque<Datagram>,
    bytes: usize,
    /// Bytes a second.
    rate: usize,
    credit: usize,
    at: Instant,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            rate: RATE,
            credit: BURST,
            at: now,
        }
    }

    pub(super) fn push(&mut self, datagram: Datagram) {
        self.bytes += datagram.bytes.len();
        self.rate = self
            .rate
            .max(self.bytes * 1000 / LONGEST.as_millis() as usize);
        self.queue.push_back(datagram);
    }

    /// The next datagram, where its time has come.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Datagram> {
        let elapsed = now.saturating_duration_since(self.at).as_micros() as usize;
        let gained = self.rate.saturating_mul(elapsed) / 1_000_000;
        if gained > 0 {
            self.credit = self.credit.saturating_add(gained).min(BURST);
            self.at = now;
        }
        let Some(next) = self.queue.front() else {
            self.rate = RATE;
            return None;
        };
        let next = next.bytes.len();
        self.credit = self.credit.checked_sub(next)?;
        self.bytes -= next;
        self.queue.pop_front()
    }

    /// When there is something to send again, after [`Pace::poll`] said `None`: for several at once, since timers
    /// are coarse.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let next = self.queue.front()?.bytes.len();
        let lacks = next.saturating_sub(self.credit).max(BURST / 4);
        let wait = lacks * 1_000_000 / self.rate;
        Some(self.at + Duration::from_micros(wait as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webrtc::peer::Remote;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn a_keyframe_is_spread_and_never_waits_long() {
        let start = Instant::now();
        for packets in [10, 100, 1_000, 5_000] {
            let mut pace = Pace::new(start);
            for _ in 0..packets {
                pace.push(Datagram {
                    to: Remote::udp(([127, 0, 0, 1], 9).into()),
                    bytes: vec![0; 1_100],
                });
            }
            let (mut now, mut sent, mut most) = (start, 0, 0);
            loop {
                let before = sent;
                while pace.poll(now).is_some() {
                    sent += 1;
                }
                most = most.max(sent - before);
                let Some(at) = pace.deadline() else { break };
                assert!(at > now, "time goes on");
                now = at;
            }
            assert_eq!(sent, packets);
            assert!(most <= BURST / 1_100);
            assert!(now - start <= LONGEST + Duration::from_millis(5));
        }
    }
}
