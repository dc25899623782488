//! Question in, answer out, with everything that led to it.
use std::{net::IpAddr, sync::Arc};

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, Record, RecordType, rdata::HINFO},
};
use routing::{
    model::{Mode, Prefix},
    place::Located,
};

use crate::{
    names::{self, Meaning},
    zone::{Family, Planned, Work, Zone, address},
};

/// A question of class IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name, in the letters' case that was asked with.
    pub name: Name,
    /// The type.
    pub kind: RecordType,
}

/// An answer's content; how it goes on the wire is not its business.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `NoError`, `NXDomain` or `Refused`.
    pub rcode: ResponseCode,
    /// The answer section, best node first.
    pub answers: Vec<Record>,
    /// The authority section: the SOA where the answer is a denial.
    pub authority: Vec<Record>,
    /// The additional section: glue.
    pub additional: Vec<Record>,
    /// Leading bits of the asker's address that the answer depends on (RFC 7871 section 7.2.1).
    pub scope: u8,
    /// How it came about.
    pub why: Why,
}

/// What an answer was decided on; cheap to keep, made into words by [`crate::explain()`].
#[derive(Clone, Debug)]
pub struct Why {
    pub(crate) meaning: Meaning,
    pub(crate) located: Located,
    pub(crate) spread: Prefix,
    pub(crate) planned: Option<Arc<Planned>>,
}

/// Answers `query` for askers in `from`: the client subnet if the query had one, else the prefix of the resolver.
///
/// `from` may be shorter than a viewer's prefix; a longer one is cut to it ([`Prefix::of_viewer`]).
#[must_use]
pub fn answer(query: &Query, from: &Prefix, zone: &Zone) -> Answer {
    let mut answer = Answer {
        rcode: ResponseCode::NoError,
        answers: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
        scope: 0,
        why: Why {
            meaning: names::read(&query.name, zone),
            located: Located::default(),
            spread: viewer(from),
            planned: None,
        },
    };
    match answer.why.meaning {
        Meaning::Outside => {
            answer.rcode = ResponseCode::Refused;
            return answer;
        }
        Meaning::Missing => answer.rcode = ResponseCode::NXDomain,
        meaning => answer.fill(meaning, query, zone),
    }
    if answer.answers.is_empty() {
        answer.authority.push(zone.soa.clone());
    }
    answer
}

/// `from`, no longer than what may be kept of a viewer's address.
pub(crate) fn viewer(from: &Prefix) -> Prefix {
    let viewer = Prefix::of_viewer(from.base());
    if from.len() < viewer.len() {
        *from
    } else {
        viewer
    }
}

impl Answer {
    fn fill(&mut self, meaning: Meaning, query: &Query, zone: &Zone) {
        let family = match query.kind {
            RecordType::A => Family::V4,
            RecordType::AAAA => Family::V6,
            RecordType::SOA if meaning == Meaning::Apex => {
                self.answers.push(zone.soa.clone());
                return;
            }
            RecordType::NS if meaning == Meaning::Apex => {
                self.answers.clone_from(&zone.ns);
                self.additional.clone_from(&zone.glue);
                return;
            }
            RecordType::ANY => {
                // RFC 8482 section 4.2: one small record instead of all that there are.
                let info = RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()));
                self.answers
                    .push(Record::from_rdata(query.name.clone(), zone.facts.ttl, info));
                return;
            }
            _ => return,
        };
        let push = |answers: &mut Vec<Record>, addr: IpAddr| {
            answers.push(address(&query.name, zone.facts.ttl, addr));
        };
        match meaning {
            Meaning::NameServer => {
                let hosts = zone.ns_hosts.iter().filter(|(host, _)| *host == query.name);
                let addrs = hosts.flat_map(|(_, addrs)| addrs);
                addrs
                    .filter(|a| Family::of(a) == family)
                    .for_each(|a| push(&mut self.answers, *a));
            }
            Meaning::Node(at) => {
                let node = &zone.facts.nodes[at];
                // A draining node keeps its own name: sessions that it has still find it.
                if node.alive && node.mode != Mode::Maintenance {
                    let mut addrs: Vec<IpAddr> = zone.addrs(at, Work::Playback, family).collect();
                    for addr in zone.addrs(at, Work::Ingest, family) {
                        if !addrs.contains(&addr) {
                            addrs.push(addr);
                        }
                    }
                    addrs.into_iter().for_each(|a| push(&mut self.answers, a));
                }
            }
            Meaning::Pool(_) | Meaning::Playback(..) => {
                for addr in self.choose(meaning, family, zone) {
                    push(&mut self.answers, addr);
                }
            }
            Meaning::Outside | Meaning::Missing | Meaning::Apex | Meaning::Between => {}
        }
    }

    fn choose(&mut self, meaning: Meaning, family: Family, zone: &Zone) -> Vec<IpAddr> {
        let (pool, playback) = match meaning {
            Meaning::Pool(pool) => (pool, None),
            Meaning::Playback(pool, playback) => (pool, playback),
            _ => return Vec::new(),
        };
        let n = zone.facts.answers;
        let Why {
            located,
            spread,
            planned,
            ..
        } = &mut self.why;
        *located = zone.facts.places.locate(spread.base());
        let mut plan = zone.plan(pool, playback, family, &located.place);
        let mut nodes = plan.plan.first(spread, n);
        if playback.is_some() && nodes.is_empty() {
            plan = zone.plan(pool, None, family, &located.place);
            nodes = plan.plan.first(spread, n);
        }
        if plan.plan.depends_on_place() {
            self.scope = located.scope;
        }
        if plan.plan.depends_on_prefix(n) {
            self.scope = self.scope.max(spread.len());
        }
        *planned = Some(plan);
        let work = zone.work(pool);
        nodes
            .into_iter()
            .flat_map(|node| zone.addrs(node, work, family))
            .collect()
    }
}
