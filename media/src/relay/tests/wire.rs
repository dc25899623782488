//! Parsers take any bytes.
use proptest::prelude::*;
use routing::model::{BroadcastId, EpochId, NodeId};

use crate::{
    live::{Cut, GroupSeq, TrackId},
    relay::wire::{
        Accepted, End, Fetch, FrameHead, GroupHead, MAX_FETCH, Message, Reason, Refused, Reply,
        Request, Resume, Subscribe, WireError,
    },
};

fn bytes(message: &impl Message) -> Vec<u8> {
    minicbor::to_vec(message).unwrap()
}

fn parse_all(bytes: &[u8]) {
    let _ = Request::parse(bytes);
    let _ = Reply::parse(bytes);
    let _ = GroupHead::parse(bytes);
    let _ = FrameHead::parse(bytes);
}

fn fetch(from: u64, to: u64) -> Request {
    Request::Fetch(Fetch {
        broadcast: BroadcastId::from_bytes([1; 16]),
        epoch: EpochId::from_u64(5),
        track: TrackId(1),
        from: GroupSeq(from),
        to: GroupSeq(to),
    })
}

fn samples() -> Vec<Vec<u8>> {
    let nodes: Vec<NodeId> = (0..4).map(|n| NodeId::from_bytes([n; 32])).collect();
    let subscribe = Subscribe {
        broadcast: BroadcastId::from_bytes([1; 16]),
        number: 77,
        resume: Some(Resume {
            epoch: EpochId::from_u64(5),
            next: vec![GroupSeq(1), GroupSeq(1 << 40)],
        }),
    };
    let refused = Refused {
        reason: Reason::Full,
        instead: nodes.clone(),
    };
    let frame = FrameHead {
        dts: -5,
        cts: 3,
        keyframe: true,
        cut: Cut::Part,
        len: 70_000,
    };
    vec![
        bytes(&Request::Subscribe(subscribe)),
        bytes(&fetch(3, 9)),
        bytes(&Reply::Accepted(Accepted { path: nodes })),
        bytes(&Reply::Refused(refused)),
        bytes(&Reply::End(End {
            epoch: EpochId::from_u64(5),
            next: vec![GroupSeq(4)],
        })),
        bytes(&frame),
    ]
}

#[test]
fn limits_hold() {
    assert!(Request::parse(&bytes(&fetch(3, 3 + MAX_FETCH))).is_ok());
    let beyond = [fetch(3, 4 + MAX_FETCH), fetch(9, 3)];
    for request in beyond {
        assert_eq!(Request::parse(&bytes(&request)), Err(WireError::Limit));
    }
    let path = vec![NodeId::from_bytes([1; 32]); 17];
    let long = Reply::Accepted(Accepted { path });
    assert_eq!(Reply::parse(&bytes(&long)), Err(WireError::Limit));
    let end = Reply::End(End {
        epoch: EpochId::from_u64(1),
        next: vec![GroupSeq(u64::MAX)],
    });
    assert_eq!(Reply::parse(&bytes(&end)), Err(WireError::Limit));
    assert_eq!(Request::parse(&[]), Err(WireError::Shape));
}

#[test]
fn a_field_that_this_version_does_not_know_is_ignored() {
    let mut e = minicbor::Encoder::new(Vec::new());
    let probe = [1_u8; 16];
    e.array(2).unwrap().u8(2).unwrap();
    e.array(1).unwrap().array(3).unwrap().bytes(&probe).unwrap();
    e.str("from the future").unwrap().u8(1).unwrap();
    let request = Request::parse(&e.into_writer()).unwrap();
    assert!(matches!(request, Request::Probe(p) if p.broadcast == BroadcastId::from_bytes(probe)));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        parse_all(&bytes);
    }

    #[test]
    fn no_mutation_panics(
        which in 0_usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = samples()[which].clone();
        parse_all(&bytes);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        parse_all(&bytes);
        parse_all(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn requests_round_trip(from in 0_u64..1 << 60, count in 0..=MAX_FETCH, number: u64) {
        let request = fetch(from, from + count);
        prop_assert_eq!(Request::parse(&bytes(&request)), Ok(request));
        let subscribe = Request::Subscribe(Subscribe { broadcast: BroadcastId::from_bytes([3; 16]), number, resume: None });
        prop_assert_eq!(Request::parse(&bytes(&subscribe)), Ok(subscribe));
    }
}
