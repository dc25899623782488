//! What this node takes of its machine, from `/proc`.
//!
//! Its own share of the processors counts, not the machine's whole load: what others do on a shared machine changes from
//! moment to moment, and would send viewers back and forth. Memory is the machine's: when it is short, it is short for all.
use std::path::Path;

use routing::model::{BitsPerSecond, Load, Permille};

/// One reading of the machine's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Ticks of all cores since boot.
    total_ticks: u64,
    /// Of these, spent in this process.
    own_ticks: u64,
    memory_total: u64,
    memory_available: u64,
}

impl Reading {
    /// Reads `/proc/stat`, `/proc/self/stat` and `/proc/meminfo`; zeros where they cannot be read (another system than Linux).
    #[must_use]
    pub fn take() -> Self {
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        Self::parse(
            &read("/proc/stat"),
            &read("/proc/self/stat"),
            &read("/proc/meminfo"),
        )
    }

    /// Ticks that this process has spent on a processor since its start, usually hundredths of a second.
    #[must_use]
    pub const fn own_ticks(&self) -> u64 {
        self.own_ticks
    }

    /// Reads their texts (proc_stat(5), proc_pid_stat(5), proc_meminfo(5)).
    #[must_use]
    pub fn parse(stat: &str, own: &str, meminfo: &str) -> Self {
        // The program's name, in parentheses, may have spaces: fields count from the last one. utime and stime are the
        // 12th and 13th after it.
        let own = own.rsplit_once(')').map_or("", |(_, rest)| rest);
        let own_ticks = own
            .split_ascii_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|v| v.parse::<u64>().ok())
            .sum();
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
            own_ticks,
            memory_total: kib("MemTotal"),
            memory_available: kib("MemAvailable"),
        }
    }

    /// The load between `before` and this reading, with what the node itself counts.
    #[must_use]
    pub fn load_since(&self, before: &Self, egress: BitsPerSecond, viewers: u32) -> Load {
        let total = self.total_ticks.saturating_sub(before.total_ticks);
        let own = self.own_ticks.saturating_sub(before.own_ticks);
        let used = self.memory_total.saturating_sub(self.memory_available);
        Load {
            cpu: share(own, total),
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
        let own = |utime, stime| {
            format!("7 (a (b) c) S 1 7 7 0 -1 4194304 1 0 0 0 {utime} {stime} 0 0 20 0")
        };
        let before = Reading::parse(
            "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2\n",
            &own(10, 10),
            memory,
        );
        let after = Reading::parse("cpu  150 0 125 825 100 0 0 0 50 0\n", &own(40, 55), memory);
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
        let nothing = Reading::parse("", "7 (", "garbage");
        assert_eq!(
            nothing.load_since(&nothing, BitsPerSecond(0), 0),
            Load::default()
        );
    }
}
