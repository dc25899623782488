//! SRT (draft-sharabayko-srt-01): a listener that takes publishers in, in live mode.
//!
//! ```text
//! datagrams ─ packet ─ listener ─┬─ handshake, stream_id, crypto ── Event::Request ── accept, reject
//!                                └─ connection ─ inbox, crypto ──── Event::Data
//!                          server (async): one socket, ingest::Publishers, ts::Feed
//! ```
//! [`Listener`] is a state machine without I/O: datagrams and the time in, datagrams and events out. [`Server`] drives
//! it over one UDP socket.
//!
//! # How losses are mended
//! What is missing is asked for when a later packet shows that it is, and again until it comes. What is whole is given
//! out at once: only a hole holds up what is behind it, for the negotiated latency at most, from when it was seen.
//! So the stream has no more delay than its losses ask for, and the sender's clock is not needed: MPEG-TS has its own.
//!
//! # Strangers
//! - A datagram of nobody costs a hash at most and is never answered by more bytes than it had. Nothing is kept of a
//!   caller that has not shown, by a cookie, that it receives at its address.
//! - Callers with a cookie are limited in all and by address; what they ask for is decided elsewhere while all goes on.
//! - A connection is found by 30 secret random bits and its address. Whatever it sends ends at most itself.
//! - A stream key is never logged, and neither is a passphrase.
//!
//! # What is not spoken
//! File mode, bonding, packet filters (forward error correction), AES-GCM, rendezvous, callers older than 1.3.
mod connection;
mod crypto;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handshake;
mod inbox;
mod limit;
mod listener;
mod packet;
mod server;
mod stream_id;
#[cfg(test)]
mod tests;

pub use self::{
    crypto::{BadPassphrase, Passphrase},
    handshake::{Reject, greeting, is_greeted},
    listener::{Event, Listener, Options, Path},
    packet::SocketId,
    server::Server,
    stream_id::{Asked, StreamIdError},
};
