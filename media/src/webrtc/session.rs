//! The tasks that drive sessions: time, datagrams and wishes in, datagrams out.
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use routing::model::{Clock, Uptime};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    PatchError, Patched,
    door::{Arrived, Place},
    peer::{Datagram, Peer, Remote},
    sdp::{Fragment, Offer},
    whep::Watching,
    whip::{Fed, Publishing},
};
use crate::{ingest::Publication, live::ModelError, supply::Lease};

/// A publisher from which no media comes for so long gives way to one that waits at this node.
const GIVE_WAY: Duration = Duration::from_secs(5);
/// One from which nothing comes for so long is gone.
const IDLE: Duration = Duration::from_secs(30);
/// How often a silent publisher is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Datagrams taken before any is answered.
const AT_ONCE: usize = 64;

/// The time as str0m counts it.
#[derive(Clone)]
pub(super) struct Ticker {
    base: Instant,
    zero: Uptime,
    clock: Arc<dyn Clock>,
}

impl Ticker {
    #[expect(
        clippy::disallowed_methods,
        reason = "an instant can only be had from the system; from here on the clock moves it"
    )]
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            base: Instant::now(),
            zero: clock.uptime(),
            clock,
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.base + self.clock.uptime().since(self.zero)
    }
}

/// What an HTTP PATCH asks of a session.
#[derive(Debug)]
pub(super) struct Patch {
    pub(super) if_match: Option<String>,
    pub(super) fragment: Fragment,
    pub(super) reply: oneshot::Sender<Result<Patched, PatchError>>,
}

/// A session's core, as far as all have it.
trait Core {
    fn peer(&mut self) -> &mut Peer;
    fn receive(&mut self, now: Instant, from: (Remote, Option<IpAddr>), bytes: &[u8]) -> bool;
    fn tick(&mut self, now: Instant);
    fn poll_datagram(&mut self, now: Instant) -> Option<Datagram>;
}

impl Core for Watching {
    fn peer(&mut self) -> &mut Peer {
        self.peer()
    }
    fn receive(&mut self, now: Instant, from: (Remote, Option<IpAddr>), bytes: &[u8]) -> bool {
        self.receive(now, from, bytes)
    }
    fn tick(&mut self, now: Instant) {
        self.tick(now);
    }
    fn poll_datagram(&mut self, now: Instant) -> Option<Datagram> {
        self.poll_datagram(now)
    }
}

impl Core for Publishing {
    fn peer(&mut self) -> &mut Peer {
        self.peer()
    }
    fn receive(&mut self, now: Instant, from: (Remote, Option<IpAddr>), bytes: &[u8]) -> bool {
        self.receive(now, from, bytes)
    }
    fn tick(&mut self, now: Instant) {
        self.tick(now);
    }
    fn poll_datagram(&mut self, _: Instant) -> Option<Datagram> {
        self.poll_datagram()
    }
}

/// What happens to a session.
enum Event {
    Arrived(Arrived),
    Patch(Patch),
    Time,
    Stop,
}

/// A session's ties to the outside.
pub(super) struct Link {
    pub(super) place: Place,
    pub(super) patches: mpsc::Receiver<Patch>,
    pub(super) offer: Offer,
    pub(super) ticker: Ticker,
    pub(super) stop: CancellationToken,
    /// Held until it is connected.
    pub(super) pending: Option<OwnedSemaphorePermit>,
    /// How often ICE was restarted: the entity tag.
    pub(super) restarts: u32,
}

/// The entity tag of an ICE session after so many restarts.
pub(super) fn etag(restarts: u32) -> String {
    format!("\"{restarts}\"")
}

impl Link {
    async fn next(&mut self, deadline: Instant) -> Event {
        let wait = deadline.saturating_duration_since(self.ticker.now());
        tokio::select! {
            () = self.stop.cancelled() => Event::Stop,
            arrived = self.place.next() => Event::Arrived(arrived),
            Some(patch) = self.patches.recv() => Event::Patch(patch),
            () = sleep(wait) => Event::Time,
        }
    }

    /// Carries out what happened; false where the session is to end.
    fn apply(&mut self, core: &mut impl Core, event: Event) -> bool {
        let now = self.ticker.now();
        match event {
            Event::Time => {}
            Event::Stop => return false,
            Event::Patch(patch) => {
                let answer =
                    self.patch(core.peer(), now, patch.if_match.as_deref(), &patch.fragment);
                // Nobody may wait for it any more.
                let _ = patch.reply.send(answer);
            }
            Event::Arrived(mut arrived) => {
                for _ in 0..AT_ONCE {
                    let from = (arrived.source, arrived.local);
                    if core.receive(now, from, &arrived.bytes) {
                        self.place.learn(&arrived);
                    }
                    let Some(next) = self.place.try_next() else {
                        break;
                    };
                    arrived = next;
                }
            }
        }
        true
    }

    fn patch(
        &mut self,
        peer: &mut Peer,
        now: Instant,
        if_match: Option<&str>,
        fragment: &Fragment,
    ) -> Result<Patched, PatchError> {
        let tag = if_match.ok_or(PatchError::NoTag)?;
        if tag != "*" && tag != etag(self.restarts) {
            return Err(PatchError::Tag);
        }
        let current = self.offer.credentials();
        let restart = fragment.credentials.as_ref().filter(|(ufrag, password)| {
            current.is_none_or(|current| current != (ufrag.as_str(), password.as_str()))
        });
        let answer = match restart {
            None => Patched::Trickled,
            Some((ufrag, password)) => {
                let offer = self.offer.restarted(ufrag, password);
                let parsed = offer.parse().map_err(|e| PatchError::Bad(e.to_string()))?;
                let answer = peer
                    .again(now, parsed)
                    .map_err(|e| PatchError::Bad(e.to_string()))?;
                self.offer = offer;
                self.restarts += 1;
                self.place.rename(peer.ufrag());
                Patched::Restarted {
                    etag: etag(self.restarts),
                    fragment: Fragment::of(&answer.to_sdp_string()),
                }
            }
        };
        for candidate in &fragment.candidates {
            peer.add_candidate(now, candidate.clone());
        }
        Ok(answer)
    }

    /// Goes on in time, and sends what there is to send.
    async fn advance(&mut self, core: &mut impl Core) {
        let now = self.ticker.now();
        core.tick(now);
        if core.peer().connected() {
            self.pending = None;
        }
        self.flush(core, now).await;
    }

    async fn flush(&self, core: &mut impl Core, now: Instant) {
        while let Some(datagram) = core.poll_datagram(now) {
            self.place.send(datagram).await;
        }
    }

    /// Says goodbye to the peer.
    async fn close(&self, core: &mut impl Core) {
        let now = self.ticker.now();
        core.peer().close(now);
        self.flush(core, now).await;
    }
}

/// Serves a viewer until it goes, or is sent away.
pub(super) async fn watch(mut link: Link, mut core: Watching, lease: Lease) {
    let broadcast = lease.broadcast();
    let mut changes = broadcast.changes();
    let why = loop {
        changes.borrow_and_update();
        link.advance(&mut core).await;
        if let Some(why) = core.over() {
            break why;
        }
        let deadline = core.deadline();
        let event = tokio::select! {
            event = link.next(deadline) => event,
            Ok(()) = changes.changed() => Event::Time,
        };
        if !link.apply(&mut core, event) {
            break "it was ended";
        }
    };
    tracing::debug!(broadcast = %broadcast.id(), why, bytes = core.bytes(), "WebRTC viewer gone");
    link.close(&mut core).await;
}

/// Serves a publisher until it goes, or is sent away.
pub(super) async fn publish(mut link: Link, mut core: Publishing, mut publication: Publication) {
    let why = loop {
        link.advance(&mut core).await;
        if let Err(error) = feed(&mut core, link.ticker.now(), &mut publication) {
            tracing::warn!(%error, "publication ended: its frames could not be kept");
            break "its frames could not be kept";
        }
        let now = link.ticker.now();
        let silent = now.saturating_duration_since(core.heard());
        if core.peer().over() {
            break "the publisher went away";
        }
        if silent >= IDLE || silent >= GIVE_WAY && publication.others_wait() {
            break "no media came";
        }
        let deadline = core.deadline().min(now + LOOK);
        let event = tokio::select! {
            event = link.next(deadline) => event,
            live = publication.standing() => {
                if let Err(error) = publication.set_live(live).await {
                    tracing::warn!(%error, "publication ended: its frames could not be kept");
                    break "its frames could not be kept";
                }
                Event::Time
            }
        };
        if !link.apply(&mut core, event) {
            break "it was ended";
        }
    };
    tracing::debug!(broadcast = %publication.publish().broadcast, why, "WebRTC publisher gone");
    drop(publication);
    link.close(&mut core).await;
}

fn feed(
    core: &mut Publishing,
    now: Instant,
    publication: &mut Publication,
) -> Result<(), ModelError> {
    let at = publication.now();
    while let Some(fed) = core.poll(now) {
        let origin = publication.origin();
        match fed {
            Fed::Announce(announced) => origin.announce(announced),
            Fed::Configure(input, config) => origin.configure(input, config),
            Fed::Push(packet) => origin.push(at, packet),
        }
    }
    publication.write()
}
