//! Which broadcasts are packaged now: one lease, one task and one view each, however many watch.
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use routing::model::{BroadcastId, Clock, EpochId, Prefix, TrackKind, UnixMillis, Uptime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{Container, Deriver, Rendition, View, lead::Lead};
use crate::{
    ports::Refusal,
    supply::{Lease, Supply},
};

/// A broadcast is let go, and a viewer no longer counted, this long after the last request.
pub const LINGER: Duration = Duration::from_secs(10);
/// A first playlist waits at most this long for the relay to fetch the window back.
const BACKFILL: Duration = Duration::from_secs(3);
/// Sound of an epoch that follows another is listed so long after its pictures, see [`Watched::in_step`].
const BEHIND_PICTURES: Duration = Duration::from_millis(300);
/// But no later than so long after the epoch was first seen.
const BEHIND_AT_MOST: Duration = Duration::from_secs(2);
/// Requests held at a time by broadcast; what is more is answered 503 at once.
const WAITERS: usize = 20_000;
/// Viewers counted by broadcast; more than these are served but not counted.
const COUNTED: usize = 200_000;

/// A broadcast that somebody watches.
#[derive(Debug)]
pub struct Watched {
    view: watch::Receiver<Option<Arc<View>>>,
    since: Uptime,
    seen: AtomicU64,
    waiters: Arc<Semaphore>,
    viewers: Mutex<HashMap<u64, Uptime>>,
    turn: Mutex<Option<Turn>>,
    lead: Mutex<Lead>,
}

/// When the current epoch was first seen here, and when its first pictures were.
#[derive(Clone, Copy, Debug)]
struct Turn {
    epoch: EpochId,
    seen: Uptime,
    pictures: Option<Uptime>,
}

impl Watched {
    /// The newest view, and those to come.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.view.clone()
    }

    /// Whether the time for fetching the window back is over.
    #[must_use]
    pub fn late(&self, now: Uptime) -> bool {
        now.since(self.since) >= BACKFILL
    }

    /// When [`Watched::late`] becomes true, from now.
    #[must_use]
    pub fn late_in(&self, now: Uptime) -> Duration {
        BACKFILL.saturating_sub(now.since(self.since))
    }

    /// Whether a rendition's playlist may be given to somebody who follows it. In an epoch that follows another, sound
    /// lets pictures go first: hls.js (1.7) takes the time of a new timeline from its pictures, and stands still for
    /// good where several parts of sound came before that.
    #[must_use]
    pub fn in_step(&self, view: &View, rendition: &Rendition, now: Uptime) -> bool {
        let sound =
            rendition.container == Container::Cmaf && rendition.track.kind == TrackKind::Audio;
        let turns = view.epoch.follows.is_some() && rendition.edge_epoch() == Some(view.epoch.id);
        if !sound || !turns || pictures(view).is_none() {
            return true;
        }
        lock(&self.turn)
            .filter(|turn| turn.epoch == view.epoch.id)
            .is_some_and(|turn| {
                let pictures = turn.pictures.map(|at| now.since(at));
                pictures.is_some_and(|since| since >= BEHIND_PICTURES)
                    || now.since(turn.seen) >= BEHIND_AT_MOST
            })
    }

    fn turn(&self, view: &View, now: Uptime) {
        let mut turn = lock(&self.turn);
        let epoch = view.epoch.id;
        let mut this = turn.filter(|t| t.epoch == epoch).unwrap_or(Turn {
            epoch,
            seen: now,
            pictures: None,
        });
        let there = pictures(view).is_some_and(|r| r.edge_epoch() == Some(epoch));
        this.pictures = this.pictures.or(there.then_some(now));
        *turn = Some(this);
    }

    /// The origin's time as the frames here tell it: an epoch's time runs with its media, whatever the origin's clock
    /// and this node's do. `None` before there are any.
    #[must_use]
    pub fn origin_time(&self, now: Uptime) -> Option<UnixMillis> {
        lock(&self.lead).time(now)
    }

    /// A place among those who wait; `None` where all are taken.
    #[must_use]
    pub fn waiter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.waiters).try_acquire_owned().ok()
    }

    /// Somebody asked for something of it: it is kept, and the viewer counts.
    pub fn touch(&self, viewer: u64, now: Uptime) {
        self.seen.store(millis(now), Ordering::Relaxed);
        let mut viewers = lock(&self.viewers);
        if viewers.len() < COUNTED || viewers.contains_key(&viewer) {
            viewers.insert(viewer, now);
        }
    }

    fn viewers(&self, now: Uptime) -> usize {
        let mut viewers = lock(&self.viewers);
        viewers.retain(|_, seen| now.since(*seen) < LINGER);
        viewers.len()
    }

    /// Nobody waits, and nobody asked for [`LINGER`].
    fn idle(&self, now: Uptime) -> bool {
        self.waiters.available_permits() == WAITERS
            && millis(now).saturating_sub(self.seen.load(Ordering::Relaxed))
                >= millis(Uptime(LINGER))
    }
}

/// The first rendition with pictures.
fn pictures(view: &View) -> Option<&Rendition> {
    let mut cmaf = view
        .renditions
        .iter()
        .filter(|r| r.container == Container::Cmaf);
    cmaf.find(|r| r.track.kind == TrackKind::Video)
}

/// Who a viewer is, as far as counting goes: a truncated prefix and a program, hashed.
#[must_use]
pub fn viewer_mark(prefix: Prefix, user_agent: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (prefix, user_agent).hash(&mut hasher);
    hasher.finish()
}

fn millis(at: Uptime) -> u64 {
    u64::try_from(at.0.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All broadcasts that are watched here by HLS.
pub struct Hub {
    supply: Arc<dyn Supply>,
    clock: Arc<dyn Clock>,
    watched: Mutex<HashMap<BroadcastId, Arc<Watched>>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Hub {
    /// Nothing watched yet.
    #[must_use]
    pub fn new(supply: Arc<dyn Supply>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            supply,
            clock,
            watched: Mutex::default(),
        })
    }

    /// The broadcast, leased if it is not yet.
    ///
    /// # Errors
    /// What [`Supply::lease`] refuses.
    pub async fn watch(self: &Arc<Self>, id: BroadcastId) -> Result<Arc<Watched>, Refusal> {
        if let Some(watched) = self.known(id) {
            return Ok(watched);
        }
        let lease = self.supply.lease(id).await?;
        let now = self.clock.uptime();
        let mut all = lock(&self.watched);
        if let Some(watched) = all.get(&id) {
            return Ok(Arc::clone(watched));
        }
        let (tell, view) = watch::channel(None);
        let watched = Arc::new(Watched {
            view,
            since: now,
            seen: AtomicU64::new(millis(now)),
            waiters: Arc::new(Semaphore::new(WAITERS)),
            viewers: Mutex::default(),
            turn: Mutex::default(),
            lead: Mutex::default(),
        });
        all.insert(id, Arc::clone(&watched));
        drop(all);
        tokio::spawn(package(
            Arc::clone(self),
            id,
            lease,
            Arc::clone(&watched),
            tell,
        ));
        Ok(watched)
    }

    fn known(&self, id: BroadcastId) -> Option<Arc<Watched>> {
        lock(&self.watched).get(&id).cloned()
    }

    /// Viewers by broadcast: who asked for something in the last [`LINGER`].
    #[must_use]
    pub fn sessions(&self) -> Vec<(BroadcastId, usize)> {
        let now = self.clock.uptime();
        let all: Vec<_> = lock(&self.watched)
            .iter()
            .map(|(id, w)| (*id, Arc::clone(w)))
            .collect();
        all.into_iter()
            .map(|(id, w)| (id, w.viewers(now)))
            .filter(|(_, n)| *n > 0)
            .collect()
    }
}

/// Derives views while somebody watches; ends some seconds after the last request.
async fn package(
    hub: Arc<Hub>,
    id: BroadcastId,
    lease: Lease,
    watched: Arc<Watched>,
    tell: watch::Sender<Option<Arc<View>>>,
) {
    let mut changes = lease.broadcast().changes();
    let mut deriver = Deriver::default();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        changes.borrow_and_update();
        if let Some(view) = deriver.update(lease.broadcast()) {
            let now = hub.clock.uptime();
            watched.turn(&view, now);
            lock(&watched.lead).look(&view, now);
            tell.send_replace(Some(Arc::new(view)));
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { break },
            _ = tick.tick() => {
                let mut all = lock(&hub.watched);
                if watched.idle(hub.clock.uptime()) {
                    all.remove(&id);
                    return;
                }
            }
        }
    }
    lock(&hub.watched).remove(&id);
}
