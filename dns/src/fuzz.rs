//! Packets, names and place databases, under any bytes.
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use fuzz_kit::Input;
use hickory_proto::op::Message;
use routing::{
    model::{ClusterId, Load, Mode, NodeId, Place, Prefix, Region, Role, TenantId, Verb},
    place::{PlaceTable, Places as _},
    rank::Holds,
};

use crate::{
    NameServer, Query, Zone, ZoneCluster, ZoneFacts, ZoneNode, ZonePlayback, ZoneTenant, answer,
    explain,
    mmdb::Mmdb,
    wire::{MAX_UDP, Transport, respond},
};

fuzz_kit::targets! {
    dns_packet: packet, packet_seeds;
    dns_question: question, question_seeds;
    dns_places: places, places_seeds;
}

/// All targets.
#[must_use]
pub fn targets() -> Vec<fuzz_kit::Target> {
    TARGETS.to_vec()
}

fn place(lat: f64, lon: f64) -> Place {
    Place::new(lat, lon, Region::new("x").expect("a region"))
}

/// Three nodes on three continents, a cluster, a tenant, a playback that the third holds.
fn zone() -> Zone {
    let cluster = ClusterId::from_bytes([1; 16]);
    let tenant = TenantId::from_bytes([1; 16]);
    let at = [(50.11, 8.68), (40.71, -74.01), (35.68, 139.69)];
    let node = |(n, at): (u8, (f64, f64))| ZoneNode {
        id: NodeId::from_bytes([n; 32]),
        name: format!("node{n}").parse().expect("a label"),
        cluster,
        alive: true,
        roles: [Role::Ingest, Role::Edge, Role::Dns].into_iter().collect(),
        mode: Mode::Normal,
        place: Some(place(at.0, at.1)),
        load: Load::default(),
        capacity: None,
        playback: vec![
            IpAddr::from([192, 0, 2, n]),
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)]),
        ],
        ingest: vec![IpAddr::from([192, 0, 2, n])],
    };
    let places = (1..=3_u8).zip(at).map(|(n, at)| {
        let block = Prefix::new(IpAddr::from([10, n, 0, 0]), 16);
        (block, place(at.0, at.1))
    });
    let facts = ZoneFacts {
        base: "mesh.test".into(),
        suffix: "cdn".parse().expect("a label"),
        ready: true,
        version: 7,
        ttl: ZoneFacts::TTL,
        negative_ttl: ZoneFacts::NEGATIVE_TTL,
        answers: ZoneFacts::ANSWERS,
        ns: vec![NameServer {
            name: "ns2.far.mesh.test".into(),
            addrs: vec![IpAddr::from([192, 0, 2, 2])],
        }],
        tenants: vec![ZoneTenant {
            id: tenant,
            label: "acme".parse().expect("a label"),
            branded: true,
            entitled: BTreeMap::from([(
                cluster,
                [Verb::Serve, Verb::Ingest].into_iter().collect(),
            )]),
        }],
        clusters: vec![ZoneCluster {
            id: cluster,
            slug: "core".parse().expect("a label"),
            official: true,
        }],
        nodes: (1..=3).zip(at).map(node).collect(),
        playbacks: vec![ZonePlayback {
            id: "abcdefgh12345678".parse().expect("an id"),
            tenant,
            holders: vec![(NodeId::from_bytes([3; 32]), Holds::Origin)],
        }],
        places: Arc::new(PlaceTable::new(places).expect("each block once")),
    };
    Zone::new(facts).expect("these are names")
}

/// One zone for all inputs: it changes only by what it remembers.
static ZONE: std::sync::LazyLock<Zone> = std::sync::LazyLock::new(zone);

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 53));

fn packet(bytes: &[u8]) {
    let (mut out, mut again) = (Vec::new(), Vec::new());
    for transport in [Transport::Udp, Transport::Tcp] {
        let Some(rcode) = respond(bytes, PEER, transport, &ZONE, &mut out) else {
            continue;
        };
        respond(bytes, PEER, transport, &ZONE, &mut again);
        assert_eq!(out, again, "the same question, the same answer");
        assert_eq!(out[..2], bytes[..2], "the id comes back");
        assert!(out[2] & 0x80 != 0, "a response says that it is one");
        assert_eq!(out[3] & 0xf, rcode.low());
        assert!(transport == Transport::Tcp || out.len() <= usize::from(MAX_UDP));
        match Message::from_vec(&out) {
            Ok(read) => assert!(read.answers.len() <= 512),
            // The one thing that hickory-proto does not read.
            Err(e) if e.to_string().contains("address family") => {}
            Err(e) => panic!("hickory-proto does not read it: {e}"),
        }
    }
}

/// A query: header flags, a name in wire form, a type, and options where an OPT record is wanted.
fn query(name: &[u8], kind: u16, options: Option<&[u8]>) -> Vec<u8> {
    let extra = u8::from(options.is_some());
    let mut out = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, extra];
    out.extend_from_slice(name);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    if let Some(options) = options {
        out.extend_from_slice(&[0, 0, 41, 0x10, 0, 0, 0, 0x80, 0]);
        out.extend_from_slice(&u16::try_from(options.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(options);
    }
    out
}

fn packet_seeds() -> Vec<Vec<u8>> {
    let foghorn = b"\x07foGHorn\x04ACme\x03cdn\x04mesh\x04test\0";
    let playback = b"\x10abcdefgh12345678\x04acme\x03cdn\x04mesh\x04test\0";
    let v4 = [0, 8, 0, 7, 0, 1, 24, 0, 10, 3, 9];
    let v6 = [0, 8, 0, 9, 0, 2, 36, 0, 0x20, 1, 0x0d, 0xb8, 0x10];
    let mut notify = query(b"\x04mesh\x04test\0", 6, None);
    notify[2] = 0x20;
    vec![
        query(foghorn, 1, Some(&v4)),
        query(playback, 28, Some(&v6)),
        query(b"\x04mesh\x04test\0", 2, None),
        query(b"\x04mesh\x04test\0", 6, Some(&[0, 10, 0, 2, 1, 2])),
        query(b"\x07missing\x04mesh\x04test\0", 255, None),
        query(b"\x03org\0", 252, None),
        notify,
    ]
}

/// A question as the command line and the console put it: answered alike with and without an explanation.
fn question(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let from = Prefix::new(IpAddr::from(input.array::<4>()), input.byte());
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let (kind, name) = (text(input.block()), text(input.rest()));
    let Ok(query) = Query::new(name, kind) else {
        return;
    };
    let (plain, told) = (answer(&query, &from, &ZONE), explain(&query, &from, &ZONE));
    assert_eq!(plain.scope, told.scope);
    let data: Vec<String> = plain.answers.iter().map(|r| r.data.to_string()).collect();
    assert_eq!(data, told.answers);
    assert!(told.text().contains(told.rcode));
}

fn question_seeds() -> Vec<Vec<u8>> {
    let put = |kind: &str, name: &str| {
        let kind = fuzz_kit::join([kind]);
        [&[10, 3, 9, 0, 24][..], &kind, name.as_bytes()].concat()
    };
    vec![
        put("A", "foghorn.acme.cdn.mesh.test"),
        put("aaaa", "mesh.test."),
        put("ANY", "abcdefgh12345678.acme.cdn.mesh.test"),
        put("NS", "ns2.far.mesh.test"),
    ]
}

/// A damaged database is refused or knows less.
fn places(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let addr = IpAddr::from(input.array::<16>());
    let Ok(places) = Mmdb::of(input.rest().to_vec()) else {
        return;
    };
    let mapped = [10, 65, 0, 1];
    for addr in [
        addr,
        IpAddr::from(mapped),
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    ] {
        let found = places.locate(addr);
        let bits = if addr.to_canonical().is_ipv4() {
            32
        } else {
            128
        };
        assert!(found.scope <= bits);
        if let Some(place) = found.place {
            assert!(place.lat().abs() <= 90.0 && place.lon().abs() <= 180.0);
        }
    }
}

/// A database of 24-bit records with one node a bit of `10.64.0.0/10`, the continent and the place behind the last one.
fn places_seeds() -> Vec<Vec<u8>> {
    const NODES: u8 = 106;
    let bits = |at: u8| 10_u8 >> (7 - at.min(7)) & 1 == 1 && at < 8 || at == 9;
    let mut file = vec![0; 16];
    for node in 0..NODES {
        let below = if node + 1 == NODES {
            NODES + 16
        } else {
            node + 1
        };
        let one = node >= 96 && bits(node - 96);
        let sides = if one { [NODES, below] } else { [below, NODES] };
        for side in sides {
            file.extend([0, 0, side]);
        }
    }
    file.extend([0; 16]);
    // Control bytes: the type in the upper three bits, the size in the lower five.
    let text = |t: &str| {
        [
            &[0x40 | u8::try_from(t.len()).unwrap_or(0)][..],
            t.as_bytes(),
        ]
        .concat()
    };
    let double = |n: f64| [&[0x68][..], &n.to_be_bytes()].concat();
    let number =
        |kind: u8, n: &[u8]| [&[kind << 5 | u8::try_from(n.len()).unwrap_or(0)][..], n].concat();
    let city = [
        vec![0xe2],
        text("continent"),
        vec![0xe1],
        text("code"),
        text("EU"),
        text("location"),
        vec![0xe2],
        text("latitude"),
        double(50.11),
        text("longitude"),
        double(8.68),
    ];
    file.extend(city.concat());
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let about = [
        vec![0xe9],
        text("binary_format_major_version"),
        number(5, &[2]),
        text("binary_format_minor_version"),
        number(5, &[]),
        text("build_epoch"),
        vec![0x01, 0x02, 1],
        text("database_type"),
        text("Test-City"),
        text("description"),
        vec![0xe0],
        text("ip_version"),
        number(5, &[6]),
        text("languages"),
        vec![0x00, 0x04],
        text("node_count"),
        number(6, &[NODES]),
        text("record_size"),
        number(5, &[24]),
    ];
    file.extend(about.concat());
    vec![file]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_what_they_are_meant_to_be() {
        let file = places_seeds().remove(0);
        let places = Mmdb::of(file[16..].to_vec()).unwrap();
        let found = places.locate(IpAddr::from([10, 65, 0, 1]));
        assert_eq!((found.scope, found.place.is_some()), (10, true));
        let mut out = Vec::new();
        for seed in &packet_seeds()[..3] {
            respond(seed, PEER, Transport::Udp, &ZONE, &mut out);
            assert!(!Message::from_vec(&out).unwrap().answers.is_empty());
        }
    }
}
