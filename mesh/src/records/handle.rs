//! The handle: what the rest of a node holds of the records. The task behind it is in [`task`](super::task).
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use routing::model::{Clock, MeshId, NodeId, StreamKey};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{
    Ack, Change, IdempotencyKey, Scope, Upgrade, WriteError, Written,
    task::{Command, Task},
};
use crate::{
    config::{Config, KeyRecord},
    identity::{EpochSecret, NodeKey},
    replica::Replica,
    seal::{self, RevealError},
    store::{Store, StoreError},
};

/// How many commands and messages wait for the task; whoever brings more waits with them.
const COMMANDS: usize = 1024;
/// How many messages wait for the links; what comes beyond is dropped and mended by replication.
const OUTBOX: usize = 1024;
/// How many upgrades a slow listener may be behind before it misses the oldest.
const UPGRADES: usize = 256;

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
    /// The task that reads them was ended.
    #[error("shoal was stopped while it read its records")]
    Stopped,
}

/// All records of this node: store, state and replication behind one cheap handle. The task behind it ends with the
/// last handle, or with [`Records::stop`].
#[derive(Clone)]
pub struct Records(Arc<Inner>);

struct Inner {
    commands: mpsc::Sender<Command>,
    epoch: Option<EpochSecret>,
    config: watch::Receiver<Arc<Config>>,
    reconciled: watch::Receiver<bool>,
    upgrades: broadcast::Sender<Upgrade>,
    outbox: Mutex<Option<mpsc::Receiver<(NodeId, Bytes)>>>,
    clock_off: Arc<AtomicU64>,
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
            store,
            clock,
            epoch,
        } = options;
        let reader = store.clone();
        let read = move || Replica::open(key, mesh, reader.load()?);
        let read = tokio::task::spawn_blocking(read).await;
        let mut replica = read.map_err(|_| OpenError::Stopped)??;
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let config = watch::Sender::new(Arc::new(replica.config(clock.unix())));
        let upgrades = broadcast::Sender::new(UPGRADES);
        let reconciled = watch::Sender::new(false);
        let clock_off = Arc::new(AtomicU64::new(0));
        let handle = Self(Arc::new(Inner {
            commands,
            epoch,
            config: config.subscribe(),
            reconciled: reconciled.subscribe(),
            upgrades: upgrades.clone(),
            outbox: Mutex::new(Some(outgoing)),
            clock_off: clock_off.clone(),
        }));
        let task = Task::new(
            (replica, store, clock),
            (outbox, config, reconciled, upgrades),
            clock_off,
        );
        tokio::spawn(task.run(inbox));
        Ok(handle)
    }

    /// The agreed state now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.0.config.borrow().clone()
    }

    /// The agreed state, and word of every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Config>> {
        self.0.config.clone()
    }

    /// Writes one record with these changes: all of them or none. Returns when it is on this node's disk and either
    /// on a second one that makes it safe, or 500 ms have passed, or no such peer is connected. What it returns after
    /// is in [`Records::config`]. A repeated idempotency key writes nothing and is answered as the first time, as
    /// long as it is among the last 4096.
    ///
    /// # Errors
    /// [`WriteError`]: nothing was written.
    pub async fn write(
        &self,
        scope: Scope,
        changes: Vec<Change>,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Written, WriteError> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Write {
            scope,
            changes,
            idempotency,
            answer,
        };
        self.0.commands.try_send(command).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => WriteError::Busy { waiting: COMMANDS },
            mpsc::error::TrySendError::Closed(_) => WriteError::Closed,
        })?;
        answered.await.unwrap_or(Err(WriteError::Closed))
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

    /// How safe a record is, by scope, author and number: one of any node that may write there, as long as this one
    /// may too. `None` where this node cannot tell, or an own record of this number was never written.
    pub async fn ack_of(&self, scope: Scope, author: NodeId, number: u64) -> Option<Ack> {
        self.ask(|answer| Command::AckOf((scope, author, number), answer))
            .await?
    }

    /// Waits until [`Records::ack_of`] says [`Ack::Replicated`]. False where it says nothing, or the node stops.
    pub async fn replicated(&self, scope: Scope, author: NodeId, number: u64) -> bool {
        let mut upgrades = self.upgrades();
        loop {
            match self.ack_of(scope, author, number).await {
                Some(Ack::Replicated) => return true,
                Some(Ack::Local) => {}
                None => return false,
            }
            loop {
                match upgrades.recv().await {
                    Ok(u) if (u.scope, u.author) == (scope, author) && u.number >= number => {
                        return true;
                    }
                    Ok(_) => {}
                    // It may have been among those that were missed.
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return false,
                }
            }
        }
    }

    /// Word of records that have become safe. A receiver that falls more than 256 behind misses the oldest.
    #[must_use]
    pub fn upgrades(&self) -> broadcast::Receiver<Upgrade> {
        self.0.upgrades.subscribe()
    }

    /// Whether the mesh scope was found equal to a peer's, or to lack nothing of it, since the start.
    #[must_use]
    pub fn reconciled(&self) -> watch::Receiver<bool> {
        self.0.reconciled.clone()
    }

    /// For the links: a peer that was admitted is there. Its scopes follow from what is agreed.
    pub async fn peer_connected(&self, peer: NodeId) {
        self.tell(Command::Connected(peer)).await;
    }

    /// For the links: a peer is gone.
    pub async fn peer_gone(&self, peer: NodeId) {
        self.tell(Command::Gone(peer)).await;
    }

    /// For the links: a message of a connected peer, at most [`MAX_MESSAGE`](crate::replica::MAX_MESSAGE) long.
    /// Waits while 1024 are unread. What was lost or came out of order is mended by replication.
    pub async fn receive(&self, peer: NodeId, message: Bytes) {
        self.tell(Command::Receive(peer, message)).await;
    }

    /// For the links: messages to peers, in order; given out once. At most 1024 wait; what does not fit is dropped
    /// and mended by the next comparison of sums.
    #[must_use]
    pub fn outbox(&self) -> Option<mpsc::Receiver<(NodeId, Bytes)>> {
        let outbox = self.0.outbox.lock();
        outbox.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How far this node's clock is off its peers' median; over 10 s, writes are refused.
    pub fn set_clock_offset(&self, off: Duration) {
        let millis = u64::try_from(off.as_millis()).unwrap_or(u64::MAX);
        self.0.clock_off.store(millis, Ordering::Relaxed);
    }

    /// Every record and verdict of the mesh scope, for a node that joins: [`Records::import`] takes them. Empty when
    /// the node is stopping.
    pub async fn export_mesh(&self) -> Vec<Bytes> {
        self.ask(Command::Export).await.unwrap_or_default()
    }

    /// Takes what [`Records::export_mesh`] gave; each piece is checked to the root. Gives back how many were news,
    /// once they are on the disk.
    ///
    /// # Errors
    /// [`WriteError::Store`] when they cannot be kept, [`WriteError::Closed`] when the node is stopping.
    pub async fn import(&self, pieces: Vec<Bytes>) -> Result<usize, WriteError> {
        let done = self.ask(|answer| Command::Import(pieces, answer)).await;
        done.unwrap_or(Err(WriteError::Closed))
    }

    /// The last number of an author in each scope known here: what a revocation of it names.
    pub async fn heads_of(&self, author: NodeId) -> Vec<(Scope, u64)> {
        let heads = self.ask(|answer| Command::HeadsOf(author, answer)).await;
        heads.unwrap_or_default()
    }

    /// Ends the task after what it has begun. Later writes are refused with [`WriteError::Closed`].
    pub async fn stop(&self) {
        self.ask(Command::Stop).await;
    }

    async fn tell(&self, command: Command) {
        // It fails only when the node is stopping, and then nobody needs it any more.
        let _ = self.0.commands.send(command).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.tell(command(answer)).await;
        answered.await.ok()
    }
}
