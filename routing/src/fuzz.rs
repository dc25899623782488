//! Texts and values that come from outside, under any bytes.
use std::{collections::BTreeMap, fmt::Display, net::IpAddr, str::FromStr};

use fuzz_kit::Input;
use minicbor::{Decode, Encode};

use crate::{
    model::{
        BitsPerSecond, BroadcastId, Capacity, ClusterId, EpochId, Hlc, Label, Load, MeshId, Mode,
        NodeId, Permille, Place, PlaybackId, Prefix, Region, Role, Roles, StreamId, StreamKey,
        TenantId, TrackSummary, UnixMillis, Verbs,
    },
    place::{PlaceTable, Places},
    rank::{Asker, Candidate, Holds, Policy, Resort, rank},
};

fuzz_kit::targets! {
    model_texts: texts, text_seeds;
    model_values: values, value_seeds;
    place_table: table, table_seeds;
    rank_candidates: candidates, candidate_seeds;
}

/// All targets.
#[must_use]
pub fn targets() -> Vec<fuzz_kit::Target> {
    TARGETS.to_vec()
}

/// What is read is written as the one text that it has, and that text is read as the same.
fn text<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let written = read.to_string();
        assert_eq!(written.parse::<T>().ok().as_ref(), Some(&read));
    }
}

fn texts(bytes: &[u8]) {
    let Ok(any) = std::str::from_utf8(bytes) else {
        return;
    };
    text::<NodeId>(any);
    text::<MeshId>(any);
    text::<ClusterId>(any);
    text::<TenantId>(any);
    text::<StreamId>(any);
    text::<BroadcastId>(any);
    text::<EpochId>(any);
    text::<PlaybackId>(any);
    text::<Label>(any);
    text::<Region>(any);
    text::<Prefix>(any);
    // Names in URLs: no other text may be taken for them, or one file has two.
    if let Ok(epoch) = any.parse::<EpochId>() {
        assert_eq!(epoch.to_string(), any.to_ascii_lowercase());
    }
    if let Ok(id) = any.parse::<PlaybackId>() {
        assert_eq!(id.as_str(), any.to_ascii_lowercase());
    }
    let key = StreamKey::new(any);
    assert_eq!(StreamKey::new(key.expose()).hash(), key.hash());
}

fn text_seeds() -> Vec<Vec<u8>> {
    [
        &*NodeId::from_bytes([0xa5; 32]).to_string(),
        "1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f",
        "00000199c82cc014",
        "abcdefgh12345678",
        "n-uws2ljnfuw",
        "eu-west",
        "192.0.2.0/24",
        "2001:db8::/32",
        "::ffff:192.0.2.1/120",
    ]
    .map(|t| t.as_bytes().to_vec())
    .into()
}

/// What is read is written and read again as the same.
fn value<T>(bytes: &[u8]) -> Option<T>
where
    T: for<'b> Decode<'b, ()> + Encode<()> + PartialEq + std::fmt::Debug,
{
    let read = minicbor::decode::<T>(bytes).ok()?;
    let written = minicbor::to_vec(&read).expect("a Vec takes all bytes");
    assert_eq!(minicbor::decode::<T>(&written).as_ref().ok(), Some(&read));
    Some(read)
}

fn values(bytes: &[u8]) {
    value::<NodeId>(bytes);
    value::<TenantId>(bytes);
    value::<EpochId>(bytes);
    value::<Load>(bytes);
    value::<Mode>(bytes);
    value::<Roles>(bytes);
    value::<Verbs>(bytes);
    value::<TrackSummary>(bytes);
    if let Some(stamp) = value::<Hlc>(bytes) {
        // A clock that anybody set anyhow does not end a node.
        assert!(stamp.tick(UnixMillis(1)) >= stamp);
    }
    // What has a rule has it however it came.
    if let Some(id) = value::<PlaybackId>(bytes) {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Some(label) = value::<Label>(bytes) {
        assert_eq!(label.as_str().parse().as_ref(), Ok(&label));
    }
    if let Some(region) = value::<Region>(bytes) {
        assert_eq!(Region::new(region.as_str()).as_ref(), Ok(&region));
    }
    if let Some(place) = value::<Place>(bytes) {
        let region = place.region();
        assert_eq!(Region::new(region.as_str()).as_ref(), Ok(region));
        assert!(place.lat().abs() <= 90.0 && place.lon().abs() <= 180.0);
        assert!(place.km_to(&Place::new(0.0, 0.0, region.clone())) <= 20_015);
    }
}

fn value_seeds() -> Vec<Vec<u8>> {
    use crate::model::{BitsPerSecond, Codec, TrackDetail, TrackKind};
    fn written(value: impl Encode<()>) -> Vec<u8> {
        minicbor::to_vec(value).expect("a Vec takes all bytes")
    }
    let region = Region::new("eu").expect("a region");
    let playback = PlaybackId::from_random([3; 16]);
    let track = TrackSummary {
        kind: TrackKind::Video,
        codec: Codec::H264,
        codec_string: "avc1.64001f".into(),
        bitrate: BitsPerSecond(2_500_000),
        detail: TrackDetail::Video {
            width: 640,
            height: 360,
            rate: (30, 1),
        },
    };
    vec![
        written(NodeId::from_bytes([1; 32])),
        written(playback),
        written(Hlc::at(UnixMillis(1_760_000_000_000))),
        written(&region),
        written(Place::new(50.11, 8.68, region)),
        written(Load::default()),
        written(track),
        written("acme"),
    ]
}

/// Against the definition: the longest match, and the shortest prefix length around the address with nothing finer inside.
fn table(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let address = |input: &mut Input<'_>| {
        if input.byte() & 1 == 0 {
            IpAddr::from(input.array::<4>())
        } else {
            IpAddr::from(input.array::<16>())
        }
    };
    let asked = address(&mut input).to_canonical();
    let mut entries = BTreeMap::new();
    while !input.is_empty() && entries.len() < 64 {
        let prefix = Prefix::new(address(&mut input), input.byte());
        let lat = f64::from(input.byte()) / 3.0;
        let place = Place::new(lat, 0.0, Region::new("x").expect("a region"));
        entries.insert(prefix, place);
    }
    let table = PlaceTable::new(entries.clone()).expect("each prefix has one place");
    let found = table.locate(asked);
    let best = entries
        .iter()
        .filter(|(prefix, _)| prefix.contains(asked))
        .max_by_key(|(prefix, _)| prefix.len());
    assert_eq!(found.place.as_ref(), best.map(|(_, place)| place));
    let clean = |len: u8| {
        let block = Prefix::new(asked, len);
        let finer = |p: &Prefix| p.len() > len && block.contains(p.base());
        !entries.keys().any(finer)
    };
    assert_eq!(Some(found.scope), (0..=128).find(|len| clean(*len)));
}

fn table_seeds() -> Vec<Vec<u8>> {
    let mut all = vec![0, 10, 1, 2, 3];
    for (prefix, len) in [([10, 0, 0, 0], 8), ([10, 1, 0, 0], 16), ([10, 1, 2, 0], 24)] {
        all.push(0);
        all.extend(prefix);
        all.extend([len, len]);
    }
    all.push(1);
    all.extend([
        0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 9,
    ]);
    vec![all]
}

/// Every number here is another node's word: the order in which nodes are known changes nothing, nobody is lost, and the
/// explanation can be made.
fn candidates(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let region = Region::new("x").expect("a region");
    let place = |input: &mut Input<'_>| {
        let [known, lat, lon] = input.array::<3>();
        let degrees = |n: u8, whole: f64| (f64::from(n) / 127.5 - 1.0) * whole;
        (known & 1 == 0)
            .then(|| Place::new(degrees(lat, 90.0), degrees(lon, 180.0), region.clone()))
    };
    let asker = Asker {
        place: place(&mut input),
        prefix: Prefix::new(IpAddr::from(input.array::<4>()), 24),
    };
    let policy = match input.byte() & 3 {
        0 => Policy::new(Role::Edge),
        1 => Policy::new(Role::Ingest).or(Resort::Saturated),
        2 => Policy::new(Role::Edge).holders_only(),
        _ => Policy::sources(),
    };
    let mut all = Vec::new();
    while !input.is_empty() && all.len() < 24 {
        let node = NodeId::from_bytes([u8::try_from(all.len()).unwrap_or(0); 32]);
        let flags = input.byte();
        let mode = [
            Mode::Normal,
            Mode::Normal,
            Mode::Draining,
            Mode::Maintenance,
        ];
        let holds = [Holds::No, Holds::No, Holds::Replica, Holds::Origin];
        all.push(Candidate {
            node,
            label: node.label(),
            cluster: ClusterId::from_bytes([1; 16]),
            alive: flags & 1 == 0,
            reachable: flags & 2 == 0,
            roles: [Role::Edge, Role::Ingest].into_iter().collect(),
            mode: mode[usize::from(flags >> 2 & 3)],
            entitled: true,
            place: place(&mut input),
            load: Load {
                cpu: Permille(input.short()),
                memory: Permille(input.short()),
                egress: BitsPerSecond(input.long()),
                viewers: input.word(),
            },
            capacity: (flags & 64 == 0).then(|| Capacity {
                egress: BitsPerSecond(input.long()),
            }),
            holds: holds[usize::from(flags >> 4 & 3)],
        });
    }
    let ranked = rank(&all, &asker, &policy);
    assert_eq!(ranked.chosen.len() + ranked.rejected.len(), all.len());
    assert!(all.is_empty() || !ranked.explain().is_empty());
    all.reverse();
    assert_eq!(rank(&all, &asker, &policy), ranked);
}

fn candidate_seeds() -> Vec<Vec<u8>> {
    let mut all = vec![0, 180, 120, 192, 0, 2, 0, 0];
    for (flags, lat) in [(0, 180), (0x20, 181), (4, 60), (0, 200)] {
        all.extend([flags, 0, lat, 120, 1, 44, 0, 100]);
        all.extend([
            0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0x3b, 0x9a, 0xca, 0,
        ]);
    }
    let mut idle = all.clone();
    idle[7] = 3;
    vec![all, idle]
}
