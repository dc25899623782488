//! HLS as players get it: over HTTP, with ffmpeg and ffprobe as readers who owe us nothing.
#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail by panicking, as its tests do"
)]
mod dash;
mod files;
mod house;
mod mpd;
mod players;
mod rules;
