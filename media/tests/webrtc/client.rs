//! A WebRTC client on a real socket.
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpPendingOffer},
    media::{Direction, MediaKind},
    net::{Protocol, Receive, TcpType},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::mpsc,
    time::timeout,
};

/// How datagrams come and go.
enum Wire {
    Udp(UdpSocket),
    /// The connection's writing half, and what a task reads from the other.
    Tcp(tokio::net::tcp::OwnedWriteHalf, mpsc::Receiver<Vec<u8>>),
}

pub(crate) struct Client {
    rtc: Rtc,
    wire: Wire,
    proto: Protocol,
    here: SocketAddr,
    server: SocketAddr,
    pending: Option<SdpPendingOffer>,
}

#[expect(clippy::disallowed_methods, reason = "real sockets run in real time")]
fn now() -> Instant {
    Instant::now()
}

impl Client {
    /// With its offer.
    pub(crate) async fn new(server: SocketAddr, direction: Direction) -> (Self, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let here = socket.local_addr().unwrap();
        let candidate = Candidate::host(here, Protocol::Udp).unwrap();
        Self::over(Wire::Udp(socket), candidate, server, direction)
    }

    /// One that has nothing but TCP.
    pub(crate) async fn by_tcp(server: SocketAddr, direction: Direction) -> (Self, String) {
        let stream = TcpStream::connect(server).await.unwrap();
        let here = stream.local_addr().unwrap();
        let (mut read, write) = stream.into_split();
        let (tx, rx) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok(length) = read.read_u16().await {
                let mut bytes = vec![0; length.into()];
                read.read_exact(&mut bytes).await.unwrap();
                if tx.send(bytes).await.is_err() {
                    return;
                }
            }
        });
        let candidate = Candidate::builder()
            .tcp()
            .host(here)
            .tcptype(TcpType::Active);
        Self::over(
            Wire::Tcp(write, rx),
            candidate.build().unwrap(),
            server,
            direction,
        )
    }

    fn over(
        wire: Wire,
        candidate: Candidate,
        server: SocketAddr,
        direction: Direction,
    ) -> (Self, String) {
        let mut rtc = Rtc::new(now());
        let (here, proto) = (candidate.addr(), candidate.proto());
        rtc.add_local_candidate(candidate);
        let mut change = rtc.sdp_api();
        change.add_media(MediaKind::Audio, direction, None, None, None);
        change.add_media(MediaKind::Video, direction, None, None, None);
        let (offer, pending) = change.apply().unwrap();
        let offer = offer.to_sdp_string();
        let this = Self {
            rtc,
            wire,
            proto,
            here,
            server,
            pending: Some(pending),
        };
        (this, offer)
    }

    pub(crate) fn accept(&mut self, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        let pending = self.pending.take().unwrap();
        self.rtc.sdp_api().accept_answer(pending, answer).unwrap();
    }

    /// Goes on until an event that fits; panics after 10 s.
    pub(crate) async fn until(&mut self, fits: impl Fn(&Event) -> bool) {
        timeout(Duration::from_secs(10), self.wait(fits))
            .await
            .unwrap();
    }

    async fn wait(&mut self, fits: impl Fn(&Event) -> bool) {
        loop {
            let at = match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => at,
                Output::Transmit(datagram) => {
                    // Other candidates are addresses that are not here.
                    if datagram.destination == self.server && datagram.proto == self.proto {
                        self.send(&datagram.contents).await;
                    }
                    continue;
                }
                Output::Event(event) if fits(&event) => return,
                Output::Event(_) => continue,
            };
            let wait = at.saturating_duration_since(now());
            let Ok(bytes) = timeout(wait, self.receive()).await else {
                self.rtc.handle_input(Input::Timeout(now())).unwrap();
                continue;
            };
            let receive = Receive::new(self.proto, self.server, self.here, &bytes).unwrap();
            self.rtc
                .handle_input(Input::Receive(now(), receive))
                .unwrap();
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Udp(socket) => {
                socket.send_to(bytes, self.server).await.unwrap();
            }
            Wire::Tcp(write, _) => {
                let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                write.write_all(&[&length, bytes].concat()).await.unwrap();
            }
        }
    }

    async fn receive(&mut self) -> Vec<u8> {
        match &mut self.wire {
            Wire::Udp(socket) => {
                let mut buffer = vec![0; 2_000];
                let (n, _) = socket.recv_from(&mut buffer).await.unwrap();
                buffer.truncate(n);
                buffer
            }
            Wire::Tcp(_, queue) => queue.recv().await.unwrap(),
        }
    }
}
