//! The listener's async shell: one UDP socket, a task for each publication.
use std::{collections::HashMap, fmt, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use quinn::udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use routing::model::{StreamKey, Uptime};
use tokio::{
    io::Interest,
    net::UdpSocket,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Asked, Event, Listener, Options, Path, Reject, SocketId};
use crate::{
    ingest::{Publication, Publishers},
    ports::{Protocol, Refusal},
    ts::Feed,
};

/// Pieces of a stream that wait for its publication to take them; more are left out.
const QUEUE: usize = 1024;
/// What is read at once, by datagrams of one sender that the system joined.
const READ: usize = 64 << 10;
/// What the system is asked to keep for us while we do something else.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A publisher that sends no pictures or sound for so long gives way to another one of the same stream that waits at
/// this node.
const GIVE_WAY: Duration = Duration::from_secs(5);

/// Takes SRT publishers in.
pub struct Server {
    publishers: Publishers,
    options: Options,
    seed: [u8; 32],
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

/// What was decided about a caller or a connection.
#[derive(Debug)]
enum Decision {
    Accept(SocketId),
    Reject(SocketId, Reject),
    Close(SocketId),
}

impl Server {
    /// A server without connections, whose publishers are let in by `publishers`. The seed has to be secret.
    #[must_use]
    pub const fn new(publishers: Publishers, options: Options, seed: [u8; 32]) -> Self {
        Self {
            publishers,
            options,
            seed,
        }
    }

    /// Serves callers until `stop`; returns when all publications have ended.
    ///
    /// # Errors
    /// Where the socket cannot be used at all. What goes wrong with one datagram is no error.
    pub async fn serve(
        self,
        socket: std::net::UdpSocket,
        stop: CancellationToken,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new((&socket).into())?;
        if let Err(error) = state.set_recv_buffer_size((&socket).into(), RECEIVE_BUFFER) {
            tracing::debug!(%error, "the SRT socket's buffer stays as it is");
        }
        let (decide, decisions) = mpsc::channel(self.options.pending + self.options.connections);
        let tasks = TaskTracker::new();
        let mut shell = Shell {
            listener: Listener::new(self.options, self.seed),
            publishers: self.publishers,
            socket,
            state,
            streams: HashMap::new(),
            decide,
            tasks: tasks.clone(),
            stop: stop.child_token(),
        };
        shell.run(decisions).await;
        // Publications end when nothing can come any more.
        drop(shell);
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

/// A caller that was asked for, or a connection: where its bytes go, and what ends its task.
struct Stream {
    bytes: mpsc::Sender<Bytes>,
    stop: CancellationToken,
}

struct Shell {
    listener: Listener,
    publishers: Publishers,
    socket: UdpSocket,
    state: UdpSocketState,
    streams: HashMap<SocketId, Stream>,
    decide: mpsc::Sender<Decision>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Shell {
    fn now(&self) -> Uptime {
        self.publishers.clock().uptime()
    }

    async fn run(&mut self, mut decisions: mpsc::Receiver<Decision>) {
        // Made one by one, memory that is not used is not there.
        let mut buffers: Vec<_> = (0..BATCH_SIZE).map(|_| vec![0; READ]).collect();
        let mut metas = vec![RecvMeta::default(); BATCH_SIZE];
        loop {
            let now = self.now();
            let wait = self.listener.deadline().map(|at| at.since(now));
            tokio::select! {
                () = self.stop.cancelled() => break,
                ready = self.socket.readable() => match ready {
                    Ok(()) => self.receive(&mut buffers, &mut metas),
                    Err(error) => {
                        tracing::warn!(%error, "the SRT socket cannot be read");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    let now = self.now();
                    self.listener.tick(now);
                }
                Some(decision) = decisions.recv() => self.decided(&decision),
            }
            self.events();
            self.send();
        }
        let now = self.now();
        self.listener.close_all(now);
        self.send();
    }

    /// Takes what has come, up to a batch.
    fn receive(&mut self, buffers: &mut [Vec<u8>], metas: &mut [RecvMeta]) {
        let mut slices: Vec<_> = buffers.iter_mut().map(|b| io::IoSliceMut::new(b)).collect();
        let read = self.socket.try_io(Interest::READABLE, || {
            self.state.recv((&self.socket).into(), &mut slices, metas)
        });
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                // Such as an answer that a host sent to something of ours: no reason to stop.
                tracing::debug!(%error, "nothing read from the SRT socket");
                return;
            }
        };
        let now = self.now();
        for (meta, buffer) in metas.iter().zip(buffers).take(count) {
            let path = Path {
                remote: meta.addr,
                local: meta.dst_ip,
            };
            let whole = buffer.get(..meta.len).unwrap_or_default();
            for datagram in whole.chunks(meta.stride.max(1)) {
                self.listener.receive(now, path, datagram);
            }
        }
        let now = self.now();
        if self.listener.deadline().is_some_and(|at| at <= now) {
            self.listener.tick(now);
        }
    }

    fn decided(&mut self, decision: &Decision) {
        let now = self.now();
        match *decision {
            Decision::Accept(id) => self.listener.accept(now, id),
            Decision::Reject(id, why) => {
                self.streams.remove(&id);
                self.listener.reject(id, why);
            }
            Decision::Close(id) => {
                self.streams.remove(&id);
                self.listener.close(now, id);
            }
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.listener.poll() {
            match event {
                Event::Request { id, remote, asked } => self.ask(id, remote, asked),
                Event::Data { id, payload } => {
                    if let Some(stream) = self.streams.get(&id)
                        && stream.bytes.try_send(payload).is_err()
                    {
                        tracing::debug!("an SRT publication is too slow: some of it is left out");
                    }
                }
                Event::Closed { id } => {
                    self.streams.remove(&id);
                }
            }
        }
    }

    /// Lets somebody else decide, and feeds the publication.
    fn ask(&mut self, id: SocketId, remote: SocketAddr, asked: Asked) {
        let Asked::Publish(key) = asked;
        let (bytes, feed) = mpsc::channel(QUEUE);
        let stop = self.stop.child_token();
        let stream = Stream {
            bytes,
            stop: stop.clone(),
        };
        self.streams.insert(id, stream);
        let (publishers, decide) = (self.publishers.clone(), self.decide.clone());
        self.tasks.spawn(async move {
            let decision = publish(&publishers, id, (remote, key), feed, &decide, stop).await;
            // Nobody listens any more when the listener has ended.
            let _ = decide.send(decision).await;
        });
    }

    fn send(&mut self) {
        while let Some((path, datagram)) = self.listener.poll_transmit() {
            let transmit = Transmit {
                destination: path.remote,
                ecn: None,
                contents: &datagram,
                segment_size: None,
                src_ip: path.local,
            };
            // What does not fit into the system's buffer is lost like anything on the way.
            let sent = self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send((&self.socket).into(), &transmit)
            });
            if let Err(error) = sent {
                tracing::trace!(%error, "a datagram was not sent");
            }
        }
    }
}

impl Drop for Stream {
    /// A caller that is gone is not decided about any more.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One caller: let in or not, fed until it ends. Gives what remains to be decided then.
async fn publish(
    publishers: &Publishers,
    id: SocketId,
    (remote, key): (SocketAddr, StreamKey),
    mut bytes: mpsc::Receiver<Bytes>,
    decide: &mpsc::Sender<Decision>,
    stop: CancellationToken,
) -> Decision {
    let admitted = publishers.admit(&key, Protocol::Srt, remote, stop.clone());
    let mut publication = match Box::pin(admitted).await {
        Ok(publication) => publication,
        Err(refusal) => {
            let why = match refusal {
                Refusal::Unknown(_) => Reject::NotFound,
                Refusal::Forbidden(_) => Reject::Forbidden,
                Refusal::Unavailable(_) => Reject::Unavailable,
            };
            tracing::info!(?why, "publication refused");
            return Decision::Reject(id, why);
        }
    };
    if decide.send(Decision::Accept(id)).await.is_ok() {
        Box::pin(feed(&mut publication, &mut bytes, &stop)).await;
    }
    Decision::Close(id)
}

async fn feed(
    publication: &mut Publication,
    bytes: &mut mpsc::Receiver<Bytes>,
    stop: &CancellationToken,
) {
    let mut feed = Feed::new();
    loop {
        let written = tokio::select! {
            piece = timeout(GIVE_WAY, bytes.recv()) => match piece {
                Ok(Some(piece)) => {
                    let now = publication.now();
                    feed.push(publication.origin(), now, &piece);
                    publication.write()
                }
                Err(_) if !publication.others_wait() => continue,
                Ok(None) | Err(_) => break,
            },
            live = publication.standing() => publication.set_live(live).await,
            () = stop.cancelled() => break,
        };
        if let Err(error) = written {
            tracing::warn!(%error, "publication ended: its frames could not be kept");
            return;
        }
    }
    // What came before the end is worth writing.
    while let Ok(piece) = bytes.try_recv() {
        let now = publication.now();
        feed.push(publication.origin(), now, &piece);
    }
    let now = publication.now();
    feed.end(publication.origin(), now);
    if let Err(error) = publication.write() {
        tracing::warn!(%error, "the last frames of a publication could not be kept");
    }
}
