//! Parsers take any bytes.
use std::sync::Arc;

use proptest::prelude::*;
use routing::model::{BroadcastId, EpochId, NodeId};

use crate::{
    live::{Cut, Epoch, GroupHeader, GroupSeq, TrackConfig, TrackId},
    relay::wire::{
        Accepted, Announce, End, Fetch, FrameHead, GroupHead, MAX_FETCH, Message, Reason, Refused,
        Reply, Request, Resume, Subscribe, WireError,
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
fn a_source_can_write_no_line_into_a_playlist_and_no_number_that_overflows() {
    let broadcast = crate::fuzz::ingest::published();
    let line = broadcast.current().unwrap();
    let epoch = |change: &dyn Fn(&mut Epoch)| {
        let mut epoch = Epoch::clone(line.epoch());
        change(&mut epoch);
        let spans = crate::relay::announce::spans(&line, None, true, false);
        let announce = Announce {
            epoch: Arc::new(epoch),
            spans,
            current: true,
        };
        Reply::parse(&bytes(&Reply::Epoch(announce))).map(|_| ())
    };
    let group = |change: &dyn Fn(&mut GroupHeader)| {
        let mut header = line.groups(TrackId(0))[0].header().clone();
        change(&mut header);
        GroupHead::parse(&bytes(&GroupHead { number: 1, header })).map(|_| ())
    };
    let named = |config: &mut Arc<TrackConfig>, name: &str| {
        Arc::make_mut(config).summary.codec_string = name.into();
    };
    assert_eq!((epoch(&|_| {}), group(&|_| {})), (Ok(()), Ok(())));
    for name in ["hvc1.1.6.L60.90", "av01.0.04M.08", "vp09.00.11.08", "ac-3"] {
        let all = (
            epoch(&|e| named(&mut e.tracks[1].config, name)),
            group(&|h| named(&mut h.config, name)),
        );
        assert_eq!(all, (Ok(()), Ok(())), "{name}");
    }
    for name in ["a\"\n#EXT-X-ENDLIST\n", "avc1 ", &"a".repeat(65)] {
        let all = (
            epoch(&|e| named(&mut e.tracks[1].config, name)),
            group(&|h| named(&mut h.config, name)),
        );
        assert_eq!(
            all,
            (Err(WireError::Limit), Err(WireError::Limit)),
            "{name}"
        );
    }
    let epochs: [&dyn Fn(&mut Epoch); 4] = [
        &|e| e.discontinuity = 1 << 60,
        &|e| e.programme_time.0 = 1 << 48,
        &|e| e.tracks[0].first_segment = 1 << 60,
        &|e| e.tracks[0].part_target = 4 * 90_000 + 1,
    ];
    for change in epochs {
        assert_eq!(epoch(change), Err(WireError::Limit));
    }
    let groups: [&dyn Fn(&mut GroupHeader); 3] = [
        &|h| h.stamp.segment = 1 << 60,
        &|h| h.stamp.discontinuity = 1 << 60,
        &|h| h.stamp.base_decode_time = i64::MIN,
    ];
    for change in groups {
        assert_eq!(group(change), Err(WireError::Limit));
    }
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
