//! The wire: an Ethernet switch in user space that joins TAP devices of several network namespaces and makes each
//! way between two of them as bad as a test wants. Stands in for `netem`, which not every kernel has.
//!
//! # Shape
//! - [`Link`]: how bad one way (from one port to another) is.
//! - [`core`]: [`Switch`](core::Switch), without I/O, clock or randomness of its own: frames and the time in, frames
//!   and the next wake-up out; the same seed and the same input give the same output.
//! - [`shell`]: [`Wire`], one thread that owns the devices and drives the core.
pub mod core;
mod link;
pub mod shell;

pub use self::{link::Link, shell::Wire};
