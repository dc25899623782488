//! Starts a node, keeps it running, stops it.
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use axum::{Router, http::header, response::IntoResponse, routing::get};
use media::{live::Broadcasts, relay};
use mesh::{
    MeshOptions,
    identity::DataDir,
    join::granted,
    view::{NodeState, Service},
};
use routing::model::{BitsPerSecond, Capacity, Clock, Mode, Roles};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    certs::{Authority, LeafKey},
    clock::SystemClock,
    config::Config,
    control::Control,
    docs,
    house::{
        self, ClaimDesk, Doors, Engine, ForwardDesk, House, LiveDesk, Plot, ReadyDesk, ResolveDesk,
    },
    http,
    load::Reading,
    local, meters, setup,
    sockets::{Sockets, port, services, udp_port},
    webrtc,
};

/// TCP connections for DNS at a time.
const DNS_CONNECTIONS: usize = 256;
/// Between two readings of the machine's load.
const LOAD_EVERY: Duration = Duration::from_millis(500);
/// How long a stop may take in all.
const STOP: Duration = Duration::from_secs(3);

/// A node that runs.
#[derive(Debug)]
pub struct Running {
    house: Arc<House>,
    tasks: TaskTracker,
    dns: Option<dns::Server>,
    control: Control,
}

/// Runs the node of `dir` until `stop`.
///
/// # Errors
/// Where it cannot start: a taken port, an unreadable directory, no mesh in it.
pub async fn run(config: Config, dir: &Path, stop: CancellationToken) -> anyhow::Result<()> {
    let running = start(config, dir).await?;
    tokio::select! {
        () = stop.cancelled() => {}
        () = running.house.stop.cancelled() => {}
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}

/// Starts the node of `dir`.
///
/// # Errors
/// As [`run`].
pub async fn start(config: Config, dir: &Path) -> anyhow::Result<Running> {
    meters::start();
    // The directory first: a second node on it is told so, not that its ports are taken.
    let homeless = || {
        anyhow::anyhow!(
            "{} belongs to no mesh yet. Found one with `shoal init`, or join one with `shoal join TOKEN`.",
            dir.display()
        )
    };
    // A mistyped directory is not made.
    anyhow::ensure!(dir.exists(), homeless());
    let data = DataDir::open(dir)?;
    let cluster = data.cluster()?.ok_or_else(homeless)?;
    let roles = granted(&data)?.unwrap_or(Roles::NONE);
    let sockets = Sockets::open(&config, dir, roles)?;
    let places = house::places(&config.place)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let key = data
        .node_key()?
        .context("the data directory has a mesh but no node key: restore node.key")?;

    let (http_at, https_at, rtmp_at) = (
        port(sockets.http.as_ref())?,
        port(sockets.https.as_ref())?,
        port(sockets.rtmp.as_ref())?,
    );
    let announced = sockets.announced;
    let services = services(
        &announced,
        &[
            (Service::Http, http_at),
            (Service::Https, https_at),
            (Service::Rtmp, rtmp_at),
            (Service::Srt, udp_port(sockets.srt.as_ref())?),
            (Service::Dns, sockets.dns.as_ref().map(|(at, _)| *at)),
            (Service::Media, Some(sockets.media_at)),
        ],
    );

    let control = Control::start()?;
    let options = MeshOptions {
        dir: data.clone(),
        clock: Arc::clone(&clock),
        entropy: setup::entropy()?,
        listen: sockets.control,
        announce: announced
            .iter()
            .map(|ip| SocketAddr::new(*ip, sockets.control.port()))
            .collect(),
        seeds: Vec::new(),
    };
    let mesh = control.mesh(options).await?;

    let doors = Doors {
        http: http_at.map(|a| a.port()),
        https: https_at.map(|a| a.port()),
        rtmp: rtmp_at.map(|a| a.port()),
    };
    let house = House::build(Plot {
        mesh,
        cluster,
        clock: Arc::clone(&clock),
        settings: config,
        data,
        announced,
        doors,
        places,
        seed: setup::entropy()?,
    })?;
    house.serve_probes();
    house.serve_tls();
    house.serve_facts();
    house.serve_resolving();

    let broadcasts = Arc::new(Broadcasts::default());
    let relay = relay::Relay::start(relay::RelayOptions {
        socket: sockets.media,
        key_seed: key.seed(),
        clock: Arc::clone(&clock),
        gate: Arc::clone(&house) as _,
        holders: Arc::clone(&house) as _,
        broadcasts: Arc::clone(&broadcasts),
        limits: relay::RelayLimits::default(),
    })?;
    let tasks = TaskTracker::new();
    let audience = media::follow::Audience::new(
        Arc::clone(&house) as _,
        Arc::clone(&relay) as _,
        Arc::clone(&clock),
    );
    let ingest = media::ingest::Publishers::new(media::ingest::IngestOptions {
        gate: Arc::clone(&house) as _,
        claims: Arc::new(ClaimDesk(Arc::clone(&house))),
        holders: Arc::clone(&house) as _,
        broadcasts: Arc::clone(&broadcasts),
        recall: Arc::clone(&relay) as _,
        clock: Arc::clone(&clock),
        node: house.id,
    });
    let webrtc = sockets
        .webrtc
        .map(|sockets| webrtc::start(sockets, &house, ingest.clone()))
        .transpose()?;
    let playback = media::http::Http::new(media::http::HttpOptions {
        node: house.id,
        audience: audience.clone(),
        publishers: Some(ingest.clone()),
        supply: Arc::clone(&relay) as _,
        gate: Arc::clone(&house) as _,
        resolve: Arc::new(ResolveDesk(Arc::clone(&house))),
        clock: Arc::clone(&clock),
        webrtc: webrtc.clone(),
    });
    let engine = Engine {
        broadcasts,
        playback: playback.clone(),
        ingest: ingest.clone(),
        relay: Arc::clone(&relay),
    };
    house
        .engine
        .set(engine)
        .map_err(|_| anyhow::anyhow!("the engine was started twice"))?;

    let zone: Arc<dyn dns::ZoneSource> = Arc::clone(&house.zone) as _;
    let dns = sockets
        .dns
        .map(|(_, pairs)| dns::Server::serve(pairs, DNS_CONNECTIONS, &zone))
        .transpose()?;

    tasks.spawn(Arc::clone(&house).follow());
    tasks.spawn(keep_state(Arc::clone(&house), services));

    let router = surface(&house, playback.router(), setup::entropy()?);
    // Until the mesh has issued the real one, a certificate of this node's own answers: clients see an untrusted name
    // rather than a closed port.
    let key = LeafKey::create()?;
    let own = Authority::create("not yet issued", clock.unix())?;
    let chain = own.issue(&house.names(), &key.public_pem(), clock.unix())?;
    let tls = Arc::new(arc_swap::ArcSwap::new(
        key.with_chain(chain).server_config()?,
    ));
    tasks.spawn(Arc::clone(&house).keep_certificate(Arc::clone(&tls)));
    let limits = media::rtmp::Limits::default();
    let rtmp = media::rtmp::Server::new(ingest.clone(), audience, limits);
    let secure = http::Secure {
        tls: Arc::clone(&tls),
        rtmp: rtmp.clone(),
    };
    for (listener, secure) in [(sockets.http, None), (sockets.https, Some(secure))] {
        let Some(listener) = listener else { continue };
        tasks.spawn(http::serve(
            TcpListener::from_std(listener)?,
            router.clone(),
            secure,
            Arc::clone(&house.sent),
            house.stop.clone(),
        ));
    }
    if let Some(listener) = sockets.rtmp {
        let (listener, stop) = (TcpListener::from_std(listener)?, house.stop.clone());
        let tls: media::rtmp::Tls = Arc::new(move || tls.load_full());
        tasks.spawn(async move { rtmp.serve(listener, Some(tls), stop).await });
    }
    if let Some(socket) = sockets.srt {
        let options = house.settings.srt.options()?;
        let srt = media::srt::Server::new(ingest, options, setup::entropy()?);
        let stop = house.stop.clone();
        tasks.spawn(async move {
            if let Err(error) = srt.serve(socket, stop).await {
                tracing::error!(%error, "SRT ingest ended");
            }
        });
    }
    if let Some(webrtc) = webrtc {
        let stop = house.stop.clone();
        tasks.spawn(async move { webrtc.serve(stop).await });
    }
    let commands = house::command_router(Arc::clone(&house));
    tasks.spawn(local::serve(sockets.door, commands, house.stop.clone()));
    tracing::info!(node = %house.id.short(), addresses = ?house.announced, "running");
    Ok(Running {
        house,
        tasks,
        dns,
        control,
    })
}

/// Who may see the console.
pub(crate) fn operators(house: &House) -> Arc<dyn api::ports::Operators> {
    if house.settings.console.open {
        Arc::new(Everybody)
    } else {
        Arc::new(api::console::LoopbackOnly)
    }
}

/// The console of a network whose operator opened it (`[console] open = true`).
struct Everybody;

impl api::ports::Operators for Everybody {
    fn admits(&self, _: api::ports::Caller<'_>) -> bool {
        true
    }
}

/// Everything that the HTTP ports answer.
fn surface(house: &Arc<House>, playback: Router, seed: [u8; 32]) -> Router {
    let live = Arc::new(LiveDesk(Arc::clone(house)));
    let resolve = Arc::new(ResolveDesk(Arc::clone(house)));
    let gateway = api::Gateway::new(api::ApiOptions {
        records: house.mesh.records().clone(),
        view: house.mesh.view(),
        node: house.id,
        live: Arc::clone(&live) as _,
        sessions: live as _,
        resolver: Arc::clone(&resolve) as _,
        forward: resolve as _,
        ready: Arc::new(ReadyDesk(Arc::clone(house))),
        operators: operators(house),
        clock: Arc::clone(&house.clock),
        seed,
    });
    house.serve(api::ports::FORWARD_PROTOCOL, ForwardDesk(gateway.clone()));
    let own = Router::new()
        .route("/ca.pem", get(ca_pem))
        .route("/.well-known/shoal", get(who))
        .merge(docs::router())
        .with_state(Arc::clone(house));
    playback
        .merge(api::router(&gateway))
        .merge(own)
        .merge(meters::router(Arc::clone(house)))
}

async fn ca_pem(
    axum::extract::State(house): axum::extract::State<Arc<House>>,
) -> axum::response::Response {
    match house.authority_pem() {
        Some(pem) => ([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response(),
        None => (
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            "the mesh's certificate has not reached this node yet\n",
        )
            .into_response(),
    }
}

/// Which node this port belongs to: what other nodes dial it for.
async fn who(
    axum::extract::State(house): axum::extract::State<Arc<House>>,
) -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "node": house.id, "version": env!("CARGO_PKG_VERSION") }))
}

/// Reads the machine's load and tells the mesh.
async fn keep_state(house: Arc<House>, services: Vec<(Service, SocketAddr)>) {
    let mut before = Reading::take();
    let mut told = Vec::new();
    let mut sent = 0;
    let mut at = house.clock.uptime();
    loop {
        let viewers = house.tell_viewers(&mut told);
        let (now, reading) = (house.clock.uptime(), Reading::take());
        let total = house.sent.load(Ordering::Relaxed);
        let elapsed = now.since(at).as_millis().max(1);
        let bits = u128::from(total.saturating_sub(sent)) * 8000 / elapsed;
        let egress = BitsPerSecond(u64::try_from(bits).unwrap_or(u64::MAX));
        house.mesh.set_state(NodeState {
            place: house.place.clone(),
            capacity: Some(Capacity {
                egress: BitsPerSecond(u64::from(house.settings.capacity.egress_mbps) * 1_000_000),
            }),
            load: reading.load_since(&before, egress, viewers),
            mode: Mode::Normal,
            services: services.clone(),
        });
        (before, sent, at) = (reading, total, now);
        tokio::select! {
            () = house.stop.cancelled() => return,
            () = tokio::time::sleep(LOAD_EVERY) => {}
        }
    }
}

impl Running {
    /// Stops everything: first what takes clients in, last the mesh, so that others learn at once that it went.
    pub async fn stop(self) {
        self.house.stop.cancel();
        self.tasks.close();
        if let Some(dns) = self.dns {
            dns.stop().await;
        }
        if let Some(engine) = self.house.engine.get() {
            engine.relay.stop().await;
        }
        if tokio::time::timeout(STOP, self.tasks.wait()).await.is_err() {
            tracing::warn!("some tasks did not stop in time");
        }
        self.house.mesh.clone().stop().await;
        drop(self.control);
    }
}
