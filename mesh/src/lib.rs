//! Who is here and what is agreed.
pub mod authority;
pub mod config;
pub mod identity;
pub mod records;
pub mod replica;
pub mod seal;
pub mod state;
pub mod store;
