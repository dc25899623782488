//! One small mesh for all tests: three official nodes on three continents, one node of another cluster, three tenants.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
use std::{collections::BTreeMap, sync::Arc};

use dns::{NameServer, Zone, ZoneCluster, ZoneFacts, ZoneNode, ZonePlayback, ZoneTenant};
use routing::{
    model::{ClusterId, Load, Mode, NodeId, Place, Region, Role, Roles, TenantId, Verb, Verbs},
    place::PlaceTable,
    rank::Holds,
};

pub const CORE: ClusterId = ClusterId::from_bytes([1; 16]);
pub const SHED: ClusterId = ClusterId::from_bytes([2; 16]);
pub const ACME: TenantId = TenantId::from_bytes([1; 16]);
/// Held by `tokyo`.
pub const LIVE: &str = "abcdefgh12345678";
/// Held by nobody that is alive.
pub const LOST: &str = "zzzzzzzz00000000";

pub fn place(lat: f64, lon: f64, region: &str) -> Place {
    Place::new(lat, lon, Region::new(region).unwrap())
}

/// What a node's own name starts with: `n-` and ten characters.
pub fn node_label(n: u8) -> String {
    NodeId::from_bytes([n; 32]).label().to_string()
}

fn node(n: u8, name: &str, cluster: ClusterId, at: Place) -> ZoneNode {
    ZoneNode {
        id: NodeId::from_bytes([n; 32]),
        name: name.parse().unwrap(),
        cluster,
        alive: true,
        roles: [Role::Ingest, Role::Edge, Role::Dns].into_iter().collect(),
        mode: Mode::Normal,
        place: Some(at),
        load: Load::default(),
        capacity: None,
        playback: vec![
            format!("192.0.2.{n}").parse().unwrap(),
            format!("2001:db8::{n}").parse().unwrap(),
        ],
        ingest: vec![format!("192.0.2.{n}").parse().unwrap()],
    }
}

fn tenant(n: u8, label: &str, branded: bool, entitled: &[(ClusterId, &[Verb])]) -> ZoneTenant {
    let entitled = entitled
        .iter()
        .map(|(id, verbs)| (*id, verbs.iter().copied().collect::<Verbs>()));
    ZoneTenant {
        id: TenantId::from_bytes([n; 16]),
        label: label.parse().unwrap(),
        branded,
        entitled: entitled.collect::<BTreeMap<_, _>>(),
    }
}

pub fn facts() -> ZoneFacts {
    let [frankfurt, newyork, tokyo] = [
        place(50.11, 8.68, "eu"),
        place(40.71, -74.01, "us"),
        place(35.68, 139.69, "asia"),
    ];
    let mut amsterdam = node(4, "amsterdam", SHED, place(52.37, 4.90, "eu"));
    amsterdam.roles = Roles::NONE.with(Role::Edge);
    let prefix = |text: &str| text.parse().unwrap();
    let places = PlaceTable::new([
        (prefix("10.1.0.0/16"), frankfurt.clone()),
        (prefix("10.2.0.0/16"), newyork.clone()),
        (prefix("10.3.0.0/16"), tokyo.clone()),
        // Half way between Frankfurt and Amsterdam: they are near-equal from there.
        (prefix("10.4.0.0/16"), place(51.24, 6.79, "eu")),
        (prefix("2001:db8:1000::/36"), tokyo.clone()),
    ]);
    let full: &[Verb] = &[Verb::Serve, Verb::Ingest];
    ZoneFacts {
        base: "mesh.test".into(),
        suffix: "cdn".parse().unwrap(),
        ready: true,
        version: 7,
        ttl: ZoneFacts::TTL,
        negative_ttl: ZoneFacts::NEGATIVE_TTL,
        answers: ZoneFacts::ANSWERS,
        ns: vec![
            NameServer {
                name: "ns1.mesh.test".into(),
                addrs: vec!["192.0.2.1".parse().unwrap()],
            },
            NameServer {
                name: "ns2.far.mesh.test".into(),
                addrs: vec!["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()],
            },
        ],
        tenants: vec![
            tenant(1, "acme", true, &[(CORE, full)]),
            tenant(2, "plain", false, &[(CORE, full)]),
            tenant(3, "both", true, &[(CORE, full), (SHED, &[Verb::Serve])]),
            tenant(4, "nobody", true, &[]),
        ],
        clusters: vec![
            ZoneCluster {
                id: CORE,
                slug: "core".parse().unwrap(),
                official: true,
            },
            ZoneCluster {
                id: SHED,
                slug: "shed".parse().unwrap(),
                official: false,
            },
        ],
        nodes: vec![
            node(1, "frankfurt", CORE, frankfurt),
            node(2, "newyork", CORE, newyork),
            node(3, "tokyo", CORE, tokyo),
            amsterdam,
        ],
        playbacks: vec![
            ZonePlayback {
                id: LIVE.parse().unwrap(),
                tenant: ACME,
                holders: vec![(NodeId::from_bytes([3; 32]), Holds::Origin)],
            },
            ZonePlayback {
                id: LOST.parse().unwrap(),
                tenant: ACME,
                holders: vec![(NodeId::from_bytes([99; 32]), Holds::Origin)],
            },
        ],
        places: Arc::new(places.unwrap()),
    }
}

pub fn zone() -> Zone {
    Zone::new(facts()).unwrap()
}
