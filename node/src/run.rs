//! Starts a node, keeps it running, stops it.
use std::{
    net::{IpAddr, SocketAddr},
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
use routing::model::{BitsPerSecond, Capacity, Clock, Mode, Role, Roles};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    certs::{Authority, LeafKey},
    clock::SystemClock,
    config::{Config, Listen},
    control::Control,
    docs,
    house::{
        self, ClaimDesk, Doors, Engine, ForwardDesk, House, LiveDesk, Plot, ReadyDesk, ResolveDesk,
    },
    http, listen,
    load::Reading,
    local, meters, setup, webrtc,
};

/// Links between nodes, where the configuration does not say otherwise.
pub const CONTROL: u16 = 7380;
/// Frames between nodes, where the configuration does not say otherwise.
pub const MEDIA: u16 = 7381;
/// SRT, where the configuration does not say otherwise.
pub const SRT: u16 = 8889;
/// TCP connections for DNS at a time.
const DNS_CONNECTIONS: usize = 256;
/// Between two readings of the machine's load.
const LOAD_EVERY: Duration = Duration::from_millis(500);
/// How long a stop may take in all.
const STOP: Duration = Duration::from_secs(3);

/// The sockets of a node, opened before anything else happens: what is taken is told of before others hear of this node.
struct Sockets {
    http: Option<std::net::TcpListener>,
    https: Option<std::net::TcpListener>,
    rtmp: Option<std::net::TcpListener>,
    srt: Option<std::net::UdpSocket>,
    webrtc: Option<(std::net::UdpSocket, std::net::TcpListener)>,
    /// Where names are answered: the configured address, and the sockets of each address behind it.
    dns: Option<(SocketAddr, Vec<dns::Pair>)>,
    control: SocketAddr,
    media: std::net::UdpSocket,
    media_at: SocketAddr,
    /// The addresses that others reach this node by.
    announced: Vec<IpAddr>,
    door: local::Door,
}

impl Sockets {
    fn open(config: &Config, dir: &Path, roles: Roles) -> anyhow::Result<Self> {
        let tcp = |what, configured: Option<Listen>, usual, high| {
            listen::choose(configured, usual, high)
                .map(|addr| listen::tcp(what, addr))
                .transpose()
        };
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let control = config.listen.control.unwrap_or_else(|| any(CONTROL));
        let media_at = config.listen.media.unwrap_or_else(|| any(MEDIA));
        let http = tcp("http", config.listen.http, 80, 8080)?;
        let https = tcp("https", config.listen.https, 443, 8443)?;
        let rtmp = tcp("rtmp", config.listen.rtmp, 1935, 1935)?;
        let srt = listen::choose(config.listen.srt, SRT, SRT)
            .map(|addr| listen::udp("srt", addr))
            .transpose()?;
        let webrtc = webrtc::open(config)?;
        let media = listen::udp("media", media_at)?;
        // Links open their own socket: this only finds out, in the words of the configuration, that they can.
        drop(listen::udp("control", control)?);
        let dns_at = listen::choose(config.listen.dns, 53, 5353).filter(|_| roles.has(Role::Dns));
        let open = [
            port(http.as_ref())?,
            port(https.as_ref())?,
            port(rtmp.as_ref())?,
            udp_port(srt.as_ref())?,
        ];
        let listening = open.into_iter().flatten().chain(dns_at).chain([control]);
        let listening = listening.chain(webrtc::address(config));
        let announced = announced(config, &listening.collect::<Vec<_>>());
        let dns = dns_at
            .map(|at| Ok::<_, listen::ListenError>((at, dns_pairs(at, &announced)?)))
            .transpose()?;
        let door = local::open(dir).with_context(|| {
            format!(
                "the command socket {} cannot be made: give a data directory that can be written and whose path is \
                 short (at most 90 bytes)",
                dir.join(local::SOCKET).display()
            )
        })?;
        Ok(Self {
            http,
            https,
            rtmp,
            srt,
            webrtc,
            dns,
            control,
            media,
            media_at,
            announced,
            door,
        })
    }
}

/// The sockets for DNS: of a wildcard, one pair for each address of this machine, since from a wildcard the system may
/// answer from another address than was asked.
fn dns_pairs(at: SocketAddr, announced: &[IpAddr]) -> Result<Vec<dns::Pair>, listen::ListenError> {
    let addrs = if at.ip().is_unspecified() {
        own(announced)
    } else {
        vec![at.ip()]
    };
    let pair = |ip| {
        let tcp = listen::tcp("dns", SocketAddr::new(ip, at.port()))?;
        // Port 0 is whatever TCP got.
        let port = tcp.local_addr().map_or(at.port(), |got| got.port());
        let udp = listen::udp("dns", SocketAddr::new(ip, port))?;
        Ok(dns::Pair { udp, tcp })
    };
    addrs.into_iter().map(pair).collect()
}

fn port(listener: Option<&std::net::TcpListener>) -> anyhow::Result<Option<SocketAddr>> {
    Ok(listener
        .map(std::net::TcpListener::local_addr)
        .transpose()?)
}

fn udp_port(socket: Option<&std::net::UdpSocket>) -> anyhow::Result<Option<SocketAddr>> {
    Ok(socket.map(std::net::UdpSocket::local_addr).transpose()?)
}

/// The addresses that others reach this node by: the configured ones, else those that it listens on, else, behind a
/// wildcard, the one that the system would send from.
fn announced(config: &Config, listening: &[SocketAddr]) -> Vec<IpAddr> {
    if !config.announce.addresses.is_empty() {
        return config.announce.addresses.clone();
    }
    let mut all: Vec<IpAddr> = listening
        .iter()
        .map(SocketAddr::ip)
        .filter(|ip| !ip.is_unspecified())
        .collect();
    if listening.iter().any(|a| a.ip().is_unspecified()) {
        all.push(outward());
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The address that the system would send to the Internet from.
fn outward() -> IpAddr {
    // Connecting a UDP socket sends nothing; it only asks the routing table. 192.0.2.1 is TEST-NET-1 (RFC 5737).
    let outward = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|s| {
        s.connect("192.0.2.1:9")?;
        s.local_addr()
    });
    outward.map_or_else(|_| IpAddr::from([127, 0, 0, 1]), |a| a.ip())
}

/// Of the announced addresses those that this machine has; where it has none, as behind a NAT, the outward one.
fn own(announced: &[IpAddr]) -> Vec<IpAddr> {
    let has = |ip: &&IpAddr| std::net::UdpSocket::bind((**ip, 0)).is_ok();
    let own: Vec<_> = announced.iter().filter(has).copied().collect();
    if own.is_empty() { vec![outward()] } else { own }
}

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

fn services(
    announced: &[IpAddr],
    open: &[(Service, Option<SocketAddr>)],
) -> Vec<(Service, SocketAddr)> {
    let mut all = Vec::new();
    for (service, addr) in open {
        let Some(addr) = addr else { continue };
        let ips = if addr.ip().is_unspecified() {
            announced.to_vec()
        } else {
            vec![addr.ip()]
        };
        all.extend(
            ips.into_iter()
                .map(|ip| (*service, SocketAddr::new(ip, addr.port()))),
        );
    }
    all
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
