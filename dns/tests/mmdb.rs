//! A MaxMind-format file, written here byte by byte.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{io::Write as _, net::IpAddr};

use dns::mmdb::{Mmdb, MmdbError};
use routing::{
    model::{Place, Prefix, Region},
    place::{Located, Places},
};

/// The few types of the format's data section that a City record needs.
enum Data<'a> {
    Map(Vec<(&'a str, Data<'a>)>),
    Text(&'a str),
    Double(f64),
    Short(u16),
    Number(u32),
    Long(u64),
    List(Vec<Data<'a>>),
}

fn encode(data: &Data<'_>, out: &mut Vec<u8>) {
    // A control byte: the type in the upper three bits (0: an extended type follows), the size below 29 in the lower five.
    let control = |kind: u8, size: usize| kind << 5 | u8::try_from(size).unwrap();
    match data {
        Data::Text(text) if text.len() < 29 => {
            out.push(control(2, text.len()));
            out.extend_from_slice(text.as_bytes());
        }
        Data::Text(text) => panic!("{text} is too long for this writer"),
        Data::Double(n) => {
            out.push(control(3, 8));
            out.extend_from_slice(&n.to_be_bytes());
        }
        Data::Short(n) => {
            out.push(control(5, 2));
            out.extend_from_slice(&n.to_be_bytes());
        }
        Data::Long(n) => {
            out.extend_from_slice(&[control(0, 8), 9 - 7]);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Data::Number(n) => {
            out.push(control(6, 4));
            out.extend_from_slice(&n.to_be_bytes());
        }
        Data::Map(pairs) => {
            out.push(control(7, pairs.len()));
            for (key, value) in pairs {
                encode(&Data::Text(key), out);
                encode(value, out);
            }
        }
        Data::List(items) => {
            out.extend_from_slice(&[control(0, items.len()), 11 - 7]);
            items.iter().for_each(|item| encode(item, out));
        }
    }
}

/// A database of 24-bit records over IPv6, IPv4 in `::/96` as is customary.
fn database(entries: &[(Prefix, Data<'_>)]) -> Vec<u8> {
    #[derive(Clone, Copy)]
    enum Record {
        Empty,
        Node(usize),
        Data(usize),
    }
    let mut nodes = vec![[Record::Empty; 2]];
    let mut data = Vec::new();
    for (prefix, value) in entries {
        let (bits, len) = match prefix.base() {
            IpAddr::V4(a) => (u128::from(a.to_bits()), 96 + prefix.len()),
            IpAddr::V6(a) => (a.to_bits(), prefix.len()),
        };
        let (mut at, start) = (0, data.len());
        encode(value, &mut data);
        for depth in 0..len {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == len {
                nodes[at][side] = Record::Data(start);
            } else if let Record::Node(next) = nodes[at][side] {
                at = next;
            } else {
                nodes.push([nodes[at][side]; 2]);
                nodes[at][side] = Record::Node(nodes.len() - 1);
                at = nodes.len() - 1;
            }
        }
    }
    let mut out = Vec::new();
    for record in nodes.iter().flatten() {
        let number = match record {
            Record::Empty => nodes.len(),
            Record::Node(n) => *n,
            Record::Data(offset) => nodes.len() + 16 + offset,
        };
        out.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes()[1..]);
    }
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(&data);
    out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let metadata = Data::Map(vec![
        ("binary_format_major_version", Data::Short(2)),
        ("binary_format_minor_version", Data::Short(0)),
        ("build_epoch", Data::Long(1)),
        ("database_type", Data::Text("Test-City")),
        ("description", Data::Map(vec![])),
        ("ip_version", Data::Short(6)),
        ("languages", Data::List(vec![])),
        (
            "node_count",
            Data::Number(u32::try_from(nodes.len()).unwrap()),
        ),
        ("record_size", Data::Short(24)),
    ]);
    encode(&metadata, &mut out);
    out
}

fn city(lat: f64, lon: f64, continent: &str) -> Data<'_> {
    Data::Map(vec![
        (
            "continent",
            Data::Map(vec![
                ("code", Data::Text(continent)),
                ("geoname_id", Data::Number(7)),
            ]),
        ),
        (
            "location",
            Data::Map(vec![
                ("latitude", Data::Double(lat)),
                ("longitude", Data::Double(lon)),
            ]),
        ),
    ])
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn small() -> Vec<u8> {
    let nowhere = Data::Map(vec![(
        "continent",
        Data::Map(vec![("code", Data::Text("AF"))]),
    )]);
    let prefix = |text: &str| text.parse().unwrap();
    database(&[
        (prefix("10.0.0.0/8"), city(50.11, 8.68, "EU")),
        (prefix("10.64.0.0/10"), city(35.68, 139.69, "AS")),
        (prefix("11.0.0.0/8"), nowhere),
        (prefix("12.0.0.0/8"), city(500.0, 0.0, "EU")),
        (prefix("2001:db8::/32"), city(40.71, -74.01, "NA")),
    ])
}

#[test]
fn places_and_scopes_come_from_the_search_tree() {
    let file = file(&small());
    let places = Mmdb::open(file.path()).unwrap();
    let at = |text: &str| places.locate(text.parse().unwrap());
    let place = |lat, lon, region| Some(Place::new(lat, lon, Region::new(region).unwrap()));
    assert_eq!(
        at("10.1.2.3"),
        Located {
            place: place(50.11, 8.68, "eu"),
            scope: 10
        }
    );
    assert_eq!(
        at("10.200.2.3"),
        Located {
            place: place(50.11, 8.68, "eu"),
            scope: 9
        }
    );
    assert_eq!(
        at("10.65.0.1"),
        Located {
            place: place(35.68, 139.69, "as"),
            scope: 10
        }
    );
    assert_eq!(at("::ffff:10.65.0.1"), at("10.65.0.1"));
    assert_eq!(
        at("2001:db8::1"),
        Located {
            place: place(40.71, -74.01, "na"),
            scope: 32
        }
    );
    assert_eq!(
        at("11.0.0.1"),
        Located {
            place: None,
            scope: 8
        },
        "no coordinates"
    );
    assert_eq!(
        at("12.0.0.1"),
        Located {
            place: None,
            scope: 8
        },
        "coordinates off the Earth"
    );
    assert_eq!(
        at("192.0.2.1"),
        Located {
            place: None,
            scope: 1
        }
    );
}

#[test]
fn what_is_no_database_is_refused_with_the_path() {
    let text = file(b"not a database");
    let error = Mmdb::open(text.path()).unwrap_err();
    assert!(
        matches!(error, MmdbError::Format { .. })
            && error.to_string().contains("no MaxMind-format database"),
        "{error}"
    );
    let error = Mmdb::open(std::path::Path::new("/nonexistent/places.mmdb")).unwrap_err();
    assert!(matches!(error, MmdbError::Read { .. }), "{error}");
}

proptest::proptest! {
    /// A damaged file is refused or knows less; it harms nobody.
    #[test]
    fn a_damaged_database_does_no_harm(changes in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()), 1..8), addr: u32) {
        let mut bytes = small();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let file = file(&bytes);
        if let Ok(places) = Mmdb::open(file.path()) {
            places.locate(IpAddr::from(addr.to_be_bytes()));
            places.locate("10.1.2.3".parse().unwrap());
            places.locate("2001:db8::1".parse().unwrap());
        }
    }
}
