//! The shoal program.
pub mod certs;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod listen;
pub mod load;
pub mod local;
