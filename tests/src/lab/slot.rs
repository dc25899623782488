//! Slots: who uses which names, proof against crashes because the kernel gives up a dead process's locks.
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;

use super::{host::ip, until};

/// The lock files' directory; they stay, empty, so that nobody locks a file that another one has removed.
const LOCKS: &str = "/run/shoal-lab";
/// Runs side by side on one machine at most.
const SLOTS: usize = 64;

/// The right to namespaces `shoal-NN-*`, until dropped.
pub(super) struct Slot {
    prefix: String,
    _lock: File,
}

impl Slot {
    /// Takes the first free slot, and cleans what dead runs left in it and in others.
    pub(super) fn take() -> anyhow::Result<Self> {
        fs::create_dir_all(LOCKS).with_context(|| format!("cannot make {LOCKS}"))?;
        let mut taken = None;
        for n in 0..SLOTS {
            let prefix = format!("shoal-{n:02}-");
            if taken.is_some() && namespaces(&prefix).is_empty() {
                continue;
            }
            let path = PathBuf::from(LOCKS).join(format!("{n:02}"));
            let lock =
                File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
            if lock.try_lock().is_err() {
                continue;
            }
            clean(&prefix);
            if taken.is_none() {
                taken = Some(Self {
                    prefix,
                    _lock: lock,
                });
            }
        }
        taken.with_context(|| format!("all {SLOTS} slots in {LOCKS} are taken by running tests"))
    }

    /// The namespace's name for a host.
    pub(super) fn namespace(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        clean(&self.prefix);
    }
}

fn namespaces(prefix: &str) -> Vec<String> {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = names.filter_map(|e| e.file_name().into_string().ok());
    names.filter(|n| n.starts_with(prefix)).collect()
}

/// Kills what runs in the namespaces with this prefix and removes them. What cannot be removed is left for the next.
fn clean(prefix: &str) {
    for namespace in namespaces(prefix) {
        let killed = until("its programs to end", Duration::from_secs(5), || {
            let pids = ip(&["netns", "pids", &namespace]).unwrap_or_default();
            let pids = pids
                .lines()
                .filter_map(|p| rustix::process::Pid::from_raw(p.trim().parse().ok()?));
            let left =
                pids.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
            (left.count() == 0).then_some(())
        });
        drop(killed);
        drop(ip(&["netns", "del", &namespace]));
        drop(fs::remove_dir_all(Path::new("/etc/netns").join(&namespace)));
    }
}
