//! The GraphQL gateway, playback resolution and the operators' console, as one axum router.
pub mod console;
pub mod ports;

/// Answers what other nodes forward; the router's state.
pub struct Gateway;
