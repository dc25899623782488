//! The server's async shell: accepts connections, asks who may publish and who may play, feeds the origin and the players.
use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use routing::model::{PlaybackId, Prefix, StreamKey, Uptime};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ProtocolError,
    session::{Event, IDLE, Session},
};
use crate::{
    flv::Tag,
    follow::{self, Audience, Follow},
    ingest::{Publication, Publishers},
    live::ModelError,
    mux::{Form, config_tags, frame_tag, metadata},
    origin::{Feed, FeedError},
    ports::{Protocol, Refusal, Viewer},
};

/// How long a peer may take to read our few bytes.
const SEND: Duration = Duration::from_secs(10);
/// A publisher that is silent for so long gives way to another one of the same stream that waits at this node: an
/// encoder that lost its connection comes back on a new one, long before the old one is idle enough to be closed.
const GIVE_WAY: Duration = Duration::from_secs(5);
/// How often a silent publisher looks for one that waits.
const LOOK: Duration = Duration::from_secs(1);
/// How long a client may take to say its first byte, and to finish a TLS handshake.
const HELLO: Duration = Duration::from_secs(10);
/// The first byte of TLS (RFC 8446 5.1); RTMP's is its version, 3.
const TLS_HANDSHAKE: u8 = 22;
/// How long a stream that is about to start is waited for.
const LEASE: Duration = Duration::from_secs(5);
/// What is written to a player at once, where there is as much.
const WRITE: usize = 64 << 10;
/// What is read at once.
const READ: usize = 32 << 10;

/// How many connections a server bears.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all; a further one is closed at once.
    pub connections: usize,
    /// Connections that have not been let in; a further one is closed at once.
    pub pending: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            pending: 128,
        }
    }
}

/// The TLS configuration of now: certificates change.
pub type Tls = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;
/// A connection's place among all, and among those that have not been let in.
type Places = (OwnedSemaphorePermit, OwnedSemaphorePermit);

struct Inner {
    publishers: Publishers,
    audience: Audience,
    connections: Arc<Semaphore>,
    pending: Arc<Semaphore>,
    next: AtomicU64,
}

/// Takes RTMP publishers in, and sends streams to players. A cheap handle.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
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
    /// A server without connections, whose publishers are let in by `publishers` and whose players by `audience`.
    #[must_use]
    pub fn new(publishers: Publishers, audience: Audience, limits: Limits) -> Self {
        Self(Arc::new(Inner {
            publishers,
            audience,
            connections: Arc::new(Semaphore::new(limits.connections)),
            pending: Arc::new(Semaphore::new(limits.pending)),
            next: AtomicU64::new(0),
        }))
    }

    /// Accepts connections until `stop`; returns when all have ended. With `tls`, those that begin with a TLS handshake
    /// are RTMPS. A failed accept (no descriptors left) is tried again after 100 ms.
    pub async fn serve(&self, listener: TcpListener, tls: Option<Tls>, stop: CancellationToken) {
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
                    let (server, tls) = (self.clone(), tls.clone());
                    let stop = stop.child_token();
                    tasks.spawn(async move { server.serve_tcp(io, peer, tls, stop).await });
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

    async fn serve_tcp(
        &self,
        io: TcpStream,
        peer: SocketAddr,
        tls: Option<Tls>,
        stop: CancellationToken,
    ) {
        let Some(places) = self.places() else { return };
        let Some(tls) = tls else {
            return self.serve_in(io, peer, stop, places).await;
        };
        let mut first = [0];
        let begun = tokio::select! {
            begun = timeout(HELLO, io.peek(&mut first)) => matches!(begun, Ok(Ok(1))),
            () = stop.cancelled() => false,
        };
        if !begun {
            return;
        }
        if first != [TLS_HANDSHAKE] {
            return self.serve_in(io, peer, stop, places).await;
        }
        match timeout(HELLO, TlsAcceptor::from(tls()).accept(io)).await {
            Ok(Ok(io)) => self.serve_in(io, peer, stop, places).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS with an RTMPS client"),
            Err(_) => tracing::debug!("an RTMPS client did not finish its handshake"),
        }
    }

    /// Serves one connection, plain or wrapped in TLS, until it ends.
    pub async fn serve_stream<S>(&self, io: S, peer: SocketAddr, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        if let Some(places) = self.places() {
            self.serve_in(io, peer, stop, places).await;
        }
    }

    fn places(&self) -> Option<Places> {
        let connection = Arc::clone(&self.0.connections).try_acquire_owned();
        let pending = Arc::clone(&self.0.pending).try_acquire_owned();
        match (connection, pending) {
            (Ok(connection), Ok(pending)) => Some((connection, pending)),
            _ => {
                tracing::debug!("RTMP connection closed: too many");
                None
            }
        }
    }

    async fn serve_in<S>(
        &self,
        io: S,
        peer: SocketAddr,
        stop: CancellationToken,
        (_connection, pending): Places,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let clock = self.0.publishers.clock();
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        // The node's id keeps the filling of its handshakes apart from that of others; it is no secret.
        let seed = clock.unix().0 ^ id.rotate_left(40);
        let mut connection = Connection {
            publishers: &self.0.publishers,
            audience: &self.0.audience,
            io,
            peer,
            session: Session::new(clock.uptime(), seed),
            pending: Some(pending),
            publication: None,
            player: None,
            stop,
        };
        let ended = Box::pin(connection.run()).await;
        drop(connection.publication.take());
        match ended {
            Ok(()) => connection.close().await,
            Err(error) => tracing::debug!(%error, "RTMP connection ended"),
        }
    }
}

/// One who plays.
struct Player {
    follow: Follow,
    lines: Vec<follow::Line>,
    /// The last tag's time.
    time: u32,
}

struct Connection<'a, S> {
    publishers: &'a Publishers,
    audience: &'a Audience,
    io: S,
    peer: SocketAddr,
    session: Session,
    pending: Option<OwnedSemaphorePermit>,
    publication: Option<(Publication, Feed)>,
    player: Option<Player>,
    stop: CancellationToken,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<'_, S> {
    fn now(&self) -> Uptime {
        self.publishers.clock().uptime()
    }

    async fn run(&mut self) -> Result<(), ConnectionError> {
        let mut buffer = vec![0; READ];
        loop {
            while let Some(event) = self.session.poll(self.now())? {
                match event {
                    Event::Publish(key) => self.admit(&key).await,
                    Event::Play(id) => self.play(id).await,
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
                event = shown(self.player.as_mut()) => self.show(event),
                () = self.stop.cancelled() => {
                    self.session.send_away(
                        "This server ends the stream. Connect again; its name leads to a server that takes it.",
                    );
                }
            }
        }
    }

    /// How long nothing has to be done unless something happens.
    fn wait(&self) -> Duration {
        let now = self.now();
        let wait = self.session.deadline().since(now).min(IDLE);
        if self.publication.is_none() {
            return wait;
        }
        let silent = now.since(self.session.last_message());
        wait.min(GIVE_WAY.saturating_sub(silent).max(LOOK))
    }

    fn check_time(&self) -> Result<(), ProtocolError> {
        let now = self.now();
        self.session.check_time(now)?;
        let silent = now.since(self.session.last_message()) >= GIVE_WAY;
        if let Some((publication, _)) = &self.publication
            && silent
            && publication.others_wait()
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
        let (publishers, stop) = (self.publishers, self.stop.clone());
        match publishers.admit(key, Protocol::Rtmp, self.peer, stop).await {
            Ok(publication) => {
                self.publication = Some((publication, Feed::new()));
                self.pending = None;
                self.session.accept();
            }
            Err(refusal) => {
                let code = match refusal {
                    Refusal::Unknown(_) => "NetStream.Publish.BadName",
                    Refusal::Forbidden(_) => "NetStream.Publish.Unauthorized",
                    Refusal::Unavailable(_) => "NetStream.Publish.Failed",
                };
                tracing::info!(code, "publication refused");
                self.session.refuse(code, &refusal.to_string());
            }
        }
    }

    async fn play(&mut self, id: PlaybackId) {
        let viewer = Viewer {
            prefix: Prefix::of_viewer(self.peer.ip()),
            protocol: Protocol::Rtmp,
            host: self.session.host().map(str::to_owned),
            secure: false,
        };
        let admit = self.audience.admit(id, &viewer, |c| Form::Flv.takes(c));
        let admitted = timeout(LEASE, admit).await.unwrap_or_else(|_| {
            let text = "This stream is not live. Play it again when it is, or in a few seconds.";
            Err(Refusal::Unknown(text.into()))
        });
        match admitted {
            Ok(follow) => {
                self.player = Some(Player {
                    follow,
                    lines: Vec::new(),
                    time: 0,
                });
                self.pending = None;
                self.session.accept();
            }
            Err(refusal) => {
                let code = match refusal {
                    Refusal::Unknown(_) => "NetStream.Play.StreamNotFound",
                    Refusal::Forbidden(_) | Refusal::Unavailable(_) => "NetStream.Play.Failed",
                };
                tracing::debug!(code, "playing refused");
                self.session.refuse(code, &refusal.to_string());
            }
        }
    }

    /// Sends what a player gets next, and as much of what else is there as goes in one write.
    fn show(&mut self, event: Option<follow::Event>) {
        let Some(player) = &mut self.player else {
            return;
        };
        let Some(mut event) = event else {
            self.session.end_play();
            return;
        };
        loop {
            match event {
                follow::Event::Lines(lines) => {
                    let tags = config_tags(&lines, player.time);
                    for tag in std::iter::once(metadata(&lines, player.time)).chain(tags) {
                        self.session.send(&tag);
                    }
                    player.lines = lines;
                }
                follow::Event::Frame(frame) => {
                    if let Some(line) = player.lines.get(frame.line) {
                        let tag = frame_tag(line, &frame);
                        player.time = tag.timestamp;
                        self.session.send(&tag);
                    }
                }
            }
            if self.session.output_len() >= WRITE {
                return;
            }
            match player.follow.take() {
                Some(next) => event = next,
                None => return,
            }
        }
    }

    async fn set_live(&mut self, live: bool) {
        if let Some((publication, _)) = &mut self.publication {
            let written = publication.set_live(live).await;
            self.written(written);
        }
    }

    fn tag(&mut self, tag: &Tag) {
        let Some((publication, feed)) = &mut self.publication else {
            return;
        };
        let now = publication.now();
        if let Err(error) = feed.tag(publication.origin(), now, tag) {
            let code = match error {
                FeedError::Flv(_) => "NetStream.Publish.Rejected",
                _ => "NetStream.Publish.Failed",
            };
            tracing::info!(broadcast = %publication.publish().broadcast, %error, "publication refused");
            self.session.refuse(code, &error.to_string());
            return;
        }
        let written = publication.write();
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

/// What a player gets next; never without one.
async fn shown(player: Option<&mut Player>) -> Option<follow::Event> {
    match player {
        Some(player) => player.follow.next().await,
        None => std::future::pending().await,
    }
}

/// Whether the publication is live, once that changes; never without one.
async fn standing(publication: Option<&mut (Publication, Feed)>) -> bool {
    match publication {
        Some((publication, _)) => publication.standing().await,
        None => std::future::pending().await,
    }
}
