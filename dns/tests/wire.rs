//! Packets in, packets out: made by hand, made by hickory-proto, and made by chance. hickory-proto reads what comes back.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::net::IpAddr;

use dns::wire::{MAX_UDP, Transport, respond};
use dns::{NameServer, Zone, ZoneFacts};
use hickory_proto::op::{Message, ResponseCode};
use proptest::prelude::*;

const PEER: &str = "10.1.0.53";

/// A query from parts: header flags, question name in wire form, type, and options of an OPT record if one is wanted.
fn packet(flags: u16, name: &[u8], kind: u16, options: Option<&[u8]>) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd];
    let extra = u16::from(options.is_some());
    for word in [flags, 1, 0, 0, extra] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(name);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    if let Some(options) = options {
        out.extend_from_slice(&[0, 0, 41, 0x10, 0, 0, 0, 0x80, 0]);
        out.extend_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
        out.extend_from_slice(options);
    }
    out
}

fn subnet(family: u16, source: u8, scope: u8, addr: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + addr.len()).unwrap();
    let mut out = [8u16.to_be_bytes(), len.to_be_bytes(), family.to_be_bytes()].concat();
    out.extend_from_slice(&[source, scope]);
    out.extend_from_slice(addr);
    out
}

const NAME: &[u8] = b"\x07foGHorn\x04ACme\x03cdn\x04mesh\x04test\0";

fn over(zone: &Zone, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    respond(packet, PEER.parse().unwrap(), transport, zone, &mut out).map(|_| out)
}

fn ask(packet: &[u8]) -> Option<Vec<u8>> {
    over(&common::zone(), packet, Transport::Udp)
}

fn read(response: Option<Vec<u8>>) -> Message {
    Message::from_vec(&response.expect("a response")).expect("hickory-proto reads it")
}

#[test]
fn the_question_comes_back_byte_for_byte_with_rd_and_cd_as_asked() {
    let query = packet(0x0110, NAME, 1, None);
    let response = ask(&query).unwrap();
    assert_eq!(response[..2], query[..2]);
    assert_eq!(response[2..4], 0x8510u16.to_be_bytes(), "QR AA RD, CD");
    assert_eq!(response[12..12 + NAME.len() + 4], query[12..]);
    let message = read(Some(response));
    assert_eq!(message.answers.len(), 2);
    assert!(message.edns.is_none());
}

#[test]
fn a_subnet_comes_back_with_the_scope_that_the_answer_holds_for() {
    let scope = |option: &[u8]| {
        let response = ask(&packet(0, NAME, 1, Some(option))).unwrap();
        assert_eq!(response[3] & 0x0f, 0);
        let tail = &response[response.len() - option.len()..];
        let same = |at: std::ops::Range<usize>| assert_eq!(tail[at.clone()], option[at]);
        same(0..7);
        same(8..option.len());
        tail[7]
    };
    assert_eq!(scope(&subnet(1, 24, 0, &[10, 3, 9])), 16);
    assert_eq!(
        scope(&subnet(1, 8, 0, &[10])),
        16,
        "longer than the source: more bits would have helped"
    );
    assert_eq!(scope(&subnet(1, 32, 0, &[10, 3, 9, 9])), 16);
    assert_eq!(scope(&subnet(2, 36, 0, &[0x20, 1, 0x0d, 0xb8, 0x10])), 36);
    assert_eq!(
        scope(&subnet(
            2,
            120,
            0,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 3, 9]
        )),
        96 + 16
    );
    assert_eq!(scope(&subnet(1, 0, 0, &[])), 0, "asked not to look");
    assert_eq!(scope(&subnet(2, 0, 0, &[])), 0);
    assert_eq!(scope(&subnet(0, 0, 0, &[])), 0, "no address, of no family");
}

#[test]
fn a_malformed_subnet_is_a_format_error() {
    let bad = [
        subnet(1, 24, 1, &[10, 3, 9]),
        subnet(1, 24, 0, &[10, 3]),
        subnet(1, 24, 0, &[10, 3, 9, 0]),
        subnet(1, 23, 0, &[10, 3, 9]),
        subnet(1, 33, 0, &[10, 3, 9, 9, 0]),
        subnet(2, 129, 0, &[0; 17]),
        subnet(3, 8, 0, &[10]),
        subnet(0, 8, 0, &[10]),
        vec![0, 8, 0, 3, 0, 1, 0],
        vec![0, 8, 0, 9, 0, 1],
        vec![0, 8, 0],
        [subnet(1, 8, 0, &[10]), subnet(1, 8, 0, &[10])].concat(),
    ];
    for option in bad {
        let message = read(ask(&packet(0, NAME, 1, Some(&option))));
        assert_eq!(
            message.response_code,
            ResponseCode::FormErr,
            "{option:02x?}"
        );
        assert!(
            message.answers.is_empty() && message.edns.is_some(),
            "{option:02x?}"
        );
    }
}

#[test]
fn edns_is_answered_with_our_size_and_their_do_bit_and_unknown_options_are_ignored() {
    let message = read(ask(&packet(0, NAME, 1, Some(&[0xff, 0x01, 0, 2, 1, 2]))));
    let edns = message.edns.clone().unwrap();
    assert_eq!(
        (message.response_code, edns.max_payload()),
        (ResponseCode::NoError, MAX_UDP)
    );
    assert!(edns.flags().dnssec_ok);
    let mut later = packet(0, NAME, 1, Some(&[]));
    let version = later.len() - 5;
    later[version] = 1;
    let message = read(ask(&later));
    // hickory-proto has two names for 16.
    assert_eq!(
        u16::from(message.response_code),
        u16::from(ResponseCode::BADVERS)
    );
    assert!(message.answers.is_empty());
}

#[test]
fn what_is_no_query_of_ours_gets_the_code_that_the_rfcs_ask_for() {
    let code = |packet: &[u8]| read(ask(packet)).response_code;
    assert_eq!(
        code(&packet(0x2800, NAME, 1, None)),
        ResponseCode::NotImp,
        "UPDATE"
    );
    assert_eq!(
        code(&packet(0x2000, NAME, 6, None)),
        ResponseCode::NotImp,
        "NOTIFY"
    );
    assert_eq!(
        code(&packet(0, NAME, 252, None)),
        ResponseCode::Refused,
        "AXFR"
    );
    assert_eq!(
        code(&packet(0, NAME, 251, None)),
        ResponseCode::Refused,
        "IXFR"
    );
    assert_eq!(
        code(&packet(0, NAME, 41, None)),
        ResponseCode::FormErr,
        "OPT as a question"
    );
    assert_eq!(
        code(&packet(0, NAME, 250, None)),
        ResponseCode::NotImp,
        "TSIG as a question"
    );
    assert_eq!(
        code(&packet(0, NAME, 65_399, None)),
        ResponseCode::NoError,
        "an unknown type"
    );
    assert_eq!(
        code(&packet(0, b"\x03org\0", 1, None)),
        ResponseCode::Refused
    );
    let mut chaos = packet(0, NAME, 16, None);
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(code(&chaos), ResponseCode::Refused, "class CH");
    let query = packet(0, NAME, 1, None);
    for end in 12..query.len() {
        assert_eq!(code(&query[..end]), ResponseCode::FormErr, "cut at {end}");
    }
    assert_eq!(
        code(&[&query[..], &[0]].concat()),
        ResponseCode::FormErr,
        "a byte too many"
    );
    let mut two = query;
    two[5] = 2;
    assert_eq!(code(&two), ResponseCode::FormErr, "two questions");
    assert_eq!(
        code(&packet(0, b"\xc0\x0c", 1, None)),
        ResponseCode::FormErr,
        "a name that points at itself"
    );
}

#[test]
fn silence_before_the_zone_is_ready_for_responses_and_for_scraps() {
    let query = packet(0, NAME, 1, None);
    let unready = Zone::new(ZoneFacts {
        ready: false,
        ..common::facts()
    })
    .unwrap();
    for transport in [Transport::Udp, Transport::Tcp] {
        assert_eq!(over(&unready, &query, transport), None);
        assert_eq!(over(&unready, &query[..13], transport), None);
    }
    assert_eq!(ask(&packet(0x8000, NAME, 1, None)), None);
    assert_eq!(ask(&query[..11]), None);
}

#[test]
fn what_does_not_fit_is_cut_with_tc_and_whole_over_tcp() {
    let mut facts = common::facts();
    for n in 0..100 {
        facts.nodes[0]
            .playback
            .push(IpAddr::from([198, 51, 100, n]));
        facts.ns.push(NameServer {
            name: format!("host{n}.outside.example"),
            addrs: vec![],
        });
    }
    let zone = Zone::new(facts).unwrap();
    for (options, limit) in [(None, 512), (Some(&[][..]), usize::from(MAX_UDP))] {
        for (name, kind) in [(NAME, 1), (b"\x04mesh\x04test\0", 2)] {
            let query = packet(0, name, kind, options);
            let short = over(&zone, &query, Transport::Udp).unwrap();
            assert!(short.len() <= limit);
            let short = read(Some(short));
            assert!(short.truncation && short.answers.is_empty());
            assert_eq!(short.edns.is_some(), options.is_some());
            let whole = read(over(&zone, &query, Transport::Tcp));
            assert!(
                !whole.truncation && whole.answers.len() >= 102,
                "{}",
                whole.answers.len()
            );
        }
    }
}

#[test]
fn glue_that_does_not_fit_is_left_out_without_tc() {
    let mut facts = common::facts();
    facts.ns[0].addrs = (0..60).map(|n| IpAddr::from([198, 51, 100, n])).collect();
    let zone = Zone::new(facts).unwrap();
    let message = read(over(
        &zone,
        &packet(0, b"\x04mesh\x04test\0", 2, None),
        Transport::Udp,
    ));
    assert!(!message.truncation);
    assert_eq!((message.answers.len(), message.additionals.len()), (2, 0));
}

/// Whatever comes: at most one response, never larger than allowed, and readable.
fn holds(zone: &Zone, packet: &[u8]) {
    for transport in [Transport::Udp, Transport::Tcp] {
        if let Some(response) = over(zone, packet, transport) {
            assert_eq!(response[..2], packet[..2]);
            assert!(response[2] & 0x80 != 0);
            assert!(transport == Transport::Tcp || response.len() <= usize::from(MAX_UDP));
            match Message::from_vec(&response) {
                // The one thing that hickory-proto does not read.
                Err(e) if e.to_string().contains("address family") => {}
                read => drop(read.expect("hickory-proto reads it")),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        holds(&common::zone(), &bytes);
    }

    #[test]
    fn a_header_and_arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..80), extra in 0u8..3) {
        let header = [0xab, 0xcd, 0, 0, 0, 1, 0, 0, 0, 0, 0, extra];
        holds(&common::zone(), &[&header[..], &bytes].concat());
    }

    #[test]
    fn mutated_queries_do_no_harm(
        family in 0u16..4, source in 0u8..140, addr in prop::collection::vec(any::<u8>(), 0..18), kind: u16,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = packet(0x0100, NAME, kind, Some(&subnet(family, source, 0, &addr)));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        holds(&common::zone(), &bytes);
    }

    /// The scope is honest: whoever shares that many leading bits gets the same answer.
    #[test]
    fn an_answer_holds_for_its_whole_scope(a in 0u8..8, rest in any::<[u8; 2]>(), other in any::<u32>(), name in 0usize..4) {
        let zone = common::zone();
        let name = ["foghorn.both.cdn.mesh.test", "acme.cdn.mesh.test", "foghorn.mesh.test", "edge-ingest.mesh.test"][name];
        let query = dns::Query::new(name, "A").unwrap();
        let from = routing::model::Prefix::new(IpAddr::from([10, a, rest[0], rest[1]]), 24);
        let first = dns::answer(&query, &from, &zone);
        let IpAddr::V4(base) = from.base() else { unreachable!() };
        let mask = u32::MAX.checked_shr(u32::from(first.scope)).unwrap_or(0);
        let addr = base.to_bits() & !mask | other & mask;
        let neighbour = routing::model::Prefix::new(IpAddr::from(addr.to_be_bytes()), 24);
        let second = dns::answer(&query, &neighbour, &zone);
        prop_assert_eq!(first.answers, second.answers, "{} and {} share {} bits", from, neighbour, first.scope);
    }
}
