//! The one place that asks the operating system for the time.
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use routing::model::{Clock, UnixMillis, Uptime};

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Time counts from here.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge where time enters; everything else is handed this clock"
    )]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn uptime(&self) -> Uptime {
        Uptime(self.start.elapsed())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the edge where time enters; everything else is handed this clock"
    )]
    fn unix(&self) -> UnixMillis {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
