//! Replication under any bytes of an admitted peer, under whatever that peer signs, and from a store with any rows.
use bytes::Bytes;
use fuzz_kit::{Input, join};
use minicbor::bytes::ByteVec;
use routing::model::{Hlc, NodeId};

use super::{
    MAX_OUT, Replica,
    wire::{Head, Message, Purpose},
};
use crate::{
    fuzz::{HOUSE, fork, next, written},
    records::{Change, Record, Scope, Slot},
    state::Verdict,
    store::Item,
    world::{START, at},
};

fuzz_kit::targets! {
    replica_message: message, message_seeds;
    replica_peer: peer, peer_seeds;
    replica_store: store, store_seeds;
}

fn message(bytes: &[u8]) {
    if let Some(read) = Message::read(bytes) {
        assert_eq!(Message::read(&read.to_bytes()), Some(read));
    }
}

fn tenant() -> Scope {
    Scope::Tenant(HOUSE.world.tenant)
}

fn message_seeds() -> Vec<Vec<u8>> {
    let head = Head {
        author: HOUSE.world.node(0).id(),
        number: 3,
        hash: [7; 8].into(),
    };
    let heads = |purpose| Message::Heads {
        scope: tenant(),
        purpose,
        heads: vec![head, head],
    };
    let raw = |record: &Record| ByteVec::from(record.raw().to_vec());
    [
        Message::Digest {
            scopes: vec![(Scope::Mesh, [1; 16].into()), (tenant(), [2; 16].into())],
            verdicts: [3; 16].into(),
        },
        heads(Purpose::All),
        heads(Purpose::Ask),
        Message::Records(HOUSE.records.iter().map(raw).collect()),
        Message::Show {
            scope: Scope::Mesh,
            author: head.author,
            number: 2,
        },
        Message::VerdictIds {
            ids: vec![[4; 32].into()],
            ask: true,
        },
        Message::Verdicts(vec![Verdict::Forked(fork()).to_bytes().into()]),
    ]
    .iter()
    .map(Message::to_bytes)
    .collect()
}

/// What a node believes, as text.
fn belief(replica: &mut Replica) -> String {
    let config = replica.config(START);
    let mut lines: Vec<String> = config.clusters().map(|c| format!("{c:?}")).collect();
    lines.extend(config.nodes().map(|n| format!("{n:?}")));
    let mut tokens: Vec<_> = config.tokens().collect();
    tokens.sort_by_key(|t| t.hash);
    lines.extend(tokens.iter().map(|t| format!("{t:?}")));
    for tenant in config.tenants() {
        lines.push(format!("{tenant:?} {:?}", config.entitlements(tenant.id)));
        for stream in config.streams(tenant.id) {
            lines.push(format!("{stream:?} {:?}", config.keys(stream.id)));
            let found = config.stream_by_playback(stream.playback);
            assert_eq!(found.map(|s| s.id), Some(stream.id));
        }
    }
    lines.join("\n")
}

/// An author: this node, the peer, or nobody.
fn author(which: u8) -> NodeId {
    match which & 3 {
        i @ 0..=1 => HOUSE.world.node(i).id(),
        _ => NodeId::from_bytes([which; 32]),
    }
}

const fn scope_of(which: u8, tenant: Scope) -> Scope {
    if which & 1 == 0 { Scope::Mesh } else { tenant }
}

/// A record that the peer signs: its next one, or one out of order, with any changes.
fn signed(input: &mut Input<'_>, written: &[Record], now: super::Now) -> Option<Record> {
    let key = HOUSE.world.node(1);
    let [flags, count] = input.array();
    let scope = scope_of(flags, tenant());
    let mut slot = next(written, scope, &key, now.unix);
    if flags & 2 != 0 {
        slot = Slot {
            number: input.long().max(2),
            prev: input.array(),
            ..slot
        };
    }
    if flags & 4 != 0 {
        slot.at = Hlc(input.long());
    }
    let changes = (0..count & 3).filter_map(|_| minicbor::decode::<Change>(input.block()).ok());
    let changes: Vec<Change> = changes.collect();
    Record::sign(&key, HOUSE.mesh(), slot, changes).ok()
}

/// One message of the peer.
fn said(what: u8, input: &mut Input<'_>, written: &mut Vec<Record>, now: super::Now) -> Vec<u8> {
    let scope = scope_of(what >> 4, tenant());
    let message = match what & 7 {
        0 => return input.block().to_vec(),
        1 => {
            let record = signed(input, written, now);
            written.extend(record.clone());
            let raw = record.map(|r| ByteVec::from(r.raw().to_vec()));
            Message::Records(raw.into_iter().collect())
        }
        2 => {
            let purposes = [Purpose::All, Purpose::News, Purpose::Ask, Purpose::Ack];
            let heads = (0..input.byte() & 3).map(|_| Head {
                author: author(input.byte()),
                number: input.long(),
                hash: input.array().into(),
            });
            Message::Heads {
                scope,
                heads: heads.collect(),
                purpose: purposes[usize::from(what >> 5 & 3)],
            }
        }
        3 => Message::Digest {
            scopes: vec![(scope, input.array().into())],
            verdicts: input.array().into(),
        },
        4 => Message::Show {
            scope,
            author: author(input.byte()),
            number: input.long(),
        },
        _ => Message::VerdictIds {
            ids: vec![input.array().into()],
            ask: what & 16 != 0,
        },
    };
    message.to_bytes()
}

/// A gateway of the same cluster that says and signs whatever it likes: nothing is lost, nothing grows without bound, and
/// what is believed follows from what is on the disk.
fn peer(bytes: &[u8]) {
    let house = &*HOUSE;
    let other = house.world.node(1).id();
    let mut replica = house.replica(0);
    let mut kept: Vec<Item> = house.records.iter().map(Item::record).collect();
    let (mut input, mut millis) = (Input::new(bytes), 1_000);
    let mut written = Vec::new();
    replica.connected(other, at(millis));
    while !input.is_empty() {
        let (what, now) = (input.byte(), at(millis));
        match what & 7 {
            6 => {
                millis += u64::from(input.short());
                replica.tick(at(millis));
            }
            7 if what & 16 == 0 => {
                replica.gone(other);
                replica.connected(other, now);
            }
            7 => {
                let name = Change::StreamNamed {
                    stream: house.stream.stream,
                    name: String::from_utf8_lossy(&input.array::<4>()).into_owned(),
                };
                let made = replica.prepare(tenant(), vec![name], Default::default(), now);
                if let Ok(record) = made {
                    kept.push(Item::record(&record));
                    replica.commit_prepared(now);
                }
            }
            _ => {
                let message = said(what, &mut input, &mut written, now);
                replica.receive(other, &message, now);
            }
        }
        let out = replica.take_output();
        kept.extend(out.keep);
        assert!(out.send.len() <= MAX_OUT);
        for (to, bytes) in out.send {
            assert_eq!(to, other);
            assert!(Message::read(&bytes).is_some(), "what is sent can be read");
        }
    }
    assert!(replica.config(START).tenant(house.world.tenant).is_some());
    let again = Replica::open(house.world.node(0), house.mesh(), kept);
    let mut again = again.expect("what was kept can be read");
    for i in 0..2 {
        let node = house.world.node(i).id();
        assert_eq!(again.heads_of(node), replica.heads_of(node));
    }
    assert_eq!(belief(&mut again), belief(&mut replica));
}

fn peer_seeds() -> Vec<Vec<u8>> {
    let stream = HOUSE.stream.stream;
    let named = |name: &str| {
        written(Change::StreamNamed {
            stream,
            name: name.into(),
        })
    };
    let record = |flags: u8, changes: &[Vec<u8>]| {
        let count = u8::try_from(changes.len()).unwrap_or(0);
        [vec![1, flags, count], join(changes)].concat()
    };
    let mut honest = record(1, &[named("a"), named("b")]);
    honest.extend(record(1, &[written(Change::StreamDeleted { stream })]));
    honest.extend([6, 8, 0, 0x17, b'n', b'a', b'm', b'e', 7]);
    for message in message_seeds() {
        honest.push(0);
        honest.extend(join([message]));
    }
    // A gap, a stamp far ahead, a record twice with another text, heads beyond what there is.
    let mut odd = vec![1, 3, 1, 0, 0, 0, 0, 0, 0, 0, 9];
    odd.extend([7; 32]);
    odd.extend(join([named("gap")]));
    odd.extend([1, 5, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    odd.extend(join([named("late")]));
    odd.extend([0x12, 2, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    odd.extend([1; 8]);
    odd.extend([1, 0, 0, 0, 0, 0, 0, 0, 2]);
    odd.extend([2; 8]);
    odd.extend([0x14, 0, 0, 0, 0, 0, 0, 0, 0, 1, 6, 0xff, 0xff]);
    vec![honest, odd]
}

/// Rows of any bytes: refused as damage, or read as far as they go.
fn store(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut items = Vec::new();
    while !input.is_empty() {
        let what = input.byte();
        let raw = Bytes::copy_from_slice(input.block());
        items.push(if what & 1 == 0 {
            Item::Record {
                scope: Scope::Mesh,
                author: author(what >> 1),
                number: u64::from(what),
                raw,
            }
        } else {
            Item::Verdict {
                id: [what; 32],
                raw,
            }
        });
    }
    let key = HOUSE.world.node(0);
    if let Ok(mut replica) = Replica::open(key, HOUSE.mesh(), items) {
        belief(&mut replica);
        let pieces = replica.export_mesh();
        let mut other = Replica::open(HOUSE.world.node(9), HOUSE.mesh(), Vec::new());
        if let Ok(other) = &mut other {
            other.import(pieces, at(0));
            belief(other);
        }
    }
}

fn store_seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for record in &HOUSE.records {
        all.push(0);
        all.extend(join([record.raw()]));
    }
    let whole = all.clone();
    all.push(1);
    all.extend(join([Verdict::Forked(fork()).to_bytes()]));
    vec![whole, all]
}
