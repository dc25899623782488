//! Pure placement decisions, and the value types that every crate of Shoal shares.
//!
//! # Map
//! - [`model`]: ids, names, places, loads, track summaries, clocks, secrets: values without behaviour of their own.
//! - [`place`]: where an address is: longest-prefix tables and the trait [`place::Places`] that other sources implement.
//! - [`mod@rank`]: candidates in, an order with every term out: the floor, costs in km, bands, spread by prefix.
//!   - [`rank::Plan`]: the part that is the same for all askers of one place, for whoever answers often.
//!   - [`rank::Ranked::explain`]: the judgement as a table for people.
//!
//! # Invariants
//! - Nothing here does I/O, reads a clock, draws a random number or waits.
//! - The same arguments give the same answer on every node, whatever the order of the candidates.
//! - No candidate below the floor is ever chosen; improving a term of a candidate never moves it back.
//! - An explanation is the decision itself, not a second computation of it.
//!
//! # Example
//! ```
//! use routing::model::{ClusterId, Load, Mode, NodeId, Permille, Place, Region, Role, Roles};
//! use routing::rank::{rank, Asker, Candidate, Holds, Policy};
//! let at = |lat, lon| Some(Place::new(lat, lon, Region::new("eu-west").unwrap()));
//! let edge = |n: u8, name: &str, place, cpu| Candidate {
//!     node: NodeId::from_bytes([n; 32]),
//!     label: name.parse().unwrap(),
//!     cluster: ClusterId::from_bytes([0; 16]),
//!     alive: true,
//!     reachable: true,
//!     roles: Roles::NONE.with(Role::Edge),
//!     mode: Mode::Normal,
//!     entitled: true,
//!     place,
//!     load: Load { cpu: Permille(cpu), ..Load::default() },
//!     capacity: None,
//!     holds: Holds::No,
//! };
//! let candidates = [edge(1, "porto", at(41.15, -8.61), 960), edge(2, "madrid", at(40.42, -3.70), 400)];
//! let lisbon = Asker { place: at(38.72, -9.14), prefix: "192.0.2.0/24".parse().unwrap() };
//! let ranked = rank(&candidates, &lisbon, &Policy::new(Role::Edge));
//! assert_eq!(ranked.chosen[0].label.as_str(), "madrid");
//! assert_eq!(ranked.rejected[0].reason.to_string(), "saturated: its processor is 96.0 % full");
//! ```
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod model;
pub mod place;
pub mod rank;
