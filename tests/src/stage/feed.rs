//! A publisher of our own, for an order of arrival that no encoder can be told to have.
use std::{
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use media::{
    flv::Tag,
    rtmp::{Publisher, Target},
};
use routing::model::{Clock, UnixMillis, Uptime};
use tokio_util::sync::CancellationToken;

use crate::lab::Host;

/// A publication under way. Dropped, it is ended as an encoder ends.
pub struct Feed {
    began: Arc<OnceLock<i64>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Feed {
    /// Publishes tags when they are due, from a machine, to a node's address.
    pub(super) fn start(host: Arc<Host>, target: Target, tags: Vec<(Duration, Tag)>) -> Self {
        let began = Arc::new(OnceLock::new());
        let begins = Arc::clone(&began);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            host.inside(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(async {
                    let clock: Arc<dyn Clock> = Arc::new(RealClock::start());
                    let mut publisher = Publisher::connect(&target, 1).await?;
                    begins.get_or_init(|| i64::try_from(clock.unix().0).unwrap_or_default());
                    publisher.send_paced(tags, &clock, &stopped).await?;
                    publisher.finish().await?;
                    anyhow::Ok(())
                })
            })
        });
        Self {
            began,
            stop,
            thread: Some(thread),
        }
    }

    /// When its first tag was sent, as a Unix time in milliseconds, once it was.
    #[must_use]
    pub fn began(&self) -> Option<i64> {
        self.began.get().copied()
    }

    /// Ends it.
    ///
    /// # Errors
    /// How it went wrong before.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        let thread = self.thread.take().context("a publication ends once")?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // The test failed already; its own words count.
            drop(thread.join());
        }
    }
}

/// The machine's clocks: what is published meets programs in real time.
struct RealClock(Instant);

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "real nodes run in real time")]
    fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    fn uptime(&self) -> Uptime {
        Uptime(self.0.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "real nodes run in real time")]
    fn unix(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        UnixMillis(u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX))
    }
}
