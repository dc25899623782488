//! Placeholder while the workspace is laid out.
mod link;
pub mod member;
