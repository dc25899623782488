//! For `tests/bench/run`: how long a frame takes one relay further, beside an echo over a bare QUIC stream.
//!
//! Prints `{"hop": {"p50", "p99"}, "echo": {"p50", "p99"}}` in seconds. The frames are those of a 2 Mbit/s stream at the
//! pace of 60 a second, so that every wake-up is from rest, as in a live stream; the echo has the same size and pace.
#![expect(clippy::print_stdout, reason = "it is what the program is for")]
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::BoxFuture;
use media::{
    live::{
        Broadcast, Broadcasts, Cut, Epoch, Frame, GroupHeader, GroupSeq, GroupWriter, Limits,
        Stamp, Track, TrackConfig, TrackId,
    },
    ports::{Gate, Holders, Holding, Protocol, Publish, Refusal, Source, Viewer, Watch},
    relay::{Relay, RelayLimits, RelayOptions},
    supply::Supply,
};
use routing::model::{
    BitsPerSecond, BroadcastId, Clock, Codec, EpochId, Hlc, NodeId, PlaybackId, StreamKey,
    TrackDetail, TrackKind, TrackSummary, UnixMillis, Uptime,
};
use tokio::sync::watch as channel;

const BROADCAST: BroadcastId = BroadcastId::from_bytes([7; 16]);
const VIDEO: TrackId = TrackId(0);
const FRAMES: u64 = 600;
const GROUP: u64 = 60;
const BYTES: usize = 4_000;
const PACE: Duration = Duration::from_micros(16_667);

#[derive(Clone, Copy)]
struct Real(std::time::Instant);

impl Clock for Real {
    fn uptime(&self) -> Uptime {
        Uptime(self.0.elapsed())
    }
    fn unix(&self) -> UnixMillis {
        UnixMillis(1_700_000_000_000).plus(self.0.elapsed())
    }
}

/// Everything is allowed to the other node, and `0` is where everything is.
struct House(Vec<Source>, channel::Sender<u64>);

impl Gate for House {
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
    fn may_relay(&self, _: NodeId, _: BroadcastId) -> bool {
        true
    }
}

impl Holders for House {
    fn sources(&self, _: BroadcastId) -> Vec<Source> {
        self.0.clone()
    }
    fn changes(&self) -> channel::Receiver<u64> {
        self.1.subscribe()
    }
    fn advertise(&self, _: Holding) {}
    fn withdraw(&self, _: BroadcastId) {}
}

fn relay(
    seed: u8,
    sources: Vec<Source>,
    clock: Real,
) -> anyhow::Result<(Arc<Relay>, Arc<Broadcasts>)> {
    let broadcasts = Arc::new(Broadcasts::new(Limits::default()));
    let house = Arc::new(House(sources, channel::Sender::new(0)));
    let relay = Relay::start(RelayOptions {
        socket: std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
        key_seed: [seed; 32].into(),
        clock: Arc::new(clock),
        gate: house.clone(),
        holders: house,
        broadcasts: Arc::clone(&broadcasts),
        limits: RelayLimits::default(),
    })?;
    Ok((relay, broadcasts))
}

fn epoch(origin: NodeId) -> Epoch {
    let detail = TrackDetail::Video {
        width: 1280,
        height: 720,
        rate: (60, 1),
    };
    let summary = TrackSummary {
        kind: TrackKind::Video,
        codec: Codec::H264,
        codec_string: "bench".into(),
        bitrate: BitsPerSecond(0),
        detail,
    };
    let config = TrackConfig {
        number: 0,
        since: 0,
        data: Bytes::from_static(&[1, 2, 3]),
        summary,
    };
    Epoch {
        id: EpochId::from_u64(1),
        broadcast: BROADCAST,
        origin,
        claim: Hlc(1),
        programme_time: UnixMillis(0),
        discontinuity: 0,
        follows: None,
        tracks: vec![Track {
            id: VIDEO,
            kind: TrackKind::Video,
            timescale: 90_000,
            frames_per_part: 12,
            part_target: 18_000,
            first_segment: 0,
            config: Arc::new(config),
        }],
    }
}

/// The next frame into the broadcast.
fn push(
    broadcast: &Arc<Broadcast>,
    epoch: &Epoch,
    writer: &mut Option<GroupWriter>,
    n: u64,
) -> anyhow::Result<()> {
    let dts = i64::try_from(n * 1_500)?;
    let (seq, first) = (n / GROUP, n.is_multiple_of(GROUP));
    if first {
        if let Some(full) = writer.take() {
            full.finish();
        }
        *writer = Some(broadcast.begin(GroupHeader {
            epoch: epoch.id,
            track: VIDEO,
            seq: GroupSeq(seq),
            independent: true,
            stamp: Stamp {
                segment: seq,
                part: 0,
                discontinuity: 0,
                base_decode_time: dts,
            },
            config: Arc::clone(&epoch.tracks[0].config),
        })?);
    }
    let cut = if first { Cut::Segment } else { Cut::None };
    let frame = Frame {
        dts,
        cts: 0,
        keyframe: first,
        cut,
        data: vec![u8::try_from(n % 251)?; BYTES].into(),
    };
    writer.as_mut().context("a group is open")?.push(frame)?;
    Ok(())
}

async fn hops(clock: Real) -> anyhow::Result<Vec<Duration>> {
    let (a, here) = relay(1, Vec::new(), clock)?;
    let at: SocketAddr = a.local_addr()?;
    let source = Source {
        node: a.id(),
        addresses: vec![at],
        origin: true,
    };
    let (b, _) = relay(2, vec![source], clock)?;
    let broadcast = here.get_or_create(BROADCAST);
    let epoch = Arc::new(epoch(a.id()));
    let _line = broadcast.open(Arc::clone(&epoch));
    let mut writer = None;
    push(&broadcast, &epoch, &mut writer, 0)?;
    let lease = b.lease(BROADCAST).await?;
    let mut there = lease.broadcast().reader(epoch.id, VIDEO, GroupSeq(0));
    let mut group = there.next().await.context("no group came")?;
    group.next().await.context("no frame came")?;
    let mut took = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for n in 1..FRAMES {
        pace.tick().await;
        let sent = clock.uptime();
        push(&broadcast, &epoch, &mut writer, n)?;
        while group.next().await.is_none() {
            group = there.next().await.context("the stream ended")?;
        }
        took.push(clock.uptime().since(sent));
    }
    Ok(took)
}

/// Both ways of the same bytes over one QUIC stream, between two endpoints of quinn with a certificate made here.
async fn echoes(clock: Real) -> anyhow::Result<Vec<Duration>> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    let der = made.cert.der().clone();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = quinn::ServerConfig::with_single_cert(vec![der.clone()], key.into())?;
    let server = quinn::Endpoint::server(server, (Ipv4Addr::LOCALHOST, 0).into())?;
    let at = server.local_addr()?;
    tokio::spawn(async move {
        let connection = server.accept().await?.await.ok()?;
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let mut bytes = [0; BYTES];
        while receive.read_exact(&mut bytes).await.is_ok() {
            send.write_all(&bytes).await.ok()?;
        }
        Some(())
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der)?;
    let mut client = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    client.set_default_client_config(quinn::ClientConfig::with_root_certificates(Arc::new(
        roots,
    ))?);
    let connection = client.connect(at, "localhost")?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let (mut bytes, mut took) = ([7; BYTES], Vec::new());
    let mut pace = tokio::time::interval(PACE);
    for _ in 1..FRAMES {
        pace.tick().await;
        let sent = clock.uptime();
        send.write_all(&bytes).await?;
        receive.read_exact(&mut bytes).await?;
        took.push(clock.uptime().since(sent));
    }
    Ok(took)
}

fn percentiles(mut took: Vec<Duration>) -> serde_json::Value {
    took.sort();
    let at = |q: usize| took[took.len() * q / 100].as_secs_f64();
    serde_json::json!({ "p50": at(50), "p99": at(99) })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Every TLS user of the process takes this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    #[expect(
        clippy::disallowed_methods,
        reason = "the outermost edge of this program"
    )]
    let clock = Real(std::time::Instant::now());
    let (hop, echo) = (hops(clock).await?, echoes(clock).await?);
    println!(
        "{}",
        serde_json::json!({ "hop": percentiles(hop), "echo": percentiles(echo) })
    );
    Ok(())
}
