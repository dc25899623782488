//! What is fuzzed of this crate: all that other nodes, joiners and a store's file can say. Targets of private parsers
//! stand beside them; here are those of statements, records and what makes a node be let in.
use std::sync::LazyLock;

use bytes::Bytes;
use fuzz_kit::Target;
use minicbor::{Decode, Encode};
use routing::model::{ClusterId, MeshId, NodeId, StreamId, TenantId, UnixMillis};

use crate::{
    authority::{
        ClusterGrant, Entitlement, Facts, MeshFacts, NodeGrant, Revocation, Signed, Statement,
        TenantGrant,
    },
    identity::NodeKey,
    live::hello::{First, Hello, admit},
    records::{Change, KeyId, Record, Scope, Slot, changes},
    replica::Replica,
    seal::{self, Sealed},
    state::{Evidence, Verdict},
    store::Item,
    world::{START, World, at},
};

fuzz_kit::targets! {
    mesh_statement: statement, statement_seeds;
    mesh_record: record, record_seeds;
    mesh_change: change, change_seeds;
    mesh_verdict: verdict, verdict_seeds;
    mesh_sealed: sealed, sealed_seeds;
    mesh_hello: hello, hello_seeds;
}

/// All targets.
#[must_use]
pub fn targets() -> Vec<Target> {
    [
        TARGETS,
        crate::facts::fuzz::TARGETS,
        crate::join::fuzz::TARGETS,
        crate::link::fuzz::TARGETS,
        crate::member::fuzz::TARGETS,
        crate::probe::fuzz::TARGETS,
        crate::replica::fuzz::TARGETS,
        crate::store::fuzz::TARGETS,
    ]
    .concat()
}

/// What is written of a value.
pub(crate) fn written(value: impl Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).expect("a Vec takes all bytes")
}

/// What is read is written, and that is read and written as the same.
pub(crate) fn value<T: for<'b> Decode<'b, ()> + Encode<()>>(bytes: &[u8]) -> Option<T> {
    let read = minicbor::decode::<T>(bytes).ok()?;
    let first = written(&read);
    let again = minicbor::decode::<T>(&first).expect("what was read can be written");
    assert_eq!(written(again), first);
    Some(read)
}

/// A small mesh: node 0 founded it and let node 1 in; one tenant, one stream; node 0's records.
pub(crate) struct House {
    pub(crate) world: World,
    pub(crate) records: Vec<Record>,
    pub(crate) stream: changes::NewStream,
    cluster: Signed<ClusterGrant>,
    node: Signed<NodeGrant>,
    end: Signed<Revocation>,
}

pub(crate) static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let mut world = World::new(1);
    let stream = world.stream("one");
    let tenant = Scope::Tenant(world.tenant);
    let said = [
        (Scope::Mesh, world.founding()),
        (Scope::Mesh, world.tenant_changes()),
        (Scope::Mesh, vec![world.grant(1)]),
        (tenant, stream.changes.clone()),
    ];
    let mut records: Vec<Record> = Vec::new();
    for (scope, changes) in said {
        let slot = next(&records, scope, &world.node(0), START);
        let record = Record::sign(&world.node(0), world.root.mesh(), slot, changes);
        records.push(record.expect("these changes fit"));
    }
    let (cluster, node, end) = grants(&world);
    House {
        world,
        records,
        stream,
        cluster,
        node,
        end,
    }
});

/// Where a node's next record goes.
pub(crate) fn next(records: &[Record], scope: Scope, key: &NodeKey, now: UnixMillis) -> Slot {
    let last = records
        .iter()
        .rfind(|r| r.scope() == scope && r.author() == key.id());
    let newest = records.iter().map(Record::at).max().unwrap_or_default();
    Slot {
        scope,
        number: last.map_or(0, Record::number).saturating_add(1),
        prev: last.map_or([0; 32], |r| *r.hash()),
        at: newest.tick(now),
    }
}

impl House {
    pub(crate) fn mesh(&self) -> MeshId {
        self.world.root.mesh()
    }

    /// Node `i` with all records.
    pub(crate) fn replica(&self, i: u8) -> Replica {
        let items = self.records.iter().map(Item::record).collect();
        Replica::open(self.world.node(i), self.mesh(), items).expect("records were kept")
    }

    /// How node 5 names itself.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            mesh: self.mesh(),
            incarnation: START.0,
            at: START,
            cluster: self.cluster.clone(),
            node: self.node.clone(),
        }
    }
}

/// The grants of node 5, which no record tells of, and the end of it.
fn grants(world: &World) -> (Signed<ClusterGrant>, Signed<NodeGrant>, Signed<Revocation>) {
    let cluster = world
        .founding()
        .into_iter()
        .find_map(|change| match change {
            Change::Cluster(grant) => Some(grant),
            _ => None,
        });
    let cluster = cluster.expect("a mesh is founded with a cluster");
    let Change::Node(node) = world.grant(5) else {
        panic!("a grant is of a node");
    };
    let last = vec![(Scope::Mesh, 3)];
    match changes::revoke((&node, &cluster), last, &world.key, START) {
        Ok(Change::Revoked(end)) => (cluster, node, end),
        other => panic!("not a revocation: {other:?}"),
    }
}

/// One kind of statement: its bytes stay what they were, and its limits hold.
fn stated<T: Statement + std::fmt::Debug>(bytes: &[u8]) -> Option<Signed<T>> {
    let read = Signed::<T>::from_bytes(bytes).ok()?;
    assert_eq!(read.check(), Ok(()));
    let first = read.to_bytes();
    let again = Signed::<T>::from_bytes(&first).ok();
    assert_eq!(again.as_ref(), Some(&read), "{}", T::KIND);
    assert_eq!(again.map(|s| s.hash()), Some(read.hash()));
    Some(read)
}

/// Nothing counts that was not signed by whoever must: what is taken is one of the seeds, to the byte.
fn statement(bytes: &[u8]) {
    let house = &*HOUSE;
    let mut facts = Facts::new(house.mesh());
    static KNOWN: LazyLock<Vec<[u8; 32]>> = LazyLock::new(|| {
        let seeds = statement_seeds();
        seeds.iter().filter_map(|s| hash_of_body(s)).collect()
    });
    let known = |body: [u8; 32]| KNOWN.contains(&body);
    if let Some(s) = stated::<MeshFacts>(bytes) {
        assert!(facts.add_mesh(&s).is_err() || known(s.hash()));
    }
    if let Some(s) = stated::<ClusterGrant>(bytes) {
        assert!(facts.add_cluster(&s).is_err() || known(s.hash()));
    }
    assert!(facts.add_cluster(&house.cluster).is_ok());
    if let Some(s) = stated::<NodeGrant>(bytes) {
        assert!(facts.add_node(&s).is_err() || known(s.hash()));
    }
    if let Some(s) = stated::<TenantGrant>(bytes) {
        assert!(facts.add_tenant(&s).is_err() || known(s.hash()));
    }
    if let Some(s) = stated::<Entitlement>(bytes) {
        assert!(facts.add_entitlement(&s).is_err() || known(s.hash()));
    }
    if let Some(s) = stated::<Revocation>(bytes) {
        let held = Facts::check_revocation(house.mesh(), &s);
        assert!(held.is_err() || known(s.hash()));
    }
}

/// The hash of what was signed in a statement's bytes.
fn hash_of_body(bytes: &[u8]) -> Option<[u8; 32]> {
    use sha2::Digest as _;
    let mut d = minicbor::Decoder::new(bytes);
    d.array().ok()?;
    Some(sha2::Sha256::digest(d.bytes().ok()?).into())
}

fn statement_seeds() -> Vec<Vec<u8>> {
    static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let house = &*HOUSE;
        let mut all = vec![
            house.cluster.to_bytes(),
            house.node.to_bytes(),
            house.end.to_bytes(),
        ];
        let said = house.world.founding().into_iter();
        for change in said.chain(house.world.tenant_changes()) {
            match change {
                Change::Mesh(s) => all.push(s.to_bytes()),
                Change::Node(s) => all.push(s.to_bytes()),
                Change::Tenant(s) => all.push(s.to_bytes()),
                Change::Entitled(s) => all.push(s.to_bytes()),
                _ => {}
            }
        }
        all
    });
    SEEDS.clone()
}

/// A record stays what its author wrote, to the byte; what counts as signed was signed.
fn record(bytes: &[u8]) {
    let house = &*HOUSE;
    let raw = Bytes::copy_from_slice(bytes);
    let Ok(read) = Record::parse(house.mesh(), raw.clone()) else {
        return;
    };
    assert_eq!(read.raw(), &raw);
    assert!(read.number() > 0);
    for change in read.changes() {
        let known = !matches!(change, Change::Unknown { .. });
        assert_eq!(change.check(read.scope()).is_ok(), known);
    }
    if Record::read(house.mesh(), raw).is_ok() {
        assert!(house.records.iter().any(|r| r == &read), "{read:?}");
    }
}

fn record_seeds() -> Vec<Vec<u8>> {
    HOUSE.records.iter().map(|r| r.raw().to_vec()).collect()
}

fn change(bytes: &[u8]) {
    let tenant = Scope::Tenant(HOUSE.world.tenant);
    for scope in [Scope::Mesh, tenant] {
        let Ok(read) = Change::read(&mut minicbor::Decoder::new(bytes), scope) else {
            continue;
        };
        if !matches!(read, Change::Unknown { .. }) {
            let bytes = written(&read);
            let again = Change::read(&mut minicbor::Decoder::new(&bytes), scope);
            assert_eq!(again.ok().as_ref(), Some(&read));
        }
    }
}

fn change_seeds() -> Vec<Vec<u8>> {
    let all = HOUSE.records.iter().flat_map(Record::changes);
    let stream = HOUSE.stream.stream;
    let more = [
        Change::StreamDescribed {
            stream,
            description: Some("what it shows".into()),
        },
        Change::StreamDeleted { stream },
        Change::Revoked(HOUSE.end.clone()),
    ];
    all.chain(&more).map(written).collect()
}

/// Two records of node 0 with one number.
pub(crate) fn fork() -> Evidence {
    let house = &*HOUSE;
    let first = &house.records[3];
    let slot = Slot {
        scope: first.scope(),
        number: first.number(),
        prev: *first.prev(),
        at: first.at(),
    };
    let other = vec![Change::StreamDeleted {
        stream: house.stream.stream,
    }];
    let twin = Record::sign(&house.world.node(0), house.mesh(), slot, other);
    Evidence::of(first, &twin.expect("one change fits")).expect("they differ")
}

fn verdict(bytes: &[u8]) {
    let mesh = HOUSE.mesh();
    if let Some(read) = Verdict::read(mesh, bytes) {
        static KNOWN: LazyLock<[Verdict; 2]> = LazyLock::new(|| {
            let revoked = Verdict::Revoked(HOUSE.end.clone());
            [Verdict::Forked(fork()), revoked]
        });
        assert!(
            KNOWN.contains(&read),
            "a verdict that nobody gave: {read:?}"
        );
        assert_eq!(Verdict::read(mesh, &read.to_bytes()), Some(read));
    }
}

fn verdict_seeds() -> Vec<Vec<u8>> {
    vec![
        Verdict::Forked(fork()).to_bytes(),
        Verdict::Revoked(HOUSE.end.clone()).to_bytes(),
    ]
}

/// A key's place: its tenant, stream and id.
type Place = (TenantId, StreamId, KeyId);

fn place() -> Place {
    let stream = &HOUSE.stream;
    (HOUSE.world.tenant, stream.stream, stream.key)
}

fn sealed(bytes: &[u8]) {
    let Some(read) = value::<Sealed>(bytes) else {
        return;
    };
    assert!(read.as_bytes().len() <= Sealed::MAX);
    if let Ok(text) = seal::open(&HOUSE.world.epoch, place(), &read) {
        assert_eq!(text, HOUSE.stream.text);
        assert_eq!(written(&read), sealed_seeds().remove(0));
    }
}

fn sealed_seeds() -> Vec<Vec<u8>> {
    let sealed = seal::seal(&HOUSE.world.epoch, place(), &HOUSE.stream.text, [6; 24]);
    vec![written(&sealed)]
}

/// Only who shows the very grants that were given is let in, and only for the key that they name.
fn hello(bytes: &[u8]) {
    let Some(First::Link(hello)) = value::<First>(bytes) else {
        return;
    };
    static CONFIG: LazyLock<crate::config::Config> =
        LazyLock::new(|| HOUSE.replica(0).config(START));
    let (joiner, other) = (HOUSE.world.node(5).id(), HOUSE.world.node(6).id());
    if let Ok(admitted) = admit(&hello, joiner, &CONFIG, START) {
        assert_eq!((&hello.cluster, &hello.node), (&HOUSE.cluster, &HOUSE.node));
        assert_eq!(admitted.standing.cluster, ClusterId::from_bytes([102; 16]));
    }
    assert!(admit(&hello, other, &CONFIG, START).is_err());
    let member: NodeId = HOUSE.world.node(1).id();
    // Node 1 is on record, which counts whatever grants it shows.
    let known = admit(&hello, member, &CONFIG, at(1).unix);
    assert_eq!(known.is_ok(), hello.mesh == HOUSE.mesh());
}

fn hello_seeds() -> Vec<Vec<u8>> {
    vec![written(First::Link(HOUSE.hello()))]
}
