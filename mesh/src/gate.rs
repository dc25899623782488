//! Who a key is, and when that ends: what media links ask before they serve a node.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use routing::model::NodeId;

use crate::{authority::Standing, records::Records};

/// Tells who a proven key is.
pub trait PeerGate: Send + Sync + 'static {
    /// Its cluster and roles now; `None` for whoever has no grant in force.
    fn who(&self, key: NodeId) -> Option<Standing>;

    /// Resolves when [`PeerGate::who`] answers something else than it does now: the grant ended, was revoked, or its
    /// roles are others.
    fn until_changed(&self, key: NodeId) -> BoxFuture<'static, ()>;
}

/// Standing of nodes that showed a valid grant on their link before its record arrived here.
pub(crate) type Shown = Arc<Mutex<BTreeMap<NodeId, Standing>>>;

#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) records: Records,
    pub(crate) shown: Shown,
}

impl PeerGate for Gate {
    fn who(&self, key: NodeId) -> Option<Standing> {
        let config = self.records.config();
        if config.node(key).is_some() || config.is_revoked(key) {
            return config.standing(key);
        }
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.get(&key).copied()
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
