//! What a write asks and answers.
use std::time::Duration;

use routing::model::{Hlc, NodeId, TenantId};

use super::{ChangeError, Record, RecordError, Scope};
use crate::store::StoreError;

/// How safe a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ack {
    /// A second disk has it, one whose node may write here.
    Replicated,
    /// Only this node's disk has it so far.
    Local,
}

/// A write that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// How safe it was when the call returned.
    pub ack: Ack,
    /// Its stamp.
    pub at: Hlc,
    /// Its number among this node's records of the scope.
    pub number: u64,
    /// Where the idempotency key was used before: the record that was written then, and nothing was written now.
    pub repeats: Option<Record>,
}

/// Records have come to be on two disks of nodes that could have written them: what was answered [`Ack::Local`] among
/// them is [`Ack::Replicated`] now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Where they were written.
    pub scope: Scope,
    /// By whom.
    pub author: NodeId,
    /// Up to which number, as in [`Written`]: logs have no gaps.
    pub number: u64,
}

/// What a client names a mutation by, so that a repeated one is answered and not done again. Kept as a hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey([u8; 32]);

impl IdempotencyKey {
    /// The key of a tenant's text.
    #[must_use]
    pub fn new(tenant: TenantId, text: &str) -> Self {
        use sha2::{Digest as _, Sha256};
        let hash = Sha256::new()
            .chain_update(b"shoal idempotency 1")
            .chain_update(tenant.as_bytes())
            .chain_update(text);
        Self(hash.finalize().into())
    }
}

/// Why a write did not happen. Nothing of it was kept.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// This node's clock is far from its peers'.
    #[error(
        "this node's clock is {} s away from its peers' median, and writes are ordered by time: set the clock (NTP), or write at another gateway",
        off.as_secs()
    )]
    ClockOff {
        /// How far.
        off: Duration,
    },
    /// This node may not write there.
    #[error("this node may not write here: {why}")]
    NotAllowed {
        /// What it lacks, and what to do.
        why: &'static str,
    },
    /// The unique name is taken or reserved.
    #[error("the name {name} is taken or reserved: choose another")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A change breaks a rule.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// There are too many changes at once.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Another machine has written under this node's key.
    #[error(
        "two different records bear this node's key and one number: its key or data directory was copied; move the directory away and join anew under a new key"
    )]
    Stopped,
    /// The disk does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many writes wait.
    #[error("{waiting} writes wait already: try again in a moment")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The node is stopping.
    #[error("this node is stopping: write at another gateway")]
    Closed,
}
