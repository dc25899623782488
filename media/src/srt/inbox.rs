//! What has come of a stream, put in order (draft section 4.5 to 4.8).
use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use routing::model::Uptime;

use super::packet::Seq;

/// Packets that are waited for or kept at most, counted from the first that is missing: what the sender may have under
/// way. A packet further ahead ends the waiting for the oldest.
pub(super) const WINDOW: u32 = 8192;
/// A packet this far ahead is not of this stream.
const NONSENSE: i32 = 1 << 28;

#[derive(Debug)]
enum Slot {
    Here(Bytes),
    /// Seen to be missing, and last asked for.
    Missing {
        since: Uptime,
        asked: Uptime,
    },
    /// The sender has it no more.
    Gone,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Given out or kept; these before it were not known to be missing until now.
    New(Option<(Seq, Seq)>),
    /// It was here before, or is waited for no more.
    Late,
}

/// How a stream went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Packets that came.
    pub(super) received: u64,
    /// Those of them that had been missing.
    pub(super) recovered: u64,
    /// Packets that were given up.
    pub(super) lost: u64,
}

/// Packets by number: the whole ones are given out in order, what is missing is waited for `latency`.
#[derive(Debug)]
pub(super) struct Inbox {
    /// The first number that is not given out.
    next: Seq,
    /// From `next` on; the first, if any, is missing.
    slots: VecDeque<Slot>,
    latency: Duration,
    tally: Tally,
}

impl Inbox {
    pub(super) fn new(next: Seq, latency: Duration) -> Self {
        Self {
            next,
            slots: VecDeque::new(),
            latency,
            tally: Tally::default(),
        }
    }

    /// The first packet that has not come or been given up.
    pub(super) const fn next(&self) -> Seq {
        self.next
    }

    /// Packets that could be kept yet.
    pub(super) fn room(&self) -> u32 {
        WINDOW.saturating_sub(u32::try_from(self.slots.len()).unwrap_or(WINDOW))
    }

    pub(super) const fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes a packet; what is whole with it is appended to `out`.
    pub(super) fn take(
        &mut self,
        now: Uptime,
        seq: Seq,
        payload: &[u8],
        out: &mut BytesMut,
    ) -> Taken {
        let ahead = seq.after(self.next);
        if !(0..NONSENSE).contains(&ahead) {
            return Taken::Late;
        }
        self.make_room(ahead.cast_unsigned(), out);
        let at = index(seq, self.next);
        if at == 0 && self.slots.is_empty() {
            self.next = self.next.plus(1);
            self.tally.received += 1;
            out.extend_from_slice(payload);
            return Taken::New(None);
        }
        let mut gap = None;
        match self.slots.get(at) {
            Some(Slot::Missing { .. }) => self.tally.recovered += 1,
            Some(Slot::Here(_) | Slot::Gone) => return Taken::Late,
            None => {
                let seen = self.slots.len();
                if seen < at {
                    let first = u32::try_from(seen).unwrap_or(WINDOW);
                    gap = Some((self.next.plus(first), seq.plus(u32::MAX)));
                }
                let missing = || Slot::Missing {
                    since: now,
                    asked: now,
                };
                self.slots.resize_with(at + 1, missing);
            }
        }
        self.slots[at] = Slot::Here(Bytes::copy_from_slice(payload));
        self.tally.received += 1;
        self.give(out);
        Taken::New(gap)
    }

    /// Gives up the oldest, so that a packet `ahead` of the first missing one has a place.
    fn make_room(&mut self, ahead: u32, out: &mut BytesMut) {
        let mut over = (ahead + 1).saturating_sub(WINDOW);
        while over > 0 && !self.slots.is_empty() {
            let before = self.next;
            self.pop(out);
            self.give(out);
            over = over.saturating_sub(self.next.after(before).cast_unsigned());
        }
        // Nothing is known of these.
        self.next = self.next.plus(over);
        self.tally.lost += u64::from(over);
    }

    fn pop(&mut self, out: &mut BytesMut) {
        match self.slots.pop_front() {
            Some(Slot::Here(payload)) => out.extend_from_slice(&payload),
            Some(Slot::Missing { .. } | Slot::Gone) => self.tally.lost += 1,
            None => return,
        }
        self.next = self.next.plus(1);
    }

    /// Gives out what nothing is missing before.
    fn give(&mut self, out: &mut BytesMut) {
        while matches!(self.slots.front(), Some(Slot::Here(_) | Slot::Gone)) {
            self.pop(out);
        }
    }

    /// The sender will not send these again.
    pub(super) fn drop(&mut self, first: Seq, last: Seq, out: &mut BytesMut) {
        let to = last.after(self.next).clamp(-1, WINDOW.cast_signed() - 1);
        let from = first.after(self.next).max(0);
        for at in from..=to {
            let at = usize::try_from(at).unwrap_or(0);
            let end = self.slots.len();
            match self.slots.get_mut(at) {
                Some(slot @ Slot::Missing { .. }) => *slot = Slot::Gone,
                Some(Slot::Here(_) | Slot::Gone) => {}
                // What lies before them was lost on the way, if anything does.
                None if at == end => self.slots.push_back(Slot::Gone),
                None => return,
            }
        }
        self.give(out);
    }

    /// Gives up what was missing for too long.
    pub(super) fn expire(&mut self, now: Uptime, out: &mut BytesMut) {
        while let Some(Slot::Missing { since, .. }) = self.slots.front() {
            if now.since(*since) < self.latency {
                return;
            }
            self.pop(out);
            self.give(out);
        }
    }

    /// At most `max` ranges of what is missing and was last asked for `interval` ago.
    pub(super) fn ask(&mut self, now: Uptime, interval: Duration, max: usize) -> Vec<(Seq, Seq)> {
        let mut ranges: Vec<(Seq, Seq)> = Vec::new();
        for (slot, n) in self.slots.iter_mut().zip(0u32..) {
            let Slot::Missing { asked, .. } = slot else {
                continue;
            };
            if now.since(*asked) < interval {
                continue;
            }
            let seq = self.next.plus(n);
            let full = ranges.len() == max;
            match ranges.last_mut() {
                Some((_, last)) if last.plus(1) == seq => *last = seq,
                _ if full => break,
                _ => ranges.push((seq, seq)),
            }
            *asked = now;
        }
        ranges
    }
}

/// How far `seq` is from `next`, where it is not before it.
fn index(seq: Seq, next: Seq) -> usize {
    usize::try_from(seq.after(next)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_millis(100);

    fn inbox() -> (Inbox, BytesMut) {
        (Inbox::new(Seq::new(u32::MAX - 1), LATENCY), BytesMut::new())
    }

    fn seq(n: u32) -> Seq {
        Seq::new(u32::MAX - 1).plus(n)
    }

    fn at(ms: u64) -> Uptime {
        Uptime::from_millis(ms)
    }

    #[test]
    fn what_is_whole_is_given_out_at_once_and_a_hole_holds_up_what_follows() {
        let (mut inbox, mut out) = inbox();
        assert_eq!(inbox.take(at(0), seq(0), b"a", &mut out), Taken::New(None));
        assert_eq!(&out[..], b"a");
        let gap = inbox.take(at(0), seq(3), b"d", &mut out);
        assert_eq!(gap, Taken::New(Some((seq(1), seq(2)))));
        assert_eq!(inbox.take(at(0), seq(4), b"e", &mut out), Taken::New(None));
        assert_eq!(inbox.take(at(1), seq(2), b"c", &mut out), Taken::New(None));
        assert_eq!(&out[..], b"a");
        assert_eq!(inbox.take(at(1), seq(1), b"b", &mut out), Taken::New(None));
        assert_eq!(&out[..], b"abcde");
        assert_eq!(inbox.take(at(1), seq(2), b"c", &mut out), Taken::Late);
        assert_eq!(inbox.next(), seq(5));
        let tally = Tally {
            received: 5,
            recovered: 2,
            lost: 0,
        };
        assert_eq!(inbox.tally(), tally);
    }

    #[test]
    fn a_hole_is_asked_for_again_and_given_up_after_the_latency() {
        let (mut inbox, mut out) = inbox();
        inbox.take(at(0), seq(0), b"a", &mut out);
        inbox.take(at(10), seq(2), b"c", &mut out);
        inbox.take(at(50), seq(5), b"f", &mut out);
        let interval = Duration::from_millis(20);
        assert_eq!(inbox.ask(at(29), interval, 9), []);
        assert_eq!(inbox.ask(at(60), interval, 9), [(seq(1), seq(1))]);
        let both = [(seq(1), seq(1)), (seq(3), seq(4))];
        assert_eq!(inbox.ask(at(80), interval, 9), both);
        inbox.expire(at(109), &mut out);
        assert_eq!(&out[..], b"a");
        inbox.expire(at(110), &mut out);
        assert_eq!(&out[..], b"ac");
        inbox.expire(at(150), &mut out);
        assert_eq!(&out[..], b"acf");
        assert_eq!(inbox.tally().lost, 3);
    }

    #[test]
    fn what_the_sender_dropped_is_not_waited_for() {
        let (mut inbox, mut out) = inbox();
        inbox.take(at(0), seq(2), b"c", &mut out);
        inbox.drop(seq(0), seq(1), &mut out);
        assert_eq!(&out[..], b"c");
        inbox.drop(seq(3), seq(6), &mut out);
        assert_eq!(inbox.next(), seq(7), "even where nobody knew of it");
        inbox.drop(seq(9), seq(9), &mut out);
        assert_eq!(inbox.next(), seq(7));
    }

    #[test]
    fn a_packet_far_ahead_ends_the_waiting_and_one_of_another_stream_does_not() {
        let (mut inbox, mut out) = inbox();
        inbox.take(at(0), seq(1), b"b", &mut out);
        inbox.take(at(0), seq(1 + WINDOW), b"x", &mut out);
        assert_eq!((&out[..], inbox.next()), (&b"b"[..], seq(2)));
        assert_eq!(inbox.room(), 0);
        inbox.take(at(0), seq(500_000), b"y", &mut out);
        assert_eq!(&out[..], b"bx");
        assert_eq!(inbox.next(), seq(500_001 - WINDOW));
        assert_eq!(inbox.take(at(0), seq(1 << 30), b"z", &mut out), Taken::Late);
    }
}
