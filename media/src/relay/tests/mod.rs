//! Several nodes in one process, over real QUIC on the loopback.
mod follows;
mod tree;
mod world;
