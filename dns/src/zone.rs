//! The zone: an immutable snapshot of what names may be answered with.
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use hickory_proto::rr::{
    Name, RData, Record,
    rdata::{A, AAAA, NS, SOA},
};
use routing::{
    model::{ClusterId, Label, NodeId, Place, PlaybackId, Prefix, Role, TenantId, Verb},
    rank::{Asker, Candidate, Holds, Plan, Policy, Ranked, Resort, rank},
};

use crate::{
    answer::viewer,
    facts::{ZoneFacts, ZoneTenant},
};

/// Where the server gets the zone of the moment from, once an answer. Must be cheap: an atomic load and a count.
pub trait ZoneSource: Send + Sync + 'static {
    /// The zone now.
    fn zone(&self) -> Arc<Zone>;
}

impl ZoneSource for arc_swap::ArcSwap<Zone> {
    fn zone(&self) -> Arc<Zone> {
        self.load_full()
    }
}

/// Why facts make no zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// A name is none.
    #[error(
        "`{name}` is not a domain name: labels of 1 to 63 characters joined by dots, 253 in all; correct the base name or the name server's name"
    )]
    Name {
        /// What was given.
        name: String,
    },
}

/// What nodes are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Serving viewers.
    Playback,
    /// Taking streams in.
    Ingest,
}

impl Work {
    const fn role(self) -> Role {
        match self {
            Self::Playback => Role::Edge,
            Self::Ingest => Role::Ingest,
        }
    }

    const fn verb(self) -> Verb {
        match self {
            Self::Playback => Verb::Serve,
            Self::Ingest => Verb::Ingest,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const fn of(addr: &IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Which nodes stand behind a name: those of these clusters (by index), for this work. Names with equal pools share plans.
#[derive(Debug)]
struct Pool {
    work: Work,
    clusters: Vec<ClusterId>,
}

pub(crate) type PoolId = usize;

/// What a plan is kept by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PlanKey {
    pool: PoolId,
    /// Index into the playbacks, where only holders count.
    playback: Option<usize>,
    family: Family,
}

/// A plan with the candidates that it was made of; these stand in the order of [`ZoneFacts::nodes`].
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) candidates: Arc<[Candidate]>,
    pub(crate) plan: Plan,
}

/// Plans made so far. Bounded: past [`Plans::MAX`] judged candidates in all, it starts over.
#[derive(Debug, Default)]
struct Plans {
    made: HashMap<PlanKey, HashMap<Option<Place>, Arc<Planned>>>,
    size: usize,
}

impl Plans {
    /// About 130 bytes each.
    const MAX: usize = 65_536;
}

/// The zone, indexed. Made from [`ZoneFacts`], never changed; a new view makes a new one.
#[derive(Debug)]
pub struct Zone {
    pub(crate) facts: ZoneFacts,
    pub(crate) base: Name,
    pub(crate) tenants: HashMap<Label, usize>,
    pub(crate) clusters: HashMap<Label, usize>,
    pub(crate) nodes: HashMap<Label, usize>,
    pub(crate) playbacks: HashMap<PlaybackId, usize>,
    /// Those inside BASE. A handful: searched one by one.
    pub(crate) ns_hosts: Vec<(Name, Vec<IpAddr>)>,
    /// Names strictly between BASE and an NS host.
    pub(crate) ns_above: Vec<Name>,
    pub(crate) soa: Record,
    pub(crate) ns: Vec<Record>,
    pub(crate) glue: Vec<Record>,
    pools: Vec<Pool>,
    official: [PoolId; 2],
    by_cluster: Vec<[PoolId; 2]>,
    by_tenant: Vec<[PoolId; 2]>,
    candidates: Vec<[OnceLock<Arc<[Candidate]>>; 2]>,
    plans: Mutex<Plans>,
}

impl Zone {
    /// Indexes the facts. Where two tenants, clusters or nodes share a label, the one that stands first has it.
    ///
    /// # Errors
    /// [`ZoneError`] when the base or a name server's name is no domain name.
    pub fn new(facts: ZoneFacts) -> Result<Self, ZoneError> {
        let base = domain(&facts.base)?;
        let mut zone = Self {
            soa: Record::update0(base.clone(), 0, hickory_proto::rr::RecordType::SOA),
            base,
            tenants: index(facts.tenants.iter().map(|t| t.label.clone())),
            clusters: index(facts.clusters.iter().map(|c| c.slug.clone())),
            nodes: index(facts.nodes.iter().map(|n| n.id.label())),
            playbacks: index(facts.playbacks.iter().map(|p| p.id)),
            ns_hosts: Vec::new(),
            ns_above: Vec::new(),
            ns: Vec::new(),
            glue: Vec::new(),
            pools: Vec::new(),
            official: [0; 2],
            by_cluster: Vec::new(),
            by_tenant: Vec::new(),
            candidates: Vec::new(),
            plans: Mutex::default(),
            facts,
        };
        zone.name_servers()?;
        zone.pool_up();
        Ok(zone)
    }

    /// What it was made of.
    #[must_use]
    pub const fn facts(&self) -> &ZoneFacts {
        &self.facts
    }

    /// All nodes judged for a tenant's viewers or streamers in `from`, over both families, holders of `playback` preferred: what
    /// the names of this zone cannot say, since they do not name a stream. `None` when there is no such tenant.
    ///
    /// The candidates, floor and formula are those of [`crate::answer()`].
    #[must_use]
    pub fn judge(
        &self,
        tenant: TenantId,
        work: Work,
        playback: Option<PlaybackId>,
        from: &Prefix,
    ) -> Option<Ranked> {
        let at = self.facts.tenants.iter().position(|t| t.id == tenant)?;
        let pool = self.tenant_pool(at, work);
        let known = playback.and_then(|id| self.playbacks.get(&id).copied());
        let mut candidates = match known.filter(|at| self.facts.playbacks[*at].tenant == tenant) {
            Some(playback) => self.holding(pool, playback, Family::V4),
            None => self.pool_candidates(pool, Family::V4),
        }
        .to_vec();
        for (candidate, other) in candidates
            .iter_mut()
            .zip(self.pool_candidates(pool, Family::V6).iter())
        {
            candidate.reachable |= other.reachable;
        }
        let asker = Asker {
            place: self.facts.places.locate(from.base()).place,
            prefix: viewer(from),
        };
        Some(rank(
            &candidates,
            &asker,
            &Policy::new(work.role()).or(Resort::Saturated),
        ))
    }

    fn name_servers(&mut self) -> Result<(), ZoneError> {
        let (base, ttl) = (self.base.clone(), self.facts.ttl);
        let mut primary = None;
        for server in &self.facts.ns {
            let host = domain(&server.name)?;
            primary.get_or_insert_with(|| host.clone());
            self.ns.push(Record::from_rdata(
                base.clone(),
                ttl,
                RData::NS(NS(host.clone())),
            ));
            if base.zone_of(&host) {
                self.glue
                    .extend(server.addrs.iter().map(|addr| address(&host, ttl, *addr)));
                let mut above = host.base_name();
                while base.zone_of(&above) && above != base {
                    let next = above.base_name();
                    self.ns_above.push(above);
                    above = next;
                }
                self.ns_hosts.push((host, server.addrs.clone()));
            }
        }
        let negative = self.facts.negative_ttl;
        let hostmaster = domain(&format!("hostmaster.{}", self.facts.base))?;
        let serial = u32::try_from(self.facts.version & u64::from(u32::MAX)).unwrap_or_default();
        // Refresh, retry and expire are for secondaries, which this zone does not have; customary values.
        let soa = SOA::new(
            primary.unwrap_or_else(|| base.clone()),
            hostmaster,
            serial,
            3600,
            600,
            86_400,
            negative,
        );
        self.soa = Record::from_rdata(base, negative, RData::SOA(soa));
        Ok(())
    }

    fn pool_up(&mut self) {
        let mut known: HashMap<(Work, BTreeSet<ClusterId>), PoolId> = HashMap::new();
        let mut pools = Vec::new();
        let mut pair = |members: [BTreeSet<ClusterId>; 2]| {
            let mut work = [Work::Playback, Work::Ingest].into_iter();
            members.map(|clusters| {
                let work = work.next().unwrap_or(Work::Playback);
                *known.entry((work, clusters.clone())).or_insert_with(|| {
                    pools.push(Pool {
                        work,
                        clusters: clusters.into_iter().collect(),
                    });
                    pools.len() - 1
                })
            })
        };
        let official: BTreeSet<ClusterId> = self
            .facts
            .clusters
            .iter()
            .filter(|c| c.official)
            .map(|c| c.id)
            .collect();
        self.official = pair([official.clone(), official]);
        self.by_cluster = self
            .facts
            .clusters
            .iter()
            .map(|c| pair([BTreeSet::from([c.id]), BTreeSet::from([c.id])]))
            .collect();
        let may = |tenant: &ZoneTenant, work: Work| {
            tenant
                .entitled
                .iter()
                .filter(|(_, verbs)| verbs.has(work.verb()))
                .map(|(id, _)| *id)
                .collect()
        };
        self.by_tenant = self
            .facts
            .tenants
            .iter()
            .map(|t| pair([may(t, Work::Playback), may(t, Work::Ingest)]))
            .collect();
        self.candidates = pools.iter().map(|_| Default::default()).collect();
        self.pools = pools;
    }

    pub(crate) const fn official_pool(&self, work: Work) -> PoolId {
        self.official[work as usize]
    }

    pub(crate) fn cluster_pool(&self, cluster: usize, work: Work) -> PoolId {
        self.by_cluster[cluster][work as usize]
    }

    pub(crate) fn tenant_pool(&self, tenant: usize, work: Work) -> PoolId {
        self.by_tenant[tenant][work as usize]
    }

    /// Addresses of one family for one work.
    pub(crate) fn addrs(
        &self,
        node: usize,
        work: Work,
        family: Family,
    ) -> impl Iterator<Item = IpAddr> {
        let node = &self.facts.nodes[node];
        let all = match work {
            Work::Playback => &node.playback,
            Work::Ingest => &node.ingest,
        };
        all.iter().copied().filter(move |a| Family::of(a) == family)
    }

    pub(crate) fn work(&self, pool: PoolId) -> Work {
        self.pools[pool].work
    }

    /// The plan for a pool's nodes, of holders of a playback only if one is given, for askers at a place.
    pub(crate) fn plan(
        &self,
        pool: PoolId,
        playback: Option<usize>,
        family: Family,
        place: &Option<Place>,
    ) -> Arc<Planned> {
        let key = PlanKey {
            pool,
            playback,
            family,
        };
        // A poisoned lock only means that another answer panicked; a half-made plan is never put in.
        let lock = || self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(planned) = lock().made.get(&key).and_then(|places| places.get(place)) {
            return planned.clone();
        }
        let policy = Policy::new(self.pools[pool].work.role());
        let (candidates, policy) = match playback {
            None => (
                self.pool_candidates(pool, family),
                policy.or(Resort::Saturated),
            ),
            // No resort: past the holders stands the ordinary answer.
            Some(playback) => (self.holding(pool, playback, family), policy.holders_only()),
        };
        let planned = Arc::new(Planned {
            plan: Plan::new(&candidates, place.as_ref(), &policy),
            candidates,
        });
        let mut plans = lock();
        plans.size += planned.plan.len() + 1;
        if plans.size > Plans::MAX {
            plans.made.clear();
            plans.size = planned.plan.len() + 1;
        }
        plans
            .made
            .entry(key)
            .or_default()
            .insert(place.clone(), planned.clone());
        planned
    }

    fn pool_candidates(&self, pool: PoolId, family: Family) -> Arc<[Candidate]> {
        let make = || {
            let Pool { work, clusters } = &self.pools[pool];
            let nodes = self.facts.nodes.iter().enumerate();
            nodes
                .map(|(at, node)| Candidate {
                    node: node.id,
                    label: node.name.clone(),
                    cluster: node.cluster,
                    alive: node.alive,
                    reachable: self.addrs(at, *work, family).next().is_some(),
                    roles: node.roles,
                    mode: node.mode,
                    entitled: clusters.binary_search(&node.cluster).is_ok(),
                    place: node.place.clone(),
                    load: node.load,
                    capacity: node.capacity,
                    holds: Holds::No,
                })
                .collect()
        };
        self.candidates[pool][family as usize]
            .get_or_init(make)
            .clone()
    }

    fn holding(&self, pool: PoolId, playback: usize, family: Family) -> Arc<[Candidate]> {
        let holders: HashMap<NodeId, Holds> = self.facts.playbacks[playback]
            .holders
            .iter()
            .copied()
            .collect();
        let mut candidates = self.pool_candidates(pool, family).to_vec();
        for candidate in &mut candidates {
            candidate.holds = holders.get(&candidate.node).copied().unwrap_or_default();
        }
        candidates.into()
    }
}

fn index<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    let mut map = HashMap::new();
    for (at, key) in keys.enumerate() {
        map.entry(key).or_insert(at);
    }
    map
}

/// A whole name in lower case.
fn domain(text: &str) -> Result<Name, ZoneError> {
    let refused = || ZoneError::Name {
        name: text.to_owned(),
    };
    let mut name = Name::from_ascii(text)
        .map_err(|_| refused())?
        .to_lowercase();
    name.set_fqdn(true);
    if name.is_root() || text.trim_end_matches('.').len() > 253 {
        Err(refused())
    } else {
        Ok(name)
    }
}

pub(crate) fn address(owner: &Name, ttl: u32, addr: IpAddr) -> Record {
    let data = match addr {
        IpAddr::V4(a) => RData::A(A(a)),
        IpAddr::V6(a) => RData::AAAA(AAAA(a)),
    };
    Record::from_rdata(owner.clone(), ttl, data)
}
