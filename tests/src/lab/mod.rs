//! The lab: hosts as network namespaces on one [`Wire`], programs in them, and nothing left behind.
//!
//! # Shape
//! - [`Lab`]: one a test. It takes a free slot (a locked file), removes what a dead run left in any slot, and names its
//!   namespaces `shoal-SLOT-NAME`, so that runs side by side do not meet.
//! - [`Host`]: a namespace with one interface `eth0`; everything else is one ARP away, whatever its subnet.
//! - [`Running`]: a program, its lines as they come, and the signals for it.
//! - [`until`]: waits for something that has no event.
//!
//! # Example
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use shoal_tests::{lab::Lab, wire::Link};
//! let mut lab = Lab::new(42)?;
//! let (a, b) = (lab.host("a")?, lab.host("b")?);
//! lab.wire().set("a", "b", Link { loss: 0.02, ..Link::delay_ms(40) });
//! let node = a.spawn(a.command("shoal").arg("run"))?;
//! node.wait_line(Duration::from_secs(5), |l| l.contains("ready"))?;
//! lab.wire().cut("a", "b");
//! # Ok(()) }
//! ```
mod host;
mod running;
mod slot;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;

pub use self::{
    host::{Host, ip},
    running::{Line, Running},
};
use crate::wire::Wire;

/// Namespaces joined by a wire; all of it goes with the value.
pub struct Lab {
    // Before the slot: its thread ends before the namespaces go.
    wire: Wire,
    hosts: Vec<Arc<Host>>,
    slot: slot::Slot,
}

impl Lab {
    /// A lab without hosts. The seed decides every frame's fate.
    ///
    /// # Errors
    /// Where the machine has no namespaces or TAP devices for us, or no slot is free.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        if let Err(why) = available() {
            anyhow::bail!("the lab cannot work here: {why}");
        }
        Ok(Self {
            slot: slot::Slot::take()?,
            hosts: Vec::new(),
            wire: Wire::start(seed)?,
        })
    }

    /// The same, or `None` and a loud line where the machine has no namespaces or TAP devices for us. With
    /// `SHOAL_LAB=required` in the environment that is a failure instead.
    ///
    /// # Panics
    /// Where the machine has them and the lab fails nevertheless.
    #[must_use]
    pub fn or_skip(seed: u64) -> Option<Self> {
        if let Err(why) = available() {
            let required = std::env::var("SHOAL_LAB").is_ok_and(|v| v == "required");
            assert!(
                !required,
                "SHOAL_LAB=required, but the lab cannot work here: {why}"
            );
            shout(&format!(
                "SKIPPED, NOT PASSED: this test needs network namespaces and TAP devices: {why}"
            ));
            return None;
        }
        shout(&format!("lab seed {seed}"));
        match Self::new(seed) {
            Ok(lab) => Some(lab),
            Err(error) => panic!("the lab should work here, but: {error:#}"),
        }
    }

    /// A host with the next addresses: 10.77.0.N/16 and fd77::N/64, N counted from 1.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub fn host(&mut self, name: &str) -> anyhow::Result<Arc<Host>> {
        let n = u8::try_from(self.hosts.len() + 1).context("a lab has at most 255 hosts")?;
        self.host_at(
            name,
            Ipv4Addr::new(10, 77, 0, n),
            Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, n.into()),
        )
    }

    /// A host with these addresses, which need not be of one subnet with the others'.
    ///
    /// # Errors
    /// Where `ip` refuses, or the name is taken.
    pub fn host_at(&mut self, name: &str, v4: Ipv4Addr, v6: Ipv6Addr) -> anyhow::Result<Arc<Host>> {
        let (host, device) = Host::create(name, self.slot.namespace(name), v4, v6)?;
        self.wire.join(name, device)?;
        let host = Arc::new(host);
        self.hosts.push(Arc::clone(&host));
        Ok(host)
    }

    /// The switch between the hosts: ports have the hosts' names.
    #[must_use]
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The hosts, in the order of their making.
    #[must_use]
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }
}

/// Whether this machine lets us have namespaces and TAP devices; else why not.
///
/// # Errors
/// The reason, for people.
pub fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".into());
    }
    if let Err(error) = std::fs::metadata("/dev/net/tun") {
        return Err(format!("/dev/net/tun: {error}"));
    }
    ip(&["netns", "list"])
        .map(drop)
        .map_err(|e| format!("`ip netns` does not work: {e:#}"))
}

/// Looks every 20 ms until `look` finds something, at most for `within`. For programs that offer no event to wait for.
///
/// # Errors
/// Names `what` did not come about.
#[expect(
    clippy::disallowed_methods,
    reason = "programs outside have the real time, and no event to wait for"
)]
pub fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(
            start.elapsed() < within,
            "waited {within:?} in vain for: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How long `work` takes, by the real clock.
#[expect(clippy::disallowed_methods, reason = "measures programs outside")]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let out = work();
    (out, start.elapsed())
}

/// Writes what a resolver of these servers is, as /etc/resolv.conf has it.
fn resolv_conf(servers: &[IpAddr]) -> String {
    let lines: String = servers
        .iter()
        .map(|s| format!("nameserver {s}\n"))
        .collect();
    format!("{lines}options timeout:1 attempts:2\n")
}

#[expect(clippy::print_stderr, reason = "the test's log is where people look")]
fn shout(text: &str) {
    eprintln!("{text}");
}
