//! What this machine is doing, from `/proc`.
use std::path::Path;

use routing::model::{BitsPerSecond, Load, Permille};

/// One reading of the machine's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Ticks of all cores since boot.
    total_ticks: u64,
    /// Of these, idle or waiting for a disk.
    idle_ticks: u64,
    memory_total: u64,
    memory_available: u64,
}

impl Reading {
    /// Reads `/proc/stat` and `/proc/meminfo`; zeros where they cannot be read (another system than Linux).
    #[must_use]
    pub fn take() -> Self {
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        Self::parse(&read("/proc/stat"), &read("/proc/meminfo"))
    }

    /// Reads their texts (proc_stat(5), proc_meminfo(5)).
    #[must_use]
    pub fn parse(stat: &str, meminfo: &str) -> Self {
        let ticks: Vec<u64> = stat
            .lines()
            .find_map(|l| l.strip_prefix("cpu "))
            .map(|l| {
                l.split_ascii_whitespace()
                    .map_while(|v| v.parse().ok())
                    .collect()
            })
            .unwrap_or_default();
        let kib = |key: &str| {
            let line = meminfo
                .lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(|l| l.split_ascii_whitespace().next()?.parse().ok())
                .unwrap_or(0)
        };
        Self {
            // The last two columns, guest and guest_nice, are already counted in user and nice.
            total_ticks: ticks.iter().take(8).sum(),
            idle_ticks: ticks.get(3).copied().unwrap_or(0) + ticks.get(4).copied().unwrap_or(0),
            memory_total: kib("MemTotal"),
            memory_available: kib("MemAvailable"),
        }
    }

    /// The load between `before` and this reading, with what the node itself counts.
    #[must_use]
    pub fn load_since(&self, before: &Self, egress: BitsPerSecond, viewers: u32) -> Load {
        let total = self.total_ticks.saturating_sub(before.total_ticks);
        let idle = self.idle_ticks.saturating_sub(before.idle_ticks);
        let used = self.memory_total.saturating_sub(self.memory_available);
        Load {
            cpu: share(total.saturating_sub(idle), total),
            memory: share(used, self.memory_total),
            egress,
            viewers,
        }
    }
}

fn share(part: u64, whole: u64) -> Permille {
    let permille = part.saturating_mul(1000).checked_div(whole).unwrap_or(0);
    Permille(u16::try_from(permille.min(1000)).unwrap_or(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_what_happened_between_two_readings() {
        let memory = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    750 kB\n";
        let before = Reading::parse("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2\n", memory);
        let after = Reading::parse("cpu  150 0 125 825 100 0 0 0 50 0\n", memory);
        let load = after.load_since(&before, BitsPerSecond(7), 3);
        assert_eq!(
            load,
            Load {
                cpu: Permille(375),
                memory: Permille(250),
                egress: BitsPerSecond(7),
                viewers: 3
            }
        );
    }

    #[test]
    fn what_cannot_be_read_is_no_load() {
        let nothing = Reading::parse("", "garbage");
        assert_eq!(
            nothing.load_since(&nothing, BitsPerSecond(0), 0),
            Load::default()
        );
    }
}
