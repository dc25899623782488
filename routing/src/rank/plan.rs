//! The judgement itself: floor, costs and bands once a place, the spread once a prefix.
use super::{Candidate, Holds, Policy, Ranked, Reason, Rejected, Resort, Scored, Terms, spread};
use crate::model::{Capacity, Mode, NodeId, Permille, Place, Prefix};

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
