//! Every command as a person uses it, with mistakes on purpose: each mistake gives one message that says what to do,
//! exit code 1, and loses nothing.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
mod program;

use std::{
    net::{TcpListener, UdpSocket},
    process::Command,
};

use program::{Disk, Machine, S, mode, run, shoal, text, until};
use serde_json::{Value, json};

const CREATE: &str =
    "mutation { createStream(input: { name: \"Fish\" }) { __typename ... on Stream { id } } }";

#[test]
fn joins_that_cannot_be_say_why_and_the_token_stays_good() {
    let home = tempfile::tempdir().unwrap();
    let machine = |name, ip| Machine::new(home.path(), name, ip);
    let (a, b, c) = (
        machine("a", "127.90.1.1"),
        machine("b", "127.90.1.2"),
        machine("c", "127.90.1.3"),
    );
    let gateway = a.found("video.test", "alpha");
    let token = a.token();

    b.say(&["join", "rubbish"])
        .refused(&["no join token", "copy all of what `shoal token` printed"]);
    b.say(&["join", &token[..token.len() - 7]])
        .refused(&["no join token"]);
    assert!(
        !b.data.exists(),
        "a text that is no token makes no directory"
    );

    // `shoal token` takes a minute at least; the node itself makes one that has ended already.
    let (_, ended) = a.ask_door("/token", &json!({ "roles": ["edge"], "minutes": 0 }));
    let ended: String = serde_json::from_str(&ended).unwrap();
    b.say(&["join", &ended])
        .refused(&["the token ended", "make a new token with `shoal token`"]);

    // Clocks: behind, and ahead past the token's own end.
    run(&mut b.command_at("-2h", &["join", &token])).refused(&[
        " s behind the gateway's",
        "set it (NTP)",
        "still good",
    ]);
    run(&mut b.command_at("+20m", &["join", &token]))
        .refused(&[" s ahead of the gateway's", "still good"]);
    run(&mut b.command_at("+2h", &["join", &token]))
        .refused(&["the token ended", "check the clock"]);

    // Another root: the mesh that the directory belongs to stays.
    c.say(&["init", "other.test", "--name", "charlie"]).good();
    let before = std::fs::read(c.data.join("mesh.id")).unwrap();
    c.say(&["join", &token])
        .refused(&["belongs to mesh", "give another directory"]);
    c.say(&["init", "third.test"])
        .refused(&["belongs to mesh", "already", "shoal run"]);
    assert_eq!(std::fs::read(c.data.join("mesh.id")).unwrap(), before);

    // None of it used the token up. A repeated join by the same machine is the same node.
    let first = b.say(&["join", &token, "--name", "bravo", "--json"]).json();
    let again = b.say(&["join", &token, "--name", "bravo", "--json"]).json();
    assert_eq!(first, again);
    let d = machine("d", "127.90.1.4");
    d.say(&["join", &token])
        .refused(&["used by node bravo", "make a new one with `shoal token`"]);
    d.say(&["join", &a.token(), "--name", "delta"]).good();

    let second = b.start();
    a.sees(2);
    b.sees(2);
    until("bravo has compared its records", 20 * S, || {
        let status = b.say(&["status", "--json"]).json();
        (status["settled"] == true).then_some(())
    })
    .unwrap();
    // The gateway that made the tokens is killed: the other one redeems them, once each.
    let (early, late) = (a.token(), a.token());
    drop(gateway);
    let (e, f) = (machine("e", "127.90.1.5"), machine("f", "127.90.1.6"));
    e.say(&["join", &early, "--name", "echo"]).good();
    f.say(&["join", &early])
        .refused_at_last(&["used by node echo"]);
    // Both gone: the token cannot be used, and is not lost.
    drop(second);
    f.say(&["join", &late]).refused_at_last(&[
        "127.90.1.1:17380: no answer",
        "127.90.1.2:17380: no answer",
        "check that the gateway runs",
        "still good",
    ]);
    let (_a, _b) = (a.start(), b.start());
    a.sees(2);
    f.say(&["join", &late, "--name", "foxtrot"]).good();
}

#[test]
fn a_node_whose_clock_is_off_writes_nothing_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let machine = |name, ip| Machine::new(home.path(), name, ip);
    let (a, b, c) = (
        machine("a", "127.90.2.1"),
        machine("b", "127.90.2.2"),
        machine("c", "127.90.2.3"),
    );
    let _a = a.found("video.test", "alpha");
    for (m, name) in [(&b, "bravo"), (&c, "charlie")] {
        m.say(&["join", &a.token(), "--name", name]).good();
    }
    let _b = b.start();
    a.sees(2);
    let token = text(&a.say(&["tenant", "create", "acme", "--json"]).json()["token"]);
    let _c = c.start_with(&mut c.command_at("+2h", &["run"]));
    c.sees(3);
    until("the wrong clock is noticed", 10 * S, || {
        let answer = c.graphql(&token, CREATE);
        let message = answer["errors"][0]["message"].as_str()?;
        (message.contains("clock is 7") && message.contains("set the clock (NTP)")).then_some(())
    })
    .unwrap();
    // The others are not led astray.
    until("the others write", 10 * S, || {
        let answer = a.graphql(&token, CREATE);
        (answer["data"]["createStream"]["__typename"] == "Stream").then_some(())
    })
    .unwrap();
}

#[test]
fn settings_that_are_wrong_are_named_with_file_line_and_key() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("shoal.toml");
    let with = |text: &str| {
        std::fs::write(&file, text).unwrap();
        run(Command::new(shoal()).args(["run", "--config"]).arg(&file))
    };
    let at = |line| format!("shoal.toml:{line}: ");
    with("data = \"x\"\n[listen]\nrmtp = false\n").refused(&[
        &at(3),
        "rmtp: unknown field",
        "`rtmp`",
        "`shoal config`",
    ]);
    with("[listne]\n").refused(&[&at(1), "unknown field `listne`"]);
    with("[listen]\nhttp = \"80\"\n").refused(&[&at(2), "http: invalid value", "\"0.0.0.0:80\""]);
    with("[dns]\nttl_seconds = 0\n").refused(&[&at(2), "ttl_seconds: from 1 to 3600"]);
    with("[place]\nlat = 95.0\nlon = 1.0\n").refused(&[&at(2), "lat: a latitude"]);
    with("[listen\n").refused(&[&at(1)]);
    std::fs::remove_file(&file).unwrap();
    run(Command::new(shoal())
        .args(["status", "--config"])
        .arg(&file))
    .refused(&["cannot be read", "No such file"]);

    // What `shoal config` prints is a configuration that changes nothing.
    let all = run(Command::new(shoal()).arg("config")).good();
    std::fs::write(&file, &all).unwrap();
    run(Command::new(shoal())
        .args(["status", "--data", "/nowhere", "--config"])
        .arg(&file))
    .refused(&["no node runs"]);
    for key in [
        "data",
        "http",
        "https",
        "rtmp",
        "srt",
        "webrtc",
        "ice_servers",
        "dns",
        "control",
        "media",
        "addresses",
        "passphrase",
        "latency_ms",
        "lat",
        "lon",
        "region",
        "mmdb",
    ] {
        assert!(
            all.contains(&format!("\n#{key} = ")),
            "{key} is not told of"
        );
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_its_setting_before_anything_else_happens() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (
        Machine::new(home.path(), "a", "127.90.3.1"),
        Machine::new(home.path(), "b", "127.90.3.2"),
    );
    let _gateway = a.found("video.test", "alpha");
    b.say(&["join", &a.token(), "--name", "bravo"]).good();
    for (what, port, tcp) in [
        ("http", 18080, true),
        ("https", 18443, true),
        ("rtmp", 11935, true),
        ("srt", 18889, false),
        ("webrtc", 28203, true),
        ("webrtc", 28203, false),
        ("dns", 15353, true),
        ("dns", 15353, false),
        ("control", 17380, false),
        ("media", 17381, false),
    ] {
        let at = (b.ip.as_str(), port);
        let held = (
            tcp.then(|| TcpListener::bind(at).unwrap()),
            (!tcp).then(|| UdpSocket::bind(at).unwrap()),
        );
        let taken = format!("{what}: 127.90.3.2:{port} is taken by another program");
        let set = format!("Stop that one, or set listen.{what} in the configuration");
        // The message alone, without a line of log before it: nothing was started.
        let said = b.say(&["run"]);
        let without = said.err.contains("or to false");
        said.refused(&[&taken, &set]);
        assert_eq!(without, !["control", "media"].contains(&what), "{what}");
        drop(held);
    }
    // Nobody has heard of it, and it lost nothing.
    let status = a.say(&["status", "--json"]).json();
    let nodes = status["nodes"].as_array().unwrap();
    assert!(
        nodes
            .iter()
            .all(|n| n["alive"] != true || n["name"] == "alpha"),
        "{status}"
    );
    assert!(b.start().stop().success());
}

#[test]
fn data_directories_that_cannot_be_used_say_why() {
    let home = tempfile::tempdir().unwrap();
    let a = Machine::new(home.path(), "a", "127.90.4.1");
    a.say(&["run"]).refused(&[
        "belongs to no mesh yet",
        "`shoal init`",
        "`shoal join TOKEN`",
    ]);
    a.say(&["init", "bad name!"])
        .refused(&["cannot be a mesh's base name", "as video.example"]);
    a.say(&["init"])
        .refused(&["a mesh has a base name", "`shoal init video.example`"]);
    let running = a.found("video.test", "alpha");
    a.say(&["run"])
        .refused(&["another shoal process uses", "stop that process"]);
    a.say(&["join", &a.token()])
        .refused(&["another shoal process uses"]);
    assert!(running.stop().success());

    mode(&a.data, 0o755);
    a.say(&["run"])
        .refused(&["can be read by others (mode 755)", "chmod 700"]);
    mode(&a.data, 0o700);
    let key = a.data.join("node.key");
    mode(&key, 0o644);
    a.say(&["run"])
        .refused(&["node.key can be read by others (mode 644)", "chmod 600"]);
    mode(&key, 0o600);

    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let at = |data: &std::path::Path| {
        let mut command = Command::new(shoal());
        command.args(["init", "video.test", "--data"]).arg(data);
        command
    };
    run(&mut at(&file)).refused(&["is not a directory", "choose another"]);
    // A directory of somebody else: as an ordinary user, which root becomes for this.
    let others = home.path().join("others");
    std::fs::create_dir(&others).unwrap();
    let mut command = at(&others.join("data"));
    if rustix::process::geteuid().is_root() {
        mode(home.path(), 0o755);
        mode(&others, 0o755);
        let open = home.path().join("shoal");
        std::fs::copy(shoal(), &open).unwrap();
        mode(&open, 0o755);
        command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&open);
        command
            .args(["init", "video.test", "--data"])
            .arg(others.join("data"));
    } else {
        mode(&others, 0o500);
    }
    run(&mut command).refused(&["cannot write to", "this user may not", "or choose another"]);
    mode(home.path(), 0o700);

    assert!(a.start().stop().success());
}

#[test]
fn a_full_disk_stops_writing_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::or_skip(&home.path().join("disk"), "16k") else {
        return;
    };
    let a = Machine::at(home.path(), "a", "127.90.5.1", &disk.0);
    a.say(&["init", "video.test", "--name", "alpha"])
        .refused(&["the disk is full", "nothing is lost"]);
    disk.resize("8m");
    let running = a.found("video.test", "alpha");
    let token = text(&a.say(&["tenant", "create", "acme", "--json"]).json()["token"]);
    let filler = disk.fill();

    let mut made = 0;
    let message = until("the disk is full", 30 * S, || {
        let answer = a.graphql(&token, CREATE);
        if answer["data"]["createStream"]["__typename"] == "Stream" {
            made += 1;
            return None;
        }
        assert_eq!(
            answer["errors"][0]["extensions"]["code"], "UNAVAILABLE",
            "{answer}"
        );
        Some(text(&answer["errors"][0]["message"]))
    })
    .unwrap();
    for part in [
        "mesh.redb",
        "the disk is full",
        "free some space",
        "nothing is lost",
    ] {
        assert!(message.contains(part), "{message}");
    }
    a.say(&["tenant", "create", "beta"])
        .refused(&["the disk is full"]);
    let streams = |a: &Machine| {
        a.say(&["status", "--json"]).json()["streams"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        streams(&a),
        made,
        "what was acknowledged is there, what was refused is not"
    );

    std::fs::remove_file(filler).unwrap();
    until("writing goes on", 10 * S, || {
        (a.graphql(&token, CREATE)["data"]["createStream"]["__typename"] == "Stream").then_some(())
    })
    .unwrap();
    a.say(&["tenant", "create", "beta"]).good();
    assert_eq!(streams(&a), made + 1);
    assert!(running.stop().success());
    let _running = a.start();
    assert_eq!(streams(&a), made + 1);
    assert_eq!(
        a.say(&["tenant", "list", "--json"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn status_explain_and_tenants_answer_people_and_programs() {
    let home = tempfile::tempdir().unwrap();
    let a = Machine::new(home.path(), "a", "127.90.6.1");
    a.say(&["status"]).refused(&[
        "no node runs with the data directory",
        "`shoal run`",
        "--data",
    ]);
    let running = a.found("video.test", "alpha");

    let made = a
        .say(&["tenant", "create", "acme", "--name", "Acme", "--json"])
        .json();
    assert_eq!(made["domain"], "acme.cdn.video.test");
    assert_eq!(made["acknowledgement"], "LOCAL");
    a.say(&["tenant", "create", "acme"])
        .refused(&["the label acme is taken", "choose another"]);
    let token = text(&made["token"]);
    a.graphql(&token, CREATE);

    let status = a.say(&["status", "--json"]).json();
    let shape = keys(&status);
    assert_eq!(
        shape,
        [
            "base", "mesh", "node", "nodes", "settled", "streams", "warnings"
        ]
    );
    assert_eq!(
        keys(&status["nodes"][0]),
        [
            "alive", "cluster", "cpu", "expires", "id", "name", "place", "roles", "services",
            "viewers"
        ]
    );
    assert_eq!(
        keys(&status["nodes"][0]["services"]),
        ["control", "dns", "http", "https", "media", "rtmp", "srt"]
    );
    assert_eq!(
        keys(&status["streams"][0]),
        [
            "name",
            "origin",
            "playback_id",
            "replicas",
            "route",
            "tenant"
        ]
    );
    let playback = text(&status["streams"][0]["playback_id"]);
    let mesh = text(&status["mesh"]);
    let cpu = |line: &str| {
        let words = line
            .split_whitespace()
            .map(|w| if w.parse::<u32>().is_ok() { "N" } else { w });
        words.collect::<Vec<_>>().join(" ")
    };
    let human: Vec<_> = a.say(&["status"]).good().lines().map(cpu).collect();
    let one = "warning: one machine alone can sign for this cluster: if it is lost, no node can join or renew. Join a second \
               one with the gateway role.";
    let want = [
        format!("mesh video.test {}", &mesh[..8]),
        String::new(),
        "NODE CLUSTER STATE REGION VIEWERS CPU ROLES HTTP".into(),
        "alpha (this) main alive - N N % ingest,edge,dns,gateway,storage 127.90.6.1:18080".into(),
        String::new(),
        "STREAM TENANT PLAYBACK ID ORIGIN REPLICAS ROUTE TO HERE".into(),
        format!("Fish acme {playback} not live -"),
        String::new(),
        one.to_owned(),
    ];
    assert_eq!(human, want);

    a.say(&["explain", "nonsense"]).refused(&[
        "nonsense is not under video.test",
        "foghorn.TENANT.cdn.video.test",
    ]);
    a.say(&["explain", "foghorn.nobody.cdn.video.test"])
        .refused(&["there is no name", "`shoal tenant list`"]);
    a.say(&["explain", "a b"])
        .refused(&["is not a domain name"]);
    let why = [
        "explain",
        "foghorn.acme.cdn.video.test",
        "--from",
        "192.0.2.0/24",
    ];
    let words = a.say(&why).good();
    assert!(
        words.contains("alpha") && words.contains("NOERROR: 127.90.6.1"),
        "{words}"
    );
    let detail = a.say(&[&why[..], &["--json"]].concat()).json();
    assert_eq!(detail["answers"], json!(["127.90.6.1"]));

    let (code, page) = a.get("/metrics", "127.90.6.1:18080");
    assert_eq!(code, 200);
    for line in [
        "shoal_mesh_nodes{state=\"alive\"} 1",
        "shoal_mesh_settled 1",
        "shoal_viewers 0",
        "shoal_dns_queries_total{",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    // A web page that had its own name pointed here.
    assert_eq!(a.get("/metrics", "evil.example").0, 403);

    assert!(running.stop().success());
    a.say(&["tenant", "list"]).refused(&["no node runs"]);
}

fn keys(value: &Value) -> Vec<String> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("{value}"))
        .keys()
        .cloned()
        .collect()
}

/// Help is checked in, so that a change of it is seen where changes are read. `SHOAL_UPDATE=1` writes it anew.
#[test]
fn help_is_as_checked_in() {
    let commands = [
        "",
        "init",
        "token",
        "join",
        "run",
        "status",
        "tenant",
        "tenant create",
        "explain",
        "demo",
        "config",
        "completions",
    ];
    let mut text = String::new();
    for command in commands {
        let args: Vec<_> = command.split_whitespace().collect();
        let help = run(Command::new(shoal())
            .args(args)
            .arg("--help")
            .env("COLUMNS", "100"))
        .good();
        text.push_str(&format!(
            "$ shoal {command}{}--help\n{help}\n",
            if command.is_empty() { "" } else { " " }
        ));
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os("SHOAL_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    for (number, (have, want)) in text.lines().zip(known.lines()).enumerate() {
        assert_eq!(
            have,
            want,
            "line {} of tests/help.txt; SHOAL_UPDATE=1 writes it anew",
            number + 1
        );
    }
    assert_eq!(text.lines().count(), known.lines().count());
}

#[test]
fn completions_are_taken_by_their_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(Command::new(crate::shoal()).args(["completions", shell])).good();
        assert!(
            script.contains("tenant") && script.len() > 1000,
            "{shell}: {script}"
        );
        if shell == "bash" {
            let home = tempfile::tempdir().unwrap();
            let file = home.path().join("shoal.bash");
            std::fs::write(&file, script).unwrap();
            let check = "source \"$1\" && COMP_WORDS=(shoal ten) COMP_CWORD=1 && _shoal shoal ten shoal && echo ${COMPREPLY[@]}";
            let said = run(Command::new("bash").args(["-c", check, "bash"]).arg(&file));
            assert_eq!(said.good().trim(), "tenant");
        }
    }
}
