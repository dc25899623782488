//! Founding a mesh, and joining one.
//!
//! # How a node joins
//! A gateway that holds its cluster's key makes a [`JoinToken`]: the mesh's root key, a fresh token key's secret half,
//! a permit for its public half signed by the cluster, and addresses to dial: its own, and those of other gateways of the
//! cluster with the key. The permit says what it is good for, so any of them can redeem it, after a restart and after
//! the loss of the one that made it too, and nothing secret needs to be kept for it.
//!
//! 1. joiner → gateway: the permit, a nonce, its clock. The token's secret stays home.
//! 2. gateway → joiner: its grants, a nonce, its clock. The joiner checks them to the root key in its token, against
//!    the key that the connection was made with: now it knows whom it talks to.
//! 3. joiner → gateway: name, roles, its consent, and the token key's signature over both nodes' keys, both nonces and
//!    the wishes. It is worth nothing for another node, gateway or connection.
//! 4. gateway → joiner: its grant, the mesh scope, addresses; for a gateway the cluster's key and epoch secret too.
//!
//! The grant names the token's key, and is a record: so the token is used, by this node, everywhere and for good. The
//! same node may ask again and gets the same grant.
//!
//! # Who redeems
//! Of gateways that see each other one alone redeems a token: the node that made it while it lives, else the living
//! key holder of the cluster with the lowest id; the others name it to the joiner, who goes there. One that has just
//! started redeems nothing before it has compared its records with a peer's.
//!
//! Gateways that a partition keeps apart know nothing of each other: each side has one that redeems, so a token that is
//! used on both sides lets in a node on each. Both grants stay good after the partition, since either node was promised
//! its own; `shoal status` names the pair, and either can be revoked.
mod ask;
mod found;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod granted;
mod issue;
mod keep;
mod token;
pub(crate) mod wire;

pub use ask::{JoinError, JoinOptions, Joined, join};
pub use found::{FoundError, FoundOptions, found};
pub use granted::granted;
pub(crate) use issue::{Issuer, renew};
pub use keep::KeepError;
pub use token::{JoinPermit, JoinToken, TokenError, TokenOptions};

/// Further than this apart, two clocks are too far apart to join.
pub(crate) const CLOCK: std::time::Duration = std::time::Duration::from_secs(10);
