//! The machines in simulated time, the parsers under any bytes, and several nodes in one process over real QUIC.
mod core;
mod follows;
mod links;
mod tree;
mod wire;
mod world;
