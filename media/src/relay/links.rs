//! Connections to other nodes: one a node, made when it is first asked for something, used both ways.
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use quinn::{Connection, Endpoint, VarInt};
use routing::model::NodeId;
use tokio::time::{sleep, timeout};

use super::tls;

/// The next address of a node is tried beside the ones before it after this (RFC 8305 section 5 has 250 ms).
const STAGGER: Duration = Duration::from_millis(150);
/// No handshake takes longer: five round trips of the longest links, with loss.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// At most so many addresses of a node are tried.
const ADDRESSES: usize = 8;

type Dial = Arc<tokio::sync::Mutex<()>>;

/// The endpoint and its connections by node.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) endpoint: Endpoint,
    pub(super) me: NodeId,
    table: Mutex<HashMap<NodeId, Connection>>,
    dials: Mutex<HashMap<NodeId, Dial>>,
}

impl Links {
    pub(super) fn new(endpoint: Endpoint, me: NodeId) -> Self {
        Self {
            endpoint,
            me,
            table: Mutex::default(),
            dials: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<NodeId, Connection>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, node: NodeId) -> Option<Connection> {
        let connection = self.table().get(&node)?.clone();
        connection.close_reason().is_none().then_some(connection)
    }

    /// A connection that the other side made and uses is as good as one's own.
    pub(super) fn adopt(&self, node: NodeId, connection: &Connection) {
        let mut table = self.table();
        let entry = table.entry(node).or_insert_with(|| connection.clone());
        if entry.close_reason().is_some() {
            *entry = connection.clone();
        }
    }

    /// The connection is over.
    pub(super) fn forget(&self, node: NodeId, connection: &Connection) {
        let mut table = self.table();
        if table
            .get(&node)
            .is_some_and(|known| known.stable_id() == connection.stable_id())
        {
            table.remove(&node);
        }
    }

    /// The connection to a node, made where there is none, and whether it was made now. `None` when no address answers
    /// as that node.
    pub(super) async fn connect(
        &self,
        node: NodeId,
        addresses: &[SocketAddr],
    ) -> Option<(Connection, bool)> {
        if let Some(connection) = self.live(node) {
            return Some((connection, false));
        }
        let dial = {
            let mut dials = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
            dials.retain(|_, dial| Arc::strong_count(dial) > 1);
            Arc::clone(dials.entry(node).or_default())
        };
        let _one = dial.lock().await;
        if let Some(connection) = self.live(node) {
            return Some((connection, false));
        }
        let mut tries: FuturesUnordered<_> = addresses
            .iter()
            .take(ADDRESSES)
            .zip(0_u32..)
            .map(|(address, place)| async move {
                sleep(STAGGER * place).await;
                self.dial(node, *address).await
            })
            .collect();
        while let Some(connection) = tries.next().await {
            if let Some(connection) = connection {
                self.table().insert(node, connection.clone());
                return Some((connection, true));
            }
        }
        None
    }

    /// A new connection, where `node` answers at `address` with its key.
    pub(super) async fn dial(&self, node: NodeId, address: SocketAddr) -> Option<Connection> {
        // The name is not looked at: keys are.
        let connecting = self.endpoint.connect(address, "shoal").ok()?;
        let connection = timeout(HANDSHAKE, connecting).await.ok()?.ok()?;
        if tls::peer(&connection) == Some(node) {
            return Some(connection);
        }
        connection.close(VarInt::from_u32(1), b"another node was expected here");
        None
    }
}
