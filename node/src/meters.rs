//! `/metrics`: what this process, its mesh, its relay, its DNS and its viewers do, in Prometheus' text form.
//!
//! Counters are kept where things happen, by the crates themselves; what is a state of the moment is read when asked.
use std::sync::{Arc, OnceLock, atomic::Ordering};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::house::House;

/// One a process: counters of several nodes in one process, as tests have them, add up.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts counting. What was counted before is not kept, so this comes before anything that counts.
pub fn start() {
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Another recorder can only be a test's: then this page has the states, and the counters are that one's.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    });
}

fn describe() {
    describe_gauge!("shoal_build_info", "1, with the version as a label");
    describe_gauge!("process_resident_memory_bytes", "Memory in RAM, in bytes");
    describe_gauge!("process_open_fds", "Open file descriptors");
    describe_counter!(
        "process_cpu_ticks_total",
        "Processor time, in hundredths of a second"
    );
    describe_gauge!("shoal_uptime_seconds", "Seconds since the node started");
    describe_gauge!("shoal_mesh_nodes", "Nodes that this one knows, by state");
    describe_gauge!(
        "shoal_mesh_settled",
        "1 once the mesh's records are known to be complete here"
    );
    describe_gauge!(
        "shoal_config_version",
        "How often the agreed state has changed here since the start"
    );
    describe_gauge!("shoal_viewers", "Viewers that this node serves");
    describe_gauge!("shoal_publishers", "Encoders that publish to this node");
    describe_gauge!(
        "shoal_broadcasts",
        "Broadcasts that this node holds, as origin or relayed from another"
    );
    describe_gauge!(
        "shoal_relay_subscribers",
        "Nodes that get relayed broadcasts from this one"
    );
    describe_counter!(
        "shoal_http_sent_bytes_total",
        "Bytes sent by the HTTP ports"
    );
    describe_counter!("shoal_dns_queries_total", "DNS queries, by result");
    describe_counter!(
        "shoal_link_dropped_total",
        "Messages to other nodes that a full queue dropped"
    );
    describe_counter!(
        "shoal_replica_dropped",
        "Records' messages that a full queue dropped; mended by the next exchange"
    );
    describe_counter!(
        "shoal_replica_unread",
        "Records' messages that could not be read"
    );
    describe_counter!("shoal_replica_refused", "Records that were refused");
}

/// The route. Callers from this machine only, unless `[console] open = true`.
pub fn router(house: Arc<House>) -> Router {
    Router::new().route("/metrics", get(page)).with_state(house)
}

async fn page(
    State(house): State<Arc<House>>,
    ConnectInfo(peer): ConnectInfo<std::net::SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let host = host.map(str::parse::<Authority>);
    let caller = api::ports::Caller {
        addr: peer.ip(),
        host: host
            .as_ref()
            .map(|h| h.as_ref().map_or("", Authority::host)),
        token: None,
    };
    if !crate::run::operators(&house).admits(caller) {
        let text = "metrics are for this machine: ask by its loopback address, or set [console] open = true\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let Some(recorder) = RECORDER.get() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    read(&house);
    recorder.run_upkeep();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, recorder.render()).into_response()
}

/// Gauges of the moment.
#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floating-point numbers; counts here stay far below 2^52"
)]
fn read(house: &House) {
    gauge!("shoal_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    // proc_pid_status(5): in KiB.
    let status = text("/proc/self/status");
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|l| l.split_ascii_whitespace().next()?.parse::<u32>().ok());
    if let Some(kib) = resident {
        gauge!("process_resident_memory_bytes").set(f64::from(kib) * 1024.0);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(open.count() as f64);
    }
    counter!("process_cpu_ticks_total").absolute(crate::load::Reading::take().own_ticks());
    gauge!("shoal_uptime_seconds").set(house.clock.uptime().0.as_secs_f64());

    let view = house.mesh.view().borrow().clone();
    let alive = view.members.values().filter(|m| m.alive).count();
    gauge!("shoal_mesh_nodes", "state" => "alive").set(alive as f64);
    gauge!("shoal_mesh_nodes", "state" => "dead").set((view.members.len() - alive) as f64);
    gauge!("shoal_mesh_settled").set(f64::from(u8::from(view.settled)));
    gauge!("shoal_config_version").set(house.mesh.records().config().version() as f64);
    counter!("shoal_http_sent_bytes_total").absolute(house.sent.load(Ordering::Relaxed));

    let Some(engine) = house.engine.get() else {
        return;
    };
    let viewers: usize = engine.playback.sessions().iter().map(|(_, n)| n).sum();
    gauge!("shoal_viewers").set(viewers as f64);
    gauge!("shoal_publishers").set(engine.ingest.sessions().len() as f64);
    let (mut own, mut relayed, mut subscribers) = (0_u32, 0_u32, 0);
    for broadcast in engine.broadcasts.all() {
        let id = broadcast.id();
        match engine.relay.path(id).as_deref() {
            Some([_]) => own += 1,
            Some(_) => relayed += 1,
            None => {}
        }
        subscribers += engine.relay.subscribers(id);
    }
    gauge!("shoal_broadcasts", "kind" => "origin").set(f64::from(own));
    gauge!("shoal_broadcasts", "kind" => "replica").set(f64::from(relayed));
    gauge!("shoal_relay_subscribers").set(subscribers as f64);
}
