//! One peer connection without I/O: str0m, with its rule kept that every change is followed by a full drain.
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::{
    Candidate, Event, IceConnectionState, IceCreds, Input, Output, Rtc, RtcConfig, RtcError,
    change::{SdpAnswer, SdpOffer},
    config::DtlsCert,
    media::{KeyframeRequestKind, MediaTime, Mid, Pt, Rid},
    net::{Protocol, Receive, TcpType},
};

/// A session that is not connected by then ends.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// A connection from which nothing is heard any more may come back, by itself or by an ICE restart, for so long.
const COME_BACK: Duration = Duration::from_secs(10);
/// Turns of one drain: far more than any does, so that a fault in it cannot hold a thread.
const TURNS: usize = 20_000;
/// Answers that wait for the socket; more are dropped, as the network would.
const MAX_OUT: usize = 8_192;

/// The other end of a way to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Remote {
    pub(super) addr: SocketAddr,
    /// By TCP (RFC 6544) rather than UDP.
    pub(super) tcp: bool,
}

impl Remote {
    pub(super) const fn udp(addr: SocketAddr) -> Self {
        Self { addr, tcp: false }
    }
}

/// A datagram to send.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) to: Remote,
    pub(super) bytes: Vec<u8>,
}

/// A peer connection.
pub(super) struct Peer {
    rtc: Box<Rtc>,
    candidates: Vec<SocketAddr>,
    deadline: Instant,
    since: Instant,
    connected: bool,
    lost: Option<Instant>,
    over: bool,
    events: VecDeque<Event>,
    out: VecDeque<Datagram>,
}

impl Peer {
    /// Answers an offer at `now`, as an ICE-lite agent at these addresses, by UDP and TCP.
    ///
    /// # Errors
    /// str0m's words about the offer.
    pub(super) fn answer(
        now: Instant,
        config: RtcConfig,
        (cert, creds): (DtlsCert, IceCreds),
        candidates: &[SocketAddr],
        offer: SdpOffer,
    ) -> Result<(Self, SdpAnswer), RtcError> {
        let config = config
            .set_ice_lite(true)
            .set_dtls_cert(cert)
            .set_local_ice_credentials(creds)
            .set_stats_interval(Some(Duration::from_secs(1)));
        let mut rtc = Box::new(config.build(now));
        let mut kept = Vec::new();
        for addr in candidates {
            let by_tcp = Candidate::builder().tcp().host(*addr);
            // What no peer can reach, as a link-local address, is no candidate.
            if let Ok(candidate) = Candidate::host(*addr, Protocol::Udp)
                && let Ok(by_tcp) = by_tcp.tcptype(TcpType::Passive).build()
            {
                rtc.add_local_candidate(candidate);
                rtc.add_local_candidate(by_tcp);
                kept.push(*addr);
            }
        }
        let answer = rtc.sdp_api().accept_offer(offer)?;
        let mut this = Self {
            rtc,
            candidates: kept,
            deadline: now,
            since: now,
            connected: false,
            lost: None,
            over: false,
            events: VecDeque::new(),
            out: VecDeque::new(),
        };
        this.drain(now);
        Ok((this, answer))
    }

    /// Accepts the peer's offer again: an ICE restart.
    ///
    /// # Errors
    /// str0m's words about the offer.
    pub(super) fn again(&mut self, now: Instant, offer: SdpOffer) -> Result<SdpAnswer, RtcError> {
        let answer = self.rtc.sdp_api().accept_offer(offer)?;
        self.drain(now);
        Ok(answer)
    }

    /// The user fragment by which its STUN messages are known.
    pub(super) fn ufrag(&mut self) -> String {
        self.rtc.direct_api().local_ice_credentials().ufrag
    }

    /// A candidate of the peer's.
    pub(super) fn add_candidate(&mut self, now: Instant, candidate: Candidate) {
        self.rtc.add_remote_candidate(candidate);
        self.drain(now);
    }

    /// Takes a datagram that came to this machine's `local` address; true where it was from this peer.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        source: Remote,
        local: Option<IpAddr>,
        bytes: &[u8],
    ) -> bool {
        let Some(destination) = self.candidate(source.addr, local) else {
            return false;
        };
        let by = if source.tcp {
            Protocol::Tcp
        } else {
            Protocol::Udp
        };
        let Ok(receive) = Receive::new(by, source.addr, destination, bytes) else {
            return false;
        };
        let input = Input::Receive(now, receive);
        if !self.rtc.accepts(&input) {
            return false;
        }
        self.input(input);
        self.drain(now);
        true
    }

    /// Which of the candidates a datagram is for: behind a NAT the address that it came to is none of them.
    fn candidate(&self, source: SocketAddr, local: Option<IpAddr>) -> Option<SocketAddr> {
        let mut all = self.candidates.iter().copied();
        all.clone()
            .find(|c| Some(c.ip()) == local)
            .or_else(|| all.find(|c| c.is_ipv4() == source.is_ipv4()))
    }

    /// Goes on in time.
    pub(super) fn tick(&mut self, now: Instant) {
        if now >= self.deadline {
            self.input(Input::Timeout(now));
            self.drain(now);
        }
        let late = !self.connected && now >= self.since + CONNECT;
        let gone = self.lost.is_some_and(|since| now >= since + COME_BACK);
        self.over |= late || gone || !self.rtc.is_alive();
    }

    /// When [`Peer::tick`] is due.
    pub(super) fn deadline(&self) -> Instant {
        let lost = self.lost.map(|since| since + COME_BACK);
        let connect = (!self.connected).then_some(self.since + CONNECT);
        [lost, connect]
            .into_iter()
            .flatten()
            .fold(self.deadline, Instant::min)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// str0m's words: the session is to be ended.
    pub(super) fn write(
        &mut self,
        now: Instant,
        (mid, pt): (Mid, Pt),
        (wallclock, time): (Instant, MediaTime),
        data: Arc<[u8]>,
    ) -> Result<(), RtcError> {
        if let Some(writer) = self.rtc.writer(mid) {
            writer.write(pt, wallclock, time, data)?;
            self.drain(now);
        }
        Ok(())
    }

    /// Asks for a keyframe, where the peer can be asked.
    pub(super) fn ask_keyframe(&mut self, now: Instant, mid: Mid, rid: Option<Rid>) {
        let asked = self
            .rtc
            .writer(mid)
            .is_some_and(|mut w| w.request_keyframe(rid, KeyframeRequestKind::Pli).is_ok());
        if asked {
            self.drain(now);
        }
    }

    /// Whether a payload type of this line is of this kind, in the order that the peer likes them.
    pub(super) fn payloads(&mut self, mid: Mid) -> Vec<str0m::format::PayloadParams> {
        let writer = self.rtc.writer(mid);
        writer.map_or_else(Vec::new, |w| w.payload_params().copied().collect())
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: Instant) {
        if self.rtc.close().is_ok() {
            self.drain(now);
        }
        self.over = true;
    }

    /// Whether media can flow.
    pub(super) const fn connected(&self) -> bool {
        self.connected
    }

    /// Whether it is over.
    pub(super) const fn over(&self) -> bool {
        self.over
    }

    /// What happened.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What to send.
    pub(super) fn poll_datagram(&mut self) -> Option<Datagram> {
        self.out.pop_front()
    }

    fn input(&mut self, input: Input<'_>) {
        if let Err(error) = self.rtc.handle_input(input) {
            tracing::debug!(%error, "WebRTC connection ended");
            self.over = true;
        }
    }

    fn drain(&mut self, now: Instant) {
        for _ in 0..TURNS {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) if at > now || self.over => {
                    self.deadline = at;
                    return;
                }
                Ok(Output::Timeout(_)) => self.input(Input::Timeout(now)),
                Ok(Output::Transmit(datagram)) => {
                    if self.out.len() < MAX_OUT {
                        self.out.push_back(Datagram {
                            to: Remote {
                                addr: datagram.destination,
                                tcp: datagram.proto == Protocol::Tcp,
                            },
                            bytes: datagram.contents.to_vec(),
                        });
                    }
                }
                Ok(Output::Event(event)) => self.event(now, event),
                Err(error) => {
                    tracing::debug!(%error, "WebRTC connection ended");
                    self.over = true;
                    return;
                }
            }
        }
        self.over = true;
    }

    fn event(&mut self, now: Instant, event: Event) {
        match &event {
            Event::Connected => self.connected = true,
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                self.lost = Some(now);
            }
            Event::IceConnectionStateChange(_) => self.lost = None,
            Event::Closed => self.over = true,
            _ => {}
        }
        self.events.push_back(event);
    }
}
