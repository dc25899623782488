//! Control links: libp2p over QUIC, with the node's Ed25519 key as its identity.
//!
//! # Shape
//! [`Links`] owns the swarm in one task. It dials, takes connections and opens streams; what happens comes out as
//! [`LinkEvent`]s. The peer's key is proven by TLS before any of it; what the peer **may** is decided above, by the
//! first frames of a stream. [`frame`] reads and writes those.
//!
//! Keep-alive is 500 ms and the idle time-out 2.5 s, so a peer that falls silent is known to be lost in that time.
//!
//! # Bounds
//! 64 handshakes at once, 2,048 connections, four with one peer, 64 streams of a connection, 4 MiB unread on one.
mod behaviour;
pub(crate) mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ed25519_dalek::SigningKey;
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, Transport as _,
    connection_limits::{self, ConnectionLimits},
    core::muxing::StreamMuxerBox,
    identity::{self, Keypair},
    multiaddr::Protocol,
    swarm::{
        NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
pub(crate) use libp2p::{Stream, swarm::ConnectionId};
use routing::model::NodeId;
use tokio::sync::{mpsc, oneshot};

use self::behaviour::{Behaviour, Inbound, Reply};

/// Commands that wait for the swarm. When full, the caller waits.
const COMMANDS: usize = 256;
/// Events that wait for the owner. When full, the swarm waits, and through QUIC's flow control the peers.
const EVENTS: usize = 1_024;
/// How long a stream may take to open.
const OPEN: Duration = Duration::from_secs(5);

/// Why a link or a stream is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {addr} (udp) for other nodes: {why}. Choose another control address, or stop the program that has it"
    )]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// The key is not usable.
    #[error("the node's key cannot be used for links: {0}")]
    Key(String),
    /// The connection ended.
    #[error("the link is gone")]
    Gone,
    /// The swarm ended: this node is stopping.
    #[error("this node is stopping")]
    Stopped,
}

/// What happened to links.
pub(crate) enum LinkEvent {
    /// A connection to a peer whose key is proven.
    Up {
        connection: ConnectionId,
        peer: NodeId,
        addr: SocketAddr,
        dialed: bool,
    },
    /// It ended.
    Down {
        connection: ConnectionId,
        peer: NodeId,
        why: String,
    },
    /// A dial came to nothing. `peer` is whom it was for, if that was said.
    Failed { peer: Option<NodeId>, why: String },
    /// A peer opened a stream.
    Stream {
        connection: ConnectionId,
        stream: Stream,
    },
}

enum Command {
    Dial(Option<NodeId>, Vec<SocketAddr>),
    Try(NodeId, SocketAddr),
    Open(ConnectionId, Reply),
    Close(ConnectionId),
}

#[derive(NetworkBehaviour)]
struct Swarming {
    limits: connection_limits::Behaviour,
    streams: Behaviour,
}

/// The handle of the swarm's task, which ends when all clones are dropped.
#[derive(Clone)]
pub(crate) struct Links {
    commands: mpsc::Sender<Command>,
}

impl Links {
    /// Listens (where asked) and runs the swarm. Gives the address that is listened on with its real port.
    pub(crate) async fn start(
        key: &SigningKey,
        listen: Option<SocketAddr>,
    ) -> Result<(Self, mpsc::Receiver<LinkEvent>, Option<SocketAddr>), LinkError> {
        let pair = Keypair::ed25519_from_bytes(key.to_bytes())
            .map_err(|e| LinkError::Key(e.to_string()))?;
        let mut quic = libp2p::quic::Config::new(&pair);
        quic.keep_alive_interval = Duration::from_millis(500);
        quic.max_idle_timeout = 2_500;
        quic.handshake_timeout = Duration::from_secs(3);
        quic.max_concurrent_stream_limit = 64;
        quic.max_stream_data = 4 << 20;
        quic.max_connection_data = 8 << 20;
        let transport = libp2p::quic::tokio::Transport::new(quic)
            .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
            .boxed();
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(64))
            .with_max_pending_outgoing(Some(256))
            .with_max_established(Some(2_048))
            .with_max_established_per_peer(Some(4));
        let behaviour = Swarming {
            limits: connection_limits::Behaviour::new(limits),
            streams: Behaviour::default(),
        };
        let config = libp2p::swarm::Config::with_tokio_executor();
        let peer_id = pair.public().to_peer_id();
        let mut swarm = Swarm::new(transport, behaviour, peer_id, config);
        let mut bound = None;
        if let Some(addr) = listen {
            let failed = |why: String| LinkError::Listen { addr, why };
            swarm
                .listen_on(multiaddr(addr))
                .map_err(|e| failed(e.to_string()))?;
            loop {
                match swarm.next().await {
                    Some(SwarmEvent::NewListenAddr { address, .. }) => {
                        bound = socket_addr(&address);
                        break;
                    }
                    Some(SwarmEvent::ListenerError { error, .. }) => {
                        return Err(failed(error.to_string()));
                    }
                    Some(SwarmEvent::ListenerClosed { reason, .. }) => {
                        let why = reason.err().map(|e| e.to_string());
                        return Err(failed(why.unwrap_or_else(|| "it was closed".into())));
                    }
                    Some(_) => {}
                    None => return Err(LinkError::Stopped),
                }
            }
            if addr.ip().is_unspecified() {
                bound = bound.map(|b| SocketAddr::new(addr.ip(), b.port()));
            }
        }
        let (commands, command_rx) = mpsc::channel(COMMANDS);
        let (events, event_rx) = mpsc::channel(EVENTS);
        tokio::spawn(run(swarm, command_rx, events));
        Ok((Self { commands }, event_rx, bound))
    }

    /// Dials the addresses, and takes only `peer` there if that is given. Does nothing while linked to it.
    pub(crate) async fn dial(&self, peer: Option<NodeId>, addrs: Vec<SocketAddr>) {
        drop(self.commands.send(Command::Dial(peer, addrs)).await);
    }

    /// Dials one address of a node, linked or not, to see whether the node is there.
    pub(crate) async fn try_dial(&self, peer: NodeId, addr: SocketAddr) {
        drop(self.commands.send(Command::Try(peer, addr)).await);
    }

    /// Opens a stream on a connection.
    pub(crate) async fn open(&self, connection: ConnectionId) -> Result<Stream, LinkError> {
        let (reply, stream) = oneshot::channel();
        self.commands
            .send(Command::Open(connection, reply))
            .await
            .map_err(|_| LinkError::Stopped)?;
        match tokio::time::timeout(OPEN, stream).await {
            Ok(Ok(stream)) => Ok(stream),
            _ => Err(LinkError::Gone),
        }
    }

    /// Closes a connection.
    pub(crate) async fn close(&self, connection: ConnectionId) {
        drop(self.commands.send(Command::Close(connection)).await);
    }
}

async fn run(
    mut swarm: Swarm<Swarming>,
    mut commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<LinkEvent>,
) {
    let mut peers = BTreeMap::<ConnectionId, PeerId>::new();
    loop {
        let event = tokio::select! {
            command = commands.recv() => {
                match command {
                    Some(Command::Dial(peer, addrs)) => dial(&mut swarm, &events, peer, addrs),
                    Some(Command::Try(peer, addr)) => {
                        if let Some(id) = peer_id(&peer) {
                            let option = DialOpts::peer_id(id)
                                .condition(PeerCondition::Always)
                                .addresses(vec![multiaddr(addr)])
                                .build();
                            if let Err(error) = swarm.dial(option) {
                                tracing::debug!(%error, "address not tried");
                            }
                        }
                    }
                    Some(Command::Open(connection, reply)) => {
                        if let Some(peer) = peers.get(&connection) {
                            swarm.behaviour_mut().streams.open(*peer, connection, reply);
                        }
                    }
                    Some(Command::Close(connection)) => {
                        swarm.close_connection(connection);
                    }
                    None => break,
                }
                continue;
            }
            event = swarm.select_next_some() => event,
        };
        let event = match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                let addr = socket_addr(endpoint.get_remote_address());
                let (Some(peer), Some(addr)) = (node_id(&peer_id), addr) else {
                    swarm.close_connection(connection_id);
                    continue;
                };
                peers.insert(connection_id, peer_id);
                LinkEvent::Up {
                    connection: connection_id,
                    peer,
                    addr,
                    dialed: endpoint.is_dialer(),
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                cause,
                ..
            } => {
                peers.remove(&connection_id);
                let Some(peer) = node_id(&peer_id) else {
                    continue;
                };
                LinkEvent::Down {
                    connection: connection_id,
                    peer,
                    why: cause.map_or_else(|| "closed".into(), |e| e.to_string()),
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => LinkEvent::Failed {
                peer: peer_id.and_then(|p| node_id(&p)),
                why: error.to_string(),
            },
            SwarmEvent::Behaviour(SwarmingEvent::Streams(Inbound { connection, stream })) => {
                LinkEvent::Stream { connection, stream }
            }
            _ => continue,
        };
        if events.send(event).await.is_err() {
            break;
        }
    }
    for connection in peers.into_keys() {
        swarm.close_connection(connection);
    }
    // Lets the closes reach the wire, so that peers need not wait for the idle time-out.
    let closing = async {
        while swarm.network_info().num_peers() > 0 {
            swarm.select_next_some().await;
        }
    };
    drop(tokio::time::timeout(Duration::from_millis(200), closing).await);
}

fn dial(
    swarm: &mut Swarm<Swarming>,
    events: &mpsc::Sender<LinkEvent>,
    peer: Option<NodeId>,
    addrs: Vec<SocketAddr>,
) {
    let mut options = Vec::new();
    match peer.map(|p| (p, peer_id(&p))) {
        Some((_, Some(id))) => options.push(
            DialOpts::peer_id(id)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addrs.into_iter().map(multiaddr).collect())
                .build(),
        ),
        Some((_, None)) => {}
        None => options.extend(
            addrs
                .into_iter()
                .map(|a| DialOpts::unknown_peer_id().address(multiaddr(a)).build()),
        ),
    }
    for option in options {
        if let Err(error) = swarm.dial(option) {
            let why = error.to_string();
            // A full queue means that the owner has more urgent news; it dials again by its own clock.
            drop(events.try_send(LinkEvent::Failed { peer, why }));
        }
    }
}

/// The libp2p name of a node; `None` when its id is no Ed25519 key.
fn peer_id(node: &NodeId) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// The node behind a libp2p name: names of Ed25519 keys hold the key itself, in what is called the identity hash.
fn node_id(peer: &PeerId) -> Option<NodeId> {
    const IDENTITY: u64 = 0;
    let hash = peer.as_ref();
    if hash.code() != IDENTITY {
        return None;
    }
    let key = identity::PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(NodeId::from_bytes(key.try_into_ed25519().ok()?.to_bytes()))
}

fn multiaddr(addr: SocketAddr) -> Multiaddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    };
    Multiaddr::empty()
        .with(ip)
        .with(Protocol::Udp(addr.port()))
        .with(Protocol::QuicV1)
}

fn socket_addr(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Udp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_that_looks_like_a_key_names_no_node() {
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        let node = NodeId::from_bytes(key.to_bytes());
        let id = peer_id(&node).unwrap();
        assert_eq!(node_id(&id), Some(node));
        let mut bytes = id.to_bytes();
        assert_eq!(bytes[0], 0, "the identity hash");
        bytes[0] = 0x12;
        let hash = PeerId::from_bytes(&bytes).unwrap();
        assert_eq!(node_id(&hash), None);
    }
}
