//! What a mesh takes of its machines while nothing happens.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
mod program;

use program::{Machine, S, until};

/// How often the threads of a process have gone to sleep by themselves: once for each time that they were woken.
fn wakes(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |thread: std::path::PathBuf| {
        let status = std::fs::read_to_string(thread.join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    threads.flatten().filter_map(|t| of(t.path())).sum()
}

/// Wake-ups are what an idle node's processor time consists of, and bear a busy machine where shares of a processor do
/// not: `tests/bench/run idle` has those.
#[test]
fn idle_nodes_of_three_wake_seldom() {
    let home = tempfile::tempdir().unwrap();
    let machine = |name, ip| Machine::new(home.path(), name, ip);
    let a = machine("a", "127.90.7.1");
    let first = a.found("video.test", "alpha");
    let mut nodes = vec![first];
    for (name, ip) in [("bravo", "127.90.7.2"), ("charlie", "127.90.7.3")] {
        let m = machine(name, ip);
        m.say(&["join", &a.token(), "--name", name]).good();
        nodes.push(m.start());
    }
    a.sees(3);
    // Until every address has been tried, nodes are busy with each other.
    until("all addresses to be verified", 30 * S, || {
        let status = a.say(&["status", "--json"]).json();
        let nodes = status["nodes"].as_array()?.clone();
        let verified =
            |n: &serde_json::Value| n["services"].as_object().map(|s| s.len()) == Some(7);
        nodes.iter().all(verified).then_some(())
    })
    .unwrap();
    let seconds = 8;
    let before: Vec<_> = nodes.iter().map(|n| wakes(n.0.id())).collect();
    until("the measured time", seconds * S, || None::<()>).unwrap_err();
    for (node, before) in nodes.iter().zip(before) {
        let each = (wakes(node.0.id()) - before) / u64::from(seconds);
        println!("{each} wake-ups a second");
        // Two beats, their acknowledgements and a digest to either side, a dozen timers, two looks at the load.
        assert!(each <= 70, "{each} wake-ups a second");
    }
}
