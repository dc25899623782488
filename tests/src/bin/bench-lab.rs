//! For `tests/bench/run`: three hosts on a wire, which standard input cuts off and heals.
//!
//! Prints one line, the hosts as JSON; then takes `cut NAME` and `heal NAME` and answers each with `ok`. All goes at
//! the end of input.
#![expect(clippy::print_stdout, reason = "it is what the program is for")]
use std::io::BufRead as _;

use anyhow::Context as _;
use serde_json::json;
use shoal_tests::lab::Lab;

const NAMES: [&str; 3] = ["frankfurt", "ashburn", "singapore"];

fn main() -> anyhow::Result<()> {
    let mut lab = Lab::new(1)?;
    let mut hosts = Vec::new();
    for name in NAMES {
        let host = lab.host(name)?;
        hosts.push(json!({ "name": name, "namespace": host.namespace(), "v4": host.v4() }));
    }
    println!("{}", serde_json::Value::Array(hosts));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (order, name) = line.split_once(' ').context("an order and a host's name")?;
        for other in NAMES.iter().filter(|n| **n != name) {
            match order {
                "cut" => lab.wire().cut(name, other),
                "heal" => lab.wire().heal(name, other),
                _ => anyhow::bail!("orders are cut and heal, not {order}"),
            }
        }
        println!("ok");
    }
    Ok(())
}
