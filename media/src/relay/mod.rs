//! Node-to-node relay: a broadcast is fetched from the best holder when somebody first wants it, once however many
//! do, over a QUIC protocol of our own (`shoal-relay/1`).
//!
//! # Protocol
//! Both sides present certificates made from their node keys, so each knows the other's `NodeId` from the handshake;
//! whether it may have a broadcast [`Gate::may_relay`] says, at the request and every second after. All messages
//! are CBOR behind a length of four bytes; fields that a side does not know it ignores.
//! ```text
//! subscriber                                        holder
//!   bidi    Subscribe{broadcast, number, resume}  ->
//!                                                 <-  Accepted{path} | Refused{reason, instead}
//!                                                 <-  Epoch{header, spans} … End{epoch} … Path{path} …
//!                                            uni  <-  GroupHead{number, header} frame frame … end    (one a group)
//!   bidi    Fetch{epoch, track, from, to}         ->
//!                                                 <-  Accepted, then GroupHead frame … end, group by group
//!   bidi    Probe{broadcast}                      ->
//!                                                 <-  Position{epoch, claim, by track: group and frames, path}
//! ```
//! # Shape
//! | part | is |
//! | --- | --- |
//! | `wire` | messages, limits, parsers; no I/O |
//! | `follow` | which source, when to change it; no I/O, no clock |
//! | `holes` | whom to ask for what is missing; no I/O, no clock |
//! | `intake` | groups put together from any number of streams, each frame once |
//! | `replica` | the task that drives these for one broadcast |
//! | `fetch`, `serve`, `announce` | the asking and the answering side on QUIC streams, and what is said of an epoch |
//! | `links`, `tls`, `streams` | connections by node, keys, bytes |
//!
//! # Invariants
//! - No loops: a holder accepts nobody who is on its own way to the origin, and a replica leaves a source whose way
//!   comes to include it.
//! - An epoch's bytes are the same whatever sources they came from; a source that gives others is left.
//! - A slow subscriber holds up nobody: groups are streams of their own, and its oldest are reset.
mod announce;
mod fetch;
mod follow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod holes;
mod intake;
mod links;
mod replica;
mod serve;
mod streams;
#[cfg(test)]
mod tests;
mod tls;
pub mod wire;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime, VarInt};
use routing::model::{BroadcastId, Clock, NodeId};
use tokio::{
    sync::watch,
    time::{interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroizing;

use self::{
    fetch::Inbox,
    links::Links,
    replica::{Driver, Hold, Ready, Replica, Way},
};
use crate::{
    live::Broadcasts,
    origin::{Past, Recall},
    ports::{Gate, Holders, Refusal},
    supply::{Lease, Supply},
};

/// A connection whose handshake takes longer is dropped.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// Nodes that are asked what a new publisher follows.
const RECALL: usize = 4;

/// A connection by which nothing went for so long, and that no subscription needs, is closed: keeping it costs both
/// sides three packets a second.
const DISUSE: Duration = Duration::from_secs(10);

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The node's key gives no certificate.
    #[error(
        "no certificate for node-to-node media can be made from this node's key; is the key file damaged?"
    )]
    Key,
    /// The socket cannot be used.
    #[error("node-to-node media cannot use its UDP socket: {0}")]
    Socket(std::io::Error),
}

/// How much a relay does.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// Nodes that get one broadcast from this node. Whoever comes later is sent to these. The default is 16.
    pub fan_out: usize,
    /// Connections that other nodes make. Beyond it they are refused. The default is 1,024.
    pub connections: usize,
    /// A replica stays this long after its last viewer. The default is 5 s.
    pub linger: Duration,
    /// A viewer of a broadcast that nobody holds waits this long for it. The default is 3 s.
    pub wait: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            fan_out: 16,
            connections: 1_024,
            linger: Duration::from_secs(5),
            wait: Duration::from_secs(3),
        }
    }
}

/// What a relay is started with.
pub struct RelayOptions {
    /// The UDP socket that it listens on and dials from, bound.
    pub socket: std::net::UdpSocket,
    /// The node's Ed25519 seed.
    pub key_seed: Zeroizing<[u8; 32]>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who may have what.
    pub gate: Arc<dyn Gate>,
    /// Who has what.
    pub holders: Arc<dyn Holders>,
    /// What this node has.
    pub broadcasts: Arc<Broadcasts>,
    /// How much to do.
    pub limits: RelayLimits,
}

/// A node's relay: fetches broadcasts for viewers here, serves them to other nodes.
pub struct Relay {
    this: Weak<Self>,
    links: Links,
    clock: Arc<dyn Clock>,
    gate: Arc<dyn Gate>,
    holders: Arc<dyn Holders>,
    broadcasts: Arc<Broadcasts>,
    limits: RelayLimits,
    replicas: Mutex<HashMap<BroadcastId, Arc<Replica>>>,
    inboxes: Mutex<HashMap<u64, Inbox>>,
    numbers: AtomicU64,
    recheck: watch::Sender<()>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Relay {
    /// Listens and serves until [`Relay::stop`]. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`RelayError`].
    pub fn start(options: RelayOptions) -> Result<Arc<Self>, RelayError> {
        let (server, client, me) = tls::configs(*options.key_seed)?;
        let (config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
        let endpoint = Endpoint::new(config, Some(server), options.socket, runtime);
        let mut endpoint = endpoint.map_err(RelayError::Socket)?;
        endpoint.set_default_client_config(client);
        let relay = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            links: Links::new(endpoint, me),
            clock: options.clock,
            gate: options.gate,
            holders: options.holders,
            broadcasts: options.broadcasts,
            limits: options.limits,
            replicas: Mutex::default(),
            inboxes: Mutex::default(),
            numbers: AtomicU64::new(1),
            recheck: watch::Sender::new(()),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        relay.tasks.spawn(accept(Arc::clone(&relay)));
        Ok(relay)
    }

    /// This node, as its key says.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.links.me
    }

    /// Whether `node` answers at `address` with its key: for whoever attests addresses. Always by a connection of its
    /// own, since one that is there says nothing of this address; and that one ends with the answer, since an idle link
    /// costs both sides keep-alives.
    pub async fn shows(&self, node: NodeId, address: SocketAddr) -> bool {
        let Some(connection) = self.links.dial(node, address).await else {
            return false;
        };
        connection.close(VarInt::from_u32(0), b"seen");
        true
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.links.endpoint.local_addr()
    }

    /// The way of a broadcast from its origin to this node, both included: where its frames come from now.
    #[must_use]
    pub fn path(&self, id: BroadcastId) -> Option<Vec<NodeId>> {
        if let Some(replica) = self.replicas().get(&id) {
            let way = replica.way.borrow();
            return way.standing.then(|| way.path.clone());
        }
        self.is_origin(id).then(|| vec![self.links.me])
    }

    /// How many nodes get a broadcast from this one.
    #[must_use]
    pub fn subscribers(&self, id: BroadcastId) -> usize {
        let replicas = self.replicas();
        let replica = replicas.get(&id);
        replica.map_or(0, |replica| {
            let children = replica.children.lock();
            children.unwrap_or_else(PoisonError::into_inner).len()
        })
    }

    /// Asks the gate at once whether those who are being served still may be; it is asked every second anyway.
    pub fn recheck(&self) {
        self.recheck.send_replace(());
    }

    /// Ends every connection and waits until nothing runs any more. Leases keep what they hold.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.links.endpoint.close(VarInt::from_u32(0), b"leaving");
        self.tasks.close();
        self.tasks.wait().await;
        self.links.endpoint.wait_idle().await;
    }

    fn replicas(&self) -> MutexGuard<'_, HashMap<BroadcastId, Arc<Replica>>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inboxes(&self) -> MutexGuard<'_, HashMap<u64, Inbox>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a publisher at this node feeds the broadcast.
    fn is_origin(&self, id: BroadcastId) -> bool {
        let held = self.broadcasts.get(id);
        let current = held.and_then(|broadcast| broadcast.current());
        current.is_some_and(|line| line.epoch().origin == self.links.me && !line.ended())
    }

    /// Holds a broadcast, here or to be fetched.
    fn hold(self: &Arc<Self>, id: BroadcastId) -> Hold {
        let mut replicas = self.replicas();
        if let Some(replica) = replicas.get(&id) {
            return replica.hold();
        }
        let replica = Replica::new(self.broadcasts.get_or_create(id));
        if self.is_origin(id) {
            // Who asks now need not wait for the task's first look.
            replica.way.send_replace(Way {
                path: vec![self.links.me],
                standing: true,
            });
        }
        let hold = replica.hold();
        replicas.insert(id, Arc::clone(&replica));
        drop(replicas);
        self.tasks.spawn(Driver::run(Arc::clone(self), replica));
        hold
    }

    /// Holds a broadcast that is here.
    fn hold_present(self: &Arc<Self>, id: BroadcastId) -> Option<Hold> {
        let known = self.replicas().contains_key(&id);
        (known || self.is_origin(id)).then(|| self.hold(id))
    }

    /// Nobody wants the broadcast any more: forgets it, unless somebody came meanwhile.
    fn release(&self, id: BroadcastId) -> bool {
        let mut replicas = self.replicas();
        if replicas.get(&id).is_some_and(|replica| replica.is_held()) {
            return false;
        }
        let gone = replicas.remove(&id);
        let held = self.broadcasts.get(id);
        // Another one may have taken its place; one that is published here is its publisher's to remove.
        let ours = gone
            .zip(held)
            .is_some_and(|(gone, held)| Arc::ptr_eq(&gone.broadcast, &held));
        if ours && !self.is_origin(id) {
            self.broadcasts.remove(id);
        }
        true
    }

    /// A replica whose broadcast lost its place to another one: whoever asks from now on gets that.
    fn displace(&self, id: BroadcastId, displaced: &Arc<Replica>) {
        let mut replicas = self.replicas();
        if replicas.get(&id).is_some_and(|r| Arc::ptr_eq(r, displaced)) {
            replicas.remove(&id);
        }
    }

    /// Whether a subscription is between this node and that one.
    fn uses(&self, peer: NodeId) -> bool {
        self.replicas().values().any(|replica| {
            let way = replica.way.borrow();
            let source = way.path.iter().rev().nth(1);
            let children = replica.children.lock();
            source == Some(&peer)
                || children
                    .unwrap_or_else(PoisonError::into_inner)
                    .contains_key(&peer)
        })
    }

    fn expect_groups(&self, inbox: Inbox) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.inboxes().insert(number, inbox);
        number
    }

    fn expect_no_groups(&self, number: u64) {
        self.inboxes().remove(&number);
    }

    fn inbox(&self, number: u64) -> Option<Inbox> {
        self.inboxes().get(&number).cloned()
    }

    /// The connection to a node, served from both ends.
    async fn connect(
        self: &Arc<Self>,
        node: NodeId,
        addresses: &[SocketAddr],
    ) -> Option<Connection> {
        let (connection, new) = self.links.connect(node, addresses).await?;
        if new {
            let serve = serve_connection(Arc::clone(self), node, connection.clone());
            self.tasks.spawn(serve);
        }
        Some(connection)
    }

    async fn lease_held(&self, hold: Hold) -> Result<Lease, Refusal> {
        let mut ready = hold.replica().ready.subscribe();
        let settled = ready.wait_for(|ready| !matches!(ready, Ready::Waiting));
        let settled = timeout(self.limits.wait, settled).await;
        let outcome = match settled {
            Ok(Ok(ready)) => ready.clone(),
            Ok(Err(_)) | Err(_) => Ready::Waiting,
        };
        match outcome {
            Ready::Playing => {
                let broadcast = Arc::clone(&hold.replica().broadcast);
                Ok(Lease::new(broadcast, Box::new(hold)))
            }
            Ready::Failed(refusal) => Err(refusal),
            Ready::Waiting => Err(Refusal::Unavailable(
                "the stream is not live, or no node that has it can be reached from here; try again when it is".into(),
            )),
        }
    }
}

impl Supply for Relay {
    fn lease(&self, id: BroadcastId) -> BoxFuture<'_, Result<Lease, Refusal>> {
        Box::pin(async move {
            let relay = self.this.upgrade().filter(|r| !r.stopping.is_cancelled());
            let Some(relay) = relay else {
                return Err(Refusal::Unavailable(
                    "this node is stopping; another one has the stream".into(),
                ));
            };
            let hold = relay.hold(id);
            relay.lease_held(hold).await
        })
    }
}

impl Recall for Relay {
    fn recall(&self, id: BroadcastId) -> BoxFuture<'_, Option<Past>> {
        Box::pin(async move {
            let relay = self.this.upgrade()?;
            let mut holders = self.holders.remains(id);
            holders.truncate(RECALL);
            let asked = holders
                .iter()
                .map(|holder| fetch::past(&relay, id, holder.node, &holder.addresses));
            let answers = futures::future::join_all(asked).await;
            answers.into_iter().flatten().reduce(Past::or_later)
        })
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("id", &self.links.me)
            .finish_non_exhaustive()
    }
}

async fn accept(relay: Arc<Relay>) {
    while let Some(incoming) = relay.links.endpoint.accept().await {
        let open = relay.links.endpoint.open_connections();
        if open >= relay.limits.connections {
            incoming.refuse();
        } else if open >= relay.limits.connections / 2 && !incoming.remote_address_validated() {
            // Half full: first show that the address is yours (RFC 9000 section 8.1.2).
            drop(incoming.retry());
        } else if let Ok(connecting) = incoming.accept() {
            let relay_for_task = Arc::clone(&relay);
            relay.tasks.spawn(async move {
                let Ok(Ok(connection)) = timeout(HANDSHAKE, connecting).await else {
                    return;
                };
                let Some(peer) = tls::peer(&connection) else {
                    connection.close(VarInt::from_u32(1), b"no node key");
                    return;
                };
                serve_connection(relay_for_task, peer, connection).await;
            });
        }
    }
}

/// Takes what the other side opens. QUIC's stream limits bound how much of it there is at once.
async fn serve_connection(relay: Arc<Relay>, peer: NodeId, connection: Connection) {
    let mut beat = interval(DISUSE);
    let mut before = None;
    loop {
        tokio::select! {
            _ = beat.tick() => {
                let stats = connection.stats();
                let streams = Some((stats.frame_rx.stream, stats.frame_tx.stream));
                if streams == before && !relay.uses(peer) {
                    connection.close(VarInt::from_u32(0), b"not in use");
                    break;
                }
                before = streams;
            }
            opened = connection.accept_uni() => {
                let Ok(recv) = opened else { break };
                relay.tasks.spawn(fetch::group(Arc::clone(&relay), peer, recv));
            }
            opened = connection.accept_bi() => {
                let Ok((send, recv)) = opened else { break };
                // Only now: a connection that asks for nothing may be over in a moment.
                relay.links.adopt(peer, &connection);
                let connection = connection.clone();
                relay.tasks.spawn(serve::request(Arc::clone(&relay), peer, connection, send, recv));
            }
        }
    }
    relay.links.forget(peer, &connection);
}
