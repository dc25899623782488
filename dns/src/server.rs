//! Sockets around [`respond`].
//!
//! UDP: one thread an address answers packet after packet, so at most one answer an address is in work, and what comes
//! faster waits in the kernel's buffer, which drops when full. It has a runtime of its own, since on the shared one every
//! arrival also wakes a second worker to look for work that is not there, which costs about half an answer more.
//!
//! TCP: at most [`DnsOptions::connections`] at a time, the next wait to be accepted; each is closed after 5 s without a
//! whole query, so that slow ones do not hold the places.
//!
//! hickory-server is not what listens here: it starts a task for every datagram, with no bound; it answers malformed
//! packets itself, also when this responder has to be silent; and it takes a client subnet of family 0 for malformed. Its
//! sister hickory-proto does names, records and their encoding.
use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::op::ResponseCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Builder,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    wire::{Transport, respond},
    zone::ZoneSource,
};

/// How long a TCP client may take for each step. RFC 7766 section 6.2.3 wants seconds, not minutes.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long [`Server::stop`] lets connections finish.
const GRACE: Duration = Duration::from_secs(1);
/// Answers in a row before the end of serving is looked for.
const BATCH: usize = 64;

/// How to serve.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// Addresses to answer at, UDP and TCP alike. Port 0 takes any port that is free in both. Name each address of a
    /// machine with several: from a wildcard address the kernel may answer from another than was asked.
    pub listen: Vec<SocketAddr>,
    /// TCP connections at a time, over all addresses.
    pub connections: usize,
}

impl DnsOptions {
    /// Serving at `listen`, with 256 connections.
    #[must_use]
    pub const fn new(listen: Vec<SocketAddr>) -> Self {
        Self {
            listen,
            connections: 256,
        }
    }
}

/// The two sockets of one address.
#[derive(Debug)]
pub struct Pair {
    /// For UDP, bound.
    pub udp: std::net::UdpSocket,
    /// For TCP, listening at the same address and port.
    pub tcp: std::net::TcpListener,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be had.
    #[error(
        "cannot answer DNS at {addr} ({transport}): {source}; stop what listens there, choose another address in the configuration, or allow low ports to this program"
    )]
    Bind {
        /// Which.
        addr: SocketAddr,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A socket cannot be used.
    #[error("cannot answer DNS by a socket that was opened for it: {source}")]
    Socket {
        /// What the system said.
        source: io::Error,
    },
    /// There is no thread to answer from.
    #[error(
        "cannot start a thread that answers DNS: {source}; the machine or this user is out of processes, descriptors or memory"
    )]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

/// A running server. Dropping it ends it at once.
#[derive(Debug)]
pub struct Server {
    addrs: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Binds every address, then serves as [`Server::serve`].
    ///
    /// # Errors
    /// [`StartError`] when an address is taken or not allowed; then none is served.
    pub async fn start(options: DnsOptions, zone: Arc<dyn ZoneSource>) -> Result<Self, StartError> {
        let mut bound = Vec::new();
        for addr in &options.listen {
            bound.push(bind(*addr).await?);
        }
        Self::serve(bound, options.connections, &zone)
    }

    /// Serves from the zone of the moment at addresses that were opened before, with at most so many TCP connections.
    /// Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; then none is served.
    pub fn serve(
        bound: Vec<Pair>,
        connections: usize,
        zone: &Arc<dyn ZoneSource>,
    ) -> Result<Self, StartError> {
        let (stop, stopping) = watch::channel(false);
        let places = Arc::new(Semaphore::new(connections));
        let mut server = Self {
            addrs: Vec::new(),
            stop,
            tasks: JoinSet::new(),
        };
        let unusable = |source| StartError::Socket { source };
        for Pair { udp, tcp } in bound {
            udp.set_nonblocking(true).map_err(unusable)?;
            tcp.set_nonblocking(true).map_err(unusable)?;
            let tcp = TcpListener::from_std(tcp).map_err(unusable)?;
            let addr = tcp.local_addr().map_err(unusable)?;
            tracing::info!(%addr, "answering DNS");
            server.addrs.push(addr);
            let shell = Shell {
                zone: zone.clone(),
                counters: Counters::new(),
                stopping: stopping.clone(),
            };
            let thread = |source| StartError::Thread { source };
            let runtime = Builder::new_current_thread().enable_io().build();
            let runtime = runtime.map_err(thread)?;
            let answering = shell.clone();
            server
                .tasks
                .spawn_blocking(move || runtime.block_on(answering.udp(udp)));
            server.tasks.spawn(shell.tcp(tcp, places.clone()));
        }
        Ok(server)
    }

    /// Where it answers, in the order of [`DnsOptions::listen`], with the ports that were got.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Stops taking questions, lets those in work finish for up to a second, and closes everything.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(GRACE, all).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

async fn bind(addr: SocketAddr) -> Result<Pair, StartError> {
    let failed = |transport| {
        move |source| StartError::Bind {
            addr,
            transport,
            source,
        }
    };
    // With port 0, the port that one transport got may be taken in the other: try a few.
    for attempt in 0.. {
        // Tokio's listener, since that may have an address again whose connections have just ended.
        let tcp = TcpListener::bind(addr).await.map_err(failed("tcp"))?;
        let tcp = tcp.into_std().map_err(failed("tcp"))?;
        let got = tcp.local_addr().map_err(failed("tcp"))?;
        match std::net::UdpSocket::bind(got) {
            Ok(udp) => return Ok(Pair { udp, tcp }),
            Err(e) if addr.port() != 0 || attempt == 16 => return Err(failed("udp")(e)),
            Err(_) => {}
        }
    }
    Err(failed("udp")(io::ErrorKind::AddrInUse.into()))
}

#[derive(Clone)]
struct Shell {
    zone: Arc<dyn ZoneSource>,
    counters: Arc<Counters>,
    stopping: watch::Receiver<bool>,
}

impl Shell {
    async fn udp(mut self, socket: std::net::UdpSocket) {
        let socket = match UdpSocket::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "DNS over UDP is not answered: out of descriptors");
                return;
            }
        };
        let mut packet = [0; 4096];
        let mut out = Vec::with_capacity(512);
        loop {
            tokio::select! {
                _ = self.stopping.changed() => return,
                ready = socket.readable() => if ready.is_err() { return },
            }
            for _ in 0..BATCH {
                // An error here is of one packet (an ICMP answer to an earlier one) or means that there is none.
                match socket.try_recv_from(&mut packet) {
                    Ok((len, peer)) => {
                        if self.answer(&packet[..len], peer, Transport::Udp, &mut out) {
                            // A full send buffer loses the answer, as the net might: the client asks again.
                            let _ = socket.try_send_to(&out, peer);
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
        }
    }

    async fn tcp(mut self, listener: TcpListener, places: Arc<Semaphore>) {
        let mut open = JoinSet::new();
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await.ok()?;
                Some((place, listener.accept().await))
            };
            tokio::select! {
                _ = self.stopping.changed() => break,
                Some(_) = open.join_next() => {}
                Some((place, accepted)) = next => match accepted {
                    Ok((stream, peer)) => {
                        let shell = self.clone();
                        open.spawn(async move {
                            // An error is the client's: it went away.
                            let _ = shell.connection(stream, peer).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: give connections a moment to end.
                        tracing::warn!(%error, "cannot accept a DNS connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        while open.join_next().await.is_some() {}
    }

    async fn connection(mut self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let mut out = Vec::new();
        loop {
            let query = async {
                let mut packet = vec![0; usize::from(stream.read_u16().await?)];
                stream.read_exact(&mut packet).await?;
                io::Result::Ok(packet)
            };
            let packet = tokio::select! {
                _ = self.stopping.changed() => return Ok(()),
                read = timeout(PATIENCE, query) => read??,
            };
            if !self.answer(&packet, peer, Transport::Tcp, &mut out) {
                return Ok(());
            }
            // One write: a length in a packet of its own confuses some clients (RFC 7766 section 8).
            let len = u16::try_from(out.len()).map_err(io::Error::other)?;
            let framed = [&len.to_be_bytes()[..], &out].concat();
            timeout(PATIENCE, stream.write_all(&framed)).await??;
        }
    }

    /// Whether there is something to send in `out`.
    fn answer(
        &self,
        packet: &[u8],
        peer: SocketAddr,
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> bool {
        let rcode = respond(packet, peer.ip(), transport, &self.zone.zone(), out);
        self.counters.count(rcode);
        rcode.is_some()
    }
}

/// `shoal_dns_queries_total` by `result`.
struct Counters {
    silent: metrics::Counter,
    ok: metrics::Counter,
    missing: metrics::Counter,
    refused: metrics::Counter,
    other: metrics::Counter,
}

impl Counters {
    fn new() -> Arc<Self> {
        let counter =
            |result: &'static str| metrics::counter!("shoal_dns_queries_total", "result" => result);
        Arc::new(Self {
            silent: counter("silent"),
            ok: counter("noerror"),
            missing: counter("nxdomain"),
            refused: counter("refused"),
            other: counter("error"),
        })
    }

    fn count(&self, rcode: Option<ResponseCode>) {
        let counter = match rcode {
            None => &self.silent,
            Some(ResponseCode::NoError) => &self.ok,
            Some(ResponseCode::NXDomain) => &self.missing,
            Some(ResponseCode::Refused) => &self.refused,
            Some(_) => &self.other,
        };
        counter.increment(1);
    }
}
