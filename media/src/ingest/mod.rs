//! Who publishes at this node, by whatever protocol: let in by the gate, live or standing by under a claim, written
//! into the live model.
//!
//! ```text
//! connection ── Publishers::admit ── Gate, Claims ──► Publication ── Origin ── Writer ── live::Broadcast
//! ```
//! A protocol's shell reads its bytes, asks [`Publishers::admit`], pushes packets into [`Publication::origin`] and
//! calls [`Publication::write`]; it listens for [`Publication::standing`] and for its own stop token, which
//! [`Publishers::disconnect`] cancels. Dropping a [`Publication`] ends its epoch, then withdraws its claim.
mod publication;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use routing::model::{BroadcastId, Clock, NodeId, StreamKey, UnixMillis};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use self::publication::Publication;
use crate::{
    live::{Broadcasts, EpochLine},
    origin::Recall,
    ports::{Claims, Gate, Holders, Protocol, Publish, Refusal},
};

/// How long whoever decides about a key may take.
const ASK: Duration = Duration::from_secs(5);
/// How long an ended broadcast stays readable for those who are behind, and followable for a publisher that comes back.
const LINGER: Duration = Duration::from_secs(60);

/// What publications need.
pub struct IngestOptions {
    /// Who may publish.
    pub gate: Arc<dyn Gate>,
    /// Who is live.
    pub claims: Arc<dyn Claims>,
    /// Where to say that this node is an origin.
    pub holders: Arc<dyn Holders>,
    /// Where the frames go.
    pub broadcasts: Arc<Broadcasts>,
    /// Who knows what a publisher's first epoch follows.
    pub recall: Arc<dyn Recall>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This node.
    pub node: NodeId,
}

/// A publication, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// What it feeds.
    pub publish: Publish,
    /// By which protocol.
    pub protocol: Protocol,
    /// From where; do not store it.
    pub peer: SocketAddr,
    /// Since when.
    pub since: UnixMillis,
    /// Whether it is live, or stands by.
    pub live: bool,
}

struct Inner {
    options: IngestOptions,
    sessions: Mutex<BTreeMap<u64, (SessionInfo, CancellationToken)>>,
    next: AtomicU64,
}

/// All publications at this node. A cheap handle.
#[derive(Clone)]
pub struct Publishers(Arc<Inner>);

impl fmt::Debug for Publishers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publishers")
            .field("sessions", &self.lock().len())
            .finish_non_exhaustive()
    }
}

impl Publishers {
    /// Nobody publishes yet.
    #[must_use]
    pub fn new(options: IngestOptions) -> Self {
        Self(Arc::new(Inner {
            options,
            sessions: Mutex::default(),
            next: AtomicU64::new(0),
        }))
    }

    /// The time that publications go by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.options.clock
    }

    /// The publications of now.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let sessions = self.lock();
        sessions.values().map(|(info, _)| info.clone()).collect()
    }

    /// Ends all publications of a broadcast, as when its key was withdrawn; true if there was one.
    pub fn disconnect(&self, broadcast: BroadcastId) -> bool {
        let sessions = self.lock();
        let of = sessions
            .values()
            .filter(|(info, _)| info.publish.broadcast == broadcast);
        of.map(|(_, stop)| stop.cancel()).count() > 0
    }

    /// Lets a publisher in, live or standing by. `stop` is cancelled when it has to go.
    ///
    /// # Errors
    /// What the gate refuses; [`Refusal::Unavailable`] where it says nothing for 5 s.
    pub async fn admit(
        &self,
        key: &StreamKey,
        protocol: Protocol,
        peer: SocketAddr,
        stop: CancellationToken,
    ) -> Result<Publication, Refusal> {
        let options = &self.0.options;
        let publish = timeout(ASK, options.gate.may_publish(key, protocol))
            .await
            .unwrap_or_else(|_| {
                Err(Refusal::Unavailable(
                    "This server could not check the stream key in time. Try again.".into(),
                ))
            })?;
        tracing::info!(broadcast = %publish.broadcast, ?protocol, "publication accepted");
        let info = SessionInfo {
            publish,
            protocol,
            peer,
            since: options.clock.unix(),
            live: false,
        };
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, (info.clone(), stop));
        let mut publication = Publication::new(self.clone(), id, info.publish);
        publication.begin().await.map_err(|error| {
            tracing::warn!(%error, "publication refused: its frames could not be kept");
            Refusal::Unavailable("This server cannot keep the stream's frames. Try again.".into())
        })?;
        Ok(publication)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (SessionInfo, CancellationToken)>> {
        let sessions = self.0.sessions.lock();
        sessions.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another connection publishes this broadcast too.
    fn others(&self, id: u64, broadcast: BroadcastId) -> bool {
        let sessions = self.lock();
        let mut others = sessions.iter().filter(|(other, _)| **other != id);
        others.any(|(_, (info, _))| info.publish.broadcast == broadcast)
    }

    /// Removes an ended broadcast that this node was the origin of, unless somebody publishes it by then; not while
    /// somebody else holds it, since who watches on would not see the epoch that the next publisher opens.
    async fn forget_later(inner: Weak<Inner>, id: BroadcastId) {
        loop {
            sleep(LINGER).await;
            let Some(inner) = inner.upgrade() else { return };
            let IngestOptions {
                broadcasts, node, ..
            } = &inner.options;
            let Some(broadcast) = broadcasts.get(id) else {
                return;
            };
            let over = |line: Arc<EpochLine>| line.ended() && line.epoch().origin == *node;
            if !broadcast.current().is_some_and(over) {
                return;
            }
            // The table's handle and this one.
            if Arc::strong_count(&broadcast) <= 2 {
                broadcasts.remove(id);
                return;
            }
        }
    }
}
