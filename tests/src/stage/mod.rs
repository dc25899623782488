//! Three nodes of Shoal as real machines would run them, on the lab's wire, with a tenant and a stream.
//!
//! # Shape
//! - [`Stage`]: nodes `a` (Europe), `b` (America), `c` (Asia), founded and joined by the program's own commands; a host
//!   `viewer` beside `b` and a host `streamer` beside `a`, which know the nodes by DNS only.
//! - [`Feed`]: a publication of our own client, for an order of arrival that no encoder can be told to have.
//! - [`Node`]: one of them: its host, its data directory, and its program, which can be killed and started again.
//!
//! The program is the one that `SHOAL_BIN` names, else `shoal` beside the test's own directory in `target`.
mod feed;
mod node;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use media::{
    flv::{self, Looped},
    rtmp::Target,
};
use routing::model::StreamKey;
use serde_json::json;

use self::node::{prepare, program};
pub use self::{
    feed::Feed,
    node::{Node, fetch},
};
use crate::{
    film::Film,
    lab::{Host, Lab, Running, until},
};

/// The mesh's base name.
pub const BASE: &str = "shoal.test";
/// The tenant's domain.
pub const DOMAIN: &str = "acme.cdn.shoal.test";
/// What [`Stage::publish_hard`] has ffmpeg make.
const HARD: [&str; 29] = [
    "-re",
    "-f",
    "lavfi",
    "-i",
    "testsrc2=size=320x180:rate=30",
    "-f",
    "lavfi",
    "-i",
    "sine=frequency=440:sample_rate=48000",
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-bf",
    "2",
    "-g",
    "600",
    "-sc_threshold",
    "0",
    "-force_key_frames",
    "expr:if(isnan(prev_forced_t),1,gte(t,prev_forced_t+0.5+mod(prev_forced_n*1.3,3)))",
    "-pix_fmt",
    "yuv420p",
    "-b:v",
    "300k",
    "-c:a",
    "aac",
    "-ac",
    "2",
];
/// How long a step of the setting up may take: the machine may be busy with other things.
const SETUP: Duration = Duration::from_secs(30);

/// Name, the second byte of its 10.N.0.0/16, latitude, longitude, region.
type Site = (&'static str, u8, f64, f64, &'static str);

const PLACES: [Site; 3] = [
    ("a", 81, 50.11, 8.68, "europe"),
    ("b", 82, 39.04, -77.49, "america"),
    ("c", 83, 1.35, 103.82, "asia"),
];

/// A stream that was made.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What its encoder says.
    pub key: String,
    /// What its viewers ask for.
    pub playback: String,
}

/// The three nodes, the viewer's machine and the streamer's. All of it goes with the value.
pub struct Stage {
    // Before the lab: programs end before their namespaces.
    nodes: Vec<Node>,
    viewer: Arc<Host>,
    streamer: Arc<Host>,
    token: String,
    lab: Lab,
    // Last: nothing runs that could write in it.
    home: tempfile::TempDir,
}

impl Stage {
    /// Three nodes that see each other, the tenant `acme`, and both machines with resolvers. `None`, said aloud, where
    /// [`Lab::or_skip`] says so.
    ///
    /// # Panics
    /// Where the program is missing or a node does not come up: with what it printed.
    #[must_use]
    pub fn or_skip(seed: u64) -> Option<Self> {
        let lab = Lab::or_skip(seed)?;
        match Self::set(lab) {
            Ok(stage) => Some(stage),
            Err(error) => panic!("the stage cannot be set: {error:#}"),
        }
    }

    fn set(mut lab: Lab) -> anyhow::Result<Self> {
        program()?;
        let home = tempfile::tempdir()?;
        let mut at = |name: &str, net: u8, host: u8| {
            lab.host_at(
                name,
                Ipv4Addr::new(10, net, 0, host),
                Ipv6Addr::new(0xfd77, net.into(), 0, 0, 0, 0, 0, host.into()),
            )
        };
        let nodes = PLACES
            .iter()
            .map(|place| prepare(home.path(), place, at(place.0, place.1, 1)?))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let viewer = at("viewer", PLACES[1].1, 77)?;
        let streamer = at("streamer", PLACES[0].1, 78)?;
        let mut stage = Self {
            nodes,
            viewer,
            streamer,
            token: String::new(),
            lab,
            home,
        };
        stage.a().shoal(&["init", BASE, "--name", "a"])?;
        stage.a().start()?;
        until("the founder to run", SETUP, || stage.a().status())?;
        for node in &stage.nodes[1..] {
            stage.enrol(stage.a(), node)?;
        }
        stage.settled(&stage.nodes.iter().collect::<Vec<_>>())?;
        let tenant = stage.a().shoal_json(&["tenant", "create", "acme"])?;
        stage.token = tenant["token"]
            .as_str()
            .context("no token of the tenant")?
            .to_owned();
        stage.ask(&[stage.a(), stage.b(), stage.c()])?;
        until("every node to name every node", SETUP, || {
            let whole = |n: &Node| n.resolve(&stage.viewer, "foghorn").len() >= 2;
            stage.nodes.iter().all(whole).then_some(())
        })?;
        Ok(stage)
    }

    /// A token at `gateway`, used by `node`, which then runs.
    ///
    /// # Errors
    /// What the program refuses.
    pub fn enrol(&self, gateway: &Node, node: &Node) -> anyhow::Result<()> {
        let made = gateway.shoal_json(&["token"])?;
        let token = made["token"].as_str().context("no token")?;
        node.shoal(&["join", token, "--name", node.name()])?;
        node.start()
    }

    /// One more machine, which is not in the mesh yet.
    ///
    /// # Errors
    /// Where the lab refuses.
    pub fn machine(&mut self, name: &'static str, net: u8) -> anyhow::Result<Node> {
        let host = self.lab.host_at(
            name,
            Ipv4Addr::new(10, net, 0, 1),
            Ipv6Addr::new(0xfd77, net.into(), 0, 0, 0, 0, 0, 1),
        )?;
        prepare(
            self.home.path(),
            &(name, net, -33.87, 151.21, "oceania"),
            host,
        )
    }

    /// Waits until each of `nodes` sees all of them alive with addresses that others have verified.
    ///
    /// # Errors
    /// Where that does not come about.
    pub fn settled(&self, nodes: &[&Node]) -> anyhow::Result<()> {
        let whole = |node: &&Node| {
            let status = node.status()?;
            let known = status["nodes"].as_array()?;
            let fit = |name: &str| {
                known.iter().any(|n| {
                    n["name"] == name
                        && n["alive"] == true
                        && ["http", "rtmp"]
                            .iter()
                            .all(|s| n["services"][s].is_string())
                })
            };
            (status["settled"] == true && nodes.iter().all(|n| fit(n.name()))).then_some(())
        };
        until("all nodes to know all nodes", SETUP, || {
            nodes.iter().all(|n| whole(n).is_some()).then_some(())
        })
    }

    /// Whom the viewer's and the streamer's machine ask for names, the first one first.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn ask(&self, nodes: &[&Node]) -> anyhow::Result<()> {
        let servers: Vec<IpAddr> = nodes.iter().map(|n| n.ip().into()).collect();
        self.viewer.resolver(&servers)?;
        self.streamer.resolver(&servers)
    }

    /// The founder, in Europe.
    #[must_use]
    pub fn a(&self) -> &Node {
        &self.nodes[0]
    }

    /// In America.
    #[must_use]
    pub fn b(&self) -> &Node {
        &self.nodes[1]
    }

    /// In Asia.
    #[must_use]
    pub fn c(&self) -> &Node {
        &self.nodes[2]
    }

    /// A machine in America that watches.
    #[must_use]
    pub fn viewer(&self) -> &Host {
        &self.viewer
    }

    /// A machine in Europe that publishes.
    #[must_use]
    pub fn streamer(&self) -> &Host {
        &self.streamer
    }

    /// The namespaces and the wire.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The tenant's API token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A directory for files, gone with the stage.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Makes a stream by GraphQL at a node.
    ///
    /// # Errors
    /// What the node answers instead.
    pub fn create(&self, at: &Node, name: &str) -> anyhow::Result<Stream> {
        let query = "mutation($name: String!) { createStream(input: { name: $name }) { __typename \
                     ... on Stream { streamKey playbackId } ... on ValidationError { message } \
                     ... on AuthError { message } } }";
        let made = at.graphql(&self.token, query, &json!({ "name": name }))?;
        let text = |key: &str| {
            let text = made["createStream"][key].as_str().map(str::to_owned);
            text.with_context(|| format!("no stream was made: {made}"))
        };
        Ok(Stream {
            key: text("streamKey")?,
            playback: text("playbackId")?,
        })
    }

    /// ffmpeg on the streamer's machine publishes the demo's clip in a loop, to the name that the tenant's domain has.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn publish(&self, stream: &Stream) -> anyhow::Result<Running> {
        let clip = clip();
        publish(&self.streamer, stream, &looped(&clip))
    }

    /// The same with a stream that is hard on packaging: B-frames, and keyframes 0.5 to 3.5 s apart.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn publish_hard(&self, stream: &Stream) -> anyhow::Result<Running> {
        publish(&self.streamer, stream, &HARD)
    }

    /// The same with a film, at its own pace.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn publish_film(&self, stream: &Stream, film: &Film) -> anyhow::Result<Running> {
        let path = film.path().to_string_lossy();
        publish(&self.streamer, stream, &["-re", "-i", &path, "-c", "copy"])
    }

    /// A publisher of our own sends a film from the streamer's machine, with sound `lead` milliseconds ahead of pictures
    /// in the order of arrival (behind them, where negative).
    ///
    /// # Errors
    /// Where no name of the tenant leads to a node, or the film cannot be read.
    pub fn publish_arriving(
        &self,
        stream: &Stream,
        film: &Film,
        lead: i64,
    ) -> anyhow::Result<Feed> {
        let found = self.a().resolve(&self.streamer, "edge-ingest");
        let address = found.first().context("nobody takes streams")?;
        let target = Target {
            host: format!("{address}:1935"),
            app: "live".into(),
            key: StreamKey::new(&stream.key),
        };
        let streamer = Arc::clone(&self.streamer);
        Ok(Feed::start(streamer, target, film.arriving(lead)?))
    }

    /// A publisher of our own sends the demo's clip in a loop for some minutes, every tag when it is due.
    ///
    /// # Errors
    /// Where no name of the tenant leads to a node, or the clip cannot be read.
    pub fn publish_clocked(&self, stream: &Stream) -> anyhow::Result<Feed> {
        let found = self.a().resolve(&self.streamer, "edge-ingest");
        let address = found.first().context("nobody takes streams")?;
        let target = Target {
            host: format!("{address}:1935"),
            app: "live".into(),
            key: StreamKey::new(&stream.key),
        };
        let tags = flv::file(&std::fs::read(clip())?)?;
        let looped = Looped::new(tags)?.take_while(|(due, _)| *due < Duration::from_secs(300));
        let streamer = Arc::clone(&self.streamer);
        Ok(Feed::start(streamer, target, looped.collect()))
    }

    /// [`Stage::publish`] from the viewer's machine: somebody in America who also streams.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn publish_from_viewer(&self, stream: &Stream) -> anyhow::Result<Running> {
        let clip = clip();
        publish(&self.viewer, stream, &looped(&clip))
    }

    /// Waits until the stream's playlist is there at a node.
    ///
    /// # Errors
    /// Where it does not come.
    pub fn playable(&self, node: &Node, stream: &Stream) -> anyhow::Result<()> {
        let path = format!("/play/{}/cmaf/index.m3u8", stream.playback);
        until(&format!("the stream at {}", node.name()), SETUP, || {
            node.get(&path)
                .is_ok_and(|(status, _)| status == 200)
                .then_some(())
        })
    }

    /// The names of the nodes by which a stream's frames reach `asked` now, the origin first.
    #[must_use]
    pub fn route(&self, asked: &Node, stream: &Stream) -> Vec<String> {
        let status = asked.status().unwrap_or_default();
        let mut known = status["streams"].as_array().into_iter().flatten();
        let found = known.find(|s| s["playback_id"] == stream.playback.as_str());
        let route = found.and_then(|s| s["route"].as_array());
        route
            .into_iter()
            .flatten()
            .filter_map(|n| Some(n.as_str()?.to_owned()))
            .collect()
    }

    /// The node that a stream enters at, as `asked` knows it.
    #[must_use]
    pub fn origin(&self, asked: &Node, stream: &Stream) -> Option<&Node> {
        let status = asked.status()?;
        let known = status["streams"].as_array()?.iter();
        let found = known
            .filter(|s| s["playback_id"] == stream.playback.as_str())
            .find_map(|s| s["origin"].as_str().map(str::to_owned))?;
        self.nodes.iter().find(|n| n.name() == found)
    }
}

/// The demo's clip.
fn clip() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/assets/demo.flv");
    path.to_string_lossy().into_owned()
}

const fn looped(clip: &str) -> [&str; 7] {
    ["-stream_loop", "-1", "-re", "-i", clip, "-c", "copy"]
}

fn publish(from: &Host, stream: &Stream, media: &[&str]) -> anyhow::Result<Running> {
    let mut command = from.command("ffmpeg");
    command
        .args(["-hide_banner", "-nostdin", "-loglevel", "warning"])
        .args(media)
        .args(["-f", "flv"])
        .arg(format!("rtmp://edge-ingest.{DOMAIN}/live/{}", stream.key));
    from.spawn(&mut command)
}
