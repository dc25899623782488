//! Who is here and what is agreed.
pub mod authority;
pub mod carry;
pub mod config;
mod facts;
pub mod gate;
pub mod identity;
pub mod join;
mod link;
pub mod live;
pub mod member;
pub mod probe;
pub mod records;
pub mod replica;
pub mod seal;
pub mod state;
pub mod store;
pub mod view;

pub use live::{Mesh, MeshOptions, StartError};
