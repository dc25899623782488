//! A namespace as a host.
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::{Running, resolv_conf};

/// A network namespace with one interface on the wire.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: String,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Host {
    pub(super) fn create(
        name: &str,
        namespace: String,
        v4: Ipv4Addr,
        v6: Ipv6Addr,
    ) -> anyhow::Result<(Self, SyncDevice)> {
        ip(&["netns", "add", &namespace])?;
        let host = Self {
            name: name.into(),
            namespace,
            v4,
            v6,
        };
        let device = host
            .inside(|| {
                let tap = DeviceBuilder::new().name("eth0").layer(Layer::L2);
                tap.mtu(1500).enable(false).build_sync()
            })
            .with_context(|| format!("cannot make a TAP device in {}", host.namespace))?;
        host.ip(&["link", "set", "lo", "up"])?;
        host.ip(&["link", "set", "eth0", "addrgenmode", "none"])?;
        host.ip(&["link", "set", "eth0", "up"])?;
        host.ip(&["addr", "add", &format!("{v4}/16"), "dev", "eth0"])?;
        host.ip(&["addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"])?;
        host.ip(&["route", "add", "default", "dev", "eth0"])?;
        host.ip(&["-6", "route", "add", "default", "dev", "eth0"])?;
        Ok((host, device))
    }

    /// `ip` in this namespace.
    ///
    /// # Errors
    /// With what `ip` printed.
    pub fn ip(&self, arguments: &[&str]) -> anyhow::Result<String> {
        ip(&[&["-n", &self.namespace], arguments].concat())
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace's name, for `ip netns`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its IPv4 address.
    #[must_use]
    pub const fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    /// Its IPv6 address.
    #[must_use]
    pub const fn v6(&self) -> Ipv6Addr {
        self.v6
    }

    /// A command that runs here: its process is the program itself, `ip netns exec` steps aside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace])
            .arg(program);
        command
    }

    /// Starts a command made by [`Host::command`] and listens to what it prints.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn spawn(&self, command: &mut Command) -> anyhow::Result<Running> {
        Running::spawn(&self.name, command)
    }

    /// Runs a program here to its end; its standard output.
    ///
    /// # Errors
    /// Where it does not start or does not succeed, with what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        output(self.command(program).args(arguments))
    }

    /// Runs `work` in a thread of this namespace: sockets that it opens belong here for good, wherever they are used
    /// later. Name lookups do not use this host's [`Host::resolver`].
    ///
    /// # Panics
    /// Where `work` does, or the namespace is gone.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(&self.namespace);
        let enter = move || {
            let file = fs::File::open(&path).map_err(|e| (path.clone(), e))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|e| (path, e.into()))
        };
        let done = std::thread::scope(|s| {
            s.spawn(|| match enter() {
                Ok(()) => work(),
                Err((path, error)) => panic!("cannot enter {}: {error}", path.display()),
            })
            .join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Which DNS servers the programs started from now on ask.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn resolver(&self, servers: &[IpAddr]) -> anyhow::Result<()> {
        let directory = PathBuf::from("/etc/netns").join(&self.namespace);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        fs::write(directory.join("resolv.conf"), resolv_conf(servers))
            .context("cannot write resolv.conf")
    }
}

/// Runs `ip`; its standard output.
///
/// # Errors
/// Where it is missing or refuses, with what it printed.
pub fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    output(Command::new("ip").args(arguments))
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let out = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let (text, errors) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    anyhow::ensure!(
        out.status.success(),
        "{command:?}: {}: {text}{errors}",
        out.status
    );
    Ok(text.into_owned())
}
