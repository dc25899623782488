//! What no single crate can show: many nodes in network namespaces, real clients, faults.
//!
//! # Map
//! - [`wire`]: a switch of our own between namespaces with delay, jitter, loss, reordering, duplication, rate and cuts.
//! - [`lab`]: namespaces, programs that run in them, what they print, and cleaning up.
//!
//! Needs root, `ip` (iproute2) and `/dev/net/tun`.
pub mod lab;
pub mod wire;
