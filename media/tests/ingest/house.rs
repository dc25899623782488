//! A server with a small house around it: one key, claims among its own publishers, a list of what was advertised.
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::future::BoxFuture;
use media::{
    ingest::{IngestOptions, Publishers},
    live::{Broadcast, Broadcasts, Frame, GroupHeader, Limits as Window, TrackId},
    ports::{
        Claim, Claims, Gate, HeldClaim, Holders, Holding, Protocol, Publish, Refusal, Source,
        Standing, Viewer, Watch,
    },
    rtmp::{Limits, Server},
    srt,
};
use routing::model::{
    BroadcastId, Clock, Hlc, NodeId, PlaybackId, StreamId, StreamKey, TenantId, UnixMillis, Uptime,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

pub(crate) const KEY: &str = "sk_test";
pub(crate) const BROADCAST: BroadcastId = BroadcastId::from_bytes([7; 16]);

pub(crate) struct RealClock(Instant);

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "real encoders run in real time")]
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for RealClock {
    fn uptime(&self) -> Uptime {
        Uptime(self.0.elapsed())
    }
    #[expect(clippy::disallowed_methods, reason = "real encoders run in real time")]
    fn unix(&self) -> UnixMillis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixMillis(now.as_millis().try_into().unwrap())
    }
}

struct OneKey;

impl Gate for OneKey {
    fn may_publish<'a>(
        &'a self,
        key: &'a StreamKey,
        _: Protocol,
    ) -> BoxFuture<'a, Result<Publish, Refusal>> {
        let known = *key == StreamKey::new(KEY);
        Box::pin(async move {
            if !known {
                return Err(Refusal::Unknown("No stream has this key. Check it.".into()));
            }
            Ok(Publish {
                broadcast: BROADCAST,
                stream: StreamId::from_bytes([7; 16]),
                tenant: TenantId::from_bytes([1; 16]),
            })
        })
    }
    fn may_watch<'a>(
        &'a self,
        _: PlaybackId,
        _: &'a Viewer,
    ) -> BoxFuture<'a, Result<Watch, Refusal>> {
        Box::pin(async { Err(Refusal::Unknown("nobody watches here".into())) })
    }
    fn may_relay(&self, _: NodeId, _: BroadcastId) -> bool {
        false
    }
}

/// The lowest claim of the house is live; when it goes, the next one is.
#[derive(Default)]
pub(crate) struct Queue(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    next: u64,
    all: BTreeMap<u64, watch::Sender<Standing>>,
}

struct Held {
    number: u64,
    queue: Arc<Mutex<Waiting>>,
    standing: watch::Receiver<Standing>,
}

fn claim(number: u64) -> Claim {
    Claim {
        stamp: Hlc(number),
        node: NodeId::from_bytes([9; 32]),
    }
}

impl Claims for Queue {
    fn claim(&self, _: BroadcastId) -> Box<dyn HeldClaim> {
        let mut waiting = self.0.lock().unwrap();
        let number = waiting.next;
        waiting.next += 1;
        let lowest = waiting.all.keys().next();
        let standing = lowest.map_or(Standing::Live, |n| Standing::Standby { live: claim(*n) });
        let (tx, rx) = watch::channel(standing);
        waiting.all.insert(number, tx);
        Box::new(Held {
            number,
            queue: Arc::clone(&self.0),
            standing: rx,
        })
    }
}

impl HeldClaim for Held {
    fn claim(&self) -> Claim {
        claim(self.number)
    }
    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock().unwrap();
        waiting.all.remove(&self.number);
        if let Some((_, first)) = waiting.all.iter().next() {
            first.send_replace(Standing::Live);
        }
    }
}

/// What was advertised and withdrawn, in order.
pub(crate) struct Board(pub(crate) watch::Sender<Vec<Option<Holding>>>);

impl Holders for Board {
    fn sources(&self, _: BroadcastId) -> Vec<Source> {
        Vec::new()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
    fn advertise(&self, holding: Holding) {
        self.0.send_modify(|all| all.push(Some(holding)));
    }
    fn withdraw(&self, _: BroadcastId) {
        self.0.send_modify(|all| all.push(None));
    }
}

pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) publishers: Publishers,
    pub(crate) broadcasts: Arc<Broadcasts>,
    pub(crate) board: Arc<Board>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    more: Vec<tokio::task::JoinHandle<()>>,
}

impl House {
    pub(crate) async fn open(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let window = Window {
            window: Duration::from_secs(120),
            ..Window::default()
        };
        let broadcasts = Arc::new(Broadcasts::new(window));
        let board = Arc::new(Board(watch::channel(Vec::new()).0));
        let publishers = Publishers::new(IngestOptions {
            gate: Arc::new(OneKey),
            claims: Arc::new(Queue::default()),
            holders: Arc::clone(&board) as Arc<dyn Holders>,
            broadcasts: Arc::clone(&broadcasts),
            recall: Arc::new(media::origin::Nobody),
            clock: RealClock::start(),
            node: NodeId::from_bytes([9; 32]),
        });
        let server = Server::new(publishers.clone(), limits);
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let stop = stop.clone();
            async move { server.serve(listener, None, stop).await }
        });
        Self {
            address,
            publishers,
            broadcasts,
            board,
            stop,
            serving,
            more: Vec::new(),
        }
    }

    pub(crate) fn url(&self, key: &str) -> String {
        format!("rtmp://{}/live/{key}", self.address)
    }

    /// Takes SRT in as well, at this address.
    pub(crate) fn listen_srt(&mut self, options: srt::Options) -> SocketAddr {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let server = srt::Server::new(self.publishers.clone(), options, [7; 32]);
        let stop = self.stop.clone();
        self.more.push(tokio::spawn(async move {
            server.serve(socket, stop).await.unwrap();
        }));
        address
    }

    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
        for serving in self.more {
            serving.await.unwrap();
        }
        assert!(self.publishers.sessions().is_empty());
    }
}

/// One track of the current epoch, whole.
pub(crate) struct Line {
    pub(crate) timescale: i64,
    pub(crate) groups: Vec<(GroupHeader, Vec<Frame>)>,
}

impl Line {
    pub(crate) fn of(broadcast: &Broadcast, track: u8) -> Self {
        let line = broadcast.current().unwrap();
        let track = line.epoch().track(TrackId(track)).unwrap();
        let groups = line.groups(track.id).into_iter();
        Self {
            timescale: i64::from(track.timescale),
            groups: groups.map(|g| (g.header().clone(), g.frames())).collect(),
        }
    }

    pub(crate) fn frames(&self) -> Vec<&Frame> {
        self.groups.iter().flat_map(|(_, f)| f).collect()
    }
}
