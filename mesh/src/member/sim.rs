//! Meshes in simulated time: seeded loss and delay, cuts, restarts, a hostile member.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use routing::model::{NodeId, Uptime};

use super::{
    core::{Core, Event, Life, Output},
    wire::{Entry, Head, Message, Root, Signed},
};

/// The links' idle time-out.
const IDLE: Duration = Duration::from_millis(2_500);

struct Net {
    now: Uptime,
    rng: ChaCha8Rng,
    loss: f64,
    cores: BTreeMap<NodeId, Core>,
    keys: Vec<SigningKey>,
    ids: Vec<NodeId>,
    cut: BTreeSet<(NodeId, NodeId)>,
    queue: BTreeMap<(Uptime, u64), (NodeId, NodeId, Bytes)>,
    unlink: Vec<(Uptime, NodeId, NodeId)>,
    seq: u64,
    /// Wake-ups of all nodes by their own timers.
    ticks: u32,
    deaths: Vec<(Uptime, NodeId, NodeId)>,
    forged: Vec<(NodeId, NodeId)>,
}

impl Net {
    fn new(n: u8, seed: u64, loss: f64) -> Self {
        println!("seed {seed}");
        let keys: Vec<_> = (0..n)
            .map(|i| SigningKey::from_bytes(&[i + 1; 32]))
            .collect();
        let ids: Vec<_> = keys
            .iter()
            .map(|k| NodeId::from_bytes(k.verifying_key().to_bytes()))
            .collect();
        let mut net = Self {
            now: Uptime::from_millis(1_000),
            rng: ChaCha8Rng::seed_from_u64(seed),
            loss,
            cores: BTreeMap::new(),
            keys,
            ids: ids.clone(),
            cut: BTreeSet::new(),
            queue: BTreeMap::new(),
            unlink: Vec::new(),
            seq: 0,
            ticks: 0,
            deaths: Vec::new(),
            forged: Vec::new(),
        };
        for i in 0..ids.len() {
            net.start(i, 100);
        }
        net
    }

    fn start(&mut self, i: usize, incarnation: u64) {
        let mut core = Core::new(self.keys[i].clone(), incarnation, i as u64, self.now);
        core.set_roster(self.ids.iter().copied().collect());
        let peers: Vec<_> = self.cores.keys().copied().collect();
        let id = self.ids[i];
        self.cores.insert(id, core);
        for peer in peers {
            self.link(id, peer);
        }
    }

    fn link(&mut self, a: NodeId, b: NodeId) {
        let now = self.now;
        for (x, y) in [(a, b), (b, a)] {
            self.unlink.retain(|u| (u.1, u.2) != (x, y));
            if let Some(core) = self.cores.get_mut(&x) {
                core.linked(y, now);
            }
            self.drain(x);
        }
    }

    fn cut(&mut self, a: NodeId, b: NodeId) {
        for (x, y) in [(a, b), (b, a)] {
            self.cut.insert((x, y));
            self.unlink.push((self.now + IDLE, x, y));
        }
    }

    fn isolate(&mut self, a: NodeId) {
        for b in self.ids.clone() {
            if a != b {
                self.cut(a, b);
            }
        }
    }

    fn heal(&mut self) {
        for (a, b) in std::mem::take(&mut self.cut) {
            self.link(a, b);
        }
    }

    fn kill(&mut self, a: NodeId) {
        self.isolate(a);
        self.cores.remove(&a);
        self.unlink.retain(|u| u.1 != a);
    }

    fn drain(&mut self, id: NodeId) {
        let Some(core) = self.cores.get_mut(&id) else {
            return;
        };
        while let Some(out) = core.poll() {
            match out {
                Output::Send { to, bytes } => {
                    let lost = self.rng.random::<f64>() < self.loss;
                    if !lost && !self.cut.contains(&(id, to)) {
                        self.seq += 1;
                        let delay = Duration::from_millis(self.rng.random_range(1..80));
                        self.queue
                            .insert((self.now + delay, self.seq), (id, to, bytes));
                    }
                }
                Output::Event(Event::Changed(node)) => {
                    if matches!(core.life(&node), Some((Life::Dead, _, at)) if at == self.now) {
                        self.deaths.push((self.now, id, node));
                    }
                }
                Output::Event(Event::Forged { by }) => self.forged.push((id, by)),
                Output::Event(Event::Reborn { .. }) => {}
            }
        }
    }

    fn run(&mut self, for_: Duration) {
        let end = self.now + for_;
        loop {
            let wake = self.cores.values().map(Core::next_wake).min();
            let packet = self.queue.keys().next().map(|(at, _)| *at);
            let unlink = self.unlink.iter().map(|u| u.0).min();
            let next = [wake, packet, unlink]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            let now = self.now;
            while let Some(entry) = self.queue.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let (from, to, bytes) = entry.remove();
                if !self.cut.contains(&(from, to))
                    && let Some(core) = self.cores.get_mut(&to)
                {
                    core.received(from, &bytes, now);
                    self.drain(to);
                }
            }
            let (due, later) = self.unlink.drain(..).partition(|u| u.0 <= now);
            self.unlink = later;
            let due: Vec<(Uptime, NodeId, NodeId)> = due;
            for (_, x, y) in due {
                if let Some(core) = self.cores.get_mut(&x) {
                    core.unlinked(y, now);
                    self.drain(x);
                }
            }
            for id in self.ids.clone() {
                if self.cores.get(&id).is_some_and(|c| c.next_wake() <= now) {
                    if let Some(core) = self.cores.get_mut(&id) {
                        core.tick(now);
                        self.ticks += 1;
                    }
                    self.drain(id);
                }
            }
        }
    }

    fn set(&mut self, id: NodeId, key: &str, value: Option<&'static str>) {
        let now = self.now;
        let core = self.cores.get_mut(&id).unwrap();
        core.set(
            vec![(key.into(), value.map(|v| Bytes::from_static(v.as_bytes())))],
            now,
        )
        .unwrap();
        self.drain(id);
    }

    fn get(&self, at: NodeId, of: NodeId, key: &str) -> Option<String> {
        let mut values = self.cores[&at].values(&of);
        let value = values.find(|(k, _)| *k == key)?.1;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn life(&self, at: NodeId, of: NodeId) -> Option<(Life, u64)> {
        self.cores[&at]
            .life(&of)
            .map(|(life, incarnation, _)| (life, incarnation))
    }

    fn all_alive(&self) -> bool {
        self.cores.keys().all(|at| {
            self.cores
                .keys()
                .all(|of| matches!(self.life(*at, *of), Some((Life::Alive, _))))
        })
    }
}

const S: Duration = Duration::from_secs(1);

#[test]
fn a_change_is_everywhere_within_one_delay_and_survives_loss() {
    for seed in 0..4 {
        let mut net = Net::new(5, seed, 0.2);
        net.run(S);
        let a = net.ids[0];
        for round in ["x", "y", "z"] {
            net.set(a, "k", Some(round));
            net.set(a, "gone", Some(round));
            net.set(a, "gone", None);
            net.run(4 * S);
            for at in net.ids.clone() {
                assert_eq!(net.get(at, a, "k").as_deref(), Some(round));
                assert_eq!(net.get(at, a, "gone"), None);
                assert!(net.cores[&at].is_complete(&a));
            }
        }
    }
    let mut net = Net::new(5, 9, 0.0);
    net.run(S);
    let a = net.ids[0];
    net.set(a, "k", Some("now"));
    net.run(Duration::from_millis(81));
    for at in net.ids.clone() {
        assert_eq!(net.get(at, a, "k").as_deref(), Some("now"));
    }
}

#[test]
fn an_idle_node_wakes_once_a_beat_also_after_a_push_between_beats() {
    let mut net = Net::new(3, 13, 0.0);
    net.run(Duration::from_millis(5_100));
    let first = net.ids[0];
    net.set(first, "k", Some("v"));
    net.run(Duration::from_secs(1));
    net.ticks = 0;
    net.run(Duration::from_secs(60));
    let most = 3 * (60_000 / 300 + 1);
    assert!(net.ticks <= most, "{} wake-ups", net.ticks);
}

#[test]
fn an_hour_with_one_percent_loss_has_no_death() {
    let mut net = Net::new(3, 1, 0.01);
    net.run(3_600 * S);
    assert_eq!(net.deaths, []);
    assert!(net.all_alive());
}

#[test]
fn larger_meshes_with_one_percent_loss_have_no_death() {
    for (n, seconds) in [(20, 20), (100, 1)] {
        let mut net = Net::new(n, 2, 0.01);
        net.run(seconds * S);
        assert_eq!(net.deaths, [], "{n} nodes");
        assert!(net.all_alive(), "{n} nodes");
    }
}

#[test]
fn a_silent_cut_is_known_to_all_within_three_seconds() {
    for (n, loss) in [(2, 0.01), (3, 0.01), (20, 0.01), (60, 0.0)] {
        let mut net = Net::new(n, 3, loss);
        net.run(2 * S);
        let a = net.ids[1];
        net.kill(a);
        net.run(Duration::from_millis(2_900));
        for at in net.ids.clone().into_iter().filter(|at| *at != a) {
            assert_eq!(net.life(at, a), Some((Life::Dead, 100)), "{n} nodes");
        }
        assert!(net.all_alive(), "nobody else died of {n}");
    }
}

#[test]
fn closed_links_of_two_others_are_a_death_at_once_and_one_lost_link_is_none() {
    let mut net = Net::new(4, 4, 0.0);
    net.run(2 * S);
    let [a, b, ..] = net.ids[..] else {
        unreachable!()
    };
    net.cut(a, b);
    net.run(20 * S);
    assert_eq!(net.deaths, [], "the others pass the beats on");
    assert!(net.all_alive());
    net.kill(a);
    for unlink in &mut net.unlink {
        unlink.0 = net.now;
    }
    net.run(Duration::from_millis(300));
    for at in net
        .ids
        .clone()
        .into_iter()
        .filter(|at| *at != a && *at != b)
    {
        assert_eq!(net.life(at, a), Some((Life::Dead, 100)));
    }
}

#[test]
fn both_sides_of_a_healed_partition_come_back_in_higher_incarnations() {
    let mut net = Net::new(3, 5, 0.0);
    let a = net.ids[0];
    net.set(a, "k", Some("kept"));
    net.run(2 * S);
    net.isolate(a);
    net.run(30 * S);
    assert!(!net.all_alive());
    net.heal();
    net.run(2 * S);
    assert!(net.all_alive());
    for at in net.ids.clone() {
        assert_eq!(net.life(at, a), Some((Life::Alive, 101)));
        assert_eq!(net.get(at, a, "k").as_deref(), Some("kept"));
    }
}

#[test]
fn a_restart_replaces_and_an_old_incarnation_does_not_return() {
    let mut net = Net::new(3, 6, 0.0);
    let [a, b, c] = net.ids[..] else {
        unreachable!()
    };
    net.set(a, "old", Some("1"));
    net.run(2 * S);
    let old = net.cores.remove(&a).unwrap();
    net.start(0, 200);
    net.set(a, "new", Some("2"));
    net.run(S);
    for at in [b, c] {
        assert_eq!(net.life(at, a), Some((Life::Alive, 200)));
        assert_eq!(
            (net.get(at, a, "old"), net.get(at, a, "new")),
            (None, Some("2".into()))
        );
    }
    let mut old = old;
    old.tick(net.now);
    while let Some(out) = old.poll() {
        if let Output::Send { to, bytes } = out {
            let now = net.now;
            net.cores.get_mut(&to).unwrap().received(c, &bytes, now);
        }
    }
    assert_eq!(net.life(b, a), Some((Life::Alive, 200)));
    net.kill(a);
    net.start(0, 150);
    net.cut.clear();
    net.run(2 * S);
    assert_eq!(
        net.life(b, a),
        Some((Life::Alive, 201)),
        "an earlier clock is overtaken"
    );
}

#[test]
fn whoever_says_goodbye_is_gone_at_once() {
    let mut net = Net::new(3, 7, 0.0);
    net.run(2 * S);
    let [a, b, _] = net.ids[..] else {
        unreachable!()
    };
    net.cores.get_mut(&a).unwrap().leave();
    net.drain(a);
    net.run(Duration::from_millis(100));
    assert_eq!(net.life(b, a), Some((Life::Dead, 100)));
}

#[test]
fn many_deletions_leave_no_trace() {
    let mut net = Net::new(3, 8, 0.05);
    let [a, b, c] = net.ids[..] else {
        unreachable!()
    };
    net.set(a, "stays", Some("1"));
    for i in 0..1_200 {
        net.set(a, &format!("k{i}"), Some("v"));
        net.set(a, &format!("k{i}"), None);
    }
    net.run(5 * S);
    for at in [b, c] {
        assert_eq!(net.cores[&at].values(&a).count(), 1);
        assert!(net.cores[&at].is_complete(&a));
    }
}

#[test]
fn a_hostile_member_can_forge_nothing_and_is_named() {
    let mut net = Net::new(3, 9, 0.0);
    let [a, b, m] = net.ids[..] else {
        unreachable!()
    };
    net.set(a, "k", Some("true"));
    net.run(2 * S);
    let forger = net.keys[2].clone();
    let head = Head {
        node: a,
        incarnation: 900,
        beat: 1,
        version: 9,
        floor: 0,
        root: Root::default(),
        leaving: true,
    };
    let entry = Entry {
        node: a,
        incarnation: 100,
        version: 99,
        key: "k".into(),
        value: Some(b"false".to_vec()),
    };
    let own = Head {
        node: m,
        incarnation: 100,
        beat: 1 << 40,
        leaving: false,
        ..head
    };
    let lies = [
        Message::State {
            head: Signed::head(&head, &forger),
            entries: vec![],
        },
        Message::State {
            head: Signed::head(
                &Head {
                    incarnation: 100,
                    beat: 1,
                    leaving: false,
                    ..head
                },
                &forger,
            ),
            entries: vec![Signed::entry(&entry, &forger)],
        },
        Message::State {
            head: Signed::head(&own, &forger),
            entries: vec![Signed::entry(&entry, &forger)],
        },
    ];
    let stranger = SigningKey::from_bytes(&[77; 32]);
    let unknown = Head {
        node: NodeId::from_bytes(stranger.verifying_key().to_bytes()),
        ..own
    };
    let now = net.now;
    let core = net.cores.get_mut(&b).unwrap();
    for lie in &lies {
        core.received(m, &lie.encode(), now);
    }
    let admission = Message::State {
        head: Signed::head(&unknown, &stranger),
        entries: vec![],
    };
    core.received(m, &admission.encode(), now);
    let digest = Message::Lost {
        node: a,
        incarnation: 100,
        answer: false,
    };
    core.received(m, &digest.encode(), now);
    net.drain(b);
    assert_eq!(
        net.forged,
        [(b, m), (b, m)],
        "the third lie is not about {m}'s own map: passed over"
    );
    assert_eq!(net.get(b, a, "k").as_deref(), Some("true"));
    assert_eq!(net.life(b, a), Some((Life::Alive, 100)));
    assert_eq!(net.life(b, unknown.node), None);
}

#[test]
fn a_member_that_signs_the_last_beat_there_is_ends_nobody() {
    let mut net = Net::new(3, 9, 0.0);
    let [a, b, m] = net.ids[..] else {
        unreachable!()
    };
    net.run(S);
    let last = Head {
        node: m,
        incarnation: 200,
        beat: u64::MAX,
        version: 0,
        floor: 0,
        root: Root::default(),
        leaving: false,
    };
    let (now, key) = (net.now, net.keys[2].clone());
    for to in [a, b] {
        // M does not hear of it: it would take a higher incarnation.
        net.cut.insert((to, m));
        let state = Message::State {
            head: Signed::head(&last, &key),
            entries: vec![],
        };
        net.cores
            .get_mut(&to)
            .unwrap()
            .received(m, &state.encode(), now);
    }
    // A and B tell each other of it with every digest from now on.
    net.run(S);
    assert_eq!(net.life(a, b), Some((Life::Alive, 100)));
    assert_eq!(net.life(a, m), net.life(b, m));
}

#[test]
fn what_a_teller_leaves_out_comes_from_another() {
    let mut net = Net::new(3, 10, 0.0);
    let [a, b, m] = net.ids[..] else {
        unreachable!()
    };
    net.run(S);
    net.cut.insert((a, b));
    net.set(a, "k", Some("1"));
    net.cut.clear();
    // M claims that B has all of A: A's own head without the entry.
    let now = net.now;
    let mut heads = Vec::new();
    for (from, _, bytes) in net.queue.values() {
        if let (true, Some(Message::State { head, .. })) = (*from == a, Message::decode(bytes)) {
            heads.push(head);
        }
    }
    for head in heads {
        let bare = Message::State {
            head,
            entries: vec![],
        };
        net.cores
            .get_mut(&b)
            .unwrap()
            .received(m, &bare.encode(), now);
    }
    assert!(!net.cores[&b].is_complete(&a));
    net.run(2 * S);
    assert_eq!(net.get(b, a, "k").as_deref(), Some("1"));
}
