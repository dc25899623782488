//! WebRTC with a small house around it: one key, one playback id, one broadcast that stands still.
use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use media::{
    codec::reader::Config,
    follow::Audience,
    http::{Http, HttpOptions},
    ingest::{IngestOptions, Publishers},
    live::{Broadcasts, TrackId},
    origin::{Announced, Input, Origin, Packet, Writer},
    ports::{
        Claim, Claims, Gate, HeldClaim, Holders, Holding, Pathway, Protocol, Publish, ReachedAt,
        Refusal, Resolve, Source, Standing, Viewer, Watch,
    },
    supply::{Lease, Supply},
    webrtc::{IceServer, Limits, WebRtc, WebRtcOptions},
};
use routing::model::{
    BitsPerSecond, BroadcastId, Clock, Codec, Hlc, NodeId, PlaybackId, Secret, StreamId, StreamKey,
    TenantId, TrackDetail, TrackKind, TrackSummary, UnixMillis, Uptime,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub(crate) const KEY: &str = "sk_test";
pub(crate) const ID: &str = "abcdefghij012345";
const BROADCAST: BroadcastId = BroadcastId::from_bytes([7; 16]);
/// What the key publishes.
const PUBLISHED: BroadcastId = BroadcastId::from_bytes([8; 16]);
const NODE: NodeId = NodeId::from_bytes([9; 32]);

struct RealClock(Instant);

impl Clock for RealClock {
    fn uptime(&self) -> Uptime {
        Uptime(self.0.elapsed())
    }
    #[expect(clippy::disallowed_methods, reason = "real sockets run in real time")]
    fn unix(&self) -> UnixMillis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixMillis(now.as_millis().try_into().unwrap())
    }
}

struct Doors;

impl Gate for Doors {
    fn may_publish<'a>(
        &'a self,
        key: &'a StreamKey,
        _: Protocol,
    ) -> BoxFuture<'a, Result<Publish, Refusal>> {
        let known = *key == StreamKey::new(KEY);
        Box::pin(async move {
            known
                .then_some(())
                .ok_or_else(|| Refusal::Unknown("No stream has this key.".into()))?;
            Ok(Publish {
                broadcast: PUBLISHED,
                stream: StreamId::from_bytes([8; 16]),
                tenant: TenantId::from_bytes([1; 16]),
            })
        })
    }
    fn may_watch<'a>(
        &'a self,
        id: PlaybackId,
        viewer: &'a Viewer,
    ) -> BoxFuture<'a, Result<Watch, Refusal>> {
        assert_eq!(viewer.protocol, Protocol::WebRtc);
        Box::pin(async move {
            let known = id == ID.parse().unwrap();
            known
                .then_some(())
                .ok_or_else(|| Refusal::Unknown("no such stream".into()))?;
            Ok(Watch {
                broadcast: BROADCAST,
                stream: StreamId::from_bytes([7; 16]),
                tenant: TenantId::from_bytes([1; 16]),
            })
        })
    }
    fn may_relay(&self, _: NodeId, _: BroadcastId) -> bool {
        false
    }
}

struct Alone;

impl Holders for Alone {
    fn sources(&self, _: BroadcastId) -> Vec<Source> {
        Vec::new()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
    fn advertise(&self, _: Holding) {}
    fn withdraw(&self, _: BroadcastId) {}
}

struct Held(watch::Sender<Standing>);

const CLAIM: Claim = Claim {
    stamp: Hlc(1),
    node: NODE,
};

impl HeldClaim for Held {
    fn claim(&self) -> Claim {
        CLAIM
    }
    fn standing(&self) -> watch::Receiver<Standing> {
        self.0.subscribe()
    }
}

impl Claims for Alone {
    fn claim(&self, _: BroadcastId) -> Box<dyn HeldClaim> {
        Box::new(Held(watch::channel(Standing::Live).0))
    }
}

/// Another node takes streams better, where it is said so.
struct Ways(bool);

impl Resolve for Ways {
    fn resolve<'a>(
        &'a self,
        _: PlaybackId,
        _: &'a Viewer,
    ) -> BoxFuture<'a, Result<serde_json::Value, Refusal>> {
        Box::pin(async { Err(Refusal::Unknown("nobody resolves here".into())) })
    }
    fn pathways(&self, _: PlaybackId, _: &Viewer) -> Vec<Pathway> {
        Vec::new()
    }
    fn publish_at<'a>(&'a self, _: &'a StreamKey, _: &'a Viewer) -> BoxFuture<'a, Option<Pathway>> {
        let way = self.0.then(|| Pathway {
            id: "n-other".into(),
            base_url: "https://n-other.example".into(),
        });
        Box::pin(async { way })
    }
}

struct Shelf(Arc<Broadcasts>);

impl Supply for Shelf {
    fn lease(&self, id: BroadcastId) -> BoxFuture<'_, Result<Lease, Refusal>> {
        Box::pin(async move {
            let held = self
                .0
                .get(id)
                .ok_or_else(|| Refusal::Unavailable("not live".into()))?;
            Ok(Lease::new(held, Box::new(())))
        })
    }
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

pub(crate) struct House {
    http: Http,
    pub(crate) webrtc: WebRtc,
    pub(crate) publishers: Publishers,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    writer: Writer,
    broadcasts: Arc<Broadcasts>,
}

impl House {
    #[expect(clippy::disallowed_methods, reason = "real sockets run in real time")]
    pub(crate) fn open(limits: Limits, elsewhere: bool) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(RealClock(Instant::now()));
        let broadcasts = Arc::new(Broadcasts::default());
        let publishers = Publishers::new(IngestOptions {
            gate: Arc::new(Doors),
            claims: Arc::new(Alone),
            holders: Arc::new(Alone),
            broadcasts: Arc::clone(&broadcasts),
            recall: Arc::new(media::origin::Nobody),
            clock: Arc::clone(&clock),
            node: NODE,
        });
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let webrtc = WebRtc::new(WebRtcOptions {
            socket,
            listener: TcpListener::bind(address).unwrap(),
            addresses: vec![[192, 0, 2, 7].into()],
            ice_servers: vec![IceServer {
                url: "turn:turn.example.net?transport=udp".into(),
                login: Some(("all".into(), Secret::new("secret".into()))),
            }],
            publishers: publishers.clone(),
            clock: Arc::clone(&clock),
            seed: [5; 32],
            limits,
        })
        .unwrap();
        let (gate, supply) = (Arc::new(Doors), Arc::new(Shelf(Arc::clone(&broadcasts))));
        let audience = Audience::new(
            Arc::clone(&gate) as _,
            Arc::clone(&supply) as _,
            Arc::clone(&clock),
        );
        let http = Http::new(HttpOptions {
            node: NODE,
            audience,
            publishers: Some(publishers.clone()),
            supply,
            gate,
            resolve: Arc::new(Ways(elsewhere)),
            clock,
            webrtc: Some(webrtc.clone()),
        });
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (webrtc, stop) = (webrtc.clone(), stop.clone());
            async move { webrtc.serve(stop).await }
        });
        let writer = Writer::new(
            Arc::clone(&broadcasts),
            Arc::new(Alone),
            BROADCAST,
            NODE,
            CLAIM,
        );
        Self {
            http,
            webrtc,
            publishers,
            address,
            stop,
            serving,
            writer,
            broadcasts,
        }
    }

    /// A second of a stream with sound in AAC.
    pub(crate) fn air(&mut self) {
        const AVCC: &[u8] = &[
            1, 0x64, 0, 0x1e, 0xff, 0xe1, 0, 26, 0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0,
            0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c,
            0x0f, 0x16, 0x2d, 0x96, 1, 0, 6, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8,
            0,
        ];
        let mut origin = Origin::new();
        origin.set_live(true);
        origin.announce(Announced {
            video: 1,
            audio: 1,
            rate: Some((30, 1)),
        });
        let config = |data, kind, codec, detail, frame_samples| Config {
            data: Bytes::from_static(data),
            summary: TrackSummary {
                kind,
                codec,
                codec_string: String::new(),
                bitrate: BitsPerSecond(0),
                detail,
            },
            frame_samples,
        };
        let pictures = TrackDetail::Video {
            width: 640,
            height: 360,
            rate: (30, 1),
        };
        let sound = TrackDetail::Audio {
            sample_rate: 48_000,
            channels: 2,
        };
        let (video, audio) = (TrackKind::Video, TrackKind::Audio);
        origin.configure(Input::VIDEO, config(AVCC, video, Codec::H264, pictures, 0));
        origin.configure(
            Input::AUDIO,
            config(&[0x11, 0x90], audio, Codec::Aac, sound, 1024),
        );
        for n in 0..30 {
            let at = UnixMillis(1_700_000_000_000);
            let slice = if n == 0 { 0x65 } else { 0x41 };
            let packet = |input, keyframe, data| Packet {
                input,
                time: n * 3_000,
                composition: 0,
                keyframe,
                data,
            };
            let picture = Bytes::copy_from_slice(&[0, 0, 0, 3, slice, 0xaa, 0xbb]);
            origin.push(at, packet(Input::VIDEO, n == 0, picture));
            origin.push(
                at,
                packet(Input::AUDIO, true, Bytes::from_static(&[0x21, 7])),
            );
            while let Some(output) = origin.poll() {
                self.writer.write(at, output).unwrap();
            }
        }
        assert!(self.broadcasts.get(BROADCAST).is_some());
    }

    /// A stream was taken in: its epoch has pictures, and has ended.
    pub(crate) fn published(&self) {
        let broadcast = self.broadcasts.get(PUBLISHED).unwrap();
        let epoch = broadcast.current().unwrap();
        assert!(epoch.ended());
        assert!(epoch.groups(TrackId(0)).len() > 5);
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reached = ReachedAt(([127, 0, 0, 1], 80).into());
        let request = request.extension(reached).body(body.into()).unwrap();
        let reply = self.http.router().oneshot(request).await.unwrap();
        let (parts, body) = reply.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn offer(&self, path: &str, offer: &str) -> Reply {
        let sdp = [("content-type", "application/sdp")];
        self.ask(Method::POST, path, &sdp, offer.to_owned()).await
    }

    pub(crate) async fn close(self) {
        self.stop.cancel();
        let closed = tokio::time::timeout(Duration::from_secs(5), self.serving);
        closed.await.unwrap().unwrap();
        assert!(self.publishers.sessions().is_empty());
    }
}
