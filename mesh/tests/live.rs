//! Three nodes over real sockets on the loopback.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
mod common;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{Node, all_roles, dir, found, join, sees, token};
use futures::future::BoxFuture;
use mesh::{
    carry::{CarryError, HandleError, Handler},
    config::Config,
    probe::Probe,
    records::{Ack, Scope, changes},
    view::{Advert, NodeState, Service},
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use routing::model::{BroadcastId, Clock as _, EpochId, Hlc, NodeId, Role, TenantId, Verb};

const S: Duration = Duration::from_secs(1);

struct Echo;

impl Handler for Echo {
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, HandleError>> {
        Box::pin(async move {
            if body.is_empty() {
                return Err(HandleError("nothing to say".into()));
            }
            Ok([from.as_bytes(), &body[..]].concat().into())
        })
    }
}

/// Finds everything but RTMP.
struct Finds;

impl Probe for Finds {
    fn probe(
        &self,
        _: NodeId,
        service: Service,
        _: std::net::SocketAddr,
    ) -> BoxFuture<'static, bool> {
        Box::pin(async move { service != Service::Rtmp })
    }
}

#[test]
fn three_nodes_join_agree_and_notice_a_death() {
    let temp = tempfile::tempdir().unwrap();
    let setup = tokio::runtime::Runtime::new().unwrap();
    let (root, cluster, cluster_key) = setup.block_on(async {
        let dir = found(&dir(temp.path(), "a")).await;
        let cluster = dir.cluster().unwrap().unwrap();
        let keys = (dir.root_key().unwrap(), dir.cluster_key().unwrap());
        (keys.0.unwrap(), cluster, keys.1.unwrap())
    });
    let a = Node::start(&dir(temp.path(), "a"), "127.0.0.1:0", &[]);
    a.until("a founder alone is settled", S, |v| {
        v.settled && v.members.len() == 1
    });
    let for_b = token(&a.mesh, all_roles());
    setup
        .block_on(join(&dir(temp.path(), "b"), &for_b, 0))
        .unwrap();
    let again = setup
        .block_on(join(&dir(temp.path(), "b"), &for_b, 0))
        .unwrap();
    let taken = setup
        .block_on(join(&dir(temp.path(), "x"), &for_b, 0))
        .unwrap_err();
    assert!(taken.to_string().contains("was used by node b"), "{taken}");
    let b = Node::start(&dir(temp.path(), "b"), "127.0.0.2:0", &[]);
    assert_eq!(again.node, b.id());
    a.until("A sees B", 3 * S, |v| sees(v, b.id(), true));
    // B holds the cluster's key and lets C in, but the node that made the token is asked first.
    let for_c = token(&b.mesh, all_roles());
    setup
        .block_on(join(&dir(temp.path(), "c"), &for_c, 0))
        .unwrap();
    let c = Node::start(&dir(temp.path(), "c"), "127.0.0.3:0", &[]);
    let ids = [a.id(), b.id(), c.id()];
    for node in [&a, &b, &c] {
        let took = node.until("all see all", 3 * S, |v| {
            ids.iter().all(|id| sees(v, *id, true))
        });
        println!("converged in {took:?}");
        node.until("settled", 3 * S, |v| v.settled);
    }

    let advert = Advert {
        broadcast: BroadcastId::from_bytes([1; 16]),
        tenant: TenantId::from_bytes([2; 16]),
        epoch: EpochId::from_u64(3),
        claim: (Hlc(4), a.id()),
        replica_of: None,
        over: false,
    };
    a.mesh.advertise(advert);
    for node in [&b, &c] {
        let took = node.until("the advert", S / 2, |v| {
            v.members[&ids[0]].adverts == [advert]
        });
        println!("advert in {took:?}");
    }
    a.mesh.withdraw(advert.broadcast);
    a.mesh.publish("colour", Some(Bytes::from_static(b"red")));
    for node in [&b, &c] {
        node.until("the value", S / 2, |v| {
            let member = &v.members[&ids[0]];
            member.adverts.is_empty() && member.values.get("colour").is_some_and(|v| v == "red")
        });
    }

    let state = |service, port| NodeState {
        services: vec![(service, format!("127.0.0.9:{port}").parse().unwrap())],
        ..NodeState::default()
    };
    a.mesh.set_state(state(Service::Http, 80));
    b.mesh.set_state(state(Service::Rtmp, 1935));
    for node in [&a, &b, &c] {
        node.mesh.set_prober(Arc::new(Finds));
    }
    c.until("what was dialled is verified, control too", 10 * S, |v| {
        let is = |of, service| {
            let found = v.members[of].services.iter().find(|s| s.service == service);
            found.map(|s| s.verified)
        };
        is(&ids[0], Service::Http) == Some(true)
            && is(&ids[1], Service::Rtmp) == Some(false)
            && ids.iter().all(|id| is(id, Service::Control) == Some(true))
    });

    c.mesh.serve("echo", Arc::new(Echo));
    let ask = |protocol, body| b.run(b.mesh.request(c.id(), protocol, Bytes::from_static(body)));
    assert_eq!(
        ask("echo", b"hi").unwrap(),
        [&ids[1].as_bytes()[..], b"hi"].concat()
    );
    let refused = CarryError::Refused {
        node: c.id(),
        why: "nothing to say".into(),
    };
    assert_eq!(ask("echo", b"").unwrap_err(), refused);
    assert!(matches!(
        ask("else", b"x").unwrap_err(),
        CarryError::Unknown { .. }
    ));
    assert!(
        c.mesh
            .peer_gate()
            .who(ids[1])
            .unwrap()
            .roles
            .has(Role::Gateway)
    );
    assert_eq!(c.mesh.peer_gate().who(NodeId::from_bytes([9; 32])), None);

    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let verbs = Verb::ALL.iter().copied().collect();
    let name = ("acme".parse().unwrap(), "Acme".to_owned());
    let clock = common::Time::new(0);
    let entitled = [(cluster, &cluster_key, verbs)];
    let tenant = changes::create_tenant(&root, name, &entitled, clock.unix(), &mut rng).unwrap();
    let agreed = |node: &Node, is: &dyn Fn(&Config) -> bool| {
        let mut config = node.mesh.records().watch();
        let waited = async {
            tokio::time::timeout(S, config.wait_for(|c| is(c)))
                .await
                .is_ok()
        };
        assert!(node.run(waited), "within a second");
    };
    let write = |node: &Node, scope, changes| {
        let written = node.run(node.mesh.records().write(scope, changes, None));
        assert_eq!(written.unwrap().ack, Ack::Replicated);
    };
    write(&a, Scope::Mesh, tenant.changes);
    agreed(&b, &|config| config.has_scope(tenant.tenant));
    let epoch = b.mesh.records().epoch().unwrap();
    let stream = changes::create_stream(epoch, tenant.tenant, ("News".into(), None), &mut rng);
    let clock = common::Time::new(0);
    write(&b, Scope::Tenant(tenant.tenant), stream.changes);
    agreed(&c, &|config| {
        config.key_by_hash(stream.text.hash()).is_some()
    });
    println!("record in {:?}", clock.uptime().0);
    let config = c.mesh.records().config();
    let (_, key) = config.key_by_hash(stream.text.hash()).unwrap();
    let text = c.mesh.records().reveal(key).unwrap();
    assert_eq!(
        text, stream.text,
        "a gateway got the epoch secret when it joined"
    );

    let path = a.kill();
    for node in [&b, &c] {
        let took = node.until("A's death", 3 * S, |v| sees(v, ids[0], false));
        println!("death known in {took:?}");
    }
    let before = b.mesh.view().borrow().members[&ids[0]].incarnation;
    let a = Node::start(&path, "127.0.0.1:0", &[]);
    for node in [&b, &c] {
        node.until("A's return", 8 * S, |v| {
            v.members
                .get(&ids[0])
                .is_some_and(|m| m.alive && m.incarnation > before)
        });
    }
    let paths = [a.stop(), b.stop(), c.stop()];
    let nodes = paths.map(|path| Node::start(&path, "127.0.0.4:0", &[]));
    for node in &nodes {
        assert_eq!(
            node.mesh.records().config().nodes().count(),
            3,
            "records are kept"
        );
        let config = node.mesh.records().config();
        assert!(config.key_by_hash(stream.text.hash()).is_some());
    }
}

#[test]
fn what_cannot_join_is_told_why() {
    let temp = tempfile::tempdir().unwrap();
    let setup = tokio::runtime::Runtime::new().unwrap();
    for name in ["a", "other"] {
        setup.block_on(async { drop(found(&dir(temp.path(), name)).await) });
    }
    let a = Node::start(&dir(temp.path(), "a"), "127.0.0.1:0", &[]);
    let other = Node::start(&dir(temp.path(), "other"), "127.0.0.1:0", &[]);
    let good = token(&a.mesh, [Role::Edge].into_iter().collect());
    let clock = setup
        .block_on(join(&dir(temp.path(), "late"), &good, -7_200_000))
        .unwrap_err();
    assert!(
        clock.to_string().contains("7200 s behind") || clock.to_string().contains("7199 s behind"),
        "{clock}"
    );
    let path = dir(temp.path(), "b");
    let joined = setup
        .block_on(join(&path, &good, 0))
        .expect("a failed join has not burned the token");
    assert!(joined.roles.has(Role::Edge) && !joined.roles.has(Role::Gateway));
    let key = mesh::identity::DataDir::open(&path)
        .unwrap()
        .cluster_key()
        .unwrap();
    assert!(key.is_none(), "only gateways get the cluster's key");
    let elsewhere = token(&other.mesh, all_roles());
    let mixed = setup.block_on(join(&path, &elsewhere, 0)).unwrap_err();
    assert!(mixed.to_string().contains("belongs to mesh"), "{mixed}");
    other.kill();
    let gone = setup
        .block_on(join(&dir(temp.path(), "c"), &elsewhere, 0))
        .unwrap_err();
    assert!(
        gone.to_string().contains("the token is still good"),
        "{gone}"
    );
    // B and a node of another mesh at one address: B refuses it and goes on.
    let other = Node::start(
        &dir(temp.path(), "other"),
        "127.0.0.1:0",
        &[a.mesh.control_addr()],
    );
    let b = Node::start(&path, "127.0.0.1:0", &[other.mesh.control_addr()]);
    b.until("B finds A by itself", 5 * S, |v| sees(v, a.id(), true));
    assert_eq!(other.mesh.view().borrow().members.len(), 1);
    a.until("A finds B", S, |v| {
        sees(v, b.id(), true) && v.members.len() == 2
    });
}

#[test]
fn grants_are_renewed_from_the_tenth_day_and_expired_nodes_may_ask() {
    const DAY: i64 = 24 * 3_600 * 1_000;
    let temp = tempfile::tempdir().unwrap();
    let setup = tokio::runtime::Runtime::new().unwrap();
    setup.block_on(async { drop(found(&dir(temp.path(), "a")).await) });
    let a = Node::start(&dir(temp.path(), "a"), "127.0.0.1:0", &[]);
    let edge = token(&a.mesh, [Role::Edge].into_iter().collect());
    let mut paths = [a.stop(), dir(temp.path(), "b")];
    let a = Node::start(&paths[0], "127.0.0.1:0", &[]);
    let edge = mesh::join::JoinToken::with_addrs(&edge, &[a.mesh.control_addr()]);
    setup.block_on(join(&paths[1], &edge, 0)).unwrap();
    a.stop();
    for day in [11, 60] {
        let now = common::Time::new(day * DAY).unix();
        let a = Node::start_at(&paths[0], "127.0.0.1:0", &[], day * DAY);
        let seeds = [a.mesh.control_addr()];
        let b = Node::start_at(&paths[1], "127.0.0.1:0", &seeds, day * DAY);
        for node in [&a, &b] {
            let mut config = node.mesh.records().watch();
            let ids = [a.id(), b.id()];
            let renewed = config.wait_for(|config| {
                let expires = |id: &NodeId| config.node(*id).map(|n| n.expires);
                ids.iter()
                    .all(|id| expires(id) > Some(now.plus(29 * 24 * 3_600 * S)))
            });
            let waited = async { tokio::time::timeout(10 * S, renewed).await.is_ok() };
            assert!(node.run(waited), "day {day}");
        }
        b.until("B is in", 5 * S, |v| sees(v, a.id(), true));
        paths = [a.stop(), b.stop()];
    }
}
