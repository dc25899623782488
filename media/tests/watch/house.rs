//! A router over broadcasts that are fed from an FLV file through the real origin.
use std::{
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{body::Body, http::Request};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use media::{
    flv::{self, Tag},
    follow::Audience,
    http::{Http, HttpOptions},
    live::{Broadcasts, Limits},
    origin::{Feed, Origin, Writer},
    ports::{
        Claim, Gate, Holders, Holding, Pathway, Protocol, Publish, Refusal, Resolve, Source,
        Viewer, Watch,
    },
    supply::{Lease, Supply},
};
use routing::model::{
    BroadcastId, Clock, Hlc, NodeId, PlaybackId, StreamId, StreamKey, TenantId, UnixMillis, Uptime,
};
use tokio::{process::Command, sync::watch};
use tower::ServiceExt;

pub(crate) const BROADCAST: BroadcastId = BroadcastId::from_bytes([7; 16]);
/// Live.
pub(crate) const ID: &str = "abcdefghij012345";
/// Known, not live.
pub(crate) const SILENT: &str = "silent0000000000";
/// Known, not for this viewer.
pub(crate) const CLOSED: &str = "closed0000000000";
/// Known, but this node has no room.
pub(crate) const CROWDED: &str = "crowded000000000";
const NODE: NodeId = NodeId::from_bytes([9; 32]);

pub(crate) struct RealClock(Instant);

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "real players run in real time")]
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for RealClock {
    fn uptime(&self) -> Uptime {
        Uptime(self.0.elapsed())
    }
    #[expect(clippy::disallowed_methods, reason = "real players run in real time")]
    fn unix(&self) -> UnixMillis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixMillis(now.as_millis().try_into().unwrap())
    }
}

struct Doors;

impl Gate for Doors {
    fn may_publish<'a>(
        &'a self,
        _: &'a StreamKey,
        _: Protocol,
    ) -> BoxFuture<'a, Result<Publish, Refusal>> {
        Box::pin(async { Err(Refusal::Unknown("nobody publishes here".into())) })
    }
    fn may_watch<'a>(
        &'a self,
        id: PlaybackId,
        _: &'a Viewer,
    ) -> BoxFuture<'a, Result<Watch, Refusal>> {
        let broadcast = match id.as_str() {
            ID => Ok(BROADCAST),
            SILENT => Ok(BroadcastId::from_bytes([8; 16])),
            CLOSED => Err(Refusal::Forbidden("This stream is not for you.".into())),
            CROWDED => Err(Refusal::Unavailable("This node is full.".into())),
            _ => Err(Refusal::Unknown("There is no such stream.".into())),
        };
        let watch = broadcast.map(|broadcast| Watch {
            broadcast,
            stream: StreamId::from_bytes([7; 16]),
            tenant: TenantId::from_bytes([1; 16]),
        });
        Box::pin(async move { watch })
    }
    fn may_relay(&self, _: NodeId, _: BroadcastId) -> bool {
        false
    }
}

/// This node and one other.
struct Ways;

impl Resolve for Ways {
    fn resolve<'a>(
        &'a self,
        id: PlaybackId,
        _: &'a Viewer,
    ) -> BoxFuture<'a, Result<serde_json::Value, Refusal>> {
        Box::pin(async move {
            match id.as_str() {
                ID => Ok(serde_json::json!({ "id": id })),
                _ => Err(Refusal::Unknown("There is no such stream.".into())),
            }
        })
    }
    fn pathways(&self, _: PlaybackId, _: &Viewer) -> Vec<Pathway> {
        let own = NODE.label().as_str().to_owned();
        [
            (own, "https://n-own.acme.cdn.example:8443"),
            ("n-other".into(), "https://n-other.acme.cdn.example"),
        ]
        .map(|(id, url)| Pathway {
            id,
            base_url: url.into(),
        })
        .into()
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

/// Leases what is there, and counts leases.
struct Shelf {
    broadcasts: Arc<Broadcasts>,
    leases: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Supply for Shelf {
    fn lease(&self, id: BroadcastId) -> BoxFuture<'_, Result<Lease, Refusal>> {
        let found = self.broadcasts.get(id);
        let found = found.ok_or_else(|| Refusal::Unknown("nobody has it".into()));
        self.leases.fetch_add(1, Ordering::SeqCst);
        let keep = Counted(Arc::clone(&self.leases));
        Box::pin(async move { Ok(Lease::new(found?, Box::new(keep))) })
    }
}

pub(crate) struct House {
    pub(crate) http: Http,
    pub(crate) audience: Audience,
    pub(crate) leases: Arc<AtomicUsize>,
    feed: Feed,
    origin: Origin,
    writer: Writer,
    clock: Arc<dyn Clock>,
}

/// An answer as a player sees it.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A body on its way.
pub(crate) struct Coming(Body);

impl Coming {
    /// All that is there now.
    pub(crate) async fn there(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let wait = Duration::from_millis(300);
        while let Ok(Some(bytes)) = tokio::time::timeout(wait, self.chunk()).await {
            all.extend(bytes);
        }
        all
    }

    /// What comes next of it; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let frame = self.0.frame().await?.unwrap();
        Some(frame.into_data().unwrap().to_vec())
    }
}

impl House {
    pub(crate) fn open(clock: Arc<dyn Clock>) -> Self {
        let window = Limits {
            window: Duration::from_secs(120),
            ..Limits::default()
        };
        let broadcasts = Arc::new(Broadcasts::new(window));
        let leases = Arc::new(AtomicUsize::new(0));
        let supply = Arc::new(Shelf {
            broadcasts: Arc::clone(&broadcasts),
            leases: Arc::clone(&leases),
        });
        let gate = Arc::new(Doors);
        let audience = Audience::new(
            Arc::clone(&gate) as _,
            Arc::clone(&supply) as _,
            Arc::clone(&clock),
        );
        let http = Http::new(HttpOptions {
            node: NODE,
            audience: audience.clone(),
            publishers: None,
            supply,
            gate,
            resolve: Arc::new(Ways),
            clock: Arc::clone(&clock),
            webrtc: None,
        });
        let claim = Claim {
            stamp: Hlc(1),
            node: NODE,
        };
        let mut origin = Origin::new();
        origin.set_live(true);
        Self {
            http,
            audience,
            leases,
            feed: Feed::new(),
            origin,
            writer: Writer::new(broadcasts, Arc::new(Alone), BROADCAST, NODE, claim),
            clock,
        }
    }

    /// Takes a tag of a publisher.
    pub(crate) fn push(&mut self, tag: &Tag) {
        let now = self.clock.unix();
        self.feed.tag(&mut self.origin, now, tag).unwrap();
        while let Some(output) = self.origin.poll() {
            self.writer.write(now, output).unwrap();
        }
    }

    pub(crate) fn end(&mut self) {
        self.writer.end();
    }

    /// The encoder is connected again, and its clock begins again.
    pub(crate) fn come_back(&mut self) {
        self.feed = Feed::new();
        self.origin = Origin::new();
        self.origin.set_live(true);
    }

    /// The headers alone.
    pub(crate) async fn head(&self, path: &str) -> Got {
        self.ask(Request::head(path).body(Body::empty()).unwrap())
            .await
    }

    /// An answer that is still coming.
    pub(crate) async fn body(&self, path: &str) -> Coming {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = self.http.router().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        Coming(answer.into_body())
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Got {
        ask(&self.http, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.ask(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = self
            .http
            .router()
            .into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        address
    }
}

pub(crate) async fn ask(http: &Http, request: Request<Body>) -> Got {
    let (head, body) = http.router().oneshot(request).await.unwrap().into_parts();
    Got {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// What ffmpeg says when it does this: nothing, where all is well.
pub(crate) async fn ffmpeg(args: &str) -> String {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-v", "warning", "-nostdin", "-y"])
        .args(args.split_whitespace())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        text
    } else {
        format!("failed: {text}")
    }
}

/// A test picture and a tone as an FLV file's tags: keyframes at `keys` (an ffmpeg expression), B-frames.
pub(crate) async fn clip(rate: &str, seconds: u32, keys: &str) -> Vec<Tag> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.flv");
    let said = ffmpeg(&format!(
        "-f lavfi -i testsrc2=s=320x180:r={rate}:d={seconds} -f lavfi -i sine=b=1:r=48000:d={seconds} \
         -c:v libx264 -preset veryfast -bf 3 -g 600 -sc_threshold 0 -force_key_frames {keys} -pix_fmt yuv420p \
         -c:a aac -ac 2 -f flv {}",
        path.display()
    ))
    .await;
    assert_eq!(said, "");
    flv::file(&std::fs::read(path).unwrap()).unwrap()
}

/// The URIs of a playlist, in order: maps, segments, parts, hints as their tags say.
pub(crate) fn uris<'a>(playlist: &'a str, tag: &str) -> Vec<&'a str> {
    playlist
        .lines()
        .filter_map(|line| {
            if tag.is_empty() {
                return (!line.starts_with('#')).then_some(line);
            }
            let rest = line.strip_prefix(tag)?;
            rest.split("URI=\"").nth(1)?.split('"').next()
        })
        .collect()
}
