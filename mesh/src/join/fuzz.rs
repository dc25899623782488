//! Tokens, and what joiner and gateway say to each other, under any bytes.
use std::time::Duration;

use routing::model::{ClusterId, MeshId, NodeId, Roles, UnixMillis};

use super::{
    JoinToken, TokenOptions,
    wire::{Asked, Granted, Greeting, Introduction, Keys, Renewal, Welcome},
};
use crate::{
    fuzz::{HOUSE, value, written},
    identity::{ClusterKey, NodeKey},
    live::hello::{First, Hello},
};

fuzz_kit::targets! {
    join_token: token, token_seeds;
    join_words: words, word_seeds;
}

fn made() -> JoinToken {
    let options = TokenOptions {
        roles: Roles::NONE,
        lasts: Duration::from_secs(60),
        addrs: vec![([192, 0, 2, 1], 7380).into(), ([0; 8], 1).into()],
    };
    let ids = (
        MeshId::from_bytes([1; 32]),
        ClusterId::from_bytes([2; 16]),
        NodeId::from_bytes([3; 32]),
    );
    let key = ClusterKey::from_seed([4; 32]);
    JoinToken::new(ids, &key, [5; 32], options, UnixMillis(1)).expect("it has addresses")
}

fn token(bytes: &[u8]) {
    let Ok(read) = String::from_utf8_lossy(bytes).parse::<JoinToken>() else {
        return;
    };
    assert!((1..=8).contains(&read.addrs.len()));
    let text = read.text();
    let again: JoinToken = text.expose().parse().expect("what was read can be written");
    assert_eq!((&again.permit, &again.addrs), (&read.permit, &read.addrs));
    assert_eq!(again.prove(&[7; 32]), read.prove(&[7; 32]));
    assert_eq!(format!("{read:?}"), "JoinToken(..)");
}

fn token_seeds() -> Vec<Vec<u8>> {
    vec![made().text().expose().as_bytes().to_vec()]
}

fn words(bytes: &[u8]) {
    value::<First>(bytes);
    value::<Introduction>(bytes);
    value::<Asked>(bytes);
    value::<Granted>(bytes);
}

fn word_seeds() -> Vec<Vec<u8>> {
    let house = &*HOUSE;
    let Hello { cluster, node, .. } = house.hello();
    let at = UnixMillis(1_760_000_000_000);
    let signature = NodeKey::from_seed([9; 32]).sign("a", b"b");
    let welcome = Welcome {
        cluster: cluster.clone(),
        node: node.clone(),
        pieces: vec![house.records[0].raw().to_vec().into()],
        peers: vec![(NodeId::from_bytes([1; 32]), vec!["192.0.2.1:7380".into()])],
        keys: Some(Keys {
            cluster: [1; 32],
            epoch: [2; 32],
        }),
    };
    vec![
        written(First::Join(Greeting {
            permit: made().permit,
            nonce: [1; 32],
            at,
        })),
        written(First::Renew(Renewal {
            grant: node.clone(),
        })),
        written(Introduction::Here {
            cluster,
            node,
            nonce: [2; 32],
            at,
        }),
        written(Introduction::Elsewhere {
            addrs: vec!["192.0.2.1:7380".into()],
            why: "it lives".into(),
        }),
        written(Asked {
            name: "london-1".parse().expect("a label"),
            roles: Roles::NONE,
            consent: signature,
            proof: signature,
        }),
        written(Granted::Welcome(Box::new(welcome))),
        written(Granted::Refused("no".into())),
    ]
}
