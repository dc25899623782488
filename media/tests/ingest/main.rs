//! RTMP and SRT with real encoders, real players and hostile peers, over the loopback, into the live model and out of it.
#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail by panicking, as its tests do"
)]
mod encoders;
mod hostile;
mod house;
mod play;
mod srt;
