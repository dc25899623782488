//! The shoal program.
