//! Pure placement decisions, and the value types that every crate of Shoal shares.
//!
//! # Map
//! - [`model`]: ids, names, places, loads, track summaries, clocks, secrets: values without behaviour of their own.
//!
//! # Invariants
//! - Nothing here does I/O, reads a clock, draws a random number or waits.
//! - The same arguments give the same answer on every node, whatever the order of the candidates.
//!
//! # Example
//! ```
//! use routing::model::{NodeId, Place, Region};
//! let lisbon = Place::new(38.72, -9.14, Region::new("eu-west").unwrap());
//! let porto = Place::new(41.15, -8.61, Region::new("eu-west").unwrap());
//! assert_eq!(lisbon.km_to(&porto), 274);
//! assert!(NodeId::from_bytes([7; 32]).label().as_str().starts_with("n-"));
//! ```
pub mod model;
