//! The handle over real disks and in real time.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use routing::model::{Clock, UnixMillis, Uptime};
use tokio::sync::mpsc;

use super::{Ack, Change, IdempotencyKey, Records, RecordsOptions, Scope, WriteError};
use crate::{
    seal::RevealError,
    store::{DiskStore, MemoryStore, Store, StoreError},
    world::{START, World},
};

struct TestClock(Instant);

impl TestClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge of these tests: the task sleeps in real time"
    )]
    fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for TestClock {
    fn uptime(&self) -> Uptime {
        Uptime(self.0.elapsed())
    }
    fn unix(&self) -> UnixMillis {
        START.plus(self.0.elapsed())
    }
}

async fn open(world: &World, node: u8, store: Arc<dyn Store>, clock: &Arc<TestClock>) -> Records {
    let options = RecordsOptions {
        mesh: world.root.mesh(),
        key: world.node(node),
        store,
        clock: clock.clone(),
        epoch: Some(world.epoch.clone()),
    };
    Records::open(options).await.unwrap()
}

async fn found(world: &World, records: &Records) {
    records
        .write(Scope::Mesh, world.founding(), None)
        .await
        .unwrap();
    records
        .write(Scope::Mesh, world.tenant_changes(), None)
        .await
        .unwrap();
}

/// Carries messages from one handle to another until either ends.
fn link(world: &World, from: (u8, mpsc::Receiver<(routing::model::NodeId, Bytes)>), to: Records) {
    let (id, mut outbox) = (world.node(from.0).id(), from.1);
    tokio::spawn(async move {
        while let Some((_, message)) = outbox.recv().await {
            to.receive(id, message).await;
        }
    });
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("mesh.redb");
    let (mut world, clock) = (World::new(1), TestClock::start());
    let scope = Scope::Tenant(world.tenant);
    let new = world.stream("mine");
    {
        let store = Arc::new(DiskStore::open(&path).unwrap());
        let records = open(&world, 0, store, &clock).await;
        found(&world, &records).await;
        let written = records.write(scope, new.changes, None).await.unwrap();
        assert_eq!(written.ack, Ack::Local, "nobody else is there");
        let config = records.config();
        assert_eq!(config.stream(new.stream).unwrap().name, "mine");
        records.stop().await;
        let after = records.write(
            scope,
            vec![Change::StreamDeleted { stream: new.stream }],
            None,
        );
        assert!(matches!(after.await, Err(WriteError::Closed)));
    }
    let store = Arc::new(DiskStore::open(&path).unwrap());
    let records = open(&world, 0, store, &clock).await;
    let config = records.config();
    let (stream, key) = config.key_by_hash(new.text.hash()).unwrap();
    assert_eq!(
        (stream.id, key.active, key.primary),
        (new.stream, true, true)
    );
    assert_eq!(records.reveal(key), Ok(new.text));
}

#[tokio::test]
async fn a_second_disk_makes_a_write_replicated() {
    let (mut world, clock) = (World::new(2), TestClock::start());
    let a = open(&world, 0, Arc::new(MemoryStore::new()), &clock).await;
    let b = open(&world, 1, Arc::new(MemoryStore::new()), &clock).await;
    found(&world, &a).await;
    a.write(Scope::Mesh, vec![world.grant(1)], None)
        .await
        .unwrap();
    let mut upgrades = a.upgrades();
    let scope = Scope::Tenant(world.tenant);

    // The peer is there, but nothing reaches it yet: the answer comes after half a second.
    let outbox = a.outbox().unwrap();
    a.peer_connected(world.node(1).id()).await;
    let early = a
        .write(scope, world.stream("early").changes, None)
        .await
        .unwrap();
    assert_eq!(early.ack, Ack::Local);
    let (me, number) = (world.node(0).id(), early.number);
    assert_eq!(a.ack_of(scope, me, number).await, Some(Ack::Local));
    assert_eq!(a.ack_of(scope, me, number + 1).await, None, "never written");
    assert!(!a.replicated(scope, me, number + 1).await);
    let (at_a, at_b) = (a.clone(), b.clone());
    let followed = tokio::spawn(async move { at_a.replicated(scope, me, number).await });
    assert_eq!(
        b.ack_of(scope, me, number).await,
        None,
        "before it knows that it may write there"
    );

    link(&world, (0, outbox), b.clone());
    link(&world, (1, b.outbox().unwrap()), a.clone());
    b.peer_connected(world.node(0).id()).await;
    // What was written before there was a peer is upgraded as well, and comes first.
    let upgraded = async {
        loop {
            let up = upgrades.recv().await.unwrap();
            if (up.scope, up.author) == (scope, me) && up.number >= early.number {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), upgraded)
        .await
        .unwrap();
    assert!(followed.await.unwrap());
    assert_eq!(a.ack_of(scope, me, number).await, Some(Ack::Replicated));
    assert!(b.reconciled().wait_for(|r| *r).await.is_ok());
    // The other disk is this one.
    let there = tokio::time::timeout(Duration::from_secs(5), at_b.replicated(scope, me, number));
    assert_eq!(there.await, Ok(true));
    let late = world.stream("late");
    let written = a.write(scope, late.changes, None).await.unwrap();
    assert_eq!(written.ack, Ack::Replicated);
    let mut seen = b.watch();
    let there = seen.wait_for(|c| c.stream(late.stream).is_some());
    assert!(
        tokio::time::timeout(Duration::from_secs(5), there)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn one_idempotency_key_writes_once() {
    let (mut world, clock) = (World::new(3), TestClock::start());
    let records = open(&world, 0, Arc::new(MemoryStore::new()), &clock).await;
    found(&world, &records).await;
    let scope = Scope::Tenant(world.tenant);
    let key = IdempotencyKey::new(world.tenant, "create 1");
    let (one, two) = (world.stream("one"), world.stream("two"));
    let first = records
        .write(scope, one.changes.clone(), Some(key.clone()))
        .await
        .unwrap();
    let second = records.write(scope, two.changes, Some(key)).await.unwrap();
    assert_eq!((first.at, &first.repeats), (second.at, &None));
    assert_eq!(second.repeats.unwrap().changes(), one.changes);
    assert!(records.config().stream(two.stream).is_none());
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_is_lost() {
    let (mut world, clock) = (World::new(4), TestClock::start());
    let store = Arc::new(MemoryStore::new());
    let records = open(&world, 0, store.clone(), &clock).await;
    found(&world, &records).await;
    let scope = Scope::Tenant(world.tenant);
    let before = world.stream("before");
    records.write(scope, before.changes, None).await.unwrap();
    store.set_full(true);
    let new = world.stream("new");
    let refused = records
        .write(scope, new.changes.clone(), None)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, WriteError::Store(StoreError::Full { .. })),
        "{refused}"
    );
    assert!(records.config().stream(new.stream).is_none());
    store.set_full(false);
    records.write(scope, new.changes, None).await.unwrap();
    drop(records);
    let again = open(&world, 0, store, &clock).await;
    assert_eq!(again.config().streams(world.tenant).count(), 2);
}

#[tokio::test]
async fn a_clock_far_off_and_a_node_without_the_secret_are_told() {
    let (mut world, clock) = (World::new(5), TestClock::start());
    let options = RecordsOptions {
        mesh: world.root.mesh(),
        key: world.node(0),
        store: Arc::new(MemoryStore::new()),
        clock,
        epoch: None,
    };
    let records = Records::open(options).await.unwrap();
    found(&world, &records).await;
    let new = world.stream("x");
    let scope = Scope::Tenant(world.tenant);
    records.set_clock_offset(Duration::from_secs(7200));
    let refused = records
        .write(scope, new.changes.clone(), None)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("7200 s"), "{refused}");
    records.set_clock_offset(Duration::ZERO);
    records.write(scope, new.changes, None).await.unwrap();
    let config = records.config();
    let refused = records.reveal(&config.keys(new.stream)[0]).unwrap_err();
    assert_eq!(refused, RevealError::NotAGateway);
}

/// A record as a later version may write it: a kind of change that is not known here, a known one with a field
/// more, one that breaks a limit, and a field after the last.
#[test]
fn what_a_later_version_wrote_is_kept_to_the_byte_and_read_as_far_as_it_goes() {
    let world = World::new(6);
    let (key, mesh) = (world.node(0), world.root.mesh());
    let scope = Scope::Tenant(world.tenant);
    let stream = routing::model::StreamId::from_bytes([1; 16]);
    let mut body = Vec::new();
    let mut e = minicbor::Encoder::new(&mut body);
    e.array(8)
        .unwrap()
        .encode(mesh)
        .unwrap()
        .encode(scope)
        .unwrap()
        .encode(key.id())
        .unwrap();
    e.u64(1)
        .unwrap()
        .bytes(&[0; 32])
        .unwrap()
        .encode(routing::model::Hlc::at(START))
        .unwrap();
    e.array(4).unwrap();
    e.array(2)
        .unwrap()
        .u32(999)
        .unwrap()
        .map(1)
        .unwrap()
        .str("what")
        .unwrap()
        .bool(true)
        .unwrap();
    e.array(2).unwrap().u32(33).unwrap().array(3).unwrap();
    e.encode(stream)
        .unwrap()
        .str("a name")
        .unwrap()
        .u8(7)
        .unwrap();
    e.array(2).unwrap().u32(33).unwrap().array(2).unwrap();
    e.encode(stream).unwrap().str(&"x".repeat(257)).unwrap();
    e.array(2)
        .unwrap()
        .u32(35)
        .unwrap()
        .array(1)
        .unwrap()
        .encode(stream)
        .unwrap();
    e.str("a field more").unwrap();
    let mut raw = Vec::new();
    let signature = key.sign("record 1", &body);
    minicbor::Encoder::new(&mut raw)
        .array(2)
        .unwrap()
        .bytes(&body)
        .unwrap()
        .encode(signature)
        .unwrap();
    let raw = Bytes::from(raw);

    let record = super::Record::read(mesh, raw.clone()).unwrap();
    assert_eq!(*record.raw(), raw);
    let name = "a name".to_owned();
    let expected = [
        Change::Unknown { kind: 999 },
        Change::StreamNamed { stream, name },
        Change::Unknown { kind: 33 },
        Change::StreamDeleted { stream },
    ];
    assert_eq!(record.changes(), expected);
    for change in record.changes() {
        let writable = !matches!(change, Change::Unknown { .. });
        assert_eq!(change.check(scope).is_ok(), writable, "{change:?}");
    }
}
