//! Which node: candidates in, an order with every term of every score out.
//!
//! # The formula
//! **First the floor.** A candidate that is dead, lacks the role, is not entitled, has no verified address, is out or
//! draining, is saturated, or (where the question asks for one) does not hold the broadcast, is rejected with that reason,
//! whatever else speaks for it. Saturated means: CPU or egress at [`Policy::saturated`] (90 %: beyond it a node cannot
//! take the burst that one popular stream brings within a TTL), or memory at 95 %.
//!
//! Where nobody would be left, a question may resort to lowering the floor ([`Resort`]): a name rather names saturated
//! nodes than none, and a relay rather fetches from a draining node than not at all. The judgement says so.
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
//! weighted rendezvous hashing of the asker's prefix and the node's id (Thaler and Ravishankar 1998; weights after
//! Schindelhauer and Schomaker 2005): each node draws `-log2(hash) / capacity`, lowest first. So equal nodes share
//! prefixes in proportion to their capacity, every responder with the same view gives the same answer, and when a node
//! goes only its own prefixes move.
//!
//! All of it is integer arithmetic on whole kilometres and permille; ties fall to the lower node id. The order in which
//! candidates are given does not matter, and improving one term of a node never moves it back.
//!
//! # Shape
//! [`Plan`] is everything that does not depend on the prefix: floor, costs, bands. It can be kept for all askers of
//! one place. [`Plan::first`] spreads by prefix for an answer, [`Plan::ranked`] for an explanation: both through one
//! function. [`rank()`] is a plan used once.
mod explain;
mod plan;
mod spread;
#[cfg(test)]
mod tests;

pub use plan::Plan;
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
