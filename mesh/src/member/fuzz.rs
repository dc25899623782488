//! Membership under any bytes of a linked member, and under whatever that member signs.
use std::{collections::BTreeSet, sync::LazyLock};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use fuzz_kit::{Input, join};
use routing::model::{NodeId, Uptime};

use super::{
    Core, Event, Life, MAX_BYTES, MAX_ENTRIES, Output,
    wire::{Entry, Has, Head, Message, Root, Signed},
};
use crate::fuzz::{value, written};

fuzz_kit::targets! {
    member_message: message, message_seeds;
    member_core: core, core_seeds;
}

fn key(i: u8) -> SigningKey {
    SigningKey::from_bytes(&[i; 32])
}

fn id(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

/// What is read is written and read again as the same; what is inside as well.
fn message(bytes: &[u8]) {
    let Some(read) = Message::decode(bytes) else {
        return;
    };
    assert_eq!(Message::decode(&read.encode()).as_ref(), Some(&read));
    if let Message::State { head, entries } = read {
        if let Some(head) = head.as_head() {
            value::<Head>(&written(&head));
        }
        for entry in entries.iter().filter_map(Signed::as_entry) {
            value::<Entry>(&written(&entry));
        }
    }
}

/// What this node, its friend and its foe are called, and an honest friend's words.
struct Cast {
    me: SigningKey,
    foe: SigningKey,
    friend: NodeId,
    /// The friend's messages, in order.
    words: Vec<Vec<u8>>,
    /// All that it ever said.
    said: Vec<(String, Bytes)>,
}

static CAST: LazyLock<Cast> = LazyLock::new(|| {
    let (me, friend, foe) = (key(1), key(2), key(3));
    let mut other = Core::new(friend.clone(), 1_000, 1, Uptime::ZERO);
    other.set_roster(BTreeSet::from([id(&me), id(&friend)]));
    other.linked(id(&me), Uptime::ZERO);
    let mut said = Vec::new();
    for (n, name) in [(1_u8, "s"), (2, "c"), (3, "s")] {
        let value = Bytes::from(vec![n; 20]);
        said.push((name.to_owned(), value.clone()));
        let now = Uptime::from_millis(u64::from(n) * 400);
        let set = other.set(vec![(name.to_owned(), Some(value))], now);
        set.expect("it has room");
        other.tick(now);
    }
    other.leave();
    let mut words = Vec::new();
    while let Some(output) = other.poll() {
        if let Output::Send { bytes, .. } = output {
            words.push(bytes.to_vec());
        }
    }
    Cast {
        me,
        foe,
        friend: id(&friend),
        words,
        said,
    }
});

fn message_seeds() -> Vec<Vec<u8>> {
    let lost = Message::Lost {
        node: CAST.friend,
        incarnation: 1_000,
        answer: false,
    };
    let mut all = CAST.words.clone();
    all.push(lost.encode());
    all
}

/// One of those there are, or nobody.
fn somebody(which: u8) -> NodeId {
    match which & 3 {
        0 => id(&CAST.me),
        1 => CAST.friend,
        2 => id(&CAST.foe),
        _ => NodeId::from_bytes([which; 32]),
    }
}

/// A state that the foe signs: about itself, or in vain about somebody else.
fn state(input: &mut Input<'_>) -> Message {
    let key = &CAST.foe;
    let [whose, flags, count] = input.array();
    let node = if whose & 1 == 0 {
        id(key)
    } else {
        somebody(whose >> 1)
    };
    let incarnation = u64::from(input.short());
    let mut root = Root::default();
    let mut entries = Vec::new();
    for _ in 0..count & 3 {
        let entry = Entry {
            node,
            incarnation,
            version: input.long(),
            key: String::from_utf8_lossy(input.block()).into_owned(),
            value: (flags & 2 == 0).then(|| input.block().to_vec()),
        };
        root.toggle(&entry.key, entry.version);
        entries.push(Signed::entry(&entry, key));
    }
    let head = Head {
        node,
        incarnation,
        beat: input.long(),
        version: input.long(),
        floor: input.long(),
        root,
        leaving: flags & 1 == 1,
    };
    Message::State {
        head: Signed::head(&head, key),
        entries,
    }
}

fn digest(input: &mut Input<'_>) -> Message {
    let [count, answer] = input.array();
    let has = (0..count & 7).map(|_| Has {
        node: somebody(input.byte()),
        incarnation: input.long(),
        beat: input.long(),
        complete: input.long(),
        dead: input.byte() & 1 == 1,
    });
    Message::Digest {
        has: has.collect(),
        answer: answer & 1 == 1,
    }
}

/// Nobody speaks for others, nobody outside the roster is heard of, and this node lives whatever is said of it.
fn core(bytes: &[u8]) {
    let (me, foe, friend) = (id(&CAST.me), id(&CAST.foe), CAST.friend);
    let roster = BTreeSet::from([me, foe, friend]);
    let mut core = Core::new(CAST.me.clone(), 5_000, 7, Uptime::ZERO);
    core.set_roster(roster.clone());
    for peer in [foe, friend] {
        core.linked(peer, Uptime::ZERO);
    }
    let (mut input, mut now) = (Input::new(bytes), Uptime::ZERO);
    let mut own = None;
    while !input.is_empty() {
        let what = input.byte();
        match what & 7 {
            0 => core.received(foe, input.block(), now),
            1 => core.received(foe, &state(&mut input).encode(), now),
            2 => core.received(foe, &digest(&mut input).encode(), now),
            3 => {
                let lost = Message::Lost {
                    node: somebody(input.byte()),
                    incarnation: input.long(),
                    answer: what & 16 != 0,
                };
                core.received(foe, &lost.encode(), now);
            }
            4 => {
                let words = &CAST.words;
                let word = &words[usize::from(input.byte()) % words.len()];
                core.received(friend, word, now);
            }
            5 => {
                now = now + std::time::Duration::from_millis(u64::from(input.short()));
                core.tick(now);
            }
            6 => {
                let peer = if what & 16 == 0 { foe } else { friend };
                if what & 32 == 0 {
                    core.linked(peer, now);
                } else {
                    core.unlinked(peer, now);
                }
            }
            _ => {
                let value = Bytes::copy_from_slice(input.block());
                let new = vec![("s".to_owned(), Some(value.clone()))];
                if core.set(new, now).is_ok() {
                    own = Some(value);
                }
            }
        }
        let mut sent = 0;
        while let Some(output) = core.poll() {
            match output {
                Output::Send { to, bytes } => {
                    assert!(to == foe || to == friend);
                    assert!(Message::decode(&bytes).is_some());
                    sent += 1;
                }
                Output::Event(Event::Forged { by }) => assert_eq!(by, foe),
                Output::Event(_) => {}
            }
        }
        assert!(sent <= 64, "{sent} messages for one");
    }
    assert!(core.nodes().all(|node| roster.contains(&node)));
    assert_eq!(core.life(&me).map(|(life, ..)| life), Some(Life::Alive));
    let mine: Vec<_> = core.values(&me).map(|(_, value)| value).collect();
    assert_eq!(mine, own.iter().collect::<Vec<_>>());
    for (key, value) in core.values(&friend) {
        let said = |(k, v): &(String, Bytes)| k == key && v == value;
        assert!(CAST.said.iter().any(said), "{key} was never said");
    }
    let (mut count, mut size) = (0, 0);
    for (key, value) in core.values(&foe) {
        count += 1;
        size += key.len() + value.len();
    }
    assert!(count <= MAX_ENTRIES && size <= MAX_BYTES);
}

fn core_seeds() -> Vec<Vec<u8>> {
    let word = |n: u8| vec![4, n];
    let mut honest: Vec<u8> = (0..8).flat_map(word).collect();
    honest.extend([5, 0, 200, 7]);
    honest.extend(join(["mine"]));
    honest.extend([5, 4, 0, 5, 10, 0]);
    // The foe speaks for itself, digests with large numbers, reports a loss, forges a word of the friend.
    let mut foe = vec![1, 0, 0, 1, 0, 9];
    foe.extend([0, 0, 0, 0, 0, 0, 0, 2]);
    foe.extend(join(["s", "theirs"]));
    foe.extend([[0; 7], [1; 7], [0; 7]].concat());
    foe.extend([0, 2, 0, 5, 0, 100]);
    foe.extend([2, 2, 0, 1]);
    foe.extend([0xff; 24]);
    foe.extend([1, 0, 0, 0, 0, 0, 0, 0, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 9]);
    foe.extend([0; 8]);
    foe.extend([1, 3, 1, 0, 0, 0, 0, 0, 0, 3, 0xe8, 0x26, 5, 8, 0]);
    // A last beat, and a digest that knows of it.
    let mut last = vec![1, 0, 0, 0, 0, 9];
    last.extend([[0xff; 8], [0; 8], [0; 8]].concat());
    last.extend([2, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9]);
    last.extend([[0xff; 8], [0; 8]].concat());
    last.push(0);
    let mut raw = Vec::new();
    for word in &CAST.words {
        raw.push(0);
        raw.extend(join([word]));
    }
    vec![honest, foe, last, raw]
}
