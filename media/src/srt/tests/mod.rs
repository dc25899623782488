//! The listener in simulated time, with callers of our own, over a wire that loses and reorders.
pub(crate) mod caller;

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use routing::model::{Secret, Uptime};

use self::caller::{Caller, Cipher};
use super::{packet::Control, *};

/// How a wire treats datagrams: per mille lost, and how long they take at least and at most.
#[derive(Clone, Copy, Debug)]
struct Wire {
    loss: u32,
    delay: (u64, u64),
}

const GOOD: Wire = Wire {
    loss: 0,
    delay: (1, 1),
};

type Letter = (u64, u64, Option<usize>, usize, Vec<u8>);

/// A listener and its callers.
struct World {
    listener: Listener,
    callers: Vec<Caller>,
    wire: Wire,
    now: u64,
    rng: ChaCha8Rng,
    /// Under way: when it arrives, in which order it was sent, to whom or to the listener, the datagram.
    way: BinaryHeap<Reverse<Letter>>,
    count: u64,
    events: Vec<Event>,
    received: Vec<u8>,
    accept: bool,
}

fn path(caller: usize) -> Path {
    let port = u16::try_from(10_000 + caller).unwrap();
    Path {
        remote: ([192, 0, 2, 1], port).into(),
        local: None,
    }
}

impl World {
    fn new(options: Options, wire: Wire, seed: u64) -> Self {
        Self {
            listener: Listener::new(options, [7; 32]),
            callers: Vec::new(),
            wire,
            now: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            way: BinaryHeap::new(),
            count: 0,
            events: Vec::new(),
            received: Vec::new(),
            accept: true,
        }
    }

    fn time(&self) -> Uptime {
        Uptime::from_millis(self.now)
    }

    fn post(&mut self, to: Option<usize>, from: usize, datagram: &[u8]) {
        if self.rng.random_range(0..1000) < self.wire.loss {
            return;
        }
        let (least, most) = self.wire.delay;
        let at = self.now + self.rng.random_range(least..=most);
        self.count += 1;
        let datagram = datagram.to_vec();
        self.way.push(Reverse((at, self.count, to, from, datagram)));
    }

    /// A millisecond goes by.
    fn step(&mut self) {
        self.now += 1;
        while let Some(Reverse((at, ..))) = self.way.peek()
            && *at <= self.now
        {
            let Reverse((_, _, to, from, datagram)) = self.way.pop().unwrap();
            match to {
                None => self.listener.receive(self.time(), path(from), &datagram),
                Some(caller) => self.callers[caller].take(&datagram),
            }
        }
        if self.listener.deadline().is_some_and(|at| at <= self.time()) {
            self.listener.tick(self.time());
        }
        while let Some(event) = self.listener.poll() {
            match &event {
                Event::Request { id, .. } if self.accept => self.listener.accept(self.time(), *id),
                Event::Data { payload, .. } => {
                    self.received.extend(payload);
                    continue;
                }
                _ => {}
            }
            self.events.push(event);
        }
        while let Some((to, datagram)) = self.listener.poll_transmit() {
            let caller = usize::from(to.remote.port()) - 10_000;
            if caller < self.callers.len() {
                self.post(Some(caller), caller, &datagram);
            }
        }
        for n in 0..self.callers.len() {
            let now = self.time();
            self.callers[n].tick(now);
            for datagram in std::mem::take(&mut self.callers[n].out) {
                self.post(None, n, &datagram);
            }
        }
    }

    fn steps(&mut self, n: u64) {
        for _ in 0..n {
            self.step();
        }
    }

    fn connect(&mut self) {
        while !self
            .callers
            .iter()
            .all(|c| c.connected() || c.rejected.is_some())
        {
            self.step();
            assert!(self.now < 60_000, "nobody answers");
        }
    }
}

/// A packet's payload: it tells which it is.
fn payload(n: u32) -> Vec<u8> {
    let mut all = n.to_be_bytes().to_vec();
    all.resize(1316, n.to_be_bytes()[3]);
    all
}

/// One caller sends so many packets, one a millisecond; what arrived of them, in its order.
fn stream(world: &mut World, packets: u32) -> Vec<u32> {
    world.connect();
    for n in 0..packets {
        world.callers[0].send(&payload(n));
        world.step();
    }
    world.steps(3_000);
    let found = world.received.chunks(1316).map(|chunk| {
        let n = u32::from_be_bytes(chunk[..4].try_into().unwrap());
        assert_eq!(chunk, payload(n));
        n
    });
    let found: Vec<_> = found.collect();
    assert!(found.is_sorted_by(|a, b| a < b), "in order, once");
    found
}

fn options(passphrase: Option<&str>) -> Options {
    Options {
        passphrase: passphrase.map(|p| Passphrase::new(Secret::new(p.into())).unwrap()),
        ..Options::default()
    }
}

#[test]
fn ten_per_cent_loss_and_reordering_are_mended_within_the_latency() {
    for (seed, latency, delay) in [(1, 120, (1, 8)), (2, 250, (20, 40)), (3, 500, (40, 80))] {
        let wire = Wire { loss: 100, delay };
        let mut world = World::new(Options::default(), wire, seed);
        world.callers.push(Caller {
            latency,
            ..Caller::new(5)
        });
        let found = stream(&mut world, 5_000);
        assert_eq!(found.len(), 5_000, "latency {latency}, delay {delay:?}");
        assert_eq!(world.callers[0].negotiated, Some(latency));
        assert_eq!(world.callers[0].acked, world.callers[0].next);
    }
}

#[test]
fn a_greeting_is_answered_by_a_listener_only() {
    let mut listener = Listener::new(Options::default(), [7; 32]);
    listener.receive(Uptime::ZERO, path(0), &greeting());
    let (_, answer) = listener.poll_transmit().unwrap();
    assert!(is_greeted(&answer) && !is_greeted(&greeting()));
}

#[test]
fn the_longer_latency_holds() {
    for (theirs, both) in [(20, 120), (400, 400)] {
        let mut world = World::new(Options::default(), GOOD, 1);
        world.callers.push(Caller {
            latency: theirs,
            ..Caller::new(5)
        });
        world.connect();
        assert_eq!(world.callers[0].negotiated, Some(both));
    }
}

#[test]
fn what_cannot_be_mended_is_given_up_after_the_latency_and_the_rest_goes_on() {
    let mut world = World::new(Options::default(), GOOD, 1);
    world.callers.push(Caller::new(5));
    world.connect();
    let caller = &mut world.callers[0];
    caller.send(&payload(0));
    caller.send(&payload(1));
    caller.send(&payload(2));
    caller.out.remove(1);
    // It cannot send this one again either.
    let lost = caller.next - 2;
    caller.forget(lost);
    world.steps(100);
    assert_eq!(world.received.len(), 1316);
    world.steps(40);
    assert_eq!(world.received.len(), 2 * 1316);
    world.callers[0].send(&payload(3));
    world.steps(2);
    assert_eq!(world.received.len(), 3 * 1316, "and nothing waits any more");
}

#[test]
fn streams_of_all_key_lengths_are_decrypted_and_new_keys_are_taken() {
    for length in [16, 24, 32] {
        let mut world = World::new(options(Some("open sesame")), GOOD, 1);
        let cipher = Cipher {
            passphrase: "open sesame",
            length,
        };
        world.callers.push(Caller {
            cipher: Some(cipher.clone()),
            ..Caller::new(5)
        });
        world.connect();
        world.steps(1_100);
        world.callers[0].send(&payload(0));
        world.callers[0].control(Control::KeyMaterial, 0, &cipher.key_material(true));
        world.steps(5);
        assert_eq!(world.callers[0].keys_answered, 1);
        world.callers[0].odd = true;
        world.callers[0].send(&payload(1));
        // In the clear, on a connection with keys.
        world.callers[0].cipher = None;
        world.callers[0].send(&payload(2));
        world.steps(5);
        assert_eq!(
            world.received,
            [payload(0), payload(1)].concat(),
            "{length}"
        );
    }
}

#[test]
fn who_does_not_fit_is_told_why() {
    let cipher = |passphrase| {
        Some(Cipher {
            passphrase,
            length: 16,
        })
    };
    let rejected = |ours, edit: &dyn Fn(&mut Caller)| {
        let mut world = World::new(options(ours), GOOD, 1);
        let mut caller = Caller::new(5);
        edit(&mut caller);
        world.callers.push(caller);
        world.connect();
        assert!(world.listener.deadline().is_none(), "nothing is kept");
        world.callers[0].rejected
    };
    let ours = Some("open sesame");
    assert_eq!(rejected(ours, &|_| {}), Some(Reject::Unsecure.code()));
    let stranger = |c: &mut Caller| c.cipher = cipher("open barley");
    assert_eq!(rejected(ours, &stranger), Some(Reject::BadSecret.code()));
    assert_eq!(rejected(None, &stranger), Some(Reject::Unsecure.code()));
    let nameless = |c: &mut Caller| c.stream_id = None;
    assert_eq!(rejected(None, &nameless), Some(Reject::BadRequest.code()));
    let viewer = |c: &mut Caller| c.stream_id = Some("#!::r=x,m=request");
    assert_eq!(rejected(None, &viewer), Some(Reject::BadMode.code()));
}

#[test]
fn a_caller_waits_until_it_is_decided_about_and_may_be_refused() {
    let mut world = World::new(Options::default(), GOOD, 1);
    world.accept = false;
    world.callers.push(Caller::new(5));
    world.steps(2_000);
    let [Event::Request { id, asked, .. }] = &world.events[..] else {
        panic!("it is asked once, however often the caller asks");
    };
    let key = routing::model::StreamKey::new("sk_test");
    assert_eq!(*asked, Asked::Publish(key));
    world.listener.reject(*id, Reject::NotFound);
    world.steps(2);
    assert_eq!(world.callers[0].rejected, Some(1404));
}

#[test]
fn an_end_is_seen_whether_it_is_said_or_not() {
    let mut world = World::new(Options::default(), GOOD, 1);
    world
        .callers
        .extend([Caller::new(5), Caller::new(6), Caller::new(7)]);
    world.connect();
    let closed = |world: &World| {
        let closed = |e: &&Event| matches!(e, Event::Closed { .. });
        world.events.iter().filter(closed).count()
    };
    world.callers[0].control(Control::Shutdown, 0, &[]);
    world.steps(3);
    assert_eq!(closed(&world), 1);
    // The second goes on, the third is gone.
    for _ in 0..6_000 {
        if world.now.is_multiple_of(500) {
            world.callers[1].control(Control::KeepAlive, 0, &[]);
        }
        world.step();
    }
    assert_eq!(closed(&world), 2);
    world.listener.close_all(world.time());
    world.steps(2);
    assert!(world.callers[1].over);
    assert!(world.listener.deadline().is_none());
}

/// Every datagram that a stranger could have learnt to send, changed, from everywhere.
#[test]
fn a_good_stream_does_not_notice_hostile_datagrams() {
    let wire = Wire {
        loss: 20,
        delay: (1, 5),
    };
    let mut world = World::new(options(None), wire, 3);
    world.callers.push(Caller::new(5));
    world.connect();
    let mut stranger = Caller::new(5);
    let cipher = Cipher {
        passphrase: "open barley",
        length: 32,
    };
    let mut good = vec![stranger.induction(), stranger.conclusion()];
    stranger.cipher = Some(cipher);
    good.push(stranger.conclusion());
    good.push(Bytes::from_static(&[
        0x80, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]));
    for n in 0..3_000 {
        world.callers[0].send(&payload(n));
        for _ in 0..5 {
            let mut datagram = good[world.rng.random_range(0..good.len())].to_vec();
            for _ in 0..world.rng.random_range(0..4) {
                let at = world.rng.random_range(0..datagram.len());
                datagram[at] = world.rng.random();
            }
            datagram.truncate(world.rng.random_range(0..=datagram.len()));
            let from = world.rng.random_range(0..50_000);
            let now = world.time();
            world.listener.receive(now, path(from), &datagram);
        }
        world.step();
    }
    world.steps(1_000);
    assert_eq!(world.received.len(), 3_000 * 1316);
    assert_eq!(world.events.len(), 1, "and nobody else was asked about");
}

#[test]
fn handshakes_without_end_leave_little_behind_and_others_get_in() {
    let mut world = World::new(Options::default(), GOOD, 1);
    world.accept = false;
    for n in 0..2_000 {
        let mut caller = Caller::new(1000 + n);
        let from = path(usize::try_from(n % 50_000).unwrap());
        world
            .listener
            .receive(world.time(), from, &caller.induction());
        let (_, answer) = world.listener.poll_transmit().unwrap();
        assert!(answer.len() <= caller.induction().len());
        caller.take(&answer);
        world.listener.receive(world.time(), from, &caller.out[0]);
        while world.listener.poll_transmit().is_some() {}
    }
    let mut asked = 0;
    while let Some(event) = world.listener.poll() {
        asked += u32::from(matches!(event, Event::Request { .. }));
    }
    assert_eq!(asked, 32, "a quarter of the places are one address's");
    let elsewhere = Path {
        remote: "203.0.113.9:4000".parse().unwrap(),
        local: None,
    };
    let mut caller = Caller::new(5);
    world
        .listener
        .receive(world.time(), elsewhere, &caller.induction());
    let (_, answer) = world.listener.poll_transmit().unwrap();
    caller.take(&answer);
    world
        .listener
        .receive(world.time(), elsewhere, &caller.out[0]);
    assert!(matches!(world.listener.poll(), Some(Event::Request { .. })));
}

#[test]
fn a_cookie_is_of_its_address_and_its_time() {
    let mut listener = Listener::new(Options::default(), [7; 32]);
    let mut caller = Caller::new(5);
    listener.receive(Uptime::ZERO, path(0), &caller.induction());
    let (_, answer) = listener.poll_transmit().unwrap();
    caller.take(&answer);
    let conclusion = caller.out.remove(0);
    listener.receive(Uptime::ZERO, path(1), &conclusion);
    listener.receive(Uptime(Duration::from_secs(120)), path(0), &conclusion);
    assert_eq!(listener.poll(), None);
    listener.receive(Uptime(Duration::from_secs(119)), path(0), &conclusion);
    assert!(matches!(listener.poll(), Some(Event::Request { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_loss_and_delay_leave_an_ordered_stream(seed: u64, loss in 0u32..400, most in 1u64..200) {
        let wire = Wire { loss, delay: (1, most) };
        let mut world = World::new(Options::default(), wire, seed);
        world.callers.push(Caller::new(5));
        let found = stream(&mut world, 1_000);
        prop_assert!(found.len() > 300, "{}", found.len());
    }
}
