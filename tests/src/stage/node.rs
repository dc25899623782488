//! A machine with a node on it.
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{DOMAIN, PLACES, Site};
use crate::lab::{Host, Running};

/// A machine with a node.
pub struct Node {
    name: &'static str,
    host: Arc<Host>,
    data: PathBuf,
    config: PathBuf,
    program: Mutex<Option<Running>>,
}

impl Node {
    /// Its name in the mesh, and its port's on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its machine.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.host.v4()
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A command of the program on this machine; its standard output.
    ///
    /// # Errors
    /// Where it does not succeed, with what it printed.
    pub fn shoal(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (program, config) = (program()?, self.config.to_string_lossy().into_owned());
        let all = [&["--config", &config][..], arguments].concat();
        self.host.run(&program.to_string_lossy(), &all)
    }

    /// The same with `--json`.
    ///
    /// # Errors
    /// As [`Node::shoal`], or where it prints something else.
    pub fn shoal_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.shoal(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }

    /// What `shoal status` tells, where the node answers.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        self.shoal_json(&["status"]).ok()
    }

    /// `shoal run`.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(&self) -> anyhow::Result<()> {
        let mut command = self.host.command(program()?);
        command.arg("--config").arg(&self.config).arg("run");
        if let Ok(filter) = std::env::var("SHOAL_LOG") {
            command.env("SHOAL_LOG", filter);
        }
        let running = self.host.spawn(&mut command)?;
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(())
    }

    /// SIGKILL for its program, as a power cut would.
    ///
    /// # Errors
    /// Where it does not run, or the system refuses.
    pub fn kill(&self) -> anyhow::Result<()> {
        let program = self
            .program
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        program
            .with_context(|| format!("{} does not run", self.name))?
            .kill()
    }

    /// The file at a path of its HTTP port, asked for from its own machine: status and body.
    ///
    /// # Errors
    /// Where the port does not answer within 20 s.
    pub fn get(&self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        fetch(&self.host, &format!("http://{}{path}", self.ip()))
    }

    /// The files at several paths, by one connection: status and body of each, in order.
    ///
    /// # Errors
    /// Where one does not come within 20 s.
    pub fn get_all(&self, paths: &[String]) -> anyhow::Result<Vec<(u16, Vec<u8>)>> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let bodies = tempfile::tempdir()?;
        let mut command = self.host.command("curl");
        // Ends at the first that does not come; a status is no failure.
        command.args(["-sS", "--fail-early", "--max-time", "20"]);
        command.args(["-w", "%{http_code}\n"]);
        for (i, path) in paths.iter().enumerate() {
            let body = bodies.path().join(i.to_string());
            let url = format!("http://{}{path}", self.ip());
            command.arg("-o").arg(body).arg(url);
        }
        let out = command.output()?;
        anyhow::ensure!(
            out.status.success(),
            "{}: {}",
            self.name,
            String::from_utf8_lossy(&out.stderr)
        );
        let statuses = String::from_utf8(out.stdout)?;
        statuses
            .lines()
            .enumerate()
            .map(|(i, status)| {
                // An empty body makes no file.
                let body = fs::read(bodies.path().join(i.to_string())).unwrap_or_default();
                Ok((status.parse()?, body))
            })
            .collect()
    }

    /// GraphQL at this node.
    ///
    /// # Errors
    /// Where it does not answer with data.
    pub fn graphql(&self, token: &str, query: &str, variables: &Value) -> anyhow::Result<Value> {
        let body = json!({ "query": query, "variables": variables }).to_string();
        let text = self.host.run(
            "curl",
            &[
                "-sS",
                "--max-time",
                "10",
                "-H",
                "content-type: application/json",
                "-H",
                &format!("authorization: Bearer {token}"),
                "-d",
                &body,
                &format!("http://{}/graphql", self.ip()),
            ],
        )?;
        let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        anyhow::ensure!(answer["errors"].is_null(), "{text}");
        Ok(answer["data"].clone())
    }

    /// Addresses that this node's DNS gives for a name under the tenant's domain, for an asker of the viewer's net.
    /// Empty where it does not answer within a second.
    #[must_use]
    pub fn resolve(&self, from: &Host, name: &str) -> Vec<Ipv4Addr> {
        let subnet = format!("+subnet={}/24", from.v4());
        let (at, name) = (format!("@{}", self.ip()), format!("{name}.{DOMAIN}"));
        let asked = ["+short", "+time=1", "+tries=1", &subnet, &at, &name, "A"];
        let text = from.run("dig", &asked).unwrap_or_default();
        text.lines().filter_map(|l| l.trim().parse().ok()).collect()
    }

    /// Names of the nodes that this one believes alive, where it answers.
    #[must_use]
    pub fn alive(&self) -> Option<Vec<String>> {
        let status = self.status()?;
        let nodes = status["nodes"].as_array()?.iter();
        let alive = nodes.filter(|n| n["alive"] == true);
        Some(
            alive
                .filter_map(|n| Some(n["name"].as_str()?.to_owned()))
                .collect(),
        )
    }
}

pub(super) fn prepare(
    home: &Path,
    &(name, net, lat, lon, region): &Site,
    host: Arc<Host>,
) -> anyhow::Result<Node> {
    let (data, config) = (home.join(name), home.join(format!("{name}.toml")));
    let prefixes: String = PLACES
        .iter()
        .map(|(_, net, lat, lon, region)| {
            format!(
                "  {{ prefix = \"10.{net}.0.0/16\", lat = {lat}, lon = {lon}, region = \"{region}\" }},\n"
            )
        })
        .collect();
    let on = |port: u16| format!("\"10.{net}.0.1:{port}\"");
    let text = format!(
        "data = {data:?}\n\n[listen]\nhttp = {}\nhttps = {}\nrtmp = {}\nsrt = {}\nwebrtc = {}\ndns = {}\ncontrol = {}\nmedia = {}\n\n[place]\n\
         lat = {lat}\nlon = {lon}\nregion = \"{region}\"\nprefixes = [\n{prefixes}]\n",
        on(80),
        on(443),
        on(1935),
        on(8889),
        on(18203),
        on(53),
        on(7380),
        on(7381),
    );
    fs::write(&config, text)?;
    Ok(Node {
        name,
        host,
        data,
        config,
        program: Mutex::new(None),
    })
}

/// What is at a URL, as a program on `host` gets it: status and body.
///
/// # Errors
/// Where nobody answers within 20 s.
pub fn fetch(host: &Host, url: &str) -> anyhow::Result<(u16, Vec<u8>)> {
    let body = tempfile::NamedTempFile::new()?;
    let path = body.path().to_string_lossy().into_owned();
    let status = host.run(
        "curl",
        &[
            "-sS",
            "--max-time",
            "20",
            "-o",
            &path,
            "-w",
            "%{http_code}",
            url,
        ],
    )?;
    Ok((status.trim().parse()?, fs::read(body.path())?))
}

/// Where the program is.
pub(super) fn program() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("SHOAL_BIN").map(PathBuf::from);
    let beside = || {
        // target/PROFILE/deps/TEST
        let test = std::env::current_exe().ok()?;
        Some(test.parent()?.parent()?.join("shoal"))
    };
    let path = named.or_else(beside).context("where is this test?")?;
    anyhow::ensure!(
        path.is_file(),
        "{} is not there: build it with `cargo build --package shoal --bin shoal`, or name another with SHOAL_BIN",
        path.display()
    );
    Ok(path)
}
