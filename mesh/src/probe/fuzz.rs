//! Which addresses are tried, whatever addresses other nodes name.
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use fuzz_kit::Input;
use routing::model::{NodeId, Uptime};

use super::{AT_ONCE, Probes, TRIERS, Target, triers};
use crate::view::Service;

fuzz_kit::targets! {
    mesh_probe: probe, probe_seeds;
}

fn node(i: u8) -> NodeId {
    NodeId::from_bytes([i & 7; 32])
}

fn target(input: &mut Input<'_>) -> Target {
    let [who, what, port] = input.array();
    let service = [Service::Http, Service::Media, Service::Dns][usize::from(what) % 3];
    let ip = IpAddr::from([192, 0, 2, what]);
    (node(who), service, SocketAddr::new(ip, u16::from(port)))
}

/// No more run at once than may, nothing counts as reached that was not, and nobody tries itself.
fn probe(bytes: &[u8]) {
    let me = node(0);
    let live: BTreeSet<NodeId> = (0..8).map(node).collect();
    let (mut probes, mut now) = (Probes::default(), Uptime::ZERO);
    let (mut input, mut targets) = (Input::new(bytes), BTreeSet::new());
    let (mut running, mut reached) = (Vec::new(), BTreeSet::new());
    while !input.is_empty() {
        match input.byte() & 3 {
            0 => drop(targets.insert(target(&mut input))),
            1 => drop(targets.remove(&target(&mut input))),
            2 => {
                now = now + Duration::from_millis(u64::from(input.short()));
                for due in probes.due(me, &live, &targets, now) {
                    assert!(targets.contains(&due) && due.0 != me && !running.contains(&due));
                    assert!(triers(&due, &live).len() <= TRIERS);
                    running.push(due);
                }
                assert!(running.len() <= AT_ONCE);
            }
            _ => {
                let [which, good] = input.array();
                if running.is_empty() {
                    continue;
                }
                let ended = running.swap_remove(usize::from(which) % running.len());
                if good & 1 == 1 {
                    reached.insert(ended);
                }
                probes.done(&ended, good & 1 == 1, now);
            }
        }
    }
    for node in probes.nodes() {
        for (service, addr) in probes.reached(node) {
            assert!(reached.contains(&(node, service, addr)));
        }
    }
}

fn probe_seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for n in 1..8 {
        all.extend([0, n, n, 80]);
    }
    all.extend([
        2, 0, 1, 3, 0, 1, 3, 0, 0, 3, 1, 1, 2, 4, 0, 1, 1, 1, 80, 2, 0xff, 0xff,
    ]);
    vec![all]
}
