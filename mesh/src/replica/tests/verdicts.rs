//! Forked logs and revoked nodes.
use bytes::Bytes;

use super::{net::Net, tenant_scope};
use crate::{
    authority::{Facts, Revocation},
    records::{Change, Record, Scope, Slot, WriteError, changes},
    state::{Verdict, Verdicts},
    world::START,
};

/// A verdict by which node `i` ends with these numbers.
pub(super) fn revocation(net: &Net, i: u8, last: Vec<(Scope, u64)>) -> Bytes {
    let Change::Node(grant) = net.world.grant(i) else {
        panic!("a grant is a grant");
    };
    let cluster = net.world.founding().into_iter().find_map(|c| match c {
        Change::Cluster(g) => Some(g),
        _ => None,
    });
    let grants = (&grant, &cluster.unwrap());
    let Change::Revoked(signed) = changes::revoke(grants, last, &net.world.key, START).unwrap()
    else {
        panic!("a revocation is a revocation");
    };
    Bytes::from(Verdict::Revoked(signed).to_bytes())
}

/// Records that node `i` writes a second time, in place of those after `from`.
pub(super) fn twin(net: &mut Net, i: u8, from: u64) -> Vec<Bytes> {
    let scope = tenant_scope(net);
    let key = net.world.node(i);
    let log = |n| {
        net.nodes[usize::from(i)]
            .replica
            .logs
            .get((scope, key.id()), n)
            .cloned()
    };
    let before = log(from);
    let mut prev = before.as_ref().map_or([0; 32], |r| *r.hash());
    let mut at = log(from + 1).map_or_else(|| net.now().unix, |r| r.at().millis());
    let mut raw = Vec::new();
    for number in from + 1..from + 4 {
        at.0 += 1;
        let stamp = routing::model::Hlc::at(at);
        let slot = Slot {
            scope,
            number,
            prev,
            at: stamp,
        };
        let changes = net.world.stream(&format!("twin {number}")).changes;
        let record = Record::sign(&key, net.world.root.mesh(), slot, changes).unwrap();
        prev = *record.hash();
        raw.push(record.raw().clone());
    }
    raw
}

#[test]
fn two_records_with_one_number_stop_their_author_everywhere() {
    let mut net = Net::new(4, 20);
    net.run_until_agreed(3_000);
    for name in ["one", "two", "three", "four"] {
        net.stream(3, name);
        net.run(50);
    }
    net.run_until_agreed(1_000);
    // A copy of node 3's key writes from its second record on, and shows that to node 0 alone.
    let twins = twin(&mut net, 3, 1);
    let now = net.now();
    net.nodes[0].replica.import(twins, now);
    net.drain(0);
    net.run_until_agreed(5_000);
    let scope = tenant_scope(&net);
    let author = net.id(3);
    for i in 0..4 {
        let fork = net.nodes[i]
            .replica
            .state
            .verdicts()
            .fork(scope, author)
            .cloned();
        assert_eq!(
            fork.unwrap().number(),
            2,
            "node {i} has the first number of the fork"
        );
        let names: Vec<String> = net
            .config(i)
            .streams(net.world.tenant)
            .map(|s| s.name.clone())
            .collect();
        assert!(
            names.contains(&"one".to_owned()) && names.contains(&"two".to_owned()),
            "{names:?}"
        );
        assert!(
            names.contains(&"twin 2".to_owned()) && names.len() == 3,
            "{names:?}"
        );
    }
    let stream = net.world.stream("").stream;
    let refused = net.write(3, scope, vec![Change::StreamDeleted { stream }]);
    assert!(matches!(refused, Err(WriteError::Stopped)));
    // The quarrel is over: nothing but sums goes round.
    net.run(5_000);
    let sent: u64 = net.nodes.iter().map(|n| n.sent).sum();
    net.run(10_000);
    let more = net.nodes.iter().map(|n| n.sent).sum::<u64>() - sent;
    assert!(more < 4 * 3 * 6 * 150, "{more} bytes in 10 s");
}

#[test]
fn two_histories_on_two_sides_are_traced_to_where_they_part() {
    let mut net = Net::new(4, 21);
    net.run_until_agreed(3_000);
    net.stream(3, "shared");
    net.run_until_agreed(1_000);
    net.partition(&[0, 1], &[2, 3], true);
    let twins = twin(&mut net, 3, 1);
    let now = net.now();
    net.nodes[0].replica.import(twins, now);
    net.drain(0);
    for name in ["x", "y", "z", "w"] {
        net.run(50);
        net.stream(3, name);
    }
    net.run(3_000);
    net.partition(&[0, 1], &[2, 3], false);
    net.run_until_agreed(10_000);
    let (scope, author) = (tenant_scope(&net), net.id(3));
    for node in &net.nodes {
        assert_eq!(
            node.replica
                .state
                .verdicts()
                .fork(scope, author)
                .unwrap()
                .number(),
            2
        );
    }
}

#[test]
fn a_revoked_node_counts_up_to_its_last_number_whenever_the_news_comes() {
    let mut net = Net::new(3, 22);
    net.run_until_agreed(3_000);
    let kept = net.stream(2, "kept");
    net.run(50);
    let void = net.stream(2, "void");
    net.run_until_agreed(1_000);
    let scope = tenant_scope(&net);
    let raw = revocation(&net, 2, vec![(scope, 1), (Scope::Mesh, 0)]);
    let Some(Verdict::Revoked(signed)) = Verdict::read(net.world.root.mesh(), &raw) else {
        panic!("it proves itself");
    };
    net.write(0, Scope::Mesh, vec![Change::Revoked(signed)])
        .unwrap();
    net.run_until_agreed(3_000);
    for i in 0..3 {
        let config = net.config(i);
        assert!(
            config.stream(kept).is_some() && config.stream(void).is_none(),
            "node {i}"
        );
        assert!(config.is_revoked(net.id(2)) && config.node(net.id(2)).is_none());
        assert_eq!(config.standing(net.id(2)), None);
    }
    let refused = net.write(2, scope, vec![Change::StreamDeleted { stream: kept }]);
    assert!(matches!(refused, Err(WriteError::NotAllowed { .. })));
    // After a restart, too.
    net.restart(1);
    assert!(net.config(1).stream(void).is_none());
}

#[test]
fn a_cluster_cannot_revoke_a_node_that_never_joined_it() {
    let net = Net::new(2, 23);
    let (cluster, key, grant) = net.world.stranger_cluster("other");
    let Change::Cluster(grant) = grant else {
        panic!("a grant is a grant");
    };
    let Change::Node(ours) = net.world.grant(1) else {
        panic!("a grant is a grant");
    };
    let mut theirs = (*ours).clone();
    theirs.cluster = cluster;
    assert!(
        theirs.clone().issue(&key).is_err(),
        "the node did not consent"
    );
    let forged = crate::authority::Signed::sign(theirs, &[&key]).unwrap();
    let revocation = Revocation {
        mesh: net.world.root.mesh(),
        grant: forged,
        cluster: grant,
        last: Vec::new(),
        at: START,
    };
    let signed = revocation.issue(&key).unwrap();
    assert!(Facts::check_revocation(net.world.root.mesh(), &signed).is_err());
    let raw = Verdict::Revoked(signed).to_bytes();
    assert!(Verdict::read(net.world.root.mesh(), &raw).is_none());
}

#[test]
fn verdicts_are_one_form_in_any_order() {
    let mut net = Net::new(2, 24);
    net.run_until_agreed(3_000);
    let scope = tenant_scope(&net);
    net.stream(1, "a");
    let mut all: Vec<Record> = Vec::new();
    for _ in 0..3 {
        let raw = twin(&mut net, 1, 0).remove(0);
        all.push(Record::read(net.world.root.mesh(), raw).unwrap());
    }
    let pairs = [(0, 1), (1, 2), (0, 2)];
    let evidence: Vec<Verdict> = pairs
        .iter()
        .filter_map(|(a, b)| crate::state::Evidence::of(&all[*a], &all[*b]).map(Verdict::Forked))
        .collect();
    let sum = |order: [usize; 3]| {
        let mut verdicts = Verdicts::default();
        for i in order {
            verdicts.add(evidence[i].clone());
        }
        verdicts.fork(scope, net.id(1)).cloned().unwrap()
    };
    let first = sum([0, 1, 2]);
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        assert_eq!(sum(order), first);
    }
}
