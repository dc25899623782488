//! Membership: who lives, and what each node says of itself.
//!
//! # Shape
//! [`Core`] is a state machine without I/O. In: links that came and went, bytes of linked peers, own changes, the
//! time. Out: bytes for peers, [`Event`]s, the next wake-up.
//!
//! Each node owns a small map of keys and values. Every change takes the node's next **version** and is signed by
//! itself as an [`Entry`]; a signed [`Head`] states the incarnation, the beat, the highest version and the `root`: the
//! exclusive-or of one hash for each entry that counts. So what one node says of another can be checked without trust
//! in the teller: an entry by its signature, liveness by a beat that only its owner can raise, completeness by
//! comparing the root. This is why the core is our own: in chitchat's wire format heartbeats, generations and versions
//! are the teller's word, and any member could keep a dead node alive or cut a live one's values off.
//!
//! One message carries it all: a head with any number of entries. It is a **beat** (no entries, to all links every
//! [`BEAT`]), a **push** (the entries just made, to all links at once) or a **repair** (what a peer's digest lacked).
//! Digests go to one random link every [`GOSSIP`], along with the beat where one is due, as in scuttlebutt reconciliation (van Renesse et al., "Efficient
//! Reconciliation and Flow Control for Anti-Entropy Protocols", 2008).
//!
//! # Invariants
//! - Nothing of a node outside the roster (the nodes with a valid grant) reaches the state.
//! - For one node, (incarnation, beat) only rises; a dead incarnation never returns. A node that learns that it was
//!   taken for dead, or that its own key signed a later incarnation, takes a higher one and says everything anew.
//! - `complete` = v only if the local entries hash to the root of a head with version v that the node signed. Repairs
//!   start from there, so a teller that leaves entries out delays them at most until the next honest digest.
//! - A node is withdrawn when its beat has not risen for [`DETECT`] by any path, **or** when our own link to it was
//!   lost and two others (or the only other one) lost theirs.
mod core;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod sim;
mod wire;

use std::time::Duration;

pub use self::{
    core::{Core, Event, Life, Output, Refused},
    wire::{Entry, Head},
};

/// How often a node states that it lives.
pub const BEAT: Duration = Duration::from_millis(300);
/// How often a digest goes to one random link. As often as the beat, so that it shares the beat's wake-up and datagram.
pub const GOSSIP: Duration = BEAT;
/// Silence after which a node counts as dead: seven beats. With the last beat up to [`BEAT`] before the death, all
/// know within 2.2 s of it; at 1 % independent loss a false one takes seven losses in a row on every path.
pub const DETECT: Duration = Duration::from_millis(2_200);
/// How long another node's report of a lost link stands: idle time-outs of links to one dead node end within a
/// keep-alive interval of each other, and two links that flap one after the other are no death.
pub const REPORT: Duration = Duration::from_millis(1_500);
/// Entries of one node, deleted ones included. Beyond it, its further entries are not taken.
pub const MAX_ENTRIES: usize = 8_192;
/// Bytes of keys and values of one node. Beyond it, its further entries are not taken.
pub const MAX_BYTES: usize = 2 << 20;
/// Bytes of one key.
pub const MAX_KEY: usize = 160;
/// Bytes of one value.
pub const MAX_VALUE: usize = 16 << 10;
/// Bytes of one membership message, about: repairs are cut into pieces of this size.
pub const PIECE: usize = 48 << 10;
