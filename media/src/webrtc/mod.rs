//! WebRTC: publishers by WHIP (RFC 9725), viewers by WHEP (draft-ietf-wish-whep), on one port, by UDP or TCP.
//!
//! ```text
//!  HTTP: offer ─► http ─► WebRtc::publish, watch ─► answer with all candidates
//!                                   │ a task a session
//!  UDP, TCP ◄─► Door ◄─ Place ─► Link ─► Publishing ─► ingest::Publication ─► origin
//!                                     └► Watching  ◄── live::Broadcast
//! ```
//! - `whip::Publishing` and `whep::Watching` have no I/O and no clock: datagrams, time and frames in, datagrams out.
//! - This side is ICE-lite (RFC 8445 2.5): its candidates are in the answer, so media flows one round trip later.
//! - Sessions are bounded, and those that are not connected are bounded further and end after 10 s.
mod door;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod pace;
mod peer;
mod sdp;
mod session;
mod tcp;
#[cfg(test)]
mod tests;
mod whep;
mod whip;

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use data_encoding::BASE32HEX_NOPAD;
use routing::model::{BroadcastId, Clock, Secret, StreamKey};
use sha2::{Digest as _, Sha256};
use str0m::{IceCreds, RtcConfig, config::DtlsCert};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::sdp::MAX_SDP;
use self::{
    door::Door,
    peer::Peer,
    sdp::{Fragment, Offer, SdpError},
    session::{Link, Patch, Ticker, etag},
    whep::{Plan, Watching},
    whip::Publishing,
};
use crate::{
    ingest::Publishers,
    ports::{Protocol, Refusal},
    supply::Lease,
};

/// Candidates in an answer.
const MAX_CANDIDATES: usize = 8;
/// How long a session's task may take over a PATCH.
const PATCH: Duration = Duration::from_secs(5);

/// A STUN or TURN server that clients are told of (RFC 9725 4.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    /// As `stun:stun.example.net` or `turn:turn.example.net?transport=udp`.
    pub url: String,
    /// User name and password, for TURN. Every client learns them.
    pub login: Option<(String, Secret)>,
}

/// How many sessions are borne.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all; a further one is refused.
    pub sessions: usize,
    /// Not connected yet; a further one is refused.
    pub pending: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 2_000,
            pending: 200,
        }
    }
}

/// What WebRTC needs.
pub struct WebRtcOptions {
    /// The port, bound.
    pub socket: std::net::UdpSocket,
    /// The same port by TCP, bound.
    pub listener: std::net::TcpListener,
    /// The addresses that others reach this node by.
    pub addresses: Vec<IpAddr>,
    /// Servers that clients are told of.
    pub ice_servers: Vec<IceServer>,
    /// Who lets publishers in.
    pub publishers: Publishers,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Session names and ICE passwords are drawn from it.
    pub seed: [u8; 32],
    /// How many sessions are borne.
    pub limits: Limits,
}

/// Why a session was not made. The text is for the other side.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Sdp(#[from] SdpError),
    #[error("The offer cannot be answered: {0}.")]
    Offer(String),
    #[error("{0}")]
    Unsendable(String),
    #[error(
        "This server has as many WebRTC sessions as it bears. Try again shortly, or another server."
    )]
    Full,
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a session was not changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatchError {
    #[error("There is no such session, or it has ended.")]
    Unknown,
    #[error("The request has no If-Match: give the session's ETag, or * to restart ICE.")]
    NoTag,
    #[error("The ICE session is another one by now: If-Match is not its ETag.")]
    Tag,
    #[error("{0}")]
    Bad(String),
}

/// What came of a PATCH.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Patched {
    /// Candidates were taken.
    Trickled,
    /// ICE was restarted.
    Restarted {
        /// The new entity tag.
        etag: String,
        /// The new credentials and candidates.
        fragment: String,
    },
}

/// A session that was made.
#[derive(Debug)]
pub(crate) struct Created {
    /// Names the session, and nobody can guess it.
    pub(crate) token: String,
    pub(crate) etag: String,
    pub(crate) answer: String,
    /// What the viewer will miss, and why.
    pub(crate) lacks: Option<String>,
}

struct Entry {
    /// What it watches; nothing where it publishes.
    watches: Option<BroadcastId>,
    patches: mpsc::Sender<Patch>,
    stop: CancellationToken,
}

struct Inner {
    door: Arc<Door>,
    listener: Mutex<Option<TcpListener>>,
    addresses: Vec<IpAddr>,
    ice_servers: Vec<IceServer>,
    publishers: Publishers,
    ticker: Ticker,
    cert: DtlsCert,
    seed: [u8; 32],
    next: AtomicU64,
    all: Arc<Semaphore>,
    pending: Arc<Semaphore>,
    sessions: Mutex<HashMap<String, Entry>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// All WebRTC sessions of this node. A cheap handle.
#[derive(Clone)]
pub struct WebRtc(Arc<Inner>);

impl fmt::Debug for WebRtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebRtc")
            .field("sessions", &self.lock().len())
            .finish_non_exhaustive()
    }
}

struct Seat {
    link: Link,
    peer: Peer,
    token: String,
    patches: mpsc::Sender<Patch>,
    answer: String,
    all: OwnedSemaphorePermit,
}

impl WebRtc {
    /// No sessions yet. On a tokio runtime.
    ///
    /// # Errors
    /// Where the socket cannot be used, or no certificate can be made.
    pub fn new(options: WebRtcOptions) -> io::Result<Self> {
        options.listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(options.listener)?;
        let crypto = str0m::crypto::from_feature_flags();
        let cert = crypto
            .dtls_provider
            .generate_certificate()
            .ok_or_else(|| io::Error::other("no DTLS certificate could be made"))?;
        Ok(Self(Arc::new(Inner {
            door: Door::new(options.socket)?,
            listener: Mutex::new(Some(listener)),
            addresses: options.addresses,
            ice_servers: options.ice_servers,
            publishers: options.publishers,
            ticker: Ticker::new(options.clock),
            cert,
            seed: options.seed,
            next: AtomicU64::new(0),
            all: Arc::new(Semaphore::new(options.limits.sessions)),
            pending: Arc::new(Semaphore::new(options.limits.pending)),
            sessions: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        let sessions = self.0.sessions.lock();
        sessions.unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the port until `stop`; returns when all sessions have ended.
    pub async fn serve(&self, stop: CancellationToken) {
        let listener = self.0.listener.lock();
        let listener = listener.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            let door = Arc::clone(&self.0.door);
            tokio::spawn(tcp::serve(door, listener, stop.clone()));
        }
        self.0.door.serve(stop).await;
        self.0.stop.cancel();
        self.0.tasks.close();
        // What the sessions say to their peers at the end needs nothing from the socket's reading side.
        self.0.tasks.wait().await;
    }

    /// Viewers by broadcast.
    #[must_use]
    pub fn viewers(&self) -> Vec<(BroadcastId, usize)> {
        let mut counts = HashMap::new();
        for watched in self.lock().values().filter_map(|entry| entry.watches) {
            *counts.entry(watched).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    /// Ends the session with this name; true if there was one.
    pub(crate) fn end(&self, token: &str) -> bool {
        let entry = self.lock().remove(token);
        entry.map(|entry| entry.stop.cancel()).is_some()
    }

    /// 32 bytes that nobody can guess, and that come only once.
    fn draw(&self, what: &str) -> [u8; 32] {
        let n = self.0.next.fetch_add(1, Ordering::Relaxed);
        let drawn = Sha256::new()
            .chain_update(self.0.seed)
            .chain_update(what)
            .chain_update(n.to_be_bytes());
        drawn.finalize().into()
    }

    /// Where the request came to, as a candidate beside the announced ones.
    fn candidates(&self, at: Option<IpAddr>) -> Vec<SocketAddr> {
        let mut all = self.0.addresses.clone();
        all.extend(at.map(|ip| ip.to_canonical()));
        let mut seen = Vec::new();
        for ip in all {
            if !ip.is_unspecified() && !seen.contains(&ip) && seen.len() < MAX_CANDIDATES {
                seen.push(ip);
            }
        }
        let port = self.0.door.port();
        seen.into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect()
    }

    /// Answers an offer.
    fn seat(
        &self,
        offer: Offer,
        config: RtcConfig,
        at: Option<IpAddr>,
    ) -> Result<Seat, SessionError> {
        let permits = (
            Arc::clone(&self.0.all).try_acquire_owned(),
            Arc::clone(&self.0.pending).try_acquire_owned(),
        );
        let (Ok(all), Ok(pending)) = permits else {
            return Err(SessionError::Full);
        };
        let name = |bytes: &[u8]| BASE32HEX_NOPAD.encode(bytes).to_ascii_lowercase();
        let drawn = self.draw("ice");
        let creds = IceCreds {
            ufrag: name(&drawn[..10]),
            pass: name(&drawn[10..]),
        };
        let candidates = self.candidates(at);
        let now = self.0.ticker.now();
        let cert = self.0.cert.clone();
        let (mut peer, answer) =
            Peer::answer(now, config, (cert, creds), &candidates, offer.parse()?)
                .map_err(|error| SessionError::Offer(error.to_string()))?;
        let (patches, receiver) = mpsc::channel(4);
        let link = Link {
            place: self.0.door.place(peer.ufrag()),
            patches: receiver,
            offer,
            ticker: self.0.ticker.clone(),
            stop: self.0.stop.child_token(),
            pending: Some(pending),
            restarts: 0,
        };
        Ok(Seat {
            link,
            peer,
            token: name(&self.draw("session")[..20]),
            patches,
            answer: answer.to_sdp_string(),
            all,
        })
    }

    /// Lets a viewer in, who offered `body` to the address `at`.
    pub(crate) fn watch(
        &self,
        lease: Lease,
        body: &[u8],
        at: Option<IpAddr>,
    ) -> Result<Created, SessionError> {
        let line = lease.broadcast().current().ok_or_else(|| {
            Refusal::Unavailable("The stream is not live at the moment. Try again shortly.".into())
        })?;
        let plan = Plan::of(&line).map_err(SessionError::Unsendable)?;
        let offer = Offer::read(body, plan.uses())?;
        let seat = self.seat(offer, plan.config(), at)?;
        let now = self.0.ticker.now();
        let broadcast = Arc::clone(lease.broadcast());
        let core = Watching::new(now, seat.peer, plan, Arc::clone(&broadcast));
        let lacks = plan
            .silent
            .map(|codec| format!("no sound: it is {codec:?}, and WebRTC takes Opus"));
        if let Some(lacks) = &lacks {
            tracing::info!(broadcast = %broadcast.id(), lacks, "WebRTC viewer");
        }
        let created = Created {
            token: seat.token.clone(),
            etag: etag(0),
            answer: seat.answer,
            lacks,
        };
        let entry = Entry {
            watches: Some(broadcast.id()),
            patches: seat.patches,
            stop: seat.link.stop.clone(),
        };
        self.run(
            seat.token,
            entry,
            seat.all,
            session::watch(seat.link, core, lease),
        );
        Ok(created)
    }

    /// Lets a publisher in, who offered `body` to the address `at`.
    pub(crate) async fn publish(
        &self,
        key: &StreamKey,
        peer: SocketAddr,
        body: &[u8],
        at: Option<IpAddr>,
    ) -> Result<Created, SessionError> {
        let offer = Offer::read(body, whip::uses())?;
        let seat = self.seat(offer, whip::config(), at)?;
        let stop = seat.link.stop.clone();
        let publishers = &self.0.publishers;
        let admitted = publishers.admit(key, Protocol::WebRtc, peer, stop.clone());
        let publication = admitted.await?;
        let created = Created {
            token: seat.token.clone(),
            etag: etag(0),
            answer: seat.answer,
            lacks: None,
        };
        let entry = Entry {
            watches: None,
            patches: seat.patches,
            stop,
        };
        let core = Publishing::new(self.0.ticker.now(), seat.peer);
        self.run(
            seat.token,
            entry,
            seat.all,
            session::publish(seat.link, core, publication),
        );
        Ok(created)
    }

    fn run(
        &self,
        token: String,
        entry: Entry,
        permit: OwnedSemaphorePermit,
        session: impl Future<Output = ()> + Send + 'static,
    ) {
        self.lock().insert(token.clone(), entry);
        let here = self.clone();
        self.0.tasks.spawn(async move {
            // Also where the session panics.
            let _gone = Gone(here, token);
            Box::pin(session).await;
            drop(permit);
        });
    }

    /// Gives a fragment to the session with this name.
    pub(crate) async fn patch(
        &self,
        token: &str,
        if_match: Option<String>,
        body: &[u8],
    ) -> Result<Patched, PatchError> {
        let patches = self.lock().get(token).map(|e| e.patches.clone());
        let patches = patches.ok_or(PatchError::Unknown)?;
        let fragment = Fragment::read(body).map_err(|e| PatchError::Bad(e.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let patch = Patch {
            if_match,
            fragment,
            reply,
        };
        let asked = async {
            patches.send(patch).await.ok()?;
            answer.await.ok()
        };
        let answered = timeout(PATCH, asked).await.ok().flatten();
        answered.unwrap_or(Err(PatchError::Unknown))
    }

    pub(crate) fn ice_servers(&self) -> &[IceServer] {
        &self.0.ice_servers
    }
}

/// Takes a session off the list, however it ended.
struct Gone(WebRtc, String);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.end(&self.1);
    }
}
