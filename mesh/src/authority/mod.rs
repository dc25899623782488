//! Who may do what, as statements that anyone can check back to the root. Pure.
//!
//! ```text
//! root ──signs──▶ ClusterGrant ──its key signs──▶ NodeGrant (carries the node's consent)
//!   │                   └────────its key signs──┐
//!   └────signs──▶ TenantGrant ──its key signs──▶ Entitlement (tenant, cluster, verbs, until when)
//! ```
//! A [`Signed`] statement carries the exact bytes that were signed, so fields that a later version adds pass through
//! unharmed. [`Facts`] is what follows from a set of statements; it does not depend on the order they came in.
mod facts;
mod grants;
mod signed;

pub use facts::{Facts, Standing};
pub use grants::{
    ClusterGrant, ClusterKind, Entitlement, MeshFacts, NodeGrant, Revocation, TenantGrant,
};
pub use signed::{AuthorityError, MAX_STATEMENT, Signed, Statement};
