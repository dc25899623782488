//! Who a key is, and when that ends: what media links ask before they serve a node.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use routing::model::{Clock, NodeId, UnixMillis};

use crate::{authority::Standing, records::Records};

/// Tells who a proven key is.
pub trait PeerGate: Send + Sync + 'static {
    /// Its cluster and roles now; `None` for whoever has no grant in force.
    fn who(&self, key: NodeId) -> Option<Standing>;

    /// Resolves when [`PeerGate::who`] answers something else than it does now: the grant ended, was revoked, or its
    /// roles are others.
    fn until_changed(&self, key: NodeId) -> BoxFuture<'static, ()>;
}

/// What a node is by the grant that it showed on its link, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    pub(crate) standing: Standing,
    pub(crate) until: UnixMillis,
}

/// Nodes whose shown grant is not on record here yet.
pub(crate) type Shown = Arc<Mutex<BTreeMap<NodeId, Admitted>>>;

#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) records: Records,
    pub(crate) shown: Shown,
    pub(crate) clock: Arc<dyn Clock>,
}

impl PeerGate for Gate {
    fn who(&self, key: NodeId) -> Option<Standing> {
        let config = self.records.config();
        let recorded = config.standing(key);
        if recorded.is_some() || config.is_revoked(key) {
            return recorded;
        }
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = shown.get(&key)?;
        (self.clock.unix() <= admitted.until).then_some(admitted.standing)
    }

    fn until_changed(&self, key: NodeId) -> BoxFuture<'static, ()> {
        let gate = self.clone();
        let mut changes = gate.records.watch();
        let was = gate.who(key);
        Box::pin(async move {
            while changes.changed().await.is_ok() {
                if gate.who(key) != was {
                    break;
                }
            }
        })
    }
}
