//! Broadcasts: ingest, the live model, node-to-node relay, packaging and outputs.
//!
//! # Map
//! - [`live`]: broadcast, epoch, track, group, frame; the bounded window that all readers share.
//! - [`relay`]: a broadcast from node to node, fetched on demand, once, by a tree without loops.
//! - [`supply`]: how outputs lease a broadcast, held here or fetched from another node.
//! - [`ports`]: what this crate asks of the rest of the house: gate, claims, holders, resolve.
//!
//! # Invariants
//! - Time is settled and numbers are stamped once, at the origin; everything after is a function of stamps and frames.
//! - A frame's bytes exist once in memory, however many read them.
//! - Nothing here knows DNS, records, membership or GraphQL.
//!
//! # Example
//! ```
//! use media::live::{Broadcast, Limits};
//! use routing::model::BroadcastId;
//! let broadcast = Broadcast::new(BroadcastId::from_bytes([1; 16]), Limits::default());
//! assert!(broadcast.current().is_none());
//! ```
pub mod live;
pub mod ports;
pub mod relay;
pub mod supply;
mod wire;
