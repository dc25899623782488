//! How an output gets the frames of a broadcast, wherever they come from.
use std::{any::Any, fmt, sync::Arc};

use futures::future::BoxFuture;
use routing::model::BroadcastId;

use crate::{live::Broadcast, ports::Refusal};

/// A broadcast that this node holds for as long as the lease lives: at its origin always, as a replica because the
/// relay keeps its subscription while there are leases and some seconds after the last.
pub struct Lease {
    broadcast: Arc<Broadcast>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Lease {
    /// A lease that holds `keep` while it lives.
    #[must_use]
    pub fn new(broadcast: Arc<Broadcast>, keep: Box<dyn Any + Send + Sync>) -> Self {
        Self {
            broadcast,
            _keep: keep,
        }
    }

    /// The broadcast.
    #[must_use]
    pub const fn broadcast(&self) -> &Arc<Broadcast> {
        &self.broadcast
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("broadcast", &self.broadcast.id())
            .finish_non_exhaustive()
    }
}

/// Where outputs lease broadcasts. The relay answers it; however many ask for one broadcast, it is fetched once.
pub trait Supply: Send + Sync + 'static {
    /// The broadcast, once its current epoch's header and first frames are here.
    fn lease(&self, id: BroadcastId) -> BoxFuture<'_, Result<Lease, Refusal>>;
}
