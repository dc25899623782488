//! The admitted links, as the tasks of a node share them.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use routing::model::NodeId;
use tokio::sync::mpsc;

use crate::link::ConnectionId;

/// Membership messages that wait for a link. When full, further ones are dropped: digests repair.
pub(crate) const URGENT: usize = 2_048;
/// Record messages that wait for a link. When full, further ones are dropped: version vectors repair.
pub(crate) const BULK: usize = 256;

/// What a link's frames begin with.
pub(crate) mod tag {
    pub(crate) const MEMBER: u8 = 0;
    pub(crate) const RECORD: u8 = 1;
    pub(crate) const PING: u8 = 2;
    pub(crate) const PONG: u8 = 3;
}

/// One admitted link.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) connection: ConnectionId,
    pub(crate) incarnation: u64,
    /// Whether the node with the lower id dialled: of two links of one incarnation that one stays.
    pub(crate) preferred: bool,
    pub(crate) urgent: mpsc::Sender<Bytes>,
    pub(crate) bulk: mpsc::Sender<Bytes>,
}

/// All of them.
#[derive(Clone, Default)]
pub(crate) struct Peers(Arc<Mutex<BTreeMap<NodeId, Peer>>>);

impl Peers {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connection(&self, node: NodeId) -> Option<ConnectionId> {
        self.lock().get(&node).map(|p| p.connection)
    }

    /// Sends a frame; drops it when the link's queue is full or the link is gone.
    pub(crate) fn send(&self, to: NodeId, tag: u8, body: &[u8]) {
        let peers = self.lock();
        let Some(peer) = peers.get(&to) else { return };
        let mut frame = Vec::with_capacity(body.len() + 1);
        frame.push(tag);
        frame.extend_from_slice(body);
        let queue = if tag == self::tag::RECORD {
            &peer.bulk
        } else {
            &peer.urgent
        };
        if queue.try_send(frame.into()).is_err() {
            metrics::counter!("shoal_link_dropped_total").increment(1);
        }
    }
}
