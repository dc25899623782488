//! Who this machine is: its keys, and the one directory that they and the store rest in.
//!
//! Shape: [`keys`] has the Ed25519 key types, each its own type so that no root key signs where a node's should;
//! [`datadir`] has the files, their permissions and the lock.
pub mod datadir;
pub mod keys;

pub use datadir::{DataDir, DataDirError};
pub use keys::{
    ClusterKey, EpochSecret, KeyError, NodeKey, PublicKey, RootKey, Signature, Signs, TenantKey,
};
