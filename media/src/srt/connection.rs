//! One caller that was let in: acknowledgements, requests for what is missing, keys, its end.
use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use routing::model::Uptime;

use super::{
    crypto::Keys,
    inbox::{Inbox, Taken, Tally},
    packet::{Body, Control, HEADER, Kk, MAX, Seq, SocketId, control, words},
};

/// Between two acknowledgements, and between two looks at everything else.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// An acknowledgement in between comes after so many packets (draft section 4.8.1).
const LIGHT_ACK: u32 = 64;
/// A caller that says nothing for so long is gone.
const IDLE: Duration = Duration::from_secs(5);
/// We say something at least so often.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// What is missing is not asked for again sooner (4.8.2).
const MIN_NAK: Duration = Duration::from_millis(20);
/// Acknowledgements that are remembered until they are acknowledged.
const MAX_ACKS: usize = 64;
/// New keys are taken at most so often: each costs a derivation.
const REKEY: Duration = Duration::from_secs(1);
/// Ranges that one request has room for.
const MAX_RANGES: usize = (MAX - HEADER) / 8;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The caller said so.
    Caller,
    /// The caller said nothing for 5 s.
    Silent,
}

/// The round trip, by acknowledgements (4.10).
#[derive(Debug)]
struct RoundTrip {
    mean: Duration,
    variance: Duration,
    measured: bool,
}

impl RoundTrip {
    /// Nobody knows yet: what libsrt begins with.
    const fn new() -> Self {
        Self {
            mean: Duration::from_millis(100),
            variance: Duration::from_millis(50),
            measured: false,
        }
    }

    fn sample(&mut self, sample: Duration) {
        if std::mem::replace(&mut self.measured, true) {
            self.variance = (self.variance * 3 + self.mean.abs_diff(sample)) / 4;
            self.mean = (self.mean * 7 + sample) / 8;
        } else {
            (self.mean, self.variance) = (sample, sample / 2);
        }
    }

    fn patience(&self) -> Duration {
        self.mean + self.variance * 4
    }
}

/// Packets and bytes a second.
#[derive(Debug, Default)]
struct Rate {
    packets: u32,
    bytes: u32,
    counted: (u32, u32),
    since: Uptime,
}

impl Rate {
    fn count(&mut self, bytes: usize) {
        self.counted.0 += 1;
        self.counted.1 = self
            .counted
            .1
            .saturating_add(u32::try_from(bytes).unwrap_or(0));
    }

    fn measure(&mut self, now: Uptime) {
        let millis = u32::try_from(now.since(self.since).as_millis()).unwrap_or(u32::MAX);
        if millis >= 1000 {
            self.packets = self.counted.0.saturating_mul(1000) / millis;
            self.bytes = u32::try_from(u64::from(self.counted.1) * 1000 / u64::from(millis))
                .unwrap_or(u32::MAX);
            (self.counted, self.since) = ((0, 0), now);
        }
    }
}

/// One connection. Datagrams to send are appended to a list that is handed in.
#[derive(Debug)]
pub(super) struct Connection {
    /// The caller's end.
    pub(super) peer: SocketId,
    /// Our answer to the handshake, should the caller not have got it.
    pub(super) answer: Bytes,
    keys: Option<Keys>,
    rekeyed: Uptime,
    inbox: Inbox,
    out: BytesMut,
    began: Uptime,
    heard: Uptime,
    spoke: Uptime,
    round_trip: RoundTrip,
    rate: Rate,
    /// The number of the last full acknowledgement, what it said, when.
    ack: (u32, Seq, Uptime),
    /// Full acknowledgements by number: what they said, when.
    acks: VecDeque<(u32, Seq, Uptime)>,
    /// What the caller knows that we know.
    acked: Seq,
    /// Packets since any acknowledgement.
    since_ack: u32,
}

impl Connection {
    pub(super) fn new(
        now: Uptime,
        peer: SocketId,
        first: Seq,
        latency: Duration,
        keys: Option<Keys>,
        answer: Bytes,
    ) -> Self {
        Self {
            peer,
            answer,
            keys,
            rekeyed: now,
            inbox: Inbox::new(first, latency),
            out: BytesMut::new(),
            began: now,
            heard: now,
            spoke: now,
            round_trip: RoundTrip::new(),
            rate: Rate {
                since: now,
                ..Rate::default()
            },
            ack: (0, first, now),
            acks: VecDeque::new(),
            acked: first,
            since_ack: 0,
        }
    }

    /// What was received since the last time, in order.
    pub(super) fn received(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    pub(super) const fn tally(&self) -> Tally {
        self.inbox.tally()
    }

    /// A packet of the caller; what it ended, if it did.
    pub(super) fn take(
        &mut self,
        now: Uptime,
        body: Body<'_>,
        send: &mut Vec<Bytes>,
    ) -> Option<End> {
        self.heard = now;
        match body {
            Body::Data { seq, key, payload } => self.data(now, seq, key, payload, send),
            Body::Control { kind, info, body } => match kind {
                Control::AckAck => self.ack_ack(now, info),
                Control::DropRequest if body.len() >= 8 => {
                    let [first, last] = words(body);
                    self.inbox
                        .drop(Seq::new(first), Seq::new(last), &mut self.out);
                }
                Control::KeyMaterial => self.rekey(now, body, send),
                Control::Shutdown => return Some(End::Caller),
                // The caller did not get our answer.
                Control::Handshake => send.push(self.answer.clone()),
                _ => {}
            },
        }
        None
    }

    fn data(&mut self, now: Uptime, seq: Seq, key: Kk, payload: &[u8], send: &mut Vec<Bytes>) {
        let mut plain;
        let payload = match (&self.keys, key) {
            (None, Kk::Plain) => payload,
            (Some(keys), _) => {
                plain = payload.to_vec();
                if keys.decrypt(key, seq, &mut plain) {
                    &plain
                } else {
                    &[][..]
                }
            }
            // What nobody can read counts as received, and is nothing.
            (None, _) => &[],
        };
        let before = self.out.len();
        let Taken::New(gap) = self.inbox.take(now, seq, payload, &mut self.out) else {
            return;
        };
        self.rate.count(self.out.len() - before);
        if let Some(gap) = gap {
            self.nak(now, &[gap], send);
        }
        self.since_ack += 1;
        if self.since_ack >= LIGHT_ACK {
            self.since_ack = 0;
            let body = self.inbox.next().get().to_be_bytes();
            self.say(now, Control::Ack, 0, &body, send);
        }
    }

    fn ack_ack(&mut self, now: Uptime, number: u32) {
        let Some(at) = self.acks.iter().position(|(n, ..)| *n == number) else {
            return;
        };
        let (_, seq, sent) = self.acks[at];
        self.acks.drain(..=at);
        self.acked = seq;
        self.round_trip.sample(now.since(sent));
    }

    fn rekey(&mut self, now: Uptime, message: &[u8], send: &mut Vec<Bytes>) {
        let Some(keys) = &mut self.keys else { return };
        if now.since(self.rekeyed) < REKEY {
            return;
        }
        self.rekeyed = now;
        if keys.update(message).is_ok() {
            self.say(now, Control::KeyMaterialAnswer, 0, message, send);
        }
    }

    /// What is due every [`TICK`].
    pub(super) fn tick(&mut self, now: Uptime, send: &mut Vec<Bytes>) -> Option<End> {
        if now.since(self.heard) >= IDLE {
            return Some(End::Silent);
        }
        self.inbox.expire(now, &mut self.out);
        let interval = (self.round_trip.patience() / 2).max(MIN_NAK);
        let missing = self.inbox.ask(now, interval, MAX_RANGES);
        self.nak(now, &missing, send);
        self.full_ack(now, send);
        if now.since(self.spoke) >= KEEP_ALIVE {
            self.say(now, Control::KeepAlive, 0, &[], send);
        }
        None
    }

    fn full_ack(&mut self, now: Uptime, send: &mut Vec<Bytes>) {
        let (number, said, at) = self.ack;
        let next = self.inbox.next();
        let again = next != self.acked && now.since(at) >= self.round_trip.patience();
        if next == said && !again {
            return;
        }
        self.rate.measure(now);
        let number = number.wrapping_add(1);
        self.ack = (number, next, now);
        self.acks.push_back((number, next, now));
        if self.acks.len() > MAX_ACKS {
            self.acks.pop_front();
        }
        let micros = |d: Duration| u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
        let body: Vec<u8> = [
            next.get(),
            micros(self.round_trip.mean),
            micros(self.round_trip.variance),
            self.inbox.room().max(2),
            self.rate.packets,
            // The link's capacity: nobody measures it.
            self.rate.packets,
            self.rate.bytes,
        ]
        .into_iter()
        .flat_map(u32::to_be_bytes)
        .collect();
        self.since_ack = 0;
        self.say(now, Control::Ack, number, &body, send);
    }

    /// Asks for what is missing (3.2.5, appendix A).
    fn nak(&mut self, now: Uptime, ranges: &[(Seq, Seq)], send: &mut Vec<Bytes>) {
        if ranges.is_empty() {
            return;
        }
        let mut body = Vec::new();
        for (first, last) in ranges {
            if first != last {
                body.extend((first.get() | 1 << 31).to_be_bytes());
            }
            body.extend(last.get().to_be_bytes());
        }
        self.say(now, Control::Nak, 0, &body, send);
    }

    /// Says that it is over.
    pub(super) fn shutdown(&mut self, now: Uptime, send: &mut Vec<Bytes>) {
        self.say(now, Control::Shutdown, 0, &[], send);
    }

    fn say(&mut self, now: Uptime, kind: Control, info: u32, body: &[u8], send: &mut Vec<Bytes>) {
        self.spoke = now;
        // Microseconds, 32 bits that wrap.
        let time = now.since(self.began).as_micros() & u128::from(u32::MAX);
        let time = u32::try_from(time).unwrap_or(0);
        send.push(control(kind, info, time, self.peer, body));
    }
}
