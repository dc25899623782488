//! `shoal demo` as a stranger runs it, and how it ends: whatever happens, nothing stays behind.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
mod program;

use std::{
    io::{BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use program::{Node, S, pid, processes_with, shoal, text, until};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use shoal_tests::lab::timed;

/// A demo whose temporary directory is in `home`, by which its processes are told from other demos'.
fn demo(home: &Path, args: &[&str]) -> Node {
    let mut command = Command::new(shoal());
    command.arg("demo").args(args).env("TMPDIR", home);
    for name in ["SHOAL_CONFIG", "SHOAL_DATA"] {
        command.env_remove(name);
    }
    let child = command
        .env("SHOAL_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Node(child)
}

fn line(out: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    line
}

/// Nothing runs any more that was started with a directory in `home`.
fn no_process(home: &Path) {
    let home = home.to_str().unwrap();
    until("all nodes end", 10 * S, || {
        processes_with(home).is_empty().then_some(())
    })
    .unwrap_or_else(|e| panic!("{e}: {:?}", processes_with(home)));
}

fn no_file(home: &Path) {
    let left: Vec<_> = std::fs::read_dir(home)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// What the issue names, and nothing else: programs depend on it.
fn check_shape(ready: &Value) {
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let all = [
        "base",
        "console",
        "graphql",
        "nodes",
        "playback_id",
        "stream_key",
        "tenant",
        "tenant_domain",
        "token",
    ];
    assert_eq!(keys(ready), all);
    for key in all.iter().filter(|k| **k != "nodes") {
        assert!(!text(&ready[*key]).is_empty());
    }
    assert_eq!(
        text(&ready["tenant_domain"]),
        format!("{}.cdn.{}", text(&ready["tenant"]), text(&ready["base"]))
    );
    assert!(
        text(&ready["graphql"]).starts_with("http://")
            && text(&ready["graphql"]).ends_with("/graphql")
    );
    assert!(text(&ready["console"]).starts_with("http://"));
    let nodes = ready["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    for node in nodes {
        assert_eq!(
            keys(node),
            [
                "dns", "http", "https", "name", "pid", "place", "rtmp", "srt"
            ]
        );
        for port in ["dns", "http", "https", "rtmp", "srt"] {
            let addr: SocketAddr = text(&node[port]).parse().unwrap();
            assert!(addr.ip().is_loopback());
        }
        assert!(node["pid"].as_u64().unwrap() > 1);
        assert_eq!(keys(&node["place"]), ["lat", "lon", "region"]);
        assert!(
            node["place"]["lat"].is_f64()
                && node["place"]["lon"].is_f64()
                && node["place"]["region"].is_string()
        );
    }
}

#[test]
fn one_line_of_json_once_it_can_be_watched_and_a_second_demo_beside_it() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // The bar is 10 s for a release build; this one may be neither that nor alone on its machine.
    let bar = if cfg!(debug_assertions) { 30 } else { 10 };
    let mut demos: Vec<_> = homes
        .iter()
        .map(|home| {
            let mut demo = demo(home.path(), &["--json"]);
            let mut out = BufReader::new(demo.0.stdout.take().unwrap());
            let (first, took) = timed(|| line(&mut out));
            println!("ready to watch after {took:?}");
            let ready: Value = serde_json::from_str(&first).unwrap_or_else(|e| {
                let mut err = String::new();
                let _ = demo.0.kill();
                let _ = demo.0.stderr.take().unwrap().read_to_string(&mut err);
                panic!("{e}: {first:?}; it said:\n{err}")
            });
            assert!(took < Duration::from_secs(bar), "ready only after {took:?}");
            check_shape(&ready);
            (demo, ready, out)
        })
        .collect();
    let http = |ready: &Value| text(&ready["nodes"][0]["http"]);
    assert_ne!(http(&demos[0].1), http(&demos[1].1));
    for (_, ready, _) in &demos {
        for node in ready["nodes"].as_array().unwrap() {
            let url = format!(
                "http://{}/play/{}/cmaf/index.m3u8",
                text(&node["http"]),
                text(&ready["playback_id"])
            );
            let got = Command::new("curl")
                .args(["--silent", "--fail", &url])
                .output()
                .unwrap();
            assert!(got.stdout.starts_with(b"#EXTM3U"), "{url}: {got:?}");
        }
    }

    // The first one is stopped as at a terminal; the second goes on.
    let (mut demo, _, mut out) = demos.remove(0);
    demo.signal(Signal::INT);
    assert!(demo.ended(15 * S).success());
    assert_eq!(line(&mut out), "", "one line only");
    let mut err = String::new();
    demo.0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!(err, "", "nothing of libraries' talk");
    no_process(homes[0].path());
    no_file(homes[0].path());

    // A node that is killed is reported, and the others go on.
    let (mut demo, ready, mut out) = demos.remove(0);
    let mut err = BufReader::new(demo.0.stderr.take().unwrap());
    let victim = ready["nodes"][1]["pid"].as_u64().unwrap();
    kill_process(pid(u32::try_from(victim).unwrap()), Signal::KILL).unwrap();
    assert_eq!(
        line(&mut err),
        "ashburn ended (signal: 9 (SIGKILL)); 2 of 3 nodes run\n"
    );
    assert!(demo.0.try_wait().unwrap().is_none());
    demo.signal(Signal::TERM);
    assert!(demo.ended(15 * S).success());
    assert_eq!(line(&mut out), "");
    no_process(homes[1].path());
    no_file(homes[1].path());
}

#[test]
fn people_are_told_what_to_do_and_how_it_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let mut demo = demo(home.path(), &[]);
    let mut out = BufReader::new(demo.0.stdout.take().unwrap());
    let mut told = String::new();
    while !told.contains("Stop with Ctrl-C") {
        let next = line(&mut out);
        assert_ne!(next, "", "it ended: {told}");
        told.push_str(&next);
    }
    for part in [
        "/play/",
        "ffplay http://",
        "dig ",
        "+subnet=203.0.113.0/24",
        "rtmp://",
        "kill -9 ",
        "/graphql",
        "status --data ",
    ] {
        assert!(told.contains(part), "no {part} in:\n{told}");
    }
    // The very command that it names.
    let kill = told.lines().find(|l| l.contains("kill -9 ")).unwrap();
    assert!(
        Command::new("sh")
            .args(["-c", kill])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(
        line(&mut out),
        "frankfurt ended (signal: 9 (SIGKILL)); 2 of 3 nodes run\n"
    );
    demo.signal(Signal::INT);
    assert_eq!(line(&mut out), "stopping the demo's nodes\n");
    assert!(demo.ended(15 * S).success());
    no_process(home.path());
    no_file(home.path());
}

/// Waits for a random while, then sends a signal: the moments of a start are told apart by nothing from outside.
fn interrupt(seed: u64, signal: Signal) {
    let moment = Duration::from_millis(StdRng::seed_from_u64(seed).random_range(0..3000));
    println!("seed {seed}: {signal:?} after {moment:?}");
    let home = tempfile::tempdir().unwrap();
    let mut demo = demo(home.path(), &["--json"]);
    // The handlers of signals are set before the directory is made: earlier, a signal ends a program that has nothing.
    let begun = || std::fs::read_dir(home.path()).unwrap().next().map(drop);
    until("the demo begins", 20 * S, begun).unwrap();
    let _ = until("the moment", moment, || None::<()>);
    demo.signal(signal);
    let status = demo.ended(20 * S);
    no_process(home.path());
    if signal == Signal::KILL {
        return;
    }
    assert!(status.success(), "seed {seed}: {status}");
    no_file(home.path());
}

fn seeds(short: u64) -> std::ops::Range<u64> {
    let full = std::env::var("SHOAL_FULL").is_ok_and(|v| !v.is_empty());
    0..if full { 40 } else { short }
}

#[test]
fn a_stop_at_any_moment_of_the_start_leaves_nothing_behind() {
    for seed in seeds(6) {
        interrupt(
            seed,
            if seed % 2 == 0 {
                Signal::TERM
            } else {
                Signal::INT
            },
        );
    }
}

#[test]
fn nodes_end_with_a_demo_that_is_killed() {
    for seed in seeds(3) {
        interrupt(100 + seed, Signal::KILL);
    }
}

#[test]
fn addresses_that_do_not_do_are_refused_before_anything_starts() {
    let home = tempfile::tempdir().unwrap();
    let with = |addresses| {
        program::run(
            Command::new(shoal())
                .args(["demo", "--json", "--addresses", addresses])
                .env("TMPDIR", home.path()),
        )
    };
    with("127.90.9.1").refused(&["--addresses takes three addresses"]);
    with("192.0.2.1,192.0.2.2,192.0.2.3").refused(&["no free ports", "--addresses"]);
    no_file(home.path());
}
