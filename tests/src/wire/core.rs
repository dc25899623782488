//! The switch without I/O.
//!
//! It learns which port an address is behind, floods what it does not know, and holds each frame for as long as the
//! way from port to port says. Each way draws from a generator of its own, so changing one leaves the others' luck
//! as it was.
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use routing::model::Uptime;

use super::Link;

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub usize);

/// What one way did, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entered it.
    pub sent: u64,
    /// Came out, duplicates included.
    pub arrived: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because the queue before the rate was full, or too much was under way.
    pub overflowed: u64,
    /// Lost because the way was cut.
    pub cut: u64,
}

type Mac = [u8; 6];

struct Way {
    link: Link,
    rng: ChaCha8Rng,
    /// When the last frame is through the rate limit.
    busy_until: Uptime,
    /// When the last frame in order leaves.
    last_out: Uptime,
    counts: Counts,
}

/// Frames under way at most, all together; more are lost and counted as overflowed.
const UNDER_WAY_MAX: usize = 65_536;
/// Addresses remembered at most; beyond it the table starts anew, which costs some flooding.
const LEARNED_MAX: usize = 4096;

/// The switch. Hand it frames with [`Switch::frame`], take what is due with [`Switch::pop`], and come back at
/// [`Switch::wake`].
pub struct Switch {
    seed: u64,
    ports: usize,
    ways: BTreeMap<(Port, Port), Way>,
    learned: HashMap<Mac, Port>,
    /// By time, then by order of entry.
    under_way: BTreeMap<(Uptime, u64), (Port, Port, Bytes)>,
    entered: u64,
}

impl Switch {
    /// A switch without ports.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ports: 0,
            ways: BTreeMap::new(),
            learned: HashMap::new(),
            under_way: BTreeMap::new(),
            entered: 0,
        }
    }

    /// One port more, joined to all others by perfect cables.
    pub fn add_port(&mut self) -> Port {
        let new = Port(self.ports);
        self.ports += 1;
        for old in (0..new.0).map(Port) {
            for (from, to) in [(old, new), (new, old)] {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream((from.0 as u64) << 32 | to.0 as u64);
                let way = Way {
                    link: Link::default(),
                    rng,
                    busy_until: Uptime::ZERO,
                    last_out: Uptime::ZERO,
                    counts: Counts::default(),
                };
                self.ways.insert((from, to), way);
            }
        }
        new
    }

    /// The condition of the way between two ports; a perfect cable where there is none.
    #[must_use]
    pub fn link(&self, from: Port, to: Port) -> Link {
        self.ways
            .get(&(from, to))
            .map_or_else(Link::default, |w| w.link)
    }

    /// Changes a way's condition for the frames that enter from now on; a cut also takes what is under way.
    pub fn set_link(&mut self, from: Port, to: Port, link: Link) {
        if let Some(way) = self.ways.get_mut(&(from, to)) {
            way.link = link;
        }
    }

    /// What a way did so far.
    #[must_use]
    pub fn counts(&self, from: Port, to: Port) -> Counts {
        self.ways
            .get(&(from, to))
            .map_or_else(Counts::default, |w| w.counts)
    }

    /// A frame came in by `from`. Frames shorter than an Ethernet header are dropped.
    pub fn frame(&mut self, now: Uptime, from: Port, frame: &Bytes) {
        let (Some(to), Some(source)) = (mac(frame, 0), mac(frame, 6)) else {
            return;
        };
        if self.learned.len() >= LEARNED_MAX {
            self.learned.clear();
        }
        if source[0] & 1 == 0 {
            self.learned.insert(source, from);
        }
        match self.learned.get(&to).copied() {
            Some(port) => self.send(now, from, port, frame),
            None => (0..self.ports).for_each(|p| self.send(now, from, Port(p), frame)),
        }
    }

    fn send(&mut self, now: Uptime, from: Port, to: Port, frame: &Bytes) {
        let Some(way) = self.ways.get_mut(&(from, to)) else {
            return;
        };
        way.counts.sent += 1;
        // Always the same draws for a frame, whatever the condition: a change of one figure moves nothing else.
        let [lost, reordered, doubled, jitter] = [(); 4].map(|()| way.rng.random::<f64>());
        let link = way.link;
        if link.cut {
            way.counts.cut += 1;
            return;
        }
        if lost < link.loss {
            way.counts.lost += 1;
            return;
        }
        let mut sent = now;
        if let Some(rate) = link.rate {
            let start = way.busy_until.max(now);
            if start.since(now) > link.queue || rate == 0 {
                way.counts.overflowed += 1;
                return;
            }
            sent = start + Duration::from_nanos(frame.len() as u64 * 8 * 1_000_000_000 / rate);
            way.busy_until = sent;
        }
        let mut due = sent + link.delay + link.jitter.mul_f64(jitter);
        if reordered < link.reorder {
            due = due + link.reorder_by;
        } else {
            due = due.max(way.last_out);
            way.last_out = due;
        }
        for _ in 0..if doubled < link.duplicate { 2 } else { 1 } {
            if self.under_way.len() >= UNDER_WAY_MAX {
                way.counts.overflowed += 1;
                return;
            }
            self.under_way
                .insert((due, self.entered), (from, to, frame.clone()));
            self.entered += 1;
        }
    }

    /// The next frame that is due by `now`, and the port that it leaves by.
    pub fn pop(&mut self, now: Uptime) -> Option<(Port, Bytes)> {
        while let Some(first) = self.under_way.first_entry() {
            if first.key().0 > now {
                return None;
            }
            let (from, to, frame) = first.remove();
            let Some(way) = self.ways.get_mut(&(from, to)) else {
                continue;
            };
            if way.link.cut {
                way.counts.cut += 1;
                continue;
            }
            way.counts.arrived += 1;
            return Some((to, frame));
        }
        None
    }

    /// When the next frame is due.
    #[must_use]
    pub fn wake(&self) -> Option<Uptime> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }
}

fn mac(frame: &Bytes, at: usize) -> Option<Mac> {
    // 14 bytes: two addresses and a type.
    frame.get(..14)?.get(at..at + 6)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: u8, from: u8, n: u32) -> Bytes {
        let mut f = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0];
        f.extend(n.to_be_bytes());
        f.resize(125, 0);
        f.into()
    }

    fn number(frame: &Bytes) -> u32 {
        u32::from_be_bytes(frame[14..18].try_into().unwrap())
    }

    /// Two ports that know each other, the way from the first to the second as given.
    fn pair(seed: u64, link: Link) -> (Switch, Port, Port) {
        let mut switch = Switch::new(seed);
        let (a, b) = (switch.add_port(), switch.add_port());
        switch.frame(Uptime::ZERO, b, &frame(1, 2, 0));
        while switch.pop(Uptime::ZERO).is_some() {}
        switch.set_link(a, b, link);
        (switch, a, b)
    }

    /// Sends `n` frames from a to b, `gap` apart; what arrived, and when.
    fn run(switch: &mut Switch, a: Port, n: u32, gap: Duration) -> Vec<(Duration, u32)> {
        let (mut out, mut sent, start) = (Vec::new(), 0, Uptime::from_millis(1000));
        loop {
            let send_at = (sent < n).then(|| start + gap * sent);
            let Some(now) = [send_at, switch.wake()].into_iter().flatten().min() else {
                return out;
            };
            if send_at == Some(now) {
                switch.frame(now, a, &frame(2, 1, sent));
                sent += 1;
            }
            while let Some((_, f)) = switch.pop(now) {
                out.push((now.since(start + gap * number(&f)), number(&f)));
            }
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn unknown_addresses_are_flooded_and_known_ones_are_not() {
        let mut s = Switch::new(1);
        let [a, b, c] = [(); 3].map(|()| s.add_port());
        s.frame(Uptime::ZERO, a, &frame(2, 1, 0));
        let ports: Vec<Port> = std::iter::from_fn(|| s.pop(Uptime::ZERO))
            .map(|(p, _)| p)
            .collect();
        assert_eq!(ports, [b, c]);
        s.frame(Uptime::ZERO, b, &frame(1, 2, 0));
        let ports: Vec<Port> = std::iter::from_fn(|| s.pop(Uptime::ZERO))
            .map(|(p, _)| p)
            .collect();
        assert_eq!(ports, [a]);
        s.frame(Uptime::ZERO, a, &Bytes::from_static(&[1, 2, 3]));
        assert_eq!(
            s.wake(),
            None,
            "a frame without a whole header goes nowhere"
        );
    }

    #[test]
    fn delay_and_jitter_keep_the_order() {
        let link = Link {
            delay: 20 * MS,
            jitter: 30 * MS,
            ..Link::default()
        };
        let (mut s, a, _) = pair(7, link);
        let out = run(&mut s, a, 2000, MS);
        assert!(out.is_sorted_by_key(|o| o.1) && out.len() == 2000);
        let (min, max) = (
            out.iter().map(|o| o.0).min().unwrap(),
            out.iter().map(|o| o.0).max().unwrap(),
        );
        assert!(
            min >= 20 * MS && max <= 50 * MS && max - min > 15 * MS,
            "{min:?} {max:?}"
        );
    }

    #[test]
    fn loss_duplication_and_reordering_are_as_often_as_asked() {
        let link = Link {
            loss: 0.1,
            duplicate: 0.05,
            reorder: 0.02,
            ..Link::default()
        };
        let (mut s, a, b) = pair(11, link);
        let out = run(&mut s, a, 20_000, MS);
        let c = s.counts(a, b);
        assert_eq!(c.sent, 20_000);
        assert!((1_850..2_150).contains(&c.lost), "{c:?}");
        let doubled = c.arrived - (c.sent - c.lost);
        assert!((800..1_000).contains(&doubled), "{doubled}");
        let late = out.iter().filter(|o| o.0 >= 10 * MS).count();
        assert!((300..450).contains(&late), "{late}");
        assert!(!out.is_sorted_by_key(|o| o.1));
    }

    #[test]
    fn rate_spaces_frames_and_the_queue_is_bounded() {
        // 125 bytes at 100 kbit/s: 10 ms each. Sent each ms, the queue of 50 ms fills, and every tenth gets through.
        let link = Link {
            rate: Some(100_000),
            queue: 50 * MS,
            ..Link::default()
        };
        let (mut s, a, b) = pair(3, link);
        let out = run(&mut s, a, 1000, MS);
        assert!((100..=107).contains(&out.len()), "{}", out.len());
        assert!(out.iter().all(|o| o.0 <= 61 * MS));
        assert_eq!(s.counts(a, b).overflowed + out.len() as u64, 1000);
    }

    #[test]
    fn a_cut_one_way_takes_what_is_under_way_and_leaves_the_other_way() {
        let (mut s, a, b) = pair(5, Link::delay_ms(100));
        s.frame(Uptime::ZERO, a, &frame(2, 1, 9));
        s.set_link(
            a,
            b,
            Link {
                cut: true,
                ..s.link(a, b)
            },
        );
        assert_eq!(s.pop(Uptime::from_millis(200)), None);
        s.frame(Uptime::from_millis(200), a, &frame(2, 1, 10));
        s.frame(Uptime::from_millis(200), b, &frame(1, 2, 11));
        assert_eq!(
            s.pop(Uptime::from_millis(200))
                .map(|(p, f)| (p, number(&f))),
            Some((a, 11))
        );
        assert_eq!(s.counts(a, b).cut, 2);
        s.set_link(a, b, Link::default());
        s.frame(Uptime::from_millis(300), a, &frame(2, 1, 12));
        assert_eq!(
            s.pop(Uptime::from_millis(300))
                .map(|(p, f)| (p, number(&f))),
            Some((b, 12))
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_luck_and_another_seed_another() {
        let link = Link {
            loss: 0.3,
            jitter: 5 * MS,
            reorder: 0.1,
            duplicate: 0.1,
            ..Link::default()
        };
        let go = |seed| {
            let (mut s, a, _) = pair(seed, link);
            run(&mut s, a, 500, MS)
        };
        assert_eq!(go(42), go(42));
        assert_ne!(go(42), go(43));
    }
}
