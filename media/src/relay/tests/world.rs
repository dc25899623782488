//! A small mesh: nodes with relays, a directory of who holds what, and origins that feed made frames.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use routing::model::{
    BitsPerSecond, BroadcastId, Clock, Codec, EpochId, Hlc, NodeId, PlaybackId, StreamKey,
    TrackDetail, TrackKind, TrackSummary, UnixMillis, Uptime,
};
use tokio::{net::UdpSocket, sync::watch, time::timeout};
use zeroize::Zeroizing;

use crate::{
    live::{
        Broadcast, Broadcasts, Cut, Epoch, EpochLine, Frame, GroupHeader, GroupSeq, GroupWriter,
        Limits, Phase, Stamp, Track, TrackConfig, TrackId,
    },
    ports::{Claim, Gate, Holders, Holding, Protocol, Publish, Refusal, Source, Viewer, Watch},
    relay::{Relay, RelayLimits, RelayOptions},
};

pub(super) const VIDEO: TrackId = TrackId(0);
pub(super) const AUDIO: TrackId = TrackId(1);
pub(super) const BROADCAST: BroadcastId = BroadcastId::from_bytes([7; 16]);
/// Nothing in these tests takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

struct TestClock(std::time::Instant);

impl Clock for TestClock {
    fn uptime(&self) -> Uptime {
        Uptime(self.0.elapsed())
    }
    fn unix(&self) -> UnixMillis {
        UnixMillis(1_700_000_000_000).plus(self.0.elapsed())
    }
}

/// What all nodes know.
pub(super) struct World {
    pub(super) clock: Arc<dyn Clock>,
    held: Mutex<BTreeMap<NodeId, Holding>>,
    addresses: Mutex<BTreeMap<NodeId, SocketAddr>>,
    /// Whom a node asks first.
    prefers: Mutex<BTreeMap<NodeId, Vec<NodeId>>>,
    /// (asker, holder) that meet at another address.
    detours: Mutex<BTreeMap<(NodeId, NodeId), SocketAddr>>,
    barred: Mutex<BTreeSet<NodeId>>,
    changed: watch::Sender<u64>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the outermost edge of these tests"
)]
fn start() -> std::time::Instant {
    std::time::Instant::now()
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::new(TestClock(start())),
            held: Mutex::default(),
            addresses: Mutex::default(),
            prefers: Mutex::default(),
            detours: Mutex::default(),
            barred: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    pub(super) fn prefer(&self, asker: &Node, holders: &[&Node]) {
        let holders = holders.iter().map(|node| node.id).collect();
        self.prefers.lock().unwrap().insert(asker.id, holders);
    }

    pub(super) fn detour(&self, asker: &Node, holder: &Node, address: SocketAddr) {
        let pair = (asker.id, holder.id);
        self.detours.lock().unwrap().insert(pair, address);
    }

    pub(super) fn bar(&self, node: &Node) {
        self.barred.lock().unwrap().insert(node.id);
    }

    /// As the detector says it.
    pub(super) fn forget(&self, node: &Node) {
        self.held.lock().unwrap().remove(&node.id);
        self.changed.send_modify(|v| *v += 1);
    }

    /// A node says so again.
    pub(super) fn tell(&self, node: &Node, holding: Holding) {
        self.held.lock().unwrap().insert(node.id, holding);
        self.changed.send_modify(|v| *v += 1);
    }

    pub(super) fn holding(&self, node: &Node) -> Option<Holding> {
        let held = self.held.lock().unwrap().get(&node.id).cloned();
        held.filter(|holding| !holding.over)
    }

    /// Waits until the directory is as wanted.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn() -> bool) {
        let mut changes = self.changed.subscribe();
        let wait = async {
            while !wanted() {
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }
}

struct Ports {
    world: Arc<World>,
    me: NodeId,
}

impl Ports {
    fn advertisers(&self, broadcast: BroadcastId, over: bool) -> Vec<Source> {
        let held = self.world.held.lock().unwrap();
        let prefers = self.world.prefers.lock().unwrap();
        let mut all: Vec<&NodeId> = held
            .iter()
            .filter(|(node, holding)| **node != self.me && holding.broadcast == broadcast)
            .filter(|(_, holding)| over || !holding.over)
            .map(|(node, _)| node)
            .collect();
        let first = prefers.get(&self.me).cloned().unwrap_or_default();
        all.sort_by_key(|node| first.iter().position(|n| n == *node).unwrap_or(usize::MAX));
        let addresses = self.world.addresses.lock().unwrap();
        let detours = self.world.detours.lock().unwrap();
        let source = |node: &NodeId| Source {
            node: *node,
            addresses: vec![*detours.get(&(self.me, *node)).unwrap_or(&addresses[node])],
            origin: held[node].replica_of.is_none(),
        };
        all.into_iter().map(source).collect()
    }
}

impl Holders for Ports {
    fn sources(&self, broadcast: BroadcastId) -> Vec<Source> {
        self.advertisers(broadcast, false)
    }
    fn remains(&self, broadcast: BroadcastId) -> Vec<Source> {
        self.advertisers(broadcast, true)
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.world.changed.subscribe()
    }
    fn advertise(&self, holding: Holding) {
        self.world.held.lock().unwrap().insert(self.me, holding);
        self.world.changed.send_modify(|v| *v += 1);
    }
    fn withdraw(&self, _: BroadcastId) {
        self.world.held.lock().unwrap().remove(&self.me);
        self.world.changed.send_modify(|v| *v += 1);
    }
}

impl Gate for Ports {
    fn may_publish<'a>(
        &'a self,
        _: &'a StreamKey,
        _: Protocol,
    ) -> BoxFuture<'a, Result<Publish, Refusal>> {
        Box::pin(async { Err(Refusal::Unknown("nobody publishes here".into())) })
    }
    fn may_watch<'a>(
        &'a self,
        _: PlaybackId,
        _: &'a Viewer,
    ) -> BoxFuture<'a, Result<Watch, Refusal>> {
        Box::pin(async { Err(Refusal::Unknown("nobody watches here".into())) })
    }
    fn may_relay(&self, peer: NodeId, _: BroadcastId) -> bool {
        !self.world.barred.lock().unwrap().contains(&peer)
    }
}

pub(super) struct Node {
    pub(super) relay: Arc<Relay>,
    pub(super) broadcasts: Arc<Broadcasts>,
    pub(super) id: NodeId,
    world: Arc<World>,
}

pub(super) fn limits() -> RelayLimits {
    RelayLimits {
        linger: Duration::from_millis(100),
        ..RelayLimits::default()
    }
}

impl Node {
    pub(super) fn start(world: &Arc<World>, seed: u8) -> Self {
        Self::with(world, seed, limits())
    }

    pub(super) fn with(world: &Arc<World>, seed: u8, limits: RelayLimits) -> Self {
        let broadcasts = Arc::new(Broadcasts::new(Limits::default()));
        let key = libp2p_identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        let public = key.public().try_into_ed25519().unwrap();
        let me = NodeId::from_bytes(public.to_bytes());
        let ports = |world| Arc::new(Ports { world, me });
        let relay = Relay::start(RelayOptions {
            socket: std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            key_seed: Zeroizing::new([seed; 32]),
            clock: Arc::clone(&world.clock),
            gate: ports(Arc::clone(world)),
            holders: ports(Arc::clone(world)),
            broadcasts: Arc::clone(&broadcasts),
            limits,
        })
        .unwrap();
        assert_eq!(relay.id(), me, "the certificate's key is the node's");
        let address = relay.local_addr().unwrap();
        world.addresses.lock().unwrap().insert(me, address);
        Self {
            relay,
            broadcasts,
            id: me,
            world: Arc::clone(world),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.relay.local_addr().unwrap()
    }

    /// A publisher connects here.
    pub(super) fn publish(&self, epoch: u64, claim: u64) -> Origin {
        let epoch = Arc::new(epoch_of(epoch, claim, self.id));
        let broadcast = self.broadcasts.get_or_create(BROADCAST);
        let line = broadcast.open(Arc::clone(&epoch));
        let ports = Ports {
            world: Arc::clone(&self.world),
            me: self.id,
        };
        ports.advertise(Holding {
            over: false,
            broadcast: BROADCAST,
            epoch: epoch.id,
            claim: Claim {
                stamp: epoch.claim,
                node: self.id,
            },
            replica_of: None,
        });
        Origin {
            broadcast,
            line,
            frames: 0,
            video: None,
            audio: None,
        }
    }
}

fn epoch_of(id: u64, claim: u64, origin: NodeId) -> Epoch {
    let track = |id, kind, timescale| Track {
        id,
        kind,
        timescale,
        frames_per_part: 6,
        part_target: u64::from(timescale) / 5,
        first_segment: 0,
        config: config(kind),
    };
    Epoch {
        id: EpochId::from_u64(id),
        broadcast: BROADCAST,
        origin,
        claim: Hlc(claim),
        programme_time: UnixMillis(0),
        discontinuity: 0,
        follows: None,
        tracks: vec![
            track(VIDEO, TrackKind::Video, 90_000),
            track(AUDIO, TrackKind::Audio, 48_000),
        ],
    }
}

fn config(kind: TrackKind) -> Arc<TrackConfig> {
    let (codec, detail) = match kind {
        TrackKind::Audio => (
            Codec::Aac,
            TrackDetail::Audio {
                sample_rate: 48_000,
                channels: 2,
            },
        ),
        _ => (
            Codec::H264,
            TrackDetail::Video {
                width: 640,
                height: 360,
                rate: (50, 1),
            },
        ),
    };
    Arc::new(TrackConfig {
        number: 0,
        since: 0,
        data: Bytes::from_static(&[1, 2, 3]),
        summary: TrackSummary {
            kind,
            codec,
            codec_string: "test".into(),
            bitrate: BitsPerSecond(0),
            detail,
        },
    })
}

/// Frames a second of the made stream, in both tracks: 20 ms each.
const RATE: u64 = 50;
/// Frames a group: half a second.
pub(super) const GROUP: u64 = 25;

/// Feeds a broadcast at its origin.
pub(super) struct Origin {
    pub(super) broadcast: Arc<Broadcast>,
    pub(super) line: Arc<EpochLine>,
    frames: u64,
    video: Option<GroupWriter>,
    audio: Option<GroupWriter>,
}

impl Origin {
    /// The next frame of both tracks.
    pub(super) fn push(&mut self) {
        let (seq, place) = (self.frames / GROUP, self.frames % GROUP);
        for (track, scale) in [(VIDEO, 90_000), (AUDIO, 48_000)] {
            let dts = i64::try_from(self.frames * scale / RATE).unwrap();
            let writer = if track == VIDEO {
                &mut self.video
            } else {
                &mut self.audio
            };
            if place == 0 {
                if let Some(full) = writer.take() {
                    full.finish();
                }
                let header = GroupHeader {
                    epoch: self.line.epoch().id,
                    track,
                    seq: GroupSeq(seq),
                    independent: true,
                    stamp: Stamp {
                        segment: seq,
                        part: 0,
                        discontinuity: 0,
                        base_decode_time: dts,
                    },
                    config: Arc::clone(&self.line.epoch().tracks[track.index()].config),
                };
                *writer = Some(self.broadcast.begin(header).unwrap());
            }
            let size = if track == VIDEO { 3_000 } else { 200 };
            let fill = u8::try_from((self.frames * 7 + u64::from(track.0)) % 251).unwrap();
            let cut = if place == 0 { Cut::Segment } else { Cut::None };
            let frame = Frame {
                dts,
                cts: 0,
                keyframe: place == 0 || track == AUDIO,
                cut,
                data: vec![fill; size].into(),
            };
            writer.as_mut().unwrap().push(frame).unwrap();
        }
        self.frames += 1;
    }

    pub(super) fn push_many(&mut self, frames: u64) {
        for _ in 0..frames {
            self.push();
        }
    }

    /// The publisher leaves.
    pub(super) fn end(mut self) -> Arc<EpochLine> {
        for writer in [self.video.take(), self.audio.take()].into_iter().flatten() {
            writer.finish();
        }
        self.broadcast.end(self.line.epoch().id);
        Arc::clone(&self.line)
    }

    /// Feeds on at the stream's own pace until told to end.
    pub(super) fn run(mut self) -> Running {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(1000 / RATE));
            loop {
                tokio::select! {
                    _ = beat.tick() => self.push(),
                    _ = stopped.changed() => return self,
                }
            }
        });
        Running { stop, task }
    }
}

pub(super) struct Running {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Origin>,
}

impl Running {
    pub(super) async fn stop(self) -> Origin {
        self.stop.send(true).unwrap();
        self.task.await.unwrap()
    }
}

/// Waits until a broadcast is as wanted.
pub(super) async fn until(
    broadcast: &Arc<Broadcast>,
    what: &str,
    wanted: impl Fn(&Broadcast) -> bool,
) {
    let mut changes = broadcast.changes();
    let wait = async {
        while !wanted(broadcast) {
            changes.changed().await.unwrap();
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// Whether `copy` has every group that `line` has finished, with the same header and the same frames.
pub(super) fn has_all(copy: &Broadcast, line: &EpochLine) -> bool {
    let Some(held) = copy.epoch(line.epoch().id) else {
        return false;
    };
    assert_eq!(held.epoch(), line.epoch());
    [VIDEO, AUDIO].into_iter().all(|track| {
        line.groups(track).iter().all(|group| {
            let Some(other) = held.group(track, group.header().seq) else {
                return false;
            };
            assert_eq!(other.header(), group.header());
            let (theirs, ours) = (other.frames(), group.frames());
            let common = theirs.len().min(ours.len());
            assert_eq!(theirs[..common], ours[..common], "another byte");
            group.phase() != Phase::Finished || other.phase() == Phase::Finished
        })
    })
}

/// A UDP wire between an asker and one holder that can be cut in silence.
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Wire {
    pub(super) async fn to(holder: SocketAddr) -> Self {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = near.local_addr().unwrap();
        let (cut, severed) = watch::channel(false);
        tokio::spawn(async move {
            let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
            let mut asker = None;
            loop {
                let sent = tokio::select! {
                    got = near.recv_from(&mut there) => got.map(|(n, from)| {
                        asker = Some(from);
                        (n, true)
                    }),
                    got = far.recv_from(&mut back) => got.map(|(n, _)| (n, false)),
                };
                let Ok((n, forth)) = sent else { return };
                if *severed.borrow() {
                    continue;
                }
                let passed = match (forth, asker) {
                    (true, _) => far.send_to(&there[..n], holder).await,
                    (false, Some(asker)) => near.send_to(&back[..n], asker).await,
                    (false, None) => continue,
                };
                if passed.is_err() {
                    return;
                }
            }
        });
        Self { address, cut }
    }

    pub(super) fn cut(&self) {
        self.cut.send_replace(true);
    }
}
