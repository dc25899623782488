//! What a node says of itself, under any bytes.
use fuzz_kit::Input;
use routing::model::{
    BroadcastId, Capacity, EpochId, Hlc, Load, Mode, NodeId, Place, Region, TenantId,
};

use super::{MAX_ADDRS, State, decode_addrs, encode_addrs};
use crate::{
    fuzz::{value, written},
    live::grants,
    view::{Advert, NodeState, Service},
};

fuzz_kit::targets! {
    mesh_state: state, state_seeds;
    mesh_advert: advert, advert_seeds;
    mesh_addresses: addresses, address_seeds;
}

fn state(bytes: &[u8]) {
    let Some(read) = value::<State>(bytes) else {
        return;
    };
    let services = read.services();
    assert!(services.len() <= MAX_ADDRS);
    assert_eq!(decode_addrs(&encode_addrs(&services)), services);
}

fn state_seeds() -> Vec<Vec<u8>> {
    let state = NodeState {
        place: Region::new("eu").ok().map(|r| Place::new(50.11, 8.68, r)),
        capacity: Some(Capacity {
            egress: routing::model::BitsPerSecond(1_000_000_000),
        }),
        load: Load::default(),
        mode: Mode::Draining,
        services: services(),
    };
    vec![written(State::new(&state))]
}

fn services() -> Vec<(Service, std::net::SocketAddr)> {
    vec![
        (Service::Http, ([192, 0, 2, 1], 80).into()),
        (
            Service::Rtmp,
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 1935).into(),
        ),
    ]
}

fn advert(bytes: &[u8]) {
    value::<Advert>(bytes);
}

fn advert_seeds() -> Vec<Vec<u8>> {
    vec![written(Advert {
        broadcast: BroadcastId::from_bytes([1; 16]),
        tenant: TenantId::from_bytes([2; 16]),
        epoch: EpochId::from_u64(3),
        claim: (Hlc(4), NodeId::from_bytes([5; 32])),
        replica_of: Some(NodeId::from_bytes([6; 32])),
        over: true,
    })]
}

/// Lists of addresses, by service and by peer.
fn addresses(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let known = decode_addrs(input.block());
    assert!(known.len() <= MAX_ADDRS);
    assert_eq!(decode_addrs(&encode_addrs(&known)), known);
    if let Some(list) = value::<Vec<(NodeId, Vec<String>)>>(input.rest()) {
        assert!(grants::parse(list).values().all(|addrs| addrs.len() <= 8));
    }
}

fn address_seeds() -> Vec<Vec<u8>> {
    let peers = vec![(
        NodeId::from_bytes([1; 32]),
        vec!["192.0.2.1:7380", "[::1]:1"],
    )];
    let all = fuzz_kit::join([encode_addrs(&services())]);
    vec![[all, written(peers)].concat()]
}
