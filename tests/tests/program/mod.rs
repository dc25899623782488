//! The real program, as a person or a script uses it.
#![allow(dead_code, reason = "each test program uses its own part of it")]
use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
pub(crate) use shoal_tests::lab::until;

pub(crate) const S: Duration = Duration::from_secs(1);

/// The program: `SHOAL_BIN`, else beside the directory of this test's own executable.
pub(crate) fn shoal() -> PathBuf {
    if let Some(given) = std::env::var_os("SHOAL_BIN") {
        return given.into();
    }
    let own = std::env::current_exe().unwrap();
    let beside = own.ancestors().nth(2).unwrap().join("shoal");
    assert!(
        beside.exists(),
        "{} is not there: run `cargo build -p shoal` first, or name another with SHOAL_BIN",
        beside.display()
    );
    beside
}

/// What a command printed and ended with.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// It went well: what it printed.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// It went well: the JSON that it printed.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.good()).unwrap()
    }

    /// It failed as it should: exit code 1, nothing printed but one line for people that has all of `parts` in it.
    #[track_caller]
    pub(crate) fn refused(self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        let message = self.err.strip_prefix("shoal: ").expect(&self.err);
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
        for part in parts {
            assert!(message.contains(part), "no {part:?} in {message:?}");
        }
    }
}

impl Said {
    /// As [`Said::refused`], after lines of log or progress.
    #[track_caller]
    pub(crate) fn refused_at_last(mut self, parts: &[&str]) {
        let at = self.err.find("shoal: ").expect(&self.err);
        self.err = self.err.split_off(at);
        self.refused(parts);
    }
}

/// Runs a command line to its end, with a clean environment and nothing to read.
pub(crate) fn run(command: &mut Command) -> Said {
    clean(command).stdin(Stdio::null()).output().unwrap().into()
}

fn clean(command: &mut Command) -> &mut Command {
    for name in ["SHOAL_CONFIG", "SHOAL_DATA", "SHOAL_LOG"] {
        command.env_remove(name);
    }
    command
}

/// A machine of a test: a directory, an address of its own, a configuration with ports that need no privilege.
pub(crate) struct Machine {
    pub(crate) ip: String,
    pub(crate) data: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
}

impl Machine {
    /// `ip` is of 127.90.0.0/16, the third number the test's own, so that tests run side by side.
    pub(crate) fn new(home: &Path, name: &str, ip: &str) -> Self {
        Self::at(home, name, ip, &home.join(name))
    }

    /// The same with its data somewhere else.
    pub(crate) fn at(home: &Path, name: &str, ip: &str, data: &Path) -> Self {
        let config = home.join(format!("{name}.toml"));
        let ports = [
            ("http", 18080),
            ("https", 18443),
            ("rtmp", 11935),
            ("srt", 18889),
            ("webrtc", 28203),
            ("dns", 15353),
            ("control", 17380),
            ("media", 17381),
        ];
        let listen: String = ports
            .iter()
            .map(|(key, port)| format!("{key} = \"{ip}:{port}\"\n"))
            .collect();
        std::fs::write(&config, format!("data = {data:?}\n\n[listen]\n{listen}")).unwrap();
        Self {
            ip: ip.into(),
            data: data.into(),
            log: home.join(format!("{name}.log")),
            config,
        }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        format!("{}:18080", self.ip).parse().unwrap()
    }

    /// A command line on this machine.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(shoal());
        command.args(args).arg("--config").arg(&self.config);
        command
    }

    /// The same with another clock.
    pub(crate) fn command_at(&self, offset: &str, args: &[&str]) -> Command {
        // Its library alone: `faketime` itself would stand between the test and the program, and take its signals.
        let mut find = Command::new("faketime");
        let library = run(find.args(["-f", "+0", "printenv", "LD_PRELOAD"])).good();
        let mut command = self.command(args);
        command
            .env("LD_PRELOAD", library.trim())
            .env("FAKETIME", offset)
            .env("DONT_FAKE_MONOTONIC", "1");
        command
    }

    pub(crate) fn say(&self, args: &[&str]) -> Said {
        run(&mut self.command(args))
    }

    pub(crate) fn token(&self) -> String {
        text(&self.say(&["token", "--json"]).json()["token"])
    }

    /// Founds a mesh and starts its node.
    pub(crate) fn found(&self, base: &str, name: &str) -> Node {
        self.say(&["init", base, "--name", name]).good();
        self.start()
    }

    /// Starts its node and waits until it answers commands.
    pub(crate) fn start(&self) -> Node {
        self.start_with(&mut self.command(&["run"]))
    }

    pub(crate) fn start_with(&self, command: &mut Command) -> Node {
        let log = std::fs::File::create(&self.log).unwrap();
        let mut child = clean(command)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        until("the node answers", 20 * S, || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = std::fs::read_to_string(&self.log).unwrap();
                panic!("the node ended at its start ({status}):\n{log}");
            }
            (self.say(&["status", "--json"]).code == Some(0)).then_some(())
        })
        .unwrap();
        Node(child)
    }

    /// Waits until this machine's node sees so many nodes alive.
    pub(crate) fn sees(&self, nodes: usize) {
        until("all nodes see each other", 20 * S, || {
            let status = self.say(&["status", "--json"]).json();
            let alive = status["nodes"].as_array().unwrap().iter();
            (alive.filter(|n| n["alive"] == true).count() == nodes).then_some(())
        })
        .unwrap();
    }

    /// A GraphQL request over HTTP: the whole answer.
    pub(crate) fn graphql(&self, token: &str, query: &str) -> Value {
        let body = serde_json::json!({ "query": query }).to_string();
        let head = format!(
            "POST /graphql HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.ip,
            body.len()
        );
        let stream = TcpStream::connect(self.http()).unwrap();
        let (_, answer) = exchange(stream, &format!("{head}{body}"));
        serde_json::from_str(&answer).expect(&answer)
    }

    /// A page: its status and text.
    pub(crate) fn get(&self, path: &str, host: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.http()).unwrap();
        exchange(
            stream,
            &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"),
        )
    }

    /// A request at the door that commands use.
    pub(crate) fn ask_door(&self, path: &str, body: &Value) -> (u16, String) {
        let stream = UnixStream::connect(self.data.join("shoal.sock")).unwrap();
        let body = body.to_string();
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: shoal.local\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        );
        exchange(stream, &text)
    }
}

/// Sends a request; the answer's status and body. Short answers only, which come in one piece.
fn exchange(mut stream: impl std::io::Read + std::io::Write, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
        .to_owned()
}

/// A process that ends with its test.
pub(crate) struct Node(pub(crate) Child);

impl Node {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.0.id()), signal).unwrap();
    }

    /// Stops it in order.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(10 * S)
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self, within: Duration) -> ExitStatus {
        until("the process ends", within, || self.0.try_wait().unwrap()).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// Process ids whose command line has `text` in it.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(text).then_some(id)
    })
    .collect()
}

pub(crate) fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A small disk of its own, unmounted at the end.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    /// None, with a word, where this user may not mount.
    pub(crate) fn or_skip(at: &Path, size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root may mount a small disk");
            return None;
        }
        std::fs::create_dir(at).unwrap();
        let options = format!("size={size},mode=700");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], at);
        Some(Self(at.into()))
    }

    pub(crate) fn resize(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], &self.0);
    }

    /// Fills it to the last byte; the file to delete for space.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 1024]).is_ok() {}
        path
    }
}

fn mount(args: &[&str], at: &Path) {
    let done = Command::new("mount").args(args).arg(at).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
