//! WHIP and WHEP as HTTP clients meet them, and the UDP port under fire.
#![allow(clippy::unwrap_used, reason = "tests")]
mod client;
mod hostile;
mod house;
mod rules;
