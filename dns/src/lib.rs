//! The authoritative geo-DNS responder: which addresses a name stands for, for whoever asks.
//!
//! # Map
//! - [`Zone`] of [`ZoneFacts`]: an immutable snapshot of BASE's names, nodes and places, made anew by `node` with each view.
//! - names: what a name stands for (a pool of nodes, one node, a name server, nothing).
//! - [`answer()`]: question and asker's prefix in, records and scope out; decides through [`routing::rank`].
//! - [`explain()`]: the same call, in words and numbers. [`Zone::judge`]: the same judgement for one stream.
//! - [`wire`]: packet in, packet out: EDNS, client subnet, errors, truncation. Pure.
//! - [`Server`]: UDP and TCP sockets around it.
//! - [`mmdb`]: places from a MaxMind-format file.
//!
//! # Invariants
//! - Only [`Server`] and [`mmdb::Mmdb::open`] do I/O; nothing reads a clock or draws a random number.
//! - The same zone gives the same answer to the same question from the same prefix.
//! - What is answered depends on no more leading bits of the asker's address than the scope says.
//! - No answer names a node that `routing` puts below the floor. One exception, stated in the explanation: when all fit
//!   nodes are saturated, they are named, since no answer would cut off the viewers that they have.
//! - Nothing is sent before [`ZoneFacts::ready`].
//! - No packet, however made, panics or makes more than one response.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use dns::{Query, Zone, ZoneCluster, ZoneFacts, ZoneNode, answer, explain};
//! use routing::model::{ClusterId, Load, Mode, NodeId, Role, Roles};
//! use routing::place::PlaceTable;
//!
//! let core = ClusterId::from_bytes([1; 16]);
//! let zone = Zone::new(ZoneFacts {
//!     base: "mesh.example".into(),
//!     suffix: "cdn".parse().unwrap(),
//!     ready: true,
//!     version: 1,
//!     ttl: ZoneFacts::TTL,
//!     negative_ttl: ZoneFacts::NEGATIVE_TTL,
//!     answers: ZoneFacts::ANSWERS,
//!     ns: vec![],
//!     tenants: vec![],
//!     clusters: vec![ZoneCluster { id: core, slug: "core".parse().unwrap(), official: true }],
//!     nodes: vec![ZoneNode {
//!         id: NodeId::from_bytes([7; 32]),
//!         name: "first".parse().unwrap(),
//!         cluster: core,
//!         alive: true,
//!         roles: Roles::NONE.with(Role::Edge),
//!         mode: Mode::Normal,
//!         place: None,
//!         load: Load::default(),
//!         capacity: None,
//!         playback: vec!["192.0.2.1".parse().unwrap()],
//!         ingest: vec![],
//!     }],
//!     playbacks: vec![],
//!     places: Arc::new(PlaceTable::default()),
//! }).unwrap();
//! let query = Query::new("foghorn.mesh.example", "A").unwrap();
//! let from = "198.51.100.0/24".parse().unwrap();
//! assert_eq!(answer(&query, &from, &zone).answers[0].data.to_string(), "192.0.2.1");
//! assert!(explain(&query, &from, &zone).text().contains("first: lowest cost"));
//! ```
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod mmdb;
pub mod wire;

mod answer;
mod explain;
mod facts;
mod names;
mod server;
mod zone;

pub use answer::{Answer, Query, Why, answer};
pub use explain::{Explanation, QueryError, explain};
pub use facts::{NameServer, ZoneCluster, ZoneFacts, ZoneNode, ZonePlayback, ZoneTenant};
pub use server::{DnsOptions, Pair, Server, StartError};
pub use zone::{Work, Zone, ZoneError, ZoneSource};
