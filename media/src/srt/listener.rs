//! All callers of one socket: who is let in, and which connection a datagram is for.
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aws_lc_rs::hmac;
use bytes::Bytes;
use routing::model::Uptime;

use super::{
    connection::{Connection, End, TICK},
    crypto::{KeyError, Keys, Passphrase},
    handshake::{Handshake, Reject, Wish},
    inbox::WINDOW,
    limit::Limiter,
    packet::{Body, Control, MAX, Packet, SocketId},
    stream_id::{Asked, StreamIdError},
};

/// A cookie holds for the minute that it was given in, and the next.
const COOKIE: Duration = Duration::from_secs(60);

/// How a listener works.
#[derive(Clone, Debug)]
pub struct Options {
    /// What callers have to know; those that encrypt without, and those that do not with, are not let in.
    pub passphrase: Option<Passphrase>,
    /// How long is waited for what is missing at least; a caller may want longer.
    pub latency: Duration,
    /// Connections in all.
    pub connections: usize,
    /// Callers about whom nothing is decided yet; a quarter of them from one address.
    pub pending: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            passphrase: None,
            latency: Duration::from_millis(120),
            connections: 1_000,
            pending: 128,
        }
    }
}

/// Where a datagram came from, and at which of this machine's addresses: the answer goes the same way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The other side.
    pub remote: SocketAddr,
    /// Ours, where the system told it.
    pub local: Option<IpAddr>,
}

/// What is to be known outside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Somebody wants something: [`Listener::accept`] or [`Listener::reject`].
    Request {
        /// The connection that it is to become.
        id: SocketId,
        /// From where.
        remote: SocketAddr,
        /// What.
        asked: Asked,
    },
    /// A connection's next bytes.
    Data {
        /// Whose.
        id: SocketId,
        /// The payloads of some packets, one behind the other.
        payload: Bytes,
    },
    /// A connection has ended, or whoever asked is gone.
    Closed {
        /// Which.
        id: SocketId,
    },
}

/// Who has a valid handshake and waits to be let in.
#[derive(Debug)]
struct Pending {
    path: Path,
    handshake: Handshake,
    wish: Wish,
    keys: Option<Keys>,
}

/// Takes datagrams in ([`Listener::receive`]) and looks at the time ([`Listener::tick`]); gives datagrams
/// ([`Listener::poll_transmit`]) and events ([`Listener::poll`]) out.
pub struct Listener {
    options: Options,
    secret: hmac::Key,
    issued: u64,
    /// By our id.
    connections: HashMap<SocketId, (Path, Connection)>,
    pending: HashMap<SocketId, Pending>,
    /// Our ids by the callers'.
    callers: HashMap<(SocketAddr, SocketId), SocketId>,
    limiter: Limiter,
    ticked: Uptime,
    transmits: VecDeque<(Path, Bytes)>,
    /// What a connection has to say, before it has a path.
    said: Vec<Bytes>,
    events: VecDeque<Event>,
    /// Connections that may have received something.
    fresh: Vec<SocketId>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("connections", &self.connections.len())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// A listener that nobody has called yet; `seed` makes its cookies and ids, and has to be secret.
    #[must_use]
    pub fn new(options: Options, seed: [u8; 32]) -> Self {
        Self {
            options,
            secret: hmac::Key::new(hmac::HMAC_SHA256, &seed),
            issued: 0,
            connections: HashMap::new(),
            pending: HashMap::new(),
            callers: HashMap::new(),
            limiter: Limiter::default(),
            ticked: Uptime::ZERO,
            transmits: VecDeque::new(),
            said: Vec::new(),
            events: VecDeque::new(),
            fresh: Vec::new(),
        }
    }

    /// What happened.
    pub fn poll(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        while let Some(id) = self.fresh.pop() {
            let connection = self.connections.get_mut(&id);
            let payload = connection.map(|(_, c)| c.received()).unwrap_or_default();
            if !payload.is_empty() {
                return Some(Event::Data { id, payload });
            }
        }
        None
    }

    /// What is to be sent.
    pub fn poll_transmit(&mut self) -> Option<(Path, Bytes)> {
        self.transmits.pop_front()
    }

    /// When [`Listener::tick`] has to be called; never without connections.
    #[must_use]
    pub fn deadline(&self) -> Option<Uptime> {
        (!self.connections.is_empty()).then(|| self.ticked + TICK)
    }

    /// Does what the time asks for.
    pub fn tick(&mut self, now: Uptime) {
        self.ticked = now;
        let mut ended = Vec::new();
        for (id, (path, connection)) in &mut self.connections {
            let end = connection.tick(now, &mut self.said);
            self.transmits
                .extend(self.said.drain(..).map(|s| (*path, s)));
            self.fresh.push(*id);
            ended.extend(end.map(|end| (*id, end)));
        }
        for (id, end) in ended {
            self.end(id, end);
        }
    }

    /// Takes a datagram.
    pub fn receive(&mut self, now: Uptime, path: Path, datagram: &[u8]) {
        if datagram.len() > MAX {
            return;
        }
        let Some(packet) = Packet::read(datagram) else {
            return;
        };
        let handshake = match packet.body {
            Body::Control {
                kind: Control::Handshake,
                body,
                ..
            } => Handshake::read(body).map(|handshake| (handshake, body)),
            _ => None,
        };
        match (packet.to, handshake) {
            (SocketId(0), Some((handshake, _))) if handshake.is_induction() => {
                let cookie = self.cookie(path.remote, handshake.socket, minute(now));
                self.transmits
                    .push_back((path, handshake.answer_induction(cookie)));
            }
            (SocketId(0), Some((handshake, body))) if handshake.is_conclusion() => {
                self.conclude(now, path, handshake, body);
            }
            (id, _) => self.deliver(now, path, id, packet.body),
        }
    }

    fn deliver(&mut self, now: Uptime, path: Path, id: SocketId, body: Body<'_>) {
        let Some((known, connection)) = self.connections.get_mut(&id) else {
            return;
        };
        if known.remote != path.remote {
            return;
        }
        let end = connection.take(now, body, &mut self.said);
        self.transmits
            .extend(self.said.drain(..).map(|s| (path, s)));
        if self.fresh.last() != Some(&id) {
            self.fresh.push(id);
        }
        if let Some(end) = end {
            self.end(id, end);
        }
    }

    fn conclude(&mut self, now: Uptime, path: Path, handshake: Handshake, body: &[u8]) {
        let minute = minute(now);
        let mut cookies = [minute, minute.wrapping_sub(1)].into_iter();
        let caller = (path.remote, handshake.socket);
        if !cookies.any(|m| self.cookie(caller.0, caller.1, m) == handshake.cookie) {
            return;
        }
        if let Some(id) = self.callers.get(&caller) {
            // It has not got our answer, or there is none yet.
            if let Some((_, connection)) = self.connections.get(id) {
                self.transmits.push_back((path, connection.answer.clone()));
            }
            return;
        }
        if !self.limiter.admit(now, path.remote.ip()) {
            return;
        }
        match self.judge(path.remote.ip(), &handshake, body) {
            Ok((wish, keys, asked)) => {
                let id = self.new_id();
                self.callers.insert(caller, id);
                let pending = Pending {
                    path,
                    handshake,
                    wish,
                    keys,
                };
                self.pending.insert(id, pending);
                let remote = path.remote;
                self.events.push_back(Event::Request { id, remote, asked });
            }
            Err(why) => {
                tracing::debug!(?why, "SRT caller rejected");
                self.transmits.push_back((path, handshake.reject(why)));
            }
        }
    }

    /// What can be said of a caller without asking anybody.
    fn judge(
        &self,
        remote: IpAddr,
        handshake: &Handshake,
        body: &[u8],
    ) -> Result<(Wish, Option<Keys>, Asked), Reject> {
        let wish = handshake.wish(body)?;
        if self.connections.len() >= self.options.connections {
            return Err(Reject::Resource);
        }
        let pending = self.pending.values();
        let same = pending.filter(|p| p.path.remote.ip() == remote).count();
        if self.pending.len() >= self.options.pending || same >= self.options.pending / 4 {
            return Err(Reject::Backlog);
        }
        let asked = wish.stream_id.as_ref().ok_or(StreamIdError::Broken);
        let asked = asked.and_then(|id| Asked::read(id.expose()));
        let asked = asked.map_err(|error| match error {
            StreamIdError::Broken => Reject::BadRequest,
            StreamIdError::Mode => Reject::BadMode,
        })?;
        let keys = match (&self.options.passphrase, &wish.key_material) {
            (Some(passphrase), Some(message)) => {
                let keys = Keys::open(passphrase, message).map_err(|error| match error {
                    KeyError::Broken => Reject::Rogue,
                    KeyError::Cipher => Reject::Crypto,
                    KeyError::Secret => Reject::BadSecret,
                })?;
                Some(keys)
            }
            (None, None) => None,
            _ => return Err(Reject::Unsecure),
        };
        Ok((wish, keys, asked))
    }

    /// Lets a caller in; nothing where it is gone.
    pub fn accept(&mut self, now: Uptime, id: SocketId) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        let Pending {
            path,
            handshake,
            wish,
            keys,
        } = pending;
        let latency = self.options.latency.max(wish.latency);
        let answer = handshake.accept(id, latency, &wish, WINDOW);
        self.transmits.push_back((path, answer.clone()));
        let connection =
            Connection::new(now, handshake.socket, handshake.seq, latency, keys, answer);
        if self.connections.is_empty() {
            self.ticked = now;
        }
        self.connections.insert(id, (path, connection));
    }

    /// Does not let a caller in.
    pub fn reject(&mut self, id: SocketId, why: Reject) {
        if let Some(pending) = self.pending.remove(&id) {
            self.callers
                .remove(&(pending.path.remote, pending.handshake.socket));
            let answer = pending.handshake.reject(why);
            self.transmits.push_back((pending.path, answer));
        }
    }

    /// Ends a connection, or does not let it in, without an event.
    pub fn close(&mut self, now: Uptime, id: SocketId) {
        self.reject(id, Reject::Close);
        if let Some((path, mut connection)) = self.connections.remove(&id) {
            self.callers.remove(&(path.remote, connection.peer));
            connection.shutdown(now, &mut self.said);
            self.transmits
                .extend(self.said.drain(..).map(|s| (path, s)));
        }
    }

    /// Ends all.
    pub fn close_all(&mut self, now: Uptime) {
        let all = self.connections.keys().chain(self.pending.keys());
        for id in all.copied().collect::<Vec<_>>() {
            self.close(now, id);
        }
    }

    fn end(&mut self, id: SocketId, end: End) {
        if let Some((path, mut connection)) = self.connections.remove(&id) {
            self.callers.remove(&(path.remote, connection.peer));
            let payload = connection.received();
            if !payload.is_empty() {
                self.events.push_back(Event::Data { id, payload });
            }
            let tally = connection.tally();
            tracing::debug!(?end, ?tally, "SRT connection ended");
            self.events.push_back(Event::Closed { id });
        }
    }

    /// What a caller has to show that it receives at its address.
    fn cookie(&self, remote: SocketAddr, socket: SocketId, minute: u64) -> u32 {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(b"cookie");
        match remote.ip() {
            IpAddr::V4(v4) => context.update(&v4.octets()),
            IpAddr::V6(v6) => context.update(&v6.octets()),
        }
        context.update(&remote.port().to_be_bytes());
        context.update(&socket.0.to_be_bytes());
        context.update(&minute.to_be_bytes());
        first_word(&context.sign())
    }

    /// 30 random bits, as libsrt has them, that nobody else has.
    fn new_id(&mut self) -> SocketId {
        loop {
            self.issued += 1;
            let mut context = hmac::Context::with_key(&self.secret);
            context.update(b"id");
            context.update(&self.issued.to_be_bytes());
            let id = SocketId(first_word(&context.sign()) >> 2);
            let taken = self.connections.contains_key(&id) || self.pending.contains_key(&id);
            if id.0 != 0 && !taken {
                return id;
            }
        }
    }
}

fn first_word(tag: &hmac::Tag) -> u32 {
    let word = tag.as_ref().first_chunk::<4>();
    word.map_or(0, |word| u32::from_be_bytes(*word))
}

const fn minute(now: Uptime) -> u64 {
    now.0.as_secs() / COOKIE.as_secs()
}
