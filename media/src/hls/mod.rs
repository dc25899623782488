//! HLS (RFC 8216bis): what playlists say at an edge, who waits for which edge, and which broadcasts are packaged now.
//!
//! ```text
//! Broadcast ── Deriver (keeps pieces up to date) ── View: renditions, each at its edge
//!                 │ one task a broadcast (hub)           ├── playlist: text, rendered once an edge
//!                 └──────── watch ──────────────────────►├── wait: blocking reload, held parts and segments
//! ```
//! A playlist is a function of its edge: which segments are closed, which parts of the open one. Two nodes at one edge
//! write the same bytes, once both have the whole window; a node that has not yet fetched it holds the first answer.
mod derive;
mod hub;
mod lead;
mod playlist;
mod view;
mod wait;

#[cfg(test)]
mod tests;

pub use derive::Deriver;
pub use hub::{Hub, LINGER, Watched, viewer_mark};
pub(crate) use playlist::{BASE_PATHWAY, DateTime, bandwidth};
pub use playlist::{media, multivariant};
pub use view::{Container, Hint, Rendition, Report, View};
pub use wait::{Ask, BadAsk, Position, Reload};
