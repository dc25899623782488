//! One publisher that was let in.
use std::sync::Arc;

use routing::model::UnixMillis;
use tokio::sync::watch;

use super::Publishers;
use crate::{
    live::ModelError,
    origin::{Origin, Writer},
    ports::{HeldClaim, Publish, Standing},
};

/// A publisher that was let in: its origin, and the writer behind it.
pub struct Publication {
    publishers: Publishers,
    id: u64,
    publish: Publish,
    origin: Origin,
    writer: Writer,
    standing: watch::Receiver<Standing>,
    // Dropped last: the claim is withdrawn after the epoch was ended.
    _claim: Box<dyn HeldClaim>,
}

impl std::fmt::Debug for Publication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publication")
            .field("publish", &self.publish)
            .finish_non_exhaustive()
    }
}

impl Publication {
    pub(super) fn new(publishers: Publishers, id: u64, publish: Publish) -> Self {
        let options = &publishers.0.options;
        let claim = options.claims.claim(publish.broadcast);
        let writer = Writer::new(
            Arc::clone(&options.broadcasts),
            Arc::clone(&options.holders),
            publish.broadcast,
            options.node,
            claim.claim(),
        );
        Self {
            standing: claim.standing(),
            origin: Origin::new(),
            publishers,
            id,
            publish,
            writer,
            _claim: claim,
        }
    }

    pub(super) async fn begin(&mut self) -> Result<(), ModelError> {
        let live = *self.standing.borrow_and_update() == Standing::Live;
        self.set_live(live).await
    }

    /// What it was let in for.
    #[must_use]
    pub const fn publish(&self) -> &Publish {
        &self.publish
    }

    /// Where its packets go; [`Publication::write`] then carries out what the origin decided.
    pub const fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    /// The time now, as packets are to be marked with.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.publishers.0.options.clock.unix()
    }

    /// Whether somebody else at this node publishes the same broadcast, and so waits for this one to end.
    #[must_use]
    pub fn others_wait(&self) -> bool {
        self.publishers.others(self.id, self.publish.broadcast)
    }

    /// Whether it is live, once that changes; give it to [`Publication::set_live`]. Waits for ever when nobody decides
    /// any more. Cancel-safe.
    pub async fn standing(&mut self) -> bool {
        if self.standing.changed().await.is_ok() {
            return *self.standing.borrow_and_update() == Standing::Live;
        }
        std::future::pending().await
    }

    /// Goes live or stands by. What the new epoch follows is asked first; whoever decides may think again meanwhile, and
    /// is then heard next.
    ///
    /// # Errors
    /// [`ModelError`] as from [`Publication::write`].
    pub async fn set_live(&mut self, live: bool) -> Result<(), ModelError> {
        let options = &self.publishers.0.options;
        if live && let Some(past) = options.recall.recall(self.publish.broadcast).await {
            self.writer.recall(options.clock.unix(), past);
        }
        if let Some((info, _)) = self.publishers.lock().get_mut(&self.id) {
            info.live = live;
        }
        self.origin.set_live(live);
        let written = self.write();
        if !live {
            self.writer.withdraw();
        }
        written
    }

    /// Carries out what the origin decided.
    ///
    /// # Errors
    /// [`ModelError`]: the frames cannot be kept, and the publication is to be ended.
    pub fn write(&mut self) -> Result<(), ModelError> {
        let now = self.now();
        while let Some(output) = self.origin.poll() {
            self.writer.write(now, output)?;
        }
        Ok(())
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.publishers.lock().remove(&self.id);
        let broadcast = self.publish.broadcast;
        tracing::info!(%broadcast, "publication ended");
        // Outside a runtime the process is about to end, and its memory with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let inner = Arc::downgrade(&self.publishers.0);
            runtime.spawn(Publishers::forget_later(inner, broadcast));
        }
    }
}
