//! The one port of all sessions: which datagram is whose, by user fragment or by address.
//!
//! UDP, and for those whose network lets none out TCP, where every datagram has its length before it (RFC 4571).
//!
//! A STUN message names its session; the address that it came from is learnt once the session has checked the message's
//! integrity. Everything else is told by address. What nobody knows costs one look at two tables.
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::peer::{Datagram, Remote};

/// Datagrams that wait for their session; more are dropped, as a network does.
const INBOX: usize = 512;
/// Read at once: so many buffers, each of what one receive call can coalesce.
const BUFFERS: usize = 8;
const BUFFER: usize = 64 << 10;
/// Addresses that one session is known by.
const MAX_ADDRESSES: usize = 8;
/// What the socket holds for sessions that are busy, and for keyframes on their way out.
const SOCKET_BUFFER: usize = 4 << 20;

/// A datagram that came.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) source: Remote,
    /// What answers go into, of a TCP connection.
    pub(super) back: Option<mpsc::Sender<Bytes>>,
    /// The address of this machine that it came to.
    pub(super) local: Option<IpAddr>,
    pub(super) bytes: Bytes,
}

type Inbox = mpsc::Sender<Arrived>;

#[derive(Debug, Default)]
struct Routes {
    fragments: HashMap<String, Inbox>,
    addresses: HashMap<Remote, Inbox>,
}

/// The port.
#[derive(Debug)]
pub(super) struct Door {
    socket: UdpSocket,
    state: UdpSocketState,
    port: u16,
    routes: Mutex<Routes>,
}

impl Door {
    /// Takes a bound socket over. On a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        // The system may grant less.
        let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER);
        let _ = state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER);
        let socket = UdpSocket::from_std(socket)?;
        Ok(Arc::new(Self {
            port: socket.local_addr()?.port(),
            socket,
            state,
            routes: Mutex::default(),
        }))
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands datagrams on until `stop`.
    pub(super) async fn serve(&self, stop: CancellationToken) {
        let mut buffers = vec![0; BUFFERS * BUFFER];
        let mut metas = [RecvMeta::default(); BUFFERS];
        loop {
            let ready = tokio::select! {
                () = stop.cancelled() => return,
                ready = self.socket.readable() => ready,
            };
            let received = ready.and_then(|()| {
                let mut slices: Vec<_> = buffers
                    .chunks_mut(BUFFER)
                    .map(io::IoSliceMut::new)
                    .collect();
                self.socket.try_io(Interest::READABLE, || {
                    self.state
                        .recv((&self.socket).into(), &mut slices, &mut metas)
                })
            });
            // An error is an earlier datagram's that could not be delivered, or that there is nothing yet.
            let Ok(received) = received else { continue };
            for (meta, buffer) in metas.iter().zip(buffers.chunks(BUFFER)).take(received) {
                let bytes = buffer.get(..meta.len).unwrap_or_default();
                for datagram in bytes.chunks(meta.stride.max(1)) {
                    self.dispatch(meta, datagram);
                }
            }
        }
    }

    fn dispatch(&self, meta: &RecvMeta, datagram: &[u8]) {
        self.hand_on(Arrived {
            source: Remote::udp(canonical(meta.addr)),
            back: None,
            local: meta.dst_ip.map(|ip| ip.to_canonical()),
            bytes: Bytes::copy_from_slice(datagram),
        });
    }

    /// Hands a datagram to its session; false where it has none.
    pub(super) fn hand_on(&self, arrived: Arrived) -> bool {
        let routes = self.lock();
        let named = user_fragment(&arrived.bytes).and_then(|name| routes.fragments.get(name));
        let Some(inbox) = named.or_else(|| routes.addresses.get(&arrived.source)) else {
            return false;
        };
        // One that is full is slower than its peer sends: what is lost is asked for again.
        let _ = inbox.try_send(arrived);
        true
    }

    /// A session's place at the door.
    pub(super) fn place(self: &Arc<Self>, fragment: String) -> Place {
        let (inbox, arrived) = mpsc::channel(INBOX);
        let mut place = Place {
            door: Arc::clone(self),
            inbox,
            arrived,
            fragment: String::new(),
            ways: Vec::new(),
        };
        place.rename(fragment);
        place
    }

    /// Sends one; waits while the socket is full. What cannot be sent is lost, as on a network.
    async fn send(&self, datagram: &Datagram, from: Option<IpAddr>) {
        let v6 = self.socket.local_addr().is_ok_and(|a| a.is_ipv6());
        let transmit = Transmit {
            destination: if v6 {
                mapped(datagram.to.addr)
            } else {
                datagram.to.addr
            },
            ecn: None,
            contents: &datagram.bytes,
            segment_size: None,
            src_ip: from,
        };
        loop {
            let sent = self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send((&self.socket).into(), &transmit)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.socket.writable().await.is_err() {
                        return;
                    }
                }
                Err(error) => return tracing::trace!(%error, "a datagram was not sent"),
                Ok(()) => return,
            }
        }
    }
}

/// A way to a peer.
#[derive(Debug)]
struct Way {
    remote: Remote,
    local: Option<IpAddr>,
    back: Option<mpsc::Sender<Bytes>>,
}

/// What a session receives by, and answers through. Dropped, the door forgets it.
#[derive(Debug)]
pub(super) struct Place {
    door: Arc<Door>,
    inbox: Inbox,
    arrived: mpsc::Receiver<Arrived>,
    fragment: String,
    /// The ways on which it was heard.
    ways: Vec<Way>,
}

impl Place {
    /// The next datagram. Cancel-safe.
    pub(super) async fn next(&mut self) -> Arrived {
        match self.arrived.recv().await {
            Some(arrived) => arrived,
            // Never: this place has a sender itself.
            None => std::future::pending().await,
        }
    }

    /// The next datagram, if there is one.
    pub(super) fn try_next(&mut self) -> Option<Arrived> {
        self.arrived.try_recv().ok()
    }

    /// Is known by another user fragment from now on.
    pub(super) fn rename(&mut self, fragment: String) {
        let mut routes = self.door.lock();
        routes.fragments.remove(&self.fragment);
        routes
            .fragments
            .insert(fragment.clone(), self.inbox.clone());
        self.fragment = fragment;
    }

    /// What comes from there is this session's.
    pub(super) fn learn(&mut self, heard: &Arrived) {
        let known = self.ways.iter_mut().find(|w| w.remote == heard.source);
        if let Some(way) = known {
            way.local = heard.local;
            return;
        }
        let mut routes = self.door.lock();
        if self.ways.len() >= MAX_ADDRESSES {
            let oldest = self.ways.remove(0);
            routes.addresses.remove(&oldest.remote);
        }
        routes.addresses.insert(heard.source, self.inbox.clone());
        self.ways.push(Way {
            remote: heard.source,
            local: heard.local,
            back: heard.back.clone(),
        });
    }

    /// Sends a datagram on the way that its receiver was heard on, from the address there.
    pub(super) async fn send(&self, datagram: Datagram) {
        let way = self.ways.iter().find(|w| w.remote == datagram.to);
        if let Some(back) = way.and_then(|w| w.back.as_ref()) {
            // A connection that is full is slower than the stream: what is lost is asked for again.
            let _ = back.try_send(datagram.bytes.into());
        } else if !datagram.to.tcp {
            self.door.send(&datagram, way.and_then(|w| w.local)).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut routes = self.door.lock();
        routes.fragments.remove(&self.fragment);
        for way in &self.ways {
            // It may have become another session's.
            let ours = |inbox: &Inbox| inbox.same_channel(&self.inbox);
            if routes.addresses.get(&way.remote).is_some_and(ours) {
                routes.addresses.remove(&way.remote);
            }
        }
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// The user fragment of this side in a STUN message (RFC 8489 5, RFC 8445 7.2.2): what stands before the colon of its
/// USERNAME.
pub(super) fn user_fragment(datagram: &[u8]) -> Option<&str> {
    const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
    const USERNAME: [u8; 2] = [0, 6];
    if *datagram.first()? > 1 || datagram.get(4..8)? != COOKIE {
        return None;
    }
    let mut rest = datagram.get(20..)?;
    loop {
        let (kind, tail) = rest.split_first_chunk::<2>()?;
        let (length, tail) = tail.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        if *kind == USERNAME {
            let name = std::str::from_utf8(tail.get(..length)?).ok()?;
            return Some(name.split_once(':')?.0);
        }
        rest = tail.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stun_message_names_its_session() {
        let mut message = vec![0, 1, 0, 20, 0x21, 0x12, 0xa4, 0x42];
        message.extend([7; 12]);
        message.extend([0x80, 0x22, 0, 3, b'x', b'y', b'z', 0]);
        message.extend([0, 6, 0, 9]);
        message.extend(b"ours:them\0\0\0");
        assert_eq!(user_fragment(&message), Some("ours"));
        assert_eq!(user_fragment(&message[..30]), None);
        assert_eq!(user_fragment(&[22, 254, 253]), None);
    }

    proptest! {
        #[test]
        fn any_datagram_is_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = user_fragment(&bytes);
            let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
            stun.extend(bytes);
            let _ = user_fragment(&stun);
        }
    }
}
