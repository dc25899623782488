//! The gateway as clients meet it: real documents through the router, over real records in memory.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod console;
mod documents;
mod house;
mod limits;
mod sockets;
