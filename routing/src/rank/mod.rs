//! Which node: candidates in, an order with every term of every score out.
//!
//! # The formula
//! **First the floor.** A candidate that is dead, lacks the role, is not entitled, has no verified address, is out or
//! draining, is saturated, or (where the question asks for one) does not hold the broadcast, is rejected with that reason,
//! whatever else speaks for it. Saturated means: CPU or egress at [`Policy::saturated`] (90 %: beyond it a node cannot
//! take the burst that one popular stream brings within a TTL), or memory at 95 %.
//!
//! Where nobody would be left, a question may resort to lowering the floor ([`Resort`]): a name rather names saturated nodes than
//! none, and a relay rather fetches from a draining node than not at all. The judgement says so.
//!
//! **Then a cost in kilometres**, lower is better, the sum of three terms:
//! - *distance*: the great circle between asker and node, in steps of 10 km. Where either place is unknown, 5,000 km: worse
//!   than any node of one's own continent, better than one known to be on the other side of the Earth.
//! - *load*: the greater of CPU and egress over capacity, rounded down to steps of 5 % (so that a node's small changes
//!   change no answer). Up to 50 % it costs nothing; from there 45 km for the square of the steps: 180 km at 60 %, 720 at
//!   70 %, 1,620 at 80 %, 2,205 at 85 %. A busy node sheds viewers to neighbours long before the floor, but no load short of
//!   it sends a viewer across an ocean (5,500 km and more).
//! - *fetch*: 500 km where the node would first have to fetch the broadcast that was asked for, else 0.
//!
//! **Then bands.** Nodes whose cost is within 300 km or 10 % (the greater) of the cheapest are near enough to be equal: the
//! first band. The cheapest of the rest opens the next band, and so on. Inside a band the order is the **spread**:
//! weighted rendezvous hashing of the asker's prefix and the node's id (Thaler and Ravishankar 1998; weights after Schindelhauer
//! and Schomaker 2005): each node draws `-log2(hash) / capacity`, lowest first. So equal nodes share prefixes in proportion to their
//! capacity, every responder with the same view gives the same answer, and when a node goes only its own prefixes move.
//!
//! All of it is integer arithmetic on whole kilometres and permille; ties fall to the lower node id. The order in which
//! candidates are given does not matter, and improving one term of a node never moves it back.
//!
//! # Shape
//! [`Plan`] is everything that does not depend on the prefix: floor, costs, bands. It can be kept for all askers of
//! one place. [`Plan::first`] spreads by prefix for an answer, [`Plan::ranked`] for an explanation: both through one
//! function. [`rank()`] is a plan used once.
mod explain;
mod spread;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::model::{
    Capacity, ClusterId, Label, Load, Mode, NodeId, Permille, Place, Prefix, Role, Roles,
};

/// Whether a node has the broadcast that was asked for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// It would have to fetch it first.
    #[default]
    No,
    /// It relays it.
    Replica,
    /// It enters there.
    Origin,
}

/// A node, as far as the question at hand is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its key.
    pub node: NodeId,
    /// What people call it; only for explanations.
    pub label: Label,
    /// Whose it is; only for explanations.
    pub cluster: ClusterId,
    /// Whether the view believes it alive.
    pub alive: bool,
    /// Whether it has a verified address for the service (and, in DNS, of the family) that was asked for.
    pub reachable: bool,
    /// What its grant lets it do.
    pub roles: Roles,
    /// What its operator wants of it.
    pub mode: Mode,
    /// Whether its cluster may do for this tenant what was asked for.
    pub entitled: bool,
    /// Where it is, if known.
    pub place: Option<Place>,
    /// What it carries.
    pub load: Load,
    /// What it could carry; unknown counts as [`Policy::CAPACITY_UNKNOWN`] in the spread, and its egress as no load.
    pub capacity: Option<Capacity>,
    /// Whether it has the broadcast. Leave it at [`Holds::No`] for all where no broadcast was asked for.
    pub holds: Holds,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// Where they are, if known.
    pub place: Option<Place>,
    /// What is known of their address; what nodes of one band are spread by.
    pub prefix: Prefix,
}

/// How far the floor may be lowered when nobody is above it. Each includes those before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Resort {
    /// Not at all: rather nobody.
    #[default]
    None,
    /// To nodes that are fit but for their load.
    Saturated,
    /// To draining nodes.
    Draining,
}

/// What is asked for, and where the floor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The role that the work takes, if it takes one.
    pub role: Option<Role>,
    /// Only nodes that hold the broadcast.
    pub holders_only: bool,
    /// CPU or egress from which a node takes nobody more.
    pub saturated: Permille,
    /// What to do when nobody is fit.
    pub resort: Resort,
}

impl Policy {
    /// Egress that an unknown capacity counts as in the spread, in Mbit/s.
    pub const CAPACITY_UNKNOWN: u32 = 100;
    /// The cost of an unknown distance, in km.
    pub const DISTANCE_UNKNOWN: u32 = 5_000;
    /// The cost of having to fetch the broadcast, in km.
    pub const FETCH: u32 = 500;
    /// The narrowest band, in km.
    pub const BAND: u32 = 300;
    /// Memory in use from which a node takes nobody more.
    pub const MEMORY: Permille = Permille(950);

    /// Any node with `role`, floor at 90 %, no resort.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self {
            role: Some(role),
            holders_only: false,
            saturated: Permille(900),
            resort: Resort::None,
        }
    }

    /// Whom to fetch a broadcast from: any holder, whatever its role, resorting to draining ones.
    #[must_use]
    pub const fn sources() -> Self {
        Self {
            role: None,
            holders_only: true,
            saturated: Permille(900),
            resort: Resort::Draining,
        }
    }

    /// The same, of holders only.
    #[must_use]
    pub const fn holders_only(mut self) -> Self {
        self.holders_only = true;
        self
    }

    /// The same, with this resort.
    #[must_use]
    pub const fn or(mut self, resort: Resort) -> Self {
        self.resort = resort;
        self
    }
}

/// What an eligible node's cost is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Great circle to the asker in km, where both places are known.
    pub km: Option<u32>,
    /// Cost of the distance, in km.
    pub distance: u32,
    /// The load that counts, in steps of 50.
    pub load: Permille,
    /// Cost of that load, in km.
    pub load_cost: u32,
    /// Whether it has the broadcast.
    pub holds: Holds,
    /// Cost of fetching it, in km; 0 as well where nothing was asked for.
    pub fetch: u32,
    /// Its share in the spread, in Mbit/s.
    pub weight: u32,
    /// What it drew in the spread of this prefix; lowest goes first in its band.
    pub spread: u64,
    /// Its band; 0 is the best.
    pub band: u32,
}

/// A node that may be chosen, at its rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scored {
    /// Which.
    pub node: NodeId,
    /// What people call it.
    pub label: Label,
    /// Whose.
    pub cluster: ClusterId,
    /// Each term.
    pub terms: Terms,
    /// Their sum in km, lower is better.
    pub total: u32,
}

/// Why a node may not be chosen at all. The first that applies, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The view does not believe it alive.
    Dead,
    /// Its grant lacks this role.
    Role(Role),
    /// Its cluster may not do this under this name.
    NotEntitled,
    /// It has no verified address for this.
    Unreachable,
    /// Its operator is emptying it.
    Draining,
    /// Its operator took it out.
    Maintenance,
    /// Its CPU is this full.
    SaturatedCpu(Permille),
    /// Its uplink is this full.
    SaturatedEgress(Permille),
    /// Its memory is this full.
    SaturatedMemory(Permille),
    /// A holder was asked for and it is none.
    NotHolding,
}

/// A node that may not be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which.
    pub node: NodeId,
    /// What people call it.
    pub label: Label,
    /// Whose.
    pub cluster: ClusterId,
    /// Why.
    pub reason: Reason,
    /// What its terms would have been.
    pub terms: Terms,
}

/// All candidates, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranked {
    /// Who may be chosen, best first.
    pub chosen: Vec<Scored>,
    /// Who may not, by node id.
    pub rejected: Vec<Rejected>,
    /// How far the floor was lowered to have anybody in `chosen`.
    pub resort: Resort,
}

/// Judges and orders `candidates` for one asker. The order in which they are given does not matter.
///
/// ```
/// use routing::model::{Role, Place, Region};
/// use routing::rank::{rank, Asker, Policy};
/// let asker = Asker { place: None, prefix: "192.0.2.0/24".parse().unwrap() };
/// assert!(rank(&[], &asker, &Policy::new(Role::Edge)).chosen.is_empty());
/// ```
#[must_use]
pub fn rank(candidates: &[Candidate], asker: &Asker, policy: &Policy) -> Ranked {
    Plan::new(candidates, asker.place.as_ref(), policy).ranked(candidates, &asker.prefix)
}

/// What holds for all askers of one place: the floor, the costs, the bands.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// By cost; a band's entries stand together.
    fit: Vec<Entry>,
    /// Where each band ends in `fit`.
    ends: Vec<usize>,
    rejected: Vec<(u32, Reason, Terms)>,
    resort: Resort,
    placed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    index: u32,
    node: NodeId,
    seed: u64,
    total: u32,
    terms: Terms,
}

impl Plan {
    /// The plan for askers at `place`.
    #[must_use]
    pub fn new(candidates: &[Candidate], place: Option<&Place>, policy: &Policy) -> Self {
        let mut plan = Self::with_floor(candidates, place, policy, Resort::None);
        for resort in [Resort::Saturated, Resort::Draining] {
            if plan.fit.is_empty() && resort <= policy.resort {
                let lower = Self::with_floor(candidates, place, policy, resort);
                if !lower.fit.is_empty() {
                    plan = lower;
                }
            }
        }
        plan
    }

    fn with_floor(
        candidates: &[Candidate],
        place: Option<&Place>,
        policy: &Policy,
        resort: Resort,
    ) -> Self {
        let mut plan = Self {
            resort,
            ..Self::default()
        };
        // Where nobody holds it, whatever it is, holding does not tell candidates apart.
        let fetching = candidates.iter().any(|c| c.holds != Holds::No);
        for (index, candidate) in (0..).zip(candidates) {
            let terms = terms(candidate, place, fetching);
            match unfit(candidate, policy, resort) {
                Some(reason) => plan.rejected.push((index, reason, terms)),
                None => plan.fit.push(Entry {
                    index,
                    node: candidate.node,
                    seed: spread::seed(&candidate.node),
                    total: terms.distance + terms.load_cost + terms.fetch,
                    terms,
                }),
            }
        }
        plan.placed = plan.fit.len() > 1
            && plan
                .fit
                .iter()
                .any(|e| candidates[e.index as usize].place.is_some());
        plan.rejected
            .sort_by_key(|(index, ..)| candidates[*index as usize].node);
        plan.fit.sort_by_key(|e| (e.total, e.node));
        let mut reach = None;
        let mut band = 0;
        for at in 0..plan.fit.len() {
            let total = plan.fit[at].total;
            if reach.is_some_and(|reach| total > reach) {
                plan.ends.push(at);
                band += 1;
                reach = None;
            }
            reach.get_or_insert(total + Policy::BAND.max(total / 10));
            plan.fit[at].terms.band = band;
        }
        if !plan.fit.is_empty() {
            plan.ends.push(plan.fit.len());
        }
        plan
    }

    /// Indices into the candidates of the first `n` nodes for `prefix`, best first; fewer when fewer are fit.
    #[must_use]
    pub fn first(&self, prefix: &Prefix, n: usize) -> Vec<usize> {
        self.order(prefix, n)
            .into_iter()
            .take(n)
            .map(|e| e.index as usize)
            .collect()
    }

    /// The whole judgement for `prefix`. `candidates` are those that the plan was made of.
    #[must_use]
    pub fn ranked(&self, candidates: &[Candidate], prefix: &Prefix) -> Ranked {
        let of = |index: u32| &candidates[index as usize];
        let scored = |e: Entry| {
            let candidate = of(e.index);
            Scored {
                node: candidate.node,
                label: candidate.label.clone(),
                cluster: candidate.cluster,
                terms: e.terms,
                total: e.total,
            }
        };
        let hash = spread::hash(prefix);
        let rejected = |(index, reason, mut terms): (u32, Reason, Terms)| {
            let candidate = of(index);
            terms.spread = spread::draw(hash, spread::seed(&candidate.node), terms.weight);
            Rejected {
                node: candidate.node,
                label: candidate.label.clone(),
                cluster: candidate.cluster,
                reason,
                terms,
            }
        };
        Ranked {
            chosen: self
                .order(prefix, usize::MAX)
                .into_iter()
                .map(scored)
                .collect(),
            rejected: self.rejected.iter().copied().map(rejected).collect(),
            resort: self.resort,
        }
    }

    /// How many candidates it judged.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.fit.len() + self.rejected.len()
    }

    /// Whether it judged none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the asker's place can change the order.
    #[must_use]
    pub const fn depends_on_place(&self) -> bool {
        self.placed
    }

    /// Whether the asker's prefix can change the order of the first `n`.
    #[must_use]
    pub fn depends_on_prefix(&self, n: usize) -> bool {
        let mut start = 0;
        self.ends.iter().any(|end| {
            let spread = start < n && end - start > 1;
            start = *end;
            spread
        })
    }

    /// Whole bands in order, spread by `prefix`, until at least `n` are there or there are no more.
    fn order(&self, prefix: &Prefix, n: usize) -> Vec<Entry> {
        let hash = spread::hash(prefix);
        let mut out: Vec<Entry> = Vec::new();
        let mut start = 0;
        for end in &self.ends {
            if start >= n {
                break;
            }
            out.extend_from_slice(&self.fit[start..*end]);
            let band = &mut out[start..];
            for entry in band.iter_mut() {
                entry.terms.spread = spread::draw(hash, entry.seed, entry.terms.weight);
            }
            band.sort_unstable_by_key(|e| (e.terms.spread, e.node));
            start = *end;
        }
        out
    }
}

fn unfit(c: &Candidate, policy: &Policy, resort: Resort) -> Option<Reason> {
    let egress = egress_permille(c);
    if !c.alive {
        return Some(Reason::Dead);
    }
    if let Some(role) = policy.role.filter(|role| !c.roles.has(*role)) {
        return Some(Reason::Role(role));
    }
    if !c.entitled {
        Some(Reason::NotEntitled)
    } else if !c.reachable {
        Some(Reason::Unreachable)
    } else if c.mode == Mode::Maintenance {
        Some(Reason::Maintenance)
    } else if c.mode == Mode::Draining && resort < Resort::Draining {
        Some(Reason::Draining)
    } else if policy.holders_only && c.holds == Holds::No {
        Some(Reason::NotHolding)
    } else if resort >= Resort::Saturated {
        None
    } else if c.load.cpu >= policy.saturated {
        Some(Reason::SaturatedCpu(c.load.cpu))
    } else if egress >= policy.saturated {
        Some(Reason::SaturatedEgress(egress))
    } else if c.load.memory >= Policy::MEMORY {
        Some(Reason::SaturatedMemory(c.load.memory))
    } else {
        None
    }
}

/// Egress over capacity, rounded down, at most 1000. A capacity of nothing is full; an unknown one is empty.
fn egress_permille(c: &Candidate) -> Permille {
    let Some(capacity) = c.capacity else {
        return Permille(0);
    };
    let share = u128::from(c.load.egress.0) * 1000;
    let share = share
        .checked_div(u128::from(capacity.egress.0))
        .unwrap_or(1000);
    Permille(u16::try_from(share.min(1000)).unwrap_or(1000))
}

fn terms(c: &Candidate, asker: Option<&Place>, fetching: bool) -> Terms {
    let km = asker.zip(c.place.as_ref()).map(|(a, b)| a.km_to(b));
    let steps = c.load.cpu.max(egress_permille(c)).0.min(1000) / 50;
    let over = u32::from(steps.saturating_sub(10));
    let mbit = |c: Capacity| {
        u32::try_from(c.egress.0 / 1_000_000)
            .unwrap_or(u32::MAX)
            .max(1)
    };
    Terms {
        km,
        distance: km.map_or(Policy::DISTANCE_UNKNOWN, |km| (km + 5) / 10 * 10),
        load: Permille(steps * 50),
        load_cost: 45 * over * over,
        holds: c.holds,
        fetch: if fetching && c.holds == Holds::No {
            Policy::FETCH
        } else {
            0
        },
        weight: c.capacity.map_or(Policy::CAPACITY_UNKNOWN, mbit),
        spread: 0,
        band: 0,
    }
}
