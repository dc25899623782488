//! Who is here and what is agreed: the nodes of a mesh, their authority, and the records that they share without a
//! centre.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`identity`] | keys, and the directory that they and the store rest in |
//! | [`authority`] | signed statements, checked back to the root key |
//! | [`records`] | the pieces of configuration, and the handle that a node writes and reads them by |
//! | [`config`] | what is agreed, as a snapshot |
//! | [`state`] | from a set of records to a `Config`; verdicts against authors |
//! | [`replica`] | replication between nodes, without I/O |
//! | [`store`] | where records rest |
//! | [`seal`] | what only gateways may read back |
//! | [`member`] | who lives, and what each node says of itself, without I/O |
//! | [`live`] | the running whole: [`Mesh`] over control links (libp2p, QUIC) |
//! | [`view`] | what is believed of the mesh now, as a snapshot |
//! | [`join`] | founding a mesh, tokens, joining, renewal of grants |
//! | [`carry`] | requests to a node by the name of a protocol |
//! | [`gate`] | who a key is, for links that others make |
//! | [`probe`] | dial-back: which addresses count |
//!
//! # What holds of records
//! A record r has a scope, an author a (a node's key), a number n, the hash of its predecessor, a stamp t, and
//! changes. Write L(s, a) for the log of a in scope s.
//!
//! 1. *No gaps.* A node that keeps L(s, a)\[n\] keeps L(s, a)\[m\] for all 1 ≤ m < n; each names the hash of the one
//!    before it, and stamps rise: t(L\[n\]) < t(L\[n+1\]). So one number says all that a node has of a log, and a list
//!    of numbers by author, all that it has of a scope.
//! 2. *Entry.* r enters a log only with its author's signature, with t(r) at most 30 s ahead of the node's clock, and
//!    once a grant of a is known that is in force at t(r). What fails only the last two, or comes before its
//!    predecessor, waits in a bounded park.
//! 3. *Verdicts.* V is a set of proofs that spreads beside the logs: revocations, and pairs r ≠ r′ with one number.
//!    A revocation says ℓ, the last number of a that counts in s; a pair says that its number is the last, and
//!    both of the pair count. counts(r) ⇔ n(r) ≤ min over V, which depends on V alone.
//! 4. *Facts.* F is the least set of statements that is closed under: r counts, its author has standing at t(r) by F
//!    and r's own statements, so r's statements that a key in F signed are in F. It exists and is unique, since more
//!    facts never make a record enter less.
//! 5. *Say.* A change of r has effect ⇔ counts(r), and by F its author could say it at t(r): a tenant's configuration
//!    only a gateway of a cluster that may `write` for that tenant then.
//! 6. *Winners.* For each thing, the effect is a join over (t, a): the highest for what can change, the lowest for a
//!    claim of a name, *ever* for a deletion. Joins commute, associate and are idempotent.
//!
//! By 3 to 6 the configuration is a function of the set of records and verdicts; the order, the repetition and the
//! parts in which they came do not matter. That is what `replica::tests::order` checks. Two nodes that keep the same
//! logs and verdicts agree; 1 lets them find in one exchange what either lacks; so they agree as soon as they can talk.
//!
//! A write is answered once it is on this node's disk; `Replicated` means that a second disk has it, of a node that
//! could have written it, so that it survives the loss of either.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//!
//! use mesh::{
//!     identity::{ClusterKey, NodeKey, RootKey},
//!     records::{Records, RecordsOptions, Scope, changes},
//!     store::MemoryStore,
//! };
//! use routing::model::{Clock, ClusterId, Role, UnixMillis, Uptime};
//!
//! struct Noon;
//! impl Clock for Noon {
//!     fn uptime(&self) -> Uptime { Uptime::ZERO }
//!     fn unix(&self) -> UnixMillis { UnixMillis(1_760_000_000_000) }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Seeds come from the system's generator; these are for the example.
//! let (root, cluster_key) = (RootKey::from_seed([1; 32]), ClusterKey::from_seed([2; 32]));
//! let node = NodeKey::from_seed([3; 32]);
//! let founding = changes::Founding {
//!     base: "live.example".to_owned(),
//!     suffix: "cdn".to_owned(),
//!     cluster: ClusterId::from_bytes([4; 16]),
//!     slug: "first".parse()?,
//!     cluster_name: "The first cluster".to_owned(),
//!     cluster_roles: Role::ALL.iter().copied().collect(),
//!     node_name: "london-1".parse()?,
//!     node_roles: Role::ALL.iter().copied().collect(),
//! };
//! let first = changes::found(founding, (&root, &cluster_key, &node), Noon.unix())?;
//! let records = Records::open(RecordsOptions {
//!     mesh: root.mesh(),
//!     key: node,
//!     store: Arc::new(MemoryStore::new()),
//!     clock: Arc::new(Noon),
//!     epoch: None,
//! })
//! .await?;
//! records.write(Scope::Mesh, first, None).await?;
//! assert_eq!(records.config().base(), "live.example");
//! # Ok(())
//! # }
//! ```
pub mod authority;
pub mod carry;
pub mod config;
mod facts;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod gate;
pub mod identity;
pub mod join;
mod link;
pub mod live;
pub mod member;
pub mod probe;
pub mod records;
pub mod replica;
pub mod seal;
pub mod state;
pub mod store;
pub mod view;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "only tests and fuzz targets have it")]
#[cfg_attr(fuzzing, allow(dead_code, reason = "fuzz targets use a part"))]
mod world;

pub use live::{Mesh, MeshOptions, StartError};
