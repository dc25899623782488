//! Who watches frame by frame at this node: let in, counted, ended.
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use routing::model::{BroadcastId, Clock, PlaybackId, Prefix, UnixMillis};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Cursor, Event, GONE, STALLED, Takes};
use crate::{
    ports::{Gate, Protocol, Refusal, Viewer, Watch},
    supply::{Lease, Supply},
};

/// Viewers at a time; a further one is refused.
const MOST: usize = 20_000;

/// A viewer, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// What it watches.
    pub watch: Watch,
    /// By which protocol.
    pub protocol: Protocol,
    /// From where.
    pub prefix: Prefix,
    /// Since when.
    pub since: UnixMillis,
    /// Payload given so far, in bytes.
    pub bytes: u64,
}

type Seat = (SessionInfo, Arc<AtomicU64>, CancellationToken);

struct Inner {
    gate: Arc<dyn Gate>,
    supply: Arc<dyn Supply>,
    clock: Arc<dyn Clock>,
    seats: Mutex<BTreeMap<u64, Seat>>,
    next: AtomicU64,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All viewers of single frames at this node. A cheap handle.
#[derive(Clone)]
pub struct Audience(Arc<Inner>);

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.lock().len();
        f.debug_struct("Audience")
            .field("sessions", &count)
            .finish_non_exhaustive()
    }
}

impl Audience {
    /// Nobody yet. `gate` says who may watch, `supply` has the broadcasts.
    #[must_use]
    pub fn new(gate: Arc<dyn Gate>, supply: Arc<dyn Supply>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            gate,
            supply,
            clock,
            seats: Mutex::default(),
            next: AtomicU64::new(0),
        }))
    }

    /// The time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Lets a viewer in who asks for `id`.
    ///
    /// # Errors
    /// What the gate or the supply refuses, and [`Refusal::Unavailable`] where the node is full.
    pub async fn admit(
        &self,
        id: PlaybackId,
        viewer: &Viewer,
        takes: Takes,
    ) -> Result<Follow, Refusal> {
        let watch = self.0.gate.may_watch(id, viewer).await?;
        self.follow(watch, viewer, takes).await
    }

    /// The same for one whom the gate has let in.
    ///
    /// # Errors
    /// What the supply refuses, and [`Refusal::Unavailable`] where the node is full.
    pub async fn follow(
        &self,
        watch: Watch,
        viewer: &Viewer,
        takes: Takes,
    ) -> Result<Follow, Refusal> {
        let lease = self.0.supply.lease(watch.broadcast).await?;
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (bytes, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let info = SessionInfo {
            watch,
            protocol: viewer.protocol,
            prefix: viewer.prefix,
            since: self.0.clock.unix(),
            bytes: 0,
        };
        {
            let mut seats = self.0.lock();
            if seats.len() >= MOST {
                let text = "This node has as many viewers as it takes. Ask for the stream again; its name leads to another.";
                return Err(Refusal::Unavailable(text.into()));
            }
            seats.insert(id, (info, Arc::clone(&bytes), stop.clone()));
        }
        Ok(Follow {
            changes: lease.broadcast().changes(),
            cursor: Cursor::new(takes),
            lease,
            bytes,
            stop,
            seat: Leave(Arc::downgrade(&self.0), id),
        })
    }

    /// Every viewer, by a number that is never given again.
    #[must_use]
    pub fn sessions(&self) -> Vec<(u64, SessionInfo)> {
        let seats = self.0.lock();
        let info = |(id, (info, bytes, _)): (&u64, &Seat)| {
            let bytes = bytes.load(Ordering::Relaxed);
            (
                *id,
                SessionInfo {
                    bytes,
                    ..info.clone()
                },
            )
        };
        seats.iter().map(info).collect()
    }

    /// Viewers by broadcast.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<BroadcastId, usize> {
        let mut counts = BTreeMap::new();
        for (info, ..) in self.0.lock().values() {
            *counts.entry(info.watch.broadcast).or_default() += 1;
        }
        counts
    }

    /// Ends those for whom it is so.
    pub fn end(&self, ends: impl Fn(u64, &SessionInfo) -> bool) {
        let seats = self.0.lock();
        for (_, (_, _, stop)) in seats.iter().filter(|(id, (info, ..))| ends(**id, info)) {
            stop.cancel();
        }
    }
}

/// Takes a viewer off the list when dropped.
struct Leave(Weak<Inner>, u64);

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.lock().remove(&self.1);
        }
    }
}

/// One viewer. Dropping it lets the broadcast go.
pub struct Follow {
    lease: Lease,
    cursor: Cursor,
    changes: watch::Receiver<u64>,
    bytes: Arc<AtomicU64>,
    stop: CancellationToken,
    seat: Leave,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("session", &self.seat.1)
            .finish_non_exhaustive()
    }
}

impl Follow {
    /// The broadcast that it follows.
    #[must_use]
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The next event, if there is one now.
    pub fn take(&mut self) -> Option<Event> {
        let event = self.cursor.poll(self.lease.broadcast())?;
        if let Event::Frame(frame) = &event {
            let len = frame.data.len() as u64;
            self.bytes.fetch_add(len, Ordering::Relaxed);
        }
        Some(event)
    }

    /// The next event; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        while !self.stop.is_cancelled() {
            self.changes.borrow_and_update();
            if let Some(event) = self.take() {
                return Some(event);
            }
            let current = self.lease.broadcast().current();
            let over = current.is_some_and(|c| c.ended());
            let patience = if over { GONE } else { STALLED };
            let changed = self
                .stop
                .run_until_cancelled(timeout(patience, self.changes.changed()));
            if !matches!(changed.await, Some(Ok(Ok(())))) {
                return None;
            }
        }
        None
    }
}
