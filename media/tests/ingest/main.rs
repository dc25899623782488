//! RTMP and SRT ingest with real encoders and hostile peers, over the loopback, into the live model.
#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail by panicking, as its tests do"
)]
mod encoders;
mod hostile;
mod house;
mod srt;
