//! What no single crate can show: many nodes in network namespaces, real clients, faults.
//!
//! # Map
//! - [`wire`]: a switch of our own between namespaces with delay, jitter, loss, reordering, duplication, rate and cuts.
//! - [`lab`]: namespaces, programs that run in them, what they print, and cleaning up.
//! - [`stage`]: three nodes of Shoal in the lab, a tenant, a viewer's machine and a streamer's.
//! - [`film`]: films that tests publish, and the truth in them.
//! - [`saved`]: what a node serves of a rendition, in a file for other programs.
//! - [`harvest`]: all that nodes serve of a stream, held against each other.
//! - [`watch`]: a real browser on the viewer's machine.
//!
//! Beside it, `bench/run` measures, and `fuzz/run` fuzzes what the crates list in their `fuzz` modules.
//!
//! Needs root, `ip` (iproute2) and `/dev/net/tun`.
pub mod film;
pub mod harvest;
pub mod lab;
pub mod saved;
pub mod stage;
pub mod watch;
pub mod wire;

/// Whether the long form of tests runs (`tests/run --full`).
#[must_use]
pub fn full() -> bool {
    std::env::var("SHOAL_FULL").is_ok_and(|v| v == "1")
}

/// Writes a measured figure to the test's log.
#[expect(clippy::print_stderr, reason = "the test's log is where people look")]
pub fn say(text: &str) {
    eprintln!("{text}");
}
