//! Tokens and renewals when the gateway that made or signed them is lost for good.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
mod common;

use std::{path::Path, time::Duration};

use common::{Node, all_roles, dir, found, join, sees, token};
use mesh::join::{JoinError, JoinToken, Joined};
use routing::model::{Clock as _, NodeId, Role};
use tokio::runtime::Runtime;

const S: Duration = Duration::from_secs(1);
const DAY: i64 = 24 * 3_600 * 1_000;

/// A founder and so many gateways more, which all know that all can let others in.
fn gateways(temp: &Path, setup: &Runtime, more: &[&str]) -> Vec<Node> {
    setup.block_on(async { drop(found(&dir(temp, "a")).await) });
    let mut nodes = vec![Node::start(&dir(temp, "a"), "127.0.0.1:0", &[])];
    for name in more {
        let permit = token(&nodes[0].mesh, all_roles());
        setup.block_on(join(&dir(temp, name), &permit, 0)).unwrap();
        nodes.push(Node::start(&dir(temp, name), "127.0.0.1:0", &[]));
    }
    let ids: Vec<_> = nodes.iter().map(Node::id).collect();
    for node in &nodes {
        node.until("all can let others in", 5 * S, |v| {
            let issues = |id| v.members.get(id).is_some_and(|m| m.alive && m.issues);
            v.settled && ids.iter().all(issues)
        });
    }
    nodes
}

fn lose(nodes: &mut Vec<Node>) -> NodeId {
    let first = nodes.remove(0);
    let id = first.id();
    first.kill();
    for node in nodes {
        node.until("the death", 4 * S, |v| sees(v, id, false));
    }
    id
}

#[test]
fn a_token_outlives_the_gateway_that_made_it_and_still_lets_in_one_node_alone() {
    let temp = tempfile::tempdir().unwrap();
    let setup = Runtime::new().unwrap();
    let enter = |name: &str, token: &JoinToken| -> Result<Joined, JoinError> {
        setup.block_on(join(&dir(temp.path(), name), token, 0))
    };
    let mut nodes = gateways(temp.path(), &setup, &["b", "c"]);
    let edge = [Role::Edge].into_iter().collect();
    let [early, plain, contested] = [(); 3].map(|()| token(&nodes[0].mesh, edge));
    let at = |node: &Node, token: &JoinToken| token.with_addrs(&[node.mesh.control_addr()]);

    // While it lives it redeems its tokens itself: another one, which was asked, sends the joiner there.
    let joined = enter("d", &at(&nodes[1], &early)).unwrap();
    assert_eq!(joined.by, nodes[0].id());

    lose(&mut nodes);
    nodes.sort_by_key(Node::id);
    let (first, second) = (&nodes[0], &nodes[1]);
    // The token's own addresses are enough: the lost gateway's is tried first.
    assert_eq!(enter("e", &plain).unwrap().by, first.id());
    assert_eq!(enter("e", &plain).unwrap().by, first.id(), "the same again");
    let taken = enter("x", &plain).unwrap_err().to_string();
    assert!(taken.contains("was used by node e"), "{taken}");

    // Two machines at once, at one gateway each.
    let both = setup.block_on(async {
        let (f, g) = (dir(temp.path(), "f"), dir(temp.path(), "g"));
        let tokens = [at(first, &contested), at(second, &contested)];
        tokio::join!(join(&f, &tokens[0], 0), join(&g, &tokens[1], 0))
    });
    let (joined, refused) = match both {
        (Ok(joined), Err(refused)) | (Err(refused), Ok(joined)) => (joined, refused.to_string()),
        other => panic!("one of them, and not {other:?}"),
    };
    assert_eq!(joined.by, first.id());
    assert!(refused.contains("was used by node"), "{refused}");

    // An expired node of the lost gateway's is renewed as well, and so is whoever renews it.
    let paths: Vec<_> = nodes.into_iter().map(Node::stop).collect();
    for day in [11, 60] {
        let now = common::Time::new(day * DAY).unix();
        let gateway = Node::start_at(&paths[1], "127.0.0.1:0", &[], day * DAY);
        let seeds = [gateway.mesh.control_addr()];
        let edge = Node::start_at(&dir(temp.path(), "e"), "127.0.0.1:0", &seeds, day * DAY);
        for node in [&gateway, &edge] {
            let mut config = node.mesh.records().watch();
            let ids = [gateway.id(), edge.id()];
            let renewed = config.wait_for(|config| {
                let expires = |id: &NodeId| config.node(*id).map(|n| n.expires);
                let late = now.plus(29 * 24 * 3_600 * S);
                ids.iter().all(|id| expires(id) > Some(late))
            });
            let waited = async { tokio::time::timeout(20 * S, renewed).await.is_ok() };
            assert!(node.run(waited), "day {day}");
        }
        gateway.stop();
        edge.stop();
    }
}
