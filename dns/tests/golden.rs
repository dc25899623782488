//! Questions and their answers, one a line: `name type from -> rcode /scope answers | authority + additional`.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use common::{LIVE, LOST, facts, node_label};
use dns::{Answer, Query, Work, Zone, ZoneFacts, answer, explain};
use hickory_proto::rr::Record;
use routing::model::{Mode, Permille};

fn asked(zone: &Zone, question: &str) -> String {
    let words: Vec<&str> = question.split_whitespace().collect();
    let [name, kind, from] = words[..] else {
        panic!("{question}: want NAME TYPE FROM")
    };
    let query = Query::new(name, kind).unwrap();
    let Answer {
        rcode,
        answers,
        authority,
        additional,
        scope,
        ..
    } = answer(&query, &from.parse().unwrap(), zone);
    for record in &answers {
        assert!(
            record.name == query.name,
            "{question}: a record of another name: {record}"
        );
    }
    let list = |records: &[Record]| {
        let texts: Vec<String> = records
            .iter()
            .map(|r| match r.record_type().to_string().as_str() {
                "SOA" => format!("SOA={}", r.ttl),
                "A" | "AAAA" => r.data.to_string(),
                other => format!("{other}={}", r.data),
            })
            .collect();
        texts.join(" ")
    };
    let mut line = format!("{rcode:?} /{scope} {}", list(&answers));
    for (mark, section) in [("|", &authority), ("+", &additional)] {
        if !section.is_empty() {
            line = format!("{} {mark} {}", line.trim_end(), list(section));
        }
    }
    line.trim_end().to_owned()
}

fn check(facts: ZoneFacts, table: &str) {
    let zone = Zone::new(facts).unwrap();
    let (n1, n3, n4) = (node_label(1), node_label(3), node_label(4));
    for line in table.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let line = line
            .replace("N1", &n1)
            .replace("N3", &n3)
            .replace("N4", &n4)
            .replace("LIVE", LIVE)
            .replace("LOST", LOST);
        let (question, expected) = line.split_once("->").unwrap();
        assert_eq!(asked(&zone, question), expected.trim(), "{question}");
    }
}

#[test]
fn three_continents_get_three_nodes_first() {
    check(
        facts(),
        "
        foghorn.acme.cdn.mesh.test A 10.1.9.0/24          -> NoError /16 192.0.2.1 192.0.2.2
        foghorn.acme.cdn.mesh.test A 10.2.9.0/24          -> NoError /16 192.0.2.2 192.0.2.1
        foghorn.acme.cdn.mesh.test A 10.3.9.0/24          -> NoError /16 192.0.2.3 192.0.2.1
        foghorn.acme.cdn.mesh.test AAAA 10.3.9.0/24       -> NoError /16 2001:db8::3 2001:db8::1
        foghorn.acme.cdn.mesh.test A 2001:db8:1000::/56   -> NoError /36 192.0.2.3 192.0.2.1
        ",
    );
}

#[test]
fn a_tenants_names() {
    check(
        facts(),
        "
        acme.cdn.mesh.test A 10.1.0.0/16                  -> NoError /16 192.0.2.1 192.0.2.2
        play.acme.cdn.mesh.test A 10.1.0.0/16             -> NoError /16 192.0.2.1 192.0.2.2
        edge-egress.acme.cdn.mesh.test A 10.1.0.0/16      -> NoError /16 192.0.2.1 192.0.2.2
        edge-ingest.acme.cdn.mesh.test A 10.1.0.0/16      -> NoError /16 192.0.2.1 192.0.2.2
        edge-ingest.acme.cdn.mesh.test AAAA 10.1.0.0/16   -> NoError /0 | SOA=5
        EDGE-ingest.Acme.CDN.mesh.test A 10.1.0.0/16      -> NoError /16 192.0.2.1 192.0.2.2
        N1.acme.cdn.mesh.test A 10.3.0.0/16               -> NoError /0 192.0.2.1
        N1.acme.cdn.mesh.test AAAA 10.3.0.0/16            -> NoError /0 2001:db8::1
        N4.acme.cdn.mesh.test A 10.3.0.0/16               -> NXDomain /0 | SOA=5
        N4.both.cdn.mesh.test A 10.3.0.0/16               -> NoError /0 192.0.2.4
        LIVE.acme.cdn.mesh.test A 10.1.0.0/16             -> NoError /0 192.0.2.3
        LIVE.both.cdn.mesh.test A 10.1.0.0/16             -> NoError /16 192.0.2.1 192.0.2.4
        LOST.acme.cdn.mesh.test A 10.1.0.0/16             -> NoError /16 192.0.2.1 192.0.2.2
        plain.cdn.mesh.test A 10.1.0.0/16                 -> NXDomain /0 | SOA=5
        foghorn.plain.cdn.mesh.test A 10.1.0.0/16         -> NXDomain /0 | SOA=5
        nobody.cdn.mesh.test A 10.1.0.0/16                -> NoError /0 | SOA=5
        absent.cdn.mesh.test A 10.1.0.0/16                -> NXDomain /0 | SOA=5
        foghorn.absent.cdn.mesh.test A 10.1.0.0/16        -> NXDomain /0 | SOA=5
        a.foghorn.acme.cdn.mesh.test A 10.1.0.0/16        -> NXDomain /0 | SOA=5
        other.acme.cdn.mesh.test A 10.1.0.0/16            -> NXDomain /0 | SOA=5
        *.acme.cdn.mesh.test A 10.1.0.0/16                -> NXDomain /0 | SOA=5
        ",
    );
}

#[test]
fn unbranded_and_cluster_names() {
    check(
        facts(),
        "
        foghorn.mesh.test A 10.4.0.0/16                   -> NoError /16 192.0.2.1 192.0.2.2
        edge-ingest.mesh.test A 10.3.0.0/16               -> NoError /16 192.0.2.3 192.0.2.1
        core.mesh.test A 10.2.0.0/16                      -> NoError /16 192.0.2.2 192.0.2.1
        foghorn.shed.mesh.test A 10.2.0.0/16              -> NoError /0 192.0.2.4
        edge-ingest.shed.mesh.test A 10.2.0.0/16          -> NoError /0 | SOA=5
        N4.shed.mesh.test A 10.2.0.0/16                   -> NoError /0 192.0.2.4
        N4.core.mesh.test A 10.2.0.0/16                   -> NXDomain /0 | SOA=5
        N4.mesh.test A 10.2.0.0/16                        -> NXDomain /0 | SOA=5
        absent.mesh.test A 10.2.0.0/16                    -> NXDomain /0 | SOA=5
        ",
    );
}

#[test]
fn the_zone_itself() {
    check(
        facts(),
        "
        mesh.test SOA 10.1.0.0/16       -> NoError /0 SOA=5
        mesh.test NS 10.1.0.0/16        -> NoError /0 NS=ns1.mesh.test. NS=ns2.far.mesh.test. + 192.0.2.1 192.0.2.2 2001:db8::2
        mesh.test A 10.1.0.0/16         -> NoError /0 | SOA=5
        ns1.mesh.test A 10.1.0.0/16     -> NoError /0 192.0.2.1
        ns1.mesh.test AAAA 10.1.0.0/16  -> NoError /0 | SOA=5
        NS2.far.mesh.test AAAA 10.1.0.0/16 -> NoError /0 2001:db8::2
        far.mesh.test A 10.1.0.0/16     -> NoError /0 | SOA=5
        cdn.mesh.test A 10.1.0.0/16     -> NoError /0 | SOA=5
        foghorn.mesh.test TXT 10.1.0.0/16  -> NoError /0 | SOA=5
        foghorn.mesh.test CAA 10.1.0.0/16  -> NoError /0 | SOA=5
        foghorn.mesh.test NS 10.1.0.0/16   -> NoError /0 | SOA=5
        foghorn.mesh.test HTTPS 10.1.0.0/16 -> NoError /0 | SOA=5
        foghorn.mesh.test ANY 10.1.0.0/16  -> NoError /0 HINFO=RFC8482
        absent.mesh.test ANY 10.1.0.0/16   -> NXDomain /0 | SOA=5
        test A 10.1.0.0/16                 -> Refused /0
        mesh.example A 10.1.0.0/16         -> Refused /0
        xmesh.test A 10.1.0.0/16           -> Refused /0
        ",
    );
}

#[test]
fn an_unknown_asker_gets_the_same_scope_that_a_finer_entry_would_end() {
    // 12.0.0.0/8 shares five leading bits with 10.0.0.0/8's entries; the sixth tells it apart. Without a place all distances are
    // equal, so the prefix spreads, and the answer is for its /24.
    check(
        facts(),
        "foghorn.shed.mesh.test A 12.0.0.0/8 -> NoError /0 192.0.2.4",
    );
    let zone = common::zone();
    let query = Query::new("foghorn.mesh.test", "A").unwrap();
    assert_eq!(
        answer(&query, &"12.0.0.0/32".parse().unwrap(), &zone).scope,
        24
    );
}

#[test]
fn near_equal_nodes_are_spread_and_the_scope_says_so() {
    let zone = common::zone();
    let query = Query::new("foghorn.both.cdn.mesh.test", "A").unwrap();
    let mut firsts = [0; 2];
    for n in 0..=255u8 {
        let answer = answer(&query, &format!("10.4.{n}.0/24").parse().unwrap(), &zone);
        assert_eq!(answer.scope, 24);
        match answer.answers[0].data.to_string().as_str() {
            "192.0.2.1" => firsts[0] += 1,
            "192.0.2.4" => firsts[1] += 1,
            other => panic!("{other} is far"),
        }
    }
    assert!(
        firsts.iter().all(|n| (90..=166).contains(n)),
        "{firsts:?}: each is due 128, give or take 4.7 deviations of 8"
    );
}

#[test]
fn the_dead_and_the_full_are_not_named_and_the_draining_only_by_their_own_name() {
    let with = |change: fn(&mut ZoneFacts)| {
        let mut facts = facts();
        change(&mut facts);
        facts
    };
    check(
        with(|f| f.nodes[0].alive = false),
        "
        foghorn.acme.cdn.mesh.test A 10.1.0.0/16 -> NoError /16 192.0.2.2 192.0.2.3
        N1.acme.cdn.mesh.test A 10.1.0.0/16      -> NoError /0 | SOA=5
        ",
    );
    check(
        with(|f| f.nodes[0].mode = Mode::Draining),
        "
        foghorn.acme.cdn.mesh.test A 10.1.0.0/16 -> NoError /16 192.0.2.2 192.0.2.3
        N1.acme.cdn.mesh.test A 10.1.0.0/16      -> NoError /0 192.0.2.1
        ",
    );
    check(
        with(|f| f.nodes[0].mode = Mode::Maintenance),
        "
        N1.acme.cdn.mesh.test A 10.1.0.0/16      -> NoError /0 | SOA=5
        ",
    );
    check(
        with(|f| f.nodes[0].load.cpu = Permille(950)),
        "foghorn.acme.cdn.mesh.test A 10.1.0.0/16 -> NoError /16 192.0.2.2 192.0.2.3",
    );
    check(
        with(|f| f.nodes[2].load.cpu = Permille(950)),
        "LIVE.acme.cdn.mesh.test A 10.1.0.0/16 -> NoError /16 192.0.2.1 192.0.2.2",
    );
    check(
        with(|f| f.nodes.iter_mut().for_each(|n| n.load.cpu = Permille(950))),
        "foghorn.acme.cdn.mesh.test A 10.1.0.0/16 -> NoError /16 192.0.2.1 192.0.2.2",
    );
}

#[test]
fn an_explanation_names_everybody() {
    let zone = common::zone();
    let query = Query::new("foghorn.acme.cdn.mesh.test", "a").unwrap();
    let said = explain(&query, &"10.3.1.0/24".parse().unwrap(), &zone);
    let expected = "\
foghorn.acme.cdn.mesh.test. A stands for: the nearest fit nodes
asked from 10.3.1.0/24, in asia (35.68, 139.69); the answer holds for the /16 around it
NOERROR: 192.0.2.3, 192.0.2.1

#  node       distance  load    fetch  cost   band  weight    verdict
1  tokyo      0         0 % +0  0      0      1     100 Mb/s  first: lowest cost
2  frankfurt  9330      0 % +0  0      9330   2     100 Mb/s  farther (+9330 km)
3  newyork    10850     0 % +0  0      10850  3     100 Mb/s  farther (+10850 km)
-  amsterdam  9290      0 %                                   not entitled: its cluster does not answer for this name
";
    let text = said.text();
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn a_judgement_for_one_stream_prefers_its_holder_among_those_that_the_names_would_give() {
    let zone = common::zone();
    let first = |playback: Option<&str>, from: &str| {
        let playback = playback.map(|id| id.parse().unwrap());
        let ranked = zone
            .judge(
                common::ACME,
                Work::Playback,
                playback,
                &from.parse().unwrap(),
            )
            .unwrap();
        let first = &ranked.chosen[0];
        (first.label.to_string(), first.total)
    };
    assert_eq!(first(None, "10.3.1.0/24"), ("tokyo".into(), 0));
    assert_eq!(first(Some(LIVE), "10.3.1.0/24"), ("tokyo".into(), 0));
    assert_eq!(
        first(Some(LIVE), "10.1.1.0/24"),
        ("frankfurt".into(), 500),
        "no holder is near: fetch it here"
    );
    assert!(
        zone.judge(
            routing::model::TenantId::from_bytes([77; 16]),
            Work::Ingest,
            None,
            &"10.1.1.0/24".parse().unwrap()
        )
        .is_none()
    );
}
