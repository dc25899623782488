//! Broadcasts: ingest, the live model, node-to-node relay, packaging and outputs.
//!
//! # Map
//! - [`live`]: broadcast, epoch, track, group, frame; the bounded window that all readers share.
//! - [`pack`]: parts, segments and initialisation segments, as a pure function of stamps and frames.
//! - [`dash`]: the description of the same segments for DASH.
//! - [`hls`]: playlists, blocking reload, which broadcasts are packaged now; [`http`]: `/play/*` and `/resolve/*`.
//! - [`follow`]: what a viewer of single frames sees; [`mux`]: containers that go out frame by frame.
//! - [`relay`]: a broadcast from node to node, fetched on demand, once, by a tree without loops.
//! - [`supply`]: how outputs lease a broadcast, held here or fetched from another node.
//! - [`srt`]: the SRT listener. [`rtmp`]: the RTMP server and the publishing client; [`flv`], [`codec`]: what they carry. [`ts`]: MPEG-TS, read.
//! - [`ingest`]: who publishes here, by whatever protocol. [`origin`]: settles time and stamps the cut rule, between ingest and [`live`].
//! - [`webrtc`]: publishers by WHIP, viewers by WHEP, on one port.
//! - [`page`]: the player page and its scripts.
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
pub mod codec;
pub mod dash;
pub mod flv;
pub mod follow;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod hls;
pub mod http;
pub mod ingest;
pub mod live;
pub mod mux;
pub mod origin;
pub mod pack;
pub mod page;
pub mod ports;
pub mod relay;
pub mod rtmp;
pub mod srt;
pub mod supply;
pub mod ts;
pub mod webrtc;
mod wire;
