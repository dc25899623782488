//! What this node shows of itself: its newest grants and its incarnation.
use std::sync::{Arc, Mutex, PoisonError};

use routing::model::{Clock, MeshId, NodeId, UnixMillis};
use tokio::sync::mpsc;

use super::{
    driver::Input,
    grants::{self, Pair as Grants},
    hello::Hello,
};
use crate::{
    authority::{NodeGrant, Signed},
    identity::DataDir,
    records::Records,
};

struct Held {
    grants: Grants,
    incarnation: u64,
}

#[derive(Clone)]
pub(crate) struct Own {
    id: NodeId,
    mesh: MeshId,
    clock: Arc<dyn Clock>,
    held: Arc<Mutex<Held>>,
}

impl Own {
    /// `None` when this node has no grant at all.
    pub(crate) fn new(
        (id, mesh, incarnation): (NodeId, MeshId, u64),
        clock: Arc<dyn Clock>,
        records: &Records,
        dir: &DataDir,
    ) -> Option<Self> {
        let held = Held {
            grants: newest(id, records, dir)?,
            incarnation,
        };
        Some(Self {
            id,
            mesh,
            clock,
            held: Arc::new(Mutex::new(held)),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for newer grants.
    pub(crate) fn refresh(&self, records: &Records, dir: &DataDir) {
        if let Some(grants) = newest(self.id, records, dir) {
            self.lock().grants = grants;
        }
    }

    pub(crate) fn set_incarnation(&self, incarnation: u64) {
        self.lock().incarnation = incarnation;
    }

    pub(crate) fn hello(&self) -> Hello {
        let held = self.lock();
        Hello {
            mesh: self.mesh,
            incarnation: held.incarnation,
            at: self.clock.unix(),
            cluster: held.grants.0.clone(),
            node: held.grants.1.clone(),
        }
    }

    pub(crate) fn is_expired(&self, now: UnixMillis) -> bool {
        now > self.lock().grants.1.expires
    }

    /// The grant, when it is old enough to be renewed.
    pub(crate) fn wants_renewal(&self, now: UnixMillis) -> Option<Signed<NodeGrant>> {
        let held = self.lock();
        held.grants
            .1
            .wants_renewal(now)
            .then(|| held.grants.1.clone())
    }
}

/// The newest of what is on record and what was kept at joining or renewing.
fn newest(id: NodeId, records: &Records, dir: &DataDir) -> Option<Grants> {
    let config = records.config();
    let facts = config.facts();
    let recorded = facts
        .node(id)
        .and_then(|node| Some((facts.cluster(node.cluster)?.clone(), node.clone())));
    let kept = grants::load(dir).ok().flatten().filter(|g| g.1.node == id);
    match (recorded, kept) {
        (Some(a), Some(b)) if b.1.not_before > a.1.not_before => Some(b),
        (Some(a), _) => Some(a),
        (None, kept) => kept,
    }
}

/// Keeps renewed grants, and tells the driver.
pub(crate) async fn keep(
    dir: &DataDir,
    renewed: Result<Grants, String>,
    input: &mpsc::Sender<Input>,
) {
    match renewed {
        Ok((cluster, node)) => {
            if let Err(error) = grants::save(dir, &cluster, &node) {
                tracing::warn!(%error, "the renewed grant was not kept");
            }
            tracing::info!(until = node.expires.0, "this node's grant was renewed");
            drop(input.send(Input::Renewed).await);
        }
        Err(why) => tracing::warn!(why, "this node's grant was not renewed; it asks again"),
    }
}
