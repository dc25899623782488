//! Clients that are str0m itself, the cores, an origin, and the network between them, in simulated time.
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use routing::model::{BroadcastId, Hlc, NodeId, UnixMillis};
use str0m::{
    Candidate, Event, IceCreds, Input, Output, Rtc, RtcConfig,
    change::{SdpAnswer, SdpPendingOffer},
    config::DtlsCert,
    format::{Codec, PayloadParams},
    media::{Direction, Frequency, MediaData, MediaKind, MediaTime, Mid},
    net::{Protocol, Receive},
};

use super::super::{
    peer::{Peer, Remote},
    sdp::Offer,
    whep::{Plan, Watching},
    whip::{self, Fed, Publishing},
};
use crate::{
    codec::h264::VideoConfig,
    live::{Broadcast, Broadcasts, Frame, TrackId},
    origin::{self, Announced, Config, Origin, Packet, Writer},
    ports::{Claim, Holders, Holding, Source},
};

pub(super) const SERVER: &str = "192.0.2.1:18203";
pub(super) const MS: Duration = Duration::from_millis(1);
/// x264, 640x360, High 3.0, and its picture parameter set.
pub(super) const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
    0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
];
pub(super) const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
pub(super) const ID: BroadcastId = BroadcastId::from_bytes([1; 16]);

pub(super) fn server() -> SocketAddr {
    SERVER.parse().unwrap()
}

pub(super) fn cert() -> DtlsCert {
    let crypto = str0m::crypto::from_feature_flags();
    crypto.dtls_provider.generate_certificate().unwrap()
}

pub(super) fn creds(n: u8) -> IceCreds {
    IceCreds {
        ufrag: format!("fragment{n}"),
        pass: format!("password0123456789012345{n}"),
    }
}

pub(super) fn answer(now: Instant, offer: &Offer, config: RtcConfig, n: u8) -> (Peer, SdpAnswer) {
    let parsed = offer.parse().unwrap();
    Peer::answer(now, config, (cert(), creds(n)), &[server()], parsed).unwrap()
}

/// A client.
pub(super) struct Client {
    pub(super) rtc: Rtc,
    pub(super) at: SocketAddr,
    pub(super) deadline: Instant,
    pub(super) out: VecDeque<Vec<u8>>,
    pub(super) media: Vec<MediaData>,
    pub(super) connected: bool,
    pub(super) wishes: usize,
}

impl Client {
    pub(super) fn new(now: Instant, at: &str, config: RtcConfig) -> Self {
        let at = at.parse().unwrap();
        let mut rtc = config.set_reordering_size_video(1_000).build(now);
        rtc.add_local_candidate(Candidate::host(at, Protocol::Udp).unwrap());
        Self {
            rtc,
            at,
            deadline: now,
            out: VecDeque::new(),
            media: Vec::new(),
            connected: false,
            wishes: 0,
        }
    }

    /// An offer of a line for sound and one for pictures.
    pub(super) fn offer(&mut self, direction: Direction) -> (String, SdpPendingOffer, [Mid; 2]) {
        let mut change = self.rtc.sdp_api();
        let mut add = |kind| change.add_media(kind, direction, None, None, None);
        let mids = [add(MediaKind::Audio), add(MediaKind::Video)];
        let (offer, pending) = change.apply().unwrap();
        (offer.to_sdp_string(), pending, mids)
    }

    pub(super) fn accept(&mut self, now: Instant, pending: SdpPendingOffer, answer: &SdpAnswer) {
        // As the other side reads it from the wire.
        let text = answer.to_sdp_string();
        let answer = SdpAnswer::from_sdp_string(&text).unwrap();
        self.rtc.sdp_api().accept_answer(pending, answer).unwrap();
        self.drain(now);
    }

    pub(super) fn write(&mut self, now: Instant, mid: Mid, time: MediaTime, data: Vec<u8>) {
        let writer = self.rtc.writer(mid).unwrap();
        let ours = |p: &&PayloadParams| p.spec().codec != Codec::Vp8;
        let pt = writer.payload_params().find(ours).unwrap().pt();
        writer.write(pt, now, time, data).unwrap();
        self.drain(now);
    }

    pub(super) fn drain(&mut self, now: Instant) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) if at > now => {
                    self.deadline = at;
                    return;
                }
                Output::Timeout(_) => self.rtc.handle_input(Input::Timeout(now)).unwrap(),
                Output::Transmit(datagram) => self.out.push_back(datagram.contents.to_vec()),
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::MediaData(data)) => self.media.push(data),
                Output::Event(Event::KeyframeRequest(_)) => self.wishes += 1,
                Output::Event(_) => {}
            }
        }
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if now >= self.deadline {
            self.rtc.handle_input(Input::Timeout(now)).unwrap();
            self.drain(now);
        }
    }

    pub(super) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let receive = Receive::new(Protocol::Udp, server(), self.at, bytes).unwrap();
        self.rtc.handle_input(Input::Receive(now, receive)).unwrap();
        self.drain(now);
    }

    pub(super) fn of(&self, mid: Mid) -> impl DoubleEndedIterator<Item = &MediaData> {
        self.media.iter().filter(move |data| data.mid == mid)
    }
}

pub(super) struct Alone;

impl Holders for Alone {
    fn sources(&self, _: BroadcastId) -> Vec<Source> {
        Vec::new()
    }
    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }
    fn advertise(&self, _: Holding) {}
    fn withdraw(&self, _: BroadcastId) {}
}

/// An origin with its writer: a broadcast that is fed.
pub(super) struct House {
    pub(super) zero: Instant,
    pub(super) origin: Origin,
    pub(super) writer: Writer,
    pub(super) broadcasts: Arc<Broadcasts>,
}

impl House {
    pub(super) fn new(zero: Instant) -> Self {
        let broadcasts = Arc::new(Broadcasts::default());
        let node = NodeId::from_bytes([2; 32]);
        let claim = Claim {
            stamp: Hlc(1),
            node,
        };
        let mut origin = Origin::new();
        origin.set_live(true);
        let writer = Writer::new(Arc::clone(&broadcasts), Arc::new(Alone), ID, node, claim);
        Self {
            zero,
            origin,
            writer,
            broadcasts,
        }
    }

    pub(super) fn broadcast(&self) -> Arc<Broadcast> {
        self.broadcasts.get_or_create(ID)
    }

    pub(super) fn feed(&mut self, now: Instant, fed: Fed) {
        let millis = (now - self.zero).as_millis();
        let at = UnixMillis(1_700_000_000_000 + u64::try_from(millis).unwrap());
        match fed {
            Fed::Announce(announced) => self.origin.announce(announced),
            Fed::Configure(input, config) => self.origin.configure(input, config),
            Fed::Push(packet) => self.origin.push(at, packet),
        }
        while let Some(output) = self.origin.poll() {
            self.writer.write(at, output).unwrap();
        }
    }

    pub(super) fn frames(&self, track: u8) -> Vec<Frame> {
        let line = self.broadcast().current().unwrap();
        let groups = line.groups(TrackId(track));
        groups.iter().flat_map(|g| g.frames()).collect()
    }
}

pub(super) struct Flight {
    pub(super) at: Instant,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// Clients, cores, and the network between them.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) rng: SmallRng,
    /// Of a thousand datagrams so many are lost.
    pub(super) loss: u32,
    /// Towards clients so many bytes a millisecond get through; what would wait longer than 400 ms is lost.
    pub(super) capacity: Option<usize>,
    pub(super) flights: Vec<Flight>,
    pub(super) house: House,
    pub(super) publisher: Option<(Client, Publishing)>,
    pub(super) viewer: Option<(Client, Watching)>,
    /// Pictures and sounds published.
    pub(super) made: u32,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    pub(super) fn new(seed: u64, loss: u32) -> Self {
        let now = Instant::now();
        Self {
            now,
            rng: SmallRng::seed_from_u64(seed),
            loss,
            capacity: None,
            flights: Vec::new(),
            house: House::new(now),
            publisher: None,
            viewer: None,
            made: 0,
        }
    }

    pub(super) fn fly(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.rng.random_range(0..1000) >= self.loss {
            let jitter = Duration::from_micros(self.rng.random_range(0..5_000));
            // A network loses, but hardly ever reorders.
            let before = self.flights.iter().filter(|f| f.to == to).map(|f| f.at);
            let mut at = before.fold(self.now + 20 * MS + jitter, Instant::max);
            if let Some(capacity) = self.capacity.filter(|_| from == server()) {
                let takes = bytes.len() * 1_000 / capacity;
                at += Duration::from_micros(takes.try_into().unwrap());
                if at > self.now + 420 * MS {
                    return;
                }
            }
            self.flights.push(Flight {
                at,
                from,
                to,
                bytes,
            });
        }
    }

    /// Everything that happens at this moment.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        loop {
            self.flights.sort_by_key(|f| f.at);
            let due = self.flights.iter().take_while(|f| f.at <= now).count();
            for flight in self.flights.drain(..due).collect::<Vec<_>>() {
                let Flight {
                    from, to, bytes, ..
                } = flight;
                if let Some((client, core)) = &mut self.publisher {
                    if to == client.at {
                        client.receive(now, &bytes);
                    } else if from == client.at {
                        core.receive(now, (Remote::udp(from), None), &bytes);
                    }
                }
                if let Some((client, core)) = &mut self.viewer {
                    if to == client.at {
                        client.receive(now, &bytes);
                    } else if from == client.at {
                        core.receive(now, (Remote::udp(from), None), &bytes);
                    }
                }
            }
            let mut out = Vec::new();
            if let Some((client, core)) = &mut self.publisher {
                client.tick(now);
                core.tick(now);
                while let Some(fed) = core.poll(now) {
                    self.house.feed(now, fed);
                }
                out.extend(client.out.drain(..).map(|b| (client.at, server(), b)));
                while let Some(datagram) = core.poll_datagram() {
                    out.push((server(), datagram.to.addr, datagram.bytes));
                }
            }
            if let Some((client, core)) = &mut self.viewer {
                client.tick(now);
                core.tick(now);
                out.extend(client.out.drain(..).map(|b| (client.at, server(), b)));
                while let Some(datagram) = core.poll_datagram(now) {
                    out.push((server(), datagram.to.addr, datagram.bytes));
                }
            }
            if out.is_empty() {
                return;
            }
            for (from, to, bytes) in out {
                self.fly(from, to, bytes);
            }
        }
    }

    /// Goes on until `until`, a millisecond at a time.
    pub(super) fn run(&mut self, until: Instant) {
        while self.now < until {
            self.settle();
            self.now += MS;
        }
        self.settle();
    }

    pub(super) fn publish(&mut self) -> [Mid; 2] {
        let mut client = Client::new(self.now, "198.51.100.1:5000", codecs());
        let (offer, pending, mids) = client.offer(Direction::SendOnly);
        let offer = Offer::read(offer.as_bytes(), whip::uses()).unwrap();
        let (peer, answer) = answer(self.now, &offer, whip::config(), 1);
        client.accept(self.now, pending, &answer);
        self.publisher = Some((client, Publishing::new(self.now, peer)));
        mids
    }

    pub(super) fn watch(&mut self) -> [Mid; 2] {
        let broadcast = self.house.broadcast();
        let plan = Plan::of(&broadcast.current().unwrap()).unwrap();
        let mut client = Client::new(self.now, "198.51.100.2:5000", codecs());
        let (offer, pending, mids) = client.offer(Direction::RecvOnly);
        let offer = Offer::read(offer.as_bytes(), plan.uses()).unwrap();
        let (peer, answer) = answer(self.now, &offer, plan.config(), 2);
        client.accept(self.now, pending, &answer);
        let core = Watching::new(self.now, peer, plan, broadcast);
        self.viewer = Some((client, core));
        mids
    }
}

/// What a browser has.
pub(super) fn codecs() -> RtcConfig {
    RtcConfig::new()
        .clear_codecs()
        .enable_opus(true, false)
        .enable_vp8(true)
        .enable_h264(true)
}

/// A number as bytes in which no start code can be.
pub(super) fn digits(n: u32) -> [u8; 3] {
    [n >> 12, n >> 6, n].map(|d| (d & 0x3f) as u8 | 0x40)
}

pub(super) fn number(digits: &[u8]) -> u32 {
    digits[..3]
        .iter()
        .fold(0, |n, d| n << 6 | u32::from(d & 0x3f))
}

/// Picture `n` of so many bytes, with start codes; a keyframe has its parameter sets.
pub(super) fn picture(n: u32, keyframe: bool, bytes: usize) -> Vec<u8> {
    let header = if keyframe { 0x65 } else { 0x41 };
    let mut slice = [&[header][..], &digits(n)].concat();
    slice.resize(bytes, 0xaa);
    let sets = [SPS, PPS].into_iter().filter(|_| keyframe);
    let with_codes = sets.chain([&slice[..]]);
    with_codes
        .flat_map(|nal| [&[0, 0, 0, 1][..], nal].concat())
        .collect()
}

/// Sound `n`, of 20 ms.
pub(super) fn sound(n: u32) -> Vec<u8> {
    [&[0x78][..], &digits(n)].concat()
}

/// Feeds picture and sound `n` as an origin's encoder does.
pub(super) fn feed(world: &mut World, n: u32, keyframe: bool) {
    let now = world.now;
    if n == 0 {
        let config = VideoConfig::of(
            4,
            vec![Bytes::from_static(SPS)],
            vec![Bytes::from_static(PPS)],
        )
        .unwrap();
        let summary = config.summary(Some((50, 1)));
        let announced = Announced {
            video: 1,
            audio: 0,
            rate: Some((50, 1)),
        };
        world.house.feed(now, Fed::Announce(announced));
        let data = config.write();
        let config = Config {
            data,
            summary,
            frame_samples: 0,
        };
        world
            .house
            .feed(now, Fed::Configure(origin::Input::VIDEO, config));
    }
    let header = if keyframe { 0x65 } else { 0x41 };
    let bytes = if keyframe { 40_000 } else { 4_000 };
    let mut data = [&u32::to_be_bytes(bytes)[..], &[header], &digits(n)].concat();
    data.resize(4 + bytes as usize, 0xaa);
    let packet = Packet {
        input: origin::Input::VIDEO,
        time: i64::from(n) * 20 * 90,
        composition: 0,
        keyframe,
        data: data.into(),
    };
    world.house.feed(now, Fed::Push(packet));
}

pub(super) fn video_time(ms: u64) -> MediaTime {
    MediaTime::new(ms * 90, Frequency::NINETY_KHZ)
}

/// Publishes for so long: 50 pictures a second, a keyframe at first and where one is asked for.
pub(super) fn publish_for(world: &mut World, [audio, video]: [Mid; 2], seconds: u32) {
    let (start, first) = (world.now, world.made);
    for n in first..first + seconds * 50 {
        world.run(start + 20 * MS * (n - first));
        world.made = n + 1;
        let now = world.now;
        let (client, _) = world.publisher.as_mut().unwrap();
        // RTP clocks begin anywhere: these are five seconds apart.
        let time = u64::from(n) * 20;
        let key = std::mem::take(&mut client.wishes) > 0 || n == 0;
        let bytes = if key { 40_000 } else { 4_000 };
        client.write(now, video, video_time(5_000 + time), picture(n, key, bytes));
        let at = MediaTime::new(time * 48, Frequency::FORTY_EIGHT_KHZ);
        client.write(now, audio, at, sound(n));
    }
    world.run(world.now + 200 * MS);
}

/// How late a viewer sees picture `n`, which was made at `made`, in milliseconds.
pub(super) fn seen(world: &World, video: Mid) -> Vec<(u32, u64)> {
    let (client, _) = world.viewer.as_ref().unwrap();
    let when = |data: &MediaData| (data.network_time - world.house.zero).as_millis();
    // After the parameter sets, where there are some: the slice's header, then the number.
    let digits = |data: &MediaData| {
        let at = data
            .data
            .windows(4)
            .rposition(|w| w == [0, 0, 0, 1])
            .unwrap();
        number(&data.data[at + 5..])
    };
    client
        .of(video)
        .map(|data| (digits(data), u64::try_from(when(data)).unwrap()))
        .collect()
}
