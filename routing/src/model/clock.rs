//! Time as values. Cores take these as arguments; a shell asks the [`Clock`] that `node` hands down.
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Time since this process started, on a clock that never steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(pub Duration);

impl Uptime {
    /// The start of the process.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// `ms` milliseconds after the start.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// How long ago `earlier` was; zero when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Uptime {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct UnixMillis(#[n(0)] pub u64);

impl UnixMillis {
    /// This moment `d` later.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// Whole seconds.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// A hybrid-logical stamp: 48 bits of Unix milliseconds above 16 bits of counter (Kulkarni et al., "Logical Physical
/// Clocks", 2014). Ordered as an integer.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Hlc(#[n(0)] pub u64);

impl Hlc {
    /// The stamp with counter zero at `at`.
    #[must_use]
    pub const fn at(at: UnixMillis) -> Self {
        Self(at.0 << 16)
    }

    /// Its physical part.
    #[must_use]
    pub const fn millis(self) -> UnixMillis {
        UnixMillis(self.0 >> 16)
    }

    /// The stamp for an event now, after having seen `self`: later than both. Nothing is later than the last stamp there
    /// is, in the year 10889.
    #[must_use]
    pub fn tick(self, now: UnixMillis) -> Self {
        Self(Self::at(now).0.max(self.0.saturating_add(1)))
    }
}

/// Where shells get the time from. `node` hands one down; tests hand down their own.
pub trait Clock: Send + Sync + 'static {
    /// Time since the process started.
    fn uptime(&self) -> Uptime;
    /// The wall clock.
    fn unix(&self) -> UnixMillis;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_later_than_what_was_seen_even_when_the_clock_went_back() {
        let seen = Hlc::at(UnixMillis(2_000));
        assert!(seen.tick(UnixMillis(1_000)) > seen);
        assert_eq!(seen.tick(UnixMillis(3_000)), Hlc::at(UnixMillis(3_000)));
        assert_eq!(Hlc(u64::MAX).tick(UnixMillis(3_000)), Hlc(u64::MAX));
    }
}
