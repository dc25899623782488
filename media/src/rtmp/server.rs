//! The server's async shell: accepts connections, asks who may publish, feeds the origin.
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use routing::model::{BroadcastId, Clock, NodeId, StreamKey, UnixMillis};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ProtocolError,
    session::{Event, Session},
};
use crate::{
    flv::Tag,
    live::{Broadcasts, EpochLine, ModelError},
    origin::{Feed, FeedError, Recall, Writer},
    ports::{Claims, Gate, HeldClaim, Holders, Protocol, Publish, Refusal, Standing},
};

/// How long whoever decides about a key may take.
const ASK: Duration = Duration::from_secs(5);
/// How long a peer may take to read our few bytes.
const SEND: Duration = Duration::from_secs(10);
/// How long an ended broadcast stays readable for those who are behind, and followable for a publisher that comes back.
const LINGER: Duration = Duration::from_secs(60);
/// A publisher that is silent for so long gives way to another one of the same stream that waits at this node: an
/// encoder that lost its connection comes back on a new one, long before the old one is idle enough to be closed.
const GIVE_WAY: Duration = Duration::from_secs(5);
/// How often a silent publisher looks for one that waits.
const LOOK: Duration = Duration::from_secs(1);
/// What is read at once.
const READ: usize = 32 << 10;

/// How many connections a server bears.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all; a further one is closed at once.
    pub connections: usize,
    /// Connections that have not been let in to publish; a further one is closed at once.
    pub pending: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            pending: 128,
        }
    }
}

/// What a server works with.
pub struct ServerOptions {
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
    /// How much is borne.
    pub limits: Limits,
}

/// A publication, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// What it feeds.
    pub publish: Publish,
    /// From where; do not store it.
    pub peer: SocketAddr,
    /// Since when.
    pub since: UnixMillis,
    /// Whether it is live, or stands by.
    pub live: bool,
}

struct Inner {
    options: ServerOptions,
    connections: Arc<Semaphore>,
    pending: Arc<Semaphore>,
    sessions: Mutex<BTreeMap<u64, (SessionInfo, CancellationToken)>>,
    next: AtomicU64,
}

/// Takes RTMP publishers in. A cheap handle.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("sessions", &self.sessions().len())
            .finish_non_exhaustive()
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the other side does not read")]
    Slow,
}

impl Server {
    /// A server without connections.
    #[must_use]
    pub fn new(options: ServerOptions) -> Self {
        Self(Arc::new(Inner {
            connections: Arc::new(Semaphore::new(options.limits.connections)),
            pending: Arc::new(Semaphore::new(options.limits.pending)),
            options,
            sessions: Mutex::default(),
            next: AtomicU64::new(0),
        }))
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

    /// Whether another connection publishes this broadcast too.
    fn others(&self, id: u64, broadcast: BroadcastId) -> bool {
        let sessions = self.lock();
        let mut others = sessions.iter().filter(|(other, _)| **other != id);
        others.any(|(_, (info, _))| info.publish.broadcast == broadcast)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (SessionInfo, CancellationToken)>> {
        let sessions = self.0.sessions.lock();
        sessions.unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts connections until `stop`; returns when all have ended. A failed accept (no descriptors left) is
    /// tried again after 100 ms.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((io, peer)) => {
                    if let Err(error) = io.set_nodelay(true) {
                        tracing::debug!(%error, "no TCP_NODELAY");
                    }
                    let server = self.clone();
                    let stop = stop.child_token();
                    tasks.spawn(async move { server.serve_stream(io, peer, stop).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "an RTMP connection could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Serves one connection, plain or wrapped in TLS, until it ends.
    pub async fn serve_stream<S>(&self, io: S, peer: SocketAddr, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let permits = (
            Arc::clone(&self.0.connections).try_acquire_owned(),
            Arc::clone(&self.0.pending).try_acquire_owned(),
        );
        let (Ok(_connection), Ok(pending)) = permits else {
            tracing::debug!("RTMP connection closed: too many");
            return;
        };
        let clock = &self.0.options.clock;
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        // The node's id keeps the filling of its handshakes apart from that of others; it is no secret.
        let seed = clock.unix().0 ^ id.rotate_left(40);
        let mut connection = Connection {
            server: self,
            id,
            io,
            peer,
            session: Session::new(clock.uptime(), seed),
            pending: Some(pending),
            publication: None,
            stop,
        };
        let ended = Box::pin(connection.run()).await;
        if let Some(publication) = connection.publication.take() {
            self.lock().remove(&id);
            let broadcast = publication.publish.broadcast;
            tracing::info!(%broadcast, "publication ended");
            drop(publication);
            self.forget_later(broadcast, connection.stop.clone());
        }
        match ended {
            Ok(()) => connection.close().await,
            Err(error) => tracing::debug!(%error, "RTMP connection ended"),
        }
    }

    /// Removes an ended broadcast that this node was the origin of, unless somebody publishes it by then; not while
    /// somebody else holds it, since who watches on would not see the epoch that the next publisher opens.
    fn forget_later(&self, id: BroadcastId, stop: CancellationToken) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(LINGER) => {}
                }
                let Some(inner) = inner.upgrade() else { return };
                let ServerOptions {
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
        });
    }
}

/// What a publisher that was let in has.
struct Publication {
    publish: Publish,
    feed: Feed,
    writer: Writer,
    standing: watch::Receiver<Standing>,
    // Dropped last: the claim is withdrawn after the epoch was ended.
    _claim: Box<dyn HeldClaim>,
}

struct Connection<'a, S> {
    server: &'a Server,
    id: u64,
    io: S,
    peer: SocketAddr,
    session: Session,
    pending: Option<OwnedSemaphorePermit>,
    publication: Option<Publication>,
    stop: CancellationToken,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<'_, S> {
    fn options(&self) -> &ServerOptions {
        &self.server.0.options
    }

    async fn run(&mut self) -> Result<(), ConnectionError> {
        let mut buffer = vec![0; READ];
        loop {
            while let Some(event) = self.session.poll(self.options().clock.uptime())? {
                match event {
                    Event::Publish(key) => self.admit(&key).await,
                    Event::Tag(tag) => self.tag(&tag),
                    Event::Ended => {}
                }
            }
            self.flush().await?;
            if self.session.is_closed() {
                return Ok(());
            }
            let wait = self.wait();
            tokio::select! {
                read = self.io.read(&mut buffer) => match read? {
                    0 => return Ok(()),
                    n => self.session.receive(&buffer[..n]),
                },
                () = sleep(wait) => self.check_time()?,
                live = standing(self.publication.as_mut()) => self.set_live(live).await,
                () = self.stop.cancelled() => {
                    self.session.refuse(
                        "NetStream.Publish.Failed",
                        "This server ends the stream. Connect again; its name leads to a server that takes it.",
                    );
                }
            }
        }
    }

    /// How long nothing has to be done unless something happens.
    fn wait(&self) -> Duration {
        let now = self.options().clock.uptime();
        let wait = self.session.deadline().since(now);
        if self.publication.is_none() {
            return wait;
        }
        let silent = now.since(self.session.last_message());
        wait.min(GIVE_WAY.saturating_sub(silent).max(LOOK))
    }

    fn check_time(&self) -> Result<(), ProtocolError> {
        let now = self.options().clock.uptime();
        self.session.check_time(now)?;
        let silent = now.since(self.session.last_message()) >= GIVE_WAY;
        if let Some(publication) = &self.publication
            && silent
            && self.server.others(self.id, publication.publish.broadcast)
        {
            return Err(ProtocolError::Timeout(
                "no message for 5 s while another publisher of the stream waits",
            ));
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        let output = self.session.take_output();
        if output.is_empty() {
            return Ok(());
        }
        timeout(SEND, self.io.write_all(&output))
            .await
            .map_err(|_| ConnectionError::Slow)??;
        Ok(())
    }

    /// Closes so that the peer can read our last words: bytes of it left unread would make the kernel take them back.
    async fn close(&mut self) {
        let goodbye = async {
            let output = self.session.take_output();
            self.io.write_all(&output).await?;
            self.io.shutdown().await?;
            let mut buffer = vec![0; READ];
            let mut left = 1_usize << 20;
            while left > 0 {
                match self.io.read(&mut buffer).await? {
                    0 => break,
                    n => left = left.saturating_sub(n),
                }
            }
            std::io::Result::Ok(())
        };
        if let Ok(Err(error)) = timeout(Duration::from_secs(2), goodbye).await {
            tracing::debug!(%error, "RTMP connection closed by the other side");
        }
    }

    async fn admit(&mut self, key: &StreamKey) {
        let options = self.options();
        let asked = timeout(ASK, options.gate.may_publish(key, Protocol::Rtmp)).await;
        let answer = asked.unwrap_or_else(|_| {
            Err(Refusal::Unavailable(
                "This server could not check the stream key in time. Try again.".into(),
            ))
        });
        let publish = match answer {
            Ok(publish) => publish,
            Err(refusal) => {
                let code = match refusal {
                    Refusal::Unknown(_) => "NetStream.Publish.BadName",
                    Refusal::Forbidden(_) => "NetStream.Publish.Unauthorized",
                    Refusal::Unavailable(_) => "NetStream.Publish.Failed",
                };
                tracing::info!(code, "publication refused");
                self.session.refuse(code, &refusal.to_string());
                return;
            }
        };
        let claim = options.claims.claim(publish.broadcast);
        let standing = claim.standing();
        let info = SessionInfo {
            publish: publish.clone(),
            peer: self.peer,
            since: options.clock.unix(),
            live: false,
        };
        tracing::info!(broadcast = %publish.broadcast, "publication accepted");
        let writer = Writer::new(
            Arc::clone(&options.broadcasts),
            Arc::clone(&options.holders),
            publish.broadcast,
            options.node,
            claim.claim(),
        );
        let live = *standing.borrow() == Standing::Live;
        self.publication = Some(Publication {
            publish,
            feed: Feed::new(),
            writer,
            standing,
            _claim: claim,
        });
        self.server
            .lock()
            .insert(self.id, (info, self.stop.clone()));
        self.pending = None;
        self.set_live(live).await;
        self.session.accept();
    }

    /// Goes live or stands by. What the new epoch follows is asked first; whoever decides may think again meanwhile, and
    /// is then heard next.
    async fn set_live(&mut self, live: bool) {
        if live && let Some(broadcast) = self.publication.as_ref().map(|p| p.publish.broadcast) {
            let past = self.options().recall.recall(broadcast).await;
            let now = self.options().clock.unix();
            if let Some((past, publication)) = past.zip(self.publication.as_mut()) {
                publication.writer.recall(now, past);
            }
        }
        let now = self.options().clock.unix();
        if let Some((info, _)) = self.server.lock().get_mut(&self.id) {
            info.live = live;
        }
        let Some(publication) = &mut self.publication else {
            return;
        };
        publication.feed.set_live(live);
        let written = publication.drain(now);
        if !live {
            publication.writer.withdraw();
        }
        self.written(written);
    }

    fn tag(&mut self, tag: &Tag) {
        let now = self.options().clock.unix();
        let Some(publication) = &mut self.publication else {
            return;
        };
        if let Err(error) = publication.feed.tag(now, tag) {
            let code = match error {
                FeedError::Flv(_) => "NetStream.Publish.Rejected",
                _ => "NetStream.Publish.Failed",
            };
            tracing::info!(broadcast = %publication.publish.broadcast, %error, "publication refused");
            self.session.refuse(code, &error.to_string());
            return;
        }
        let written = publication.drain(now);
        self.written(written);
    }

    fn written(&mut self, written: Result<(), ModelError>) {
        if let Err(error) = written {
            tracing::warn!(%error, "publication ended: its frames could not be kept");
            self.session.refuse(
                "NetStream.Publish.Failed",
                "This server could not keep the stream's frames. Connect again.",
            );
        }
    }
}

impl Publication {
    fn drain(&mut self, now: UnixMillis) -> Result<(), ModelError> {
        while let Some(output) = self.feed.poll() {
            self.writer.write(now, output)?;
        }
        Ok(())
    }
}

/// Whether the publication is live, once that changes; never, without one or when nobody decides any more.
async fn standing(publication: Option<&mut Publication>) -> bool {
    if let Some(publication) = publication
        && publication.standing.changed().await.is_ok()
    {
        return *publication.standing.borrow_and_update() == Standing::Live;
    }
    std::future::pending().await
}
