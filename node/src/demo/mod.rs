//! `shoal demo`: a mesh of three nodes on this machine's loopback, on three continents, with a stream to watch.
//!
//! Each node is a real process of this program with a data directory and a loopback address of its own; they found and
//! join a mesh as machines would. The demo's own process only starts them, makes a tenant and a stream through the public
//! ways, and publishes the built-in clip over RTMP, at another node when the one it publishes to goes away.
mod child;
mod feed;
mod ports;

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use routing::model::{Exposed, Secret, StreamKey};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Demo,
    house::commands::{Status, TenantMade, TenantRequest, TokenRequest},
    http_client, local, setup,
    terminal::Progress,
};
use child::Node;
use ports::Ports;

/// How long everything may take until the stream can be watched.
const READY: Duration = Duration::from_secs(30);

/// Name, latitude, longitude, region and the subnet (RFC 5737) whose askers are nearest.
const PLACES: [(&str, f64, f64, &str, &str); 3] = [
    ("frankfurt", 50.11, 8.68, "europe", "192.0.2.0/24"),
    ("ashburn", 39.04, -77.49, "america", "198.51.100.0/24"),
    ("singapore", 1.35, 103.82, "asia", "203.0.113.0/24"),
];

/// What `--json` prints once the demo is ready.
#[derive(Debug, Serialize)]
struct Ready {
    base: String,
    tenant: String,
    tenant_domain: String,
    token: Exposed,
    stream_key: Exposed,
    playback_id: String,
    graphql: String,
    console: String,
    nodes: Vec<ReadyNode>,
}

#[derive(Debug, Serialize)]
struct ReadyNode {
    name: String,
    pid: u32,
    http: String,
    https: String,
    rtmp: String,
    srt: String,
    dns: String,
    place: Value,
}

struct Site {
    ip: IpAddr,
    dir: PathBuf,
    config: PathBuf,
    log: PathBuf,
}

/// Runs the demo until `stop`.
///
/// # Errors
/// Where a node does not start, with the end of its log.
pub async fn run(demo: &Demo, json: bool, stop: CancellationToken) -> anyhow::Result<()> {
    let home = tempfile::Builder::new()
        .prefix("shoal-demo-")
        .tempdir()
        .context("a temporary directory for the demo's nodes cannot be made: set TMPDIR to one that can be written")?;
    let mut nodes = Vec::new();
    let result = tokio::select! {
        () = stop.cancelled() => Ok(()),
        result = stage(demo, json, home.path(), &mut nodes) => result,
    };
    if stop.is_cancelled() && !json {
        crate::terminal::say("stopping the demo's nodes")?;
    }
    // All at once: their ends do not depend on each other.
    for node in &mut nodes {
        node.close();
    }
    futures::future::join_all(nodes.into_iter().map(Node::stop)).await;
    home.close()
        .context("the demo's temporary directory could not be removed")?;
    result
}

async fn stage(demo: &Demo, json: bool, home: &Path, nodes: &mut Vec<Node>) -> anyhow::Result<()> {
    let progress = Progress::new(!json);
    anyhow::ensure!(
        [0, PLACES.len()].contains(&demo.addresses.len()),
        "--addresses takes three addresses, one a node, as 127.0.0.2,127.0.0.3,127.0.0.4"
    );
    let (ips, ports) = ports::find(&demo.addresses).context(
        "no free ports on the loopback addresses that were tried: name three others with --addresses",
    )?;
    let sites = ips
        .iter()
        .enumerate()
        .map(|(i, ip)| Site::prepare(home, i, *ip, ports, &ips))
        .collect::<anyhow::Result<Vec<_>>>()?;

    progress.step("founding a mesh");
    let first = sites.first().context("a demo has three nodes")?;
    let founding = setup::Founding {
        base: demo.base.clone(),
        slug: "demo".parse()?,
        node_name: PLACES[0].0.parse()?,
    };
    setup::init(&first.dir, founding).await?;
    nodes.push(Node::start(&first.config, &first.log)?);
    ready(nodes, &sites, 0).await?;

    for (i, site) in sites.iter().enumerate().skip(1) {
        progress.step(&format!("{} joins", PLACES[i].0));
        let roles = ["ingest", "edge", "dns", "gateway"];
        let ask = TokenRequest {
            roles: routing::model::Role::ALL
                .iter()
                .copied()
                .filter(|r| roles.contains(&r.as_str()))
                .collect(),
            minutes: 5,
        };
        let token: Exposed = local::ask(&first.dir, "POST", "/token", &ask).await?;
        setup::join(&site.dir, &token.0, Some(PLACES[i].0.parse()?)).await?;
        nodes.push(Node::start(&site.config, &site.log)?);
    }
    for i in 1..sites.len() {
        ready(nodes, &sites, i).await?;
    }

    progress.step("making a tenant and a stream");
    let ask = TenantRequest {
        label: "acme".parse()?,
        name: Some("Acme".into()),
    };
    let tenant: TenantMade = local::ask(&first.dir, "POST", "/tenants", &ask).await?;
    let (stream_key, playback_id) =
        create_stream(SocketAddr::new(first.ip, ports.http), &tenant.token.0).await?;

    let feeding = CancellationToken::new();
    let _stop_feeding = feeding.clone().drop_guard();
    if !demo.no_feed {
        progress.step("publishing the built-in clip");
        let targets = sites
            .iter()
            .map(|s| SocketAddr::new(s.ip, ports.rtmp))
            .collect();
        let key = StreamKey::new(stream_key.0.expose());
        tokio::spawn(feed::run(targets, key, feeding));
        for site in &sites {
            playable(SocketAddr::new(site.ip, ports.http), &playback_id).await?;
        }
    }
    progress.done();

    let at = |ip: IpAddr, port: u16| SocketAddr::new(ip, port).to_string();
    let ready = Ready {
        base: demo.base.clone(),
        tenant: "acme".into(),
        tenant_domain: tenant.domain,
        token: tenant.token,
        stream_key,
        playback_id,
        graphql: format!("{}/graphql", origin("http", first.ip, ports.http, 80)),
        console: format!("{}/", origin("http", first.ip, ports.http, 80)),
        nodes: sites
            .iter()
            .zip(nodes.iter())
            .enumerate()
            .map(|(i, (site, node))| {
                let (name, lat, lon, region, _) = PLACES[i];
                ReadyNode {
                    name: name.into(),
                    pid: node.pid(),
                    http: at(site.ip, ports.http),
                    https: at(site.ip, ports.https),
                    rtmp: at(site.ip, ports.rtmp),
                    srt: at(site.ip, ports.srt),
                    dns: at(site.ip, ports.dns),
                    place: json!({ "lat": lat, "lon": lon, "region": region }),
                }
            })
            .collect(),
    };
    if json {
        crate::terminal::say(&serde_json::to_string(&ready)?)?;
    } else {
        crate::terminal::say(&describe(&ready, &sites, ports))?;
    }
    watch_over(nodes, json).await
}

/// Says when a node ends, and goes on with the others; returns when none is left.
async fn watch_over(nodes: &mut [Node], json: bool) -> anyhow::Result<()> {
    let mut running: Vec<_> = nodes.iter_mut().zip(PLACES).collect();
    while !running.is_empty() {
        let (ended, at) = {
            let waits = running.iter_mut().map(|(node, _)| Box::pin(node.wait()));
            let (status, at, _) = futures::future::select_all(waits).await;
            (status, at)
        };
        let (_, place) = running.swap_remove(at);
        let how = ended.map_or_else(|| "ended".to_owned(), |status| status.to_string());
        let text = format!(
            "{} ended ({how}); {} of 3 nodes run",
            place.0,
            running.len()
        );
        if json {
            // Standard output is one line for programs; this is for whoever reads the log.
            crate::terminal::remark(&text);
        } else {
            crate::terminal::say(&text)?;
        }
    }
    anyhow::bail!("all nodes of the demo have ended: start it again")
}

impl Site {
    fn prepare(
        home: &Path,
        i: usize,
        ip: IpAddr,
        ports: Ports,
        all: &[IpAddr],
    ) -> anyhow::Result<Self> {
        let (name, lat, lon, region, _) = PLACES[i];
        let dir = home.join(name);
        let config = home.join(format!("{name}.toml"));
        let mut prefixes = String::new();
        for (at, (_, lat, lon, region, prefix)) in PLACES.iter().enumerate() {
            let entry = |prefix: &str| {
                format!(
                    "  {{ prefix = \"{prefix}\", lat = {lat:.2}, lon = {lon:.2}, region = \"{region}\" }},\n"
                )
            };
            prefixes.push_str(&entry(prefix));
            prefixes.push_str(&entry(&format!("{}/32", all[at])));
        }
        let on = |port: u16| SocketAddr::new(ip, port);
        let text = format!(
            "data = {dir:?}\n\n[listen]\nhttp = \"{}\"\nhttps = \"{}\"\nrtmp = \"{}\"\nsrt = \"{}\"\nwebrtc = \"{}\"\ndns = \"{}\"\ncontrol = \"{}\"\n\
             media = \"{}\"\n\n[place]\nlat = {lat:.2}\nlon = {lon:.2}\nregion = \"{region}\"\nprefixes = [\n{prefixes}]\n",
            on(ports.http),
            on(ports.https),
            on(ports.rtmp),
            on(ports.srt),
            on(ports.webrtc),
            on(ports.dns),
            on(ports.control),
            on(ports.media),
        );
        std::fs::write(&config, text)
            .with_context(|| format!("{} cannot be written", config.display()))?;
        Ok(Self {
            ip,
            dir,
            config,
            log: home.join(format!("{name}.log")),
        })
    }
}

fn origin(scheme: &str, ip: IpAddr, port: u16, usual: u16) -> String {
    if port == usual {
        format!("{scheme}://{ip}")
    } else {
        format!("{scheme}://{ip}:{port}")
    }
}

/// Waits until a node answers commands and sees all that were started.
async fn ready(nodes: &mut [Node], sites: &[Site], i: usize) -> anyhow::Result<()> {
    let deadline = tokio::time::sleep(READY);
    tokio::pin!(deadline);
    let expected = nodes.len();
    loop {
        if let Some(status) = nodes[i].ended() {
            anyhow::bail!(
                "{} ended at its start ({status}). The end of its log:\n{}",
                PLACES[i].0,
                tail(&sites[i].log)
            );
        }
        if let Ok(status) = local::ask::<_, Status>(&sites[i].dir, "GET", "/status", &()).await
            && status.settled
            && status.nodes.iter().filter(|n| n.alive).count() >= expected
        {
            return Ok(());
        }
        tokio::select! {
            () = &mut deadline => anyhow::bail!(
                "{} did not come up in time. The end of its log:\n{}", PLACES[i].0, tail(&sites[i].log)
            ),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Makes the stream by GraphQL, as any developer would.
async fn create_stream(http: SocketAddr, token: &Secret) -> anyhow::Result<(Exposed, String)> {
    let query = "mutation($name: String!) { createStream(input: { name: $name }) { __typename \
                 ... on Stream { streamKey playbackId } ... on ValidationError { message } ... on AuthError { message } } }";
    let body = json!({ "query": query, "variables": { "name": "Demo" } });
    let answer = http_client::post_json(http, "/graphql", Some(token.expose()), &body).await?;
    let made = &answer["data"]["createStream"];
    let text = |key: &str| {
        made[key]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("no stream was made: {answer}"))
    };
    let key = Exposed(Secret::new(text("streamKey")?));
    Ok((key, text("playbackId")?))
}

/// Waits until a node's playlist can be played.
async fn playable(http: SocketAddr, id: &str) -> anyhow::Result<()> {
    let attempt = async {
        loop {
            let path = format!("/play/{id}/cmaf/index.m3u8");
            if http_client::get(http, &path)
                .await
                .is_ok_and(|(status, _)| status == 200)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(READY, attempt)
        .await
        .with_context(|| format!("the stream did not become playable at {http}"))
}

fn describe(ready: &Ready, sites: &[Site], ports: Ports) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\nA mesh of three nodes runs, and a stream with it.\n"
    );
    let _ = writeln!(text, "Watch it in a browser, from any of them:");
    for (site, node) in sites.iter().zip(&ready.nodes) {
        let page = format!(
            "{}/play/{}",
            origin("http", site.ip, ports.http, 80),
            ready.playback_id
        );
        let _ = writeln!(text, "  {page:<48} {:<10} pid {}", node.name, node.pid);
    }
    let player = format!(
        "{}/play/{}/cmaf/index.m3u8",
        origin("http", sites[0].ip, ports.http, 80),
        ready.playback_id
    );
    let _ = writeln!(text, "In another player:\n  ffplay {player}");
    let _ = writeln!(text, "\nSee the mesh: {}", ready.console);
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "shoal".to_owned());
    let _ = writeln!(text, "  {program} status --data {}", sites[0].dir.display());
    let _ = writeln!(text, "\nAsk its DNS who is nearest, from three continents:");
    let port = if ports.dns == 53 {
        String::new()
    } else {
        format!("-p {} ", ports.dns)
    };
    for (_, _, _, region, prefix) in PLACES {
        let name = format!("foghorn.{}", ready.tenant_domain);
        let _ = writeln!(
            text,
            "  dig {port}@{} +short {name} {:<24}  # {region}",
            sites[0].ip,
            format!("+subnet={prefix}"),
        );
    }
    let _ = writeln!(text, "and why:");
    let _ = writeln!(
        text,
        "  {program} explain foghorn.{} --from {} --data {}",
        ready.tenant_domain,
        PLACES[0].4,
        sites[0].dir.display()
    );
    let _ = writeln!(text, "\nPublish your own:");
    let _ = writeln!(
        text,
        "  ffmpeg -re -i FILE -c:v libx264 -c:a aac -f flv rtmp://{}/live/{}",
        ready.nodes[1].rtmp,
        ready.stream_key.0.expose()
    );
    let _ = writeln!(text, "\nKill the node that serves you, and keep watching:");
    let _ = writeln!(text, "  kill -9 {}", ready.nodes[0].pid);
    let _ = writeln!(
        text,
        "\nGraphQL: {}   token: {}",
        ready.graphql,
        ready.token.0.expose()
    );
    let _ = write!(text, "\nStop with Ctrl-C: nothing stays behind.");
    text
}
