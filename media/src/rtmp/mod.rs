//! RTMP 1.0 (Adobe, 2012): a server that takes publishers in and sends streams to players, and a client that publishes.
//!
//! ```text
//! bytes ─ handshake ─ chunk ─ amf ─ session ── events ── server (async) ── feed ── origin ── live
//!                                   client  ── events ── publish (async)
//! ```
//! [`session`] and [`client`] are state machines without I/O: bytes and the time in, bytes, events and a deadline out.
//! [`server`] and [`publish`] drive them over any `AsyncRead + AsyncWrite`, so RTMPS is a matter of wrapping.
//!
//! # Invariants
//! - A stranger, until it is let in, can make a connection hold at most 128 KiB of unfinished messages; a publisher 8 MiB.
//! - Whatever arrives, nothing here panics; a protocol error ends that one connection.
//! - A stream key is never logged.
mod address;
mod aggregate;
pub mod amf;
pub mod chunk;
pub mod client;
mod command;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod handshake;
pub mod publish;
pub mod server;
pub mod session;
#[cfg(test)]
mod tests;

pub use publish::{PublishError, Publisher, Target};
pub use server::{Limits, Server, Tls};

/// Why a peer's bytes were not understood, or not borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The first byte is not that of RTMP version 3.
    #[error("the other side does not speak RTMP version 3")]
    NotRtmp,
    /// The chunk stream is broken.
    #[error("the chunk stream is broken: {0}")]
    Chunk(&'static str),
    /// A message is larger than what is taken.
    #[error("a message of {0} bytes is more than is taken")]
    TooLarge(usize),
    /// A command or data message cannot be read.
    #[error("a command cannot be read: {0}")]
    Amf(&'static str),
    /// A media message cannot be read.
    #[error("a media message cannot be read: {0}")]
    Media(&'static str),
    /// More commands than a client has reason to send.
    #[error("too many commands without a publication")]
    Commands,
    /// No handshake, no publication, or no message within the time allowed.
    #[error("{0}")]
    Timeout(&'static str),
}
