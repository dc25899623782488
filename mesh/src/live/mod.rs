//! The running mesh of one node: links, membership, records and carriers behind one handle.
//!
//! # Shape
//! One task (`driver`) owns the membership core; each control link has a task (`line`) that reads and writes its
//! frames; the swarm and the records have theirs. They share the table of admitted links (`peers`). `hello` decides
//! who is let in, `dial` whom to call, `show` makes the [`View`].
mod dial;
mod driver;
pub(crate) mod entropy;
pub(crate) mod grants;
pub(crate) mod hello;
mod line;
mod own;
mod peers;
mod show;
mod wanted;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use routing::model::{BroadcastId, Clock, NodeId};
use tokio::sync::{mpsc, oneshot, watch};

use self::{
    driver::{Driver, Input, Parts},
    entropy::Entropy,
    line::Line,
    own::Own,
    peers::{Peers, tag},
    wanted::Wanted,
};
use crate::{
    carry::{self, CarryError, Handler, Handlers},
    facts,
    gate::{Gate, PeerGate, Shown},
    identity::{DataDir, DataDirError},
    join::{Issuer, JoinToken, TokenError, TokenOptions},
    link::{LinkError, Links, frame},
    member::Core,
    probe::Probe,
    records::{OpenError, Records, RecordsOptions},
    store::{DiskStore, StoreError},
    view::{Advert, NodeState, View},
};

/// Words for the driver that wait. When full, whoever has one waits: links are then read more slowly.
const INPUT: usize = 4_096;

/// What a node's mesh is started with.
pub struct MeshOptions {
    /// Its directory, of a node that founded or joined.
    pub dir: DataDir,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// 32 bytes of the system's generator, for tokens, nonces and gossip.
    pub entropy: [u8; 32],
    /// Where control links are listened for (UDP). Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where other nodes find it; without any, where it listens, if that is one address.
    pub announce: Vec<SocketAddr>,
    /// Control addresses of nodes to begin with, besides those remembered.
    pub seeds: Vec<SocketAddr>,
}

/// Why the mesh of this node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The directory is of no mesh.
    #[error(
        "this data directory belongs to no mesh yet: found one with `shoal init`, or join one with `shoal join TOKEN`"
    )]
    NoMesh,
    /// There is no grant for the node's key.
    #[error(
        "this node has no grant in its mesh: join again with a new token (`shoal token` on a gateway)"
    )]
    NoGrant,
    /// The directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records cannot be opened.
    #[error(transparent)]
    Records(#[from] OpenError),
    /// The control address cannot be used.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// The handle. Clones are the same mesh; it runs until [`Mesh::stop`], or until all clones are dropped.
#[derive(Clone)]
pub struct Mesh(Arc<Inner>);

struct Inner {
    id: NodeId,
    records: Records,
    links: Links,
    peers: Peers,
    handlers: Handlers,
    issuer: Issuer,
    shown: Shown,
    clock: Arc<dyn Clock>,
    view: watch::Receiver<Arc<View>>,
    input: mpsc::Sender<Input>,
    control: SocketAddr,
    announce: Vec<SocketAddr>,
    wanted: Arc<Wanted>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A driver with thousands of words before it ends with its runtime instead.
        drop(self.input.try_send(Input::Stop(oneshot::channel().0)));
    }
}

impl Mesh {
    /// Opens the records, listens, and begins to link.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(options: MeshOptions) -> Result<Self, StartError> {
        let MeshOptions {
            dir,
            clock,
            entropy,
            listen,
            announce,
            seeds,
        } = options;
        let mesh = dir.mesh()?.ok_or(StartError::NoMesh)?;
        let key = dir.node_key()?.ok_or(StartError::NoMesh)?;
        let id = key.id();
        let records = Records::open(RecordsOptions {
            mesh,
            key: key.clone(),
            store: Arc::new(DiskStore::open(dir.store_path())?),
            clock: clock.clone(),
            epoch: dir.epoch_secret()?,
        })
        .await?;
        let incarnation = clock.unix().0;
        let ids = (id, mesh, incarnation);
        let own = Own::new(ids, clock.clone(), &records, &dir).ok_or(StartError::NoGrant)?;
        let signing = SigningKey::from_bytes(&key.seed());
        let (links, events, bound) = Links::start(&signing, Some(listen)).await?;
        let control = bound.unwrap_or(listen);
        let announce = if announce.is_empty() && !control.ip().is_unspecified() {
            vec![control]
        } else {
            announce
        };
        let mut rng = ChaCha20Rng::from_seed(entropy);
        let core = Core::new(signing, incarnation, rng.random(), clock.uptime());
        let (view, view_rx) = watch::channel(Arc::new(View::default()));
        let (input, input_rx) = mpsc::channel(INPUT);
        let known = Arc::new(Mutex::new(grants::load_peers(&dir)?));
        let issuer = {
            let (known, announce) = (known.clone(), announce.clone());
            let addrs = move || {
                let mut all = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
                all.insert(id, announce.clone());
                all
            };
            Issuer::new(
                (dir.clone(), id, records.clone()),
                clock.clone(),
                Entropy::new(rng.random()),
                view_rx.clone(),
                Box::new(addrs),
            )
        };
        let (peers, handlers, shown) = (Peers::default(), Handlers::default(), Shown::default());
        let line = Line {
            records: records.clone(),
            clock: clock.clone(),
            input: input.clone(),
            own: Arc::new({
                let own = own.clone();
                move || own.hello()
            }),
            id,
        };
        let wanted = Arc::new(Wanted::default());
        let parts = Parts {
            id,
            dir,
            clock: clock.clone(),
            records: records.clone(),
            links: links.clone(),
            peers: peers.clone(),
            handlers: handlers.clone(),
            issuer: issuer.clone(),
            own,
            shown: shown.clone(),
            known,
            seeds,
            announce: announce.clone(),
            view,
            input: input.clone(),
            wanted: wanted.clone(),
        };
        tokio::spawn(Driver::new(parts, core, line).run(events, input_rx));
        if let Some(mut outbox) = records.outbox() {
            let peers = peers.clone();
            tokio::spawn(async move {
                while let Some((to, message)) = outbox.recv().await {
                    peers.send(to, tag::RECORD, &message);
                }
            });
        }
        Ok(Self(Arc::new(Inner {
            id,
            records,
            links,
            peers,
            handlers,
            issuer,
            shown,
            clock,
            view: view_rx,
            input,
            control,
            announce,
            wanted,
        })))
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// Where control links are listened for, with the real port.
    #[must_use]
    pub fn control_addr(&self) -> SocketAddr {
        self.0.control
    }

    /// What is agreed.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.0.records
    }

    /// What is believed of the mesh, and word of every change.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.0.view.clone()
    }

    /// Says how this node is. Others hear of it when it differs by more than 5 %, at most once a second.
    pub fn set_state(&self, state: NodeState) {
        self.0.wanted.say_state(state);
    }

    /// Says that this node holds a broadcast; again for the same broadcast where something of it is new.
    pub fn advertise(&self, advert: Advert) {
        let value = facts::encode(&advert);
        self.change(facts::advert_key(advert.broadcast), Some(value));
    }

    /// Says that this node holds a broadcast no longer.
    pub fn withdraw(&self, broadcast: BroadcastId) {
        self.change(facts::advert_key(broadcast), None);
    }

    /// Publishes a value of this node that all members learn; `None` takes it back. Keys have at most 150 bytes,
    /// values 16 KiB, all together 2 MiB; what is beyond is logged and not published.
    pub fn publish(&self, key: &str, value: Option<Bytes>) {
        self.change(facts::value_key(key), value);
    }

    /// Sets who tries other nodes' addresses. Without one, only control addresses are tried.
    pub fn set_prober(&self, prober: Arc<dyn Probe>) {
        self.0.wanted.say(|w| w.prober = Some(prober));
    }

    fn change(&self, key: String, value: Option<Bytes>) {
        self.0.wanted.say(|w| {
            w.changes.insert(key, value);
        });
    }

    /// Asks a linked member something, in the words of a protocol that it serves.
    ///
    /// # Errors
    /// [`CarryError`].
    pub async fn request(
        &self,
        to: NodeId,
        protocol: &str,
        body: Bytes,
    ) -> Result<Bytes, CarryError> {
        if body.len() > frame::CALL {
            return Err(CarryError::TooLong);
        }
        let not_linked = CarryError::NotLinked { node: to };
        let connection = self.0.peers.connection(to).ok_or(not_linked.clone())?;
        let work = async {
            let stream = self
                .0
                .links
                .open(connection)
                .await
                .map_err(|_| not_linked)?;
            carry::ask(stream, to, protocol, body).await
        };
        tokio::time::timeout(carry::REQUEST, work)
            .await
            .unwrap_or(Err(CarryError::Timeout { node: to }))
    }

    /// Serves a protocol to admitted members; another handler for the same protocol replaces the first.
    pub fn serve(&self, protocol: &str, handler: Arc<dyn Handler>) {
        self.0.handlers.set(protocol, handler);
    }

    /// Who a key is, for links that others of the process make.
    #[must_use]
    pub fn peer_gate(&self) -> Arc<dyn PeerGate> {
        Arc::new(Gate {
            records: self.0.records.clone(),
            shown: self.0.shown.clone(),
            clock: self.0.clock.clone(),
        })
    }

    /// Makes a join token of this node's cluster.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn create_token(&self, mut options: TokenOptions) -> Result<JoinToken, TokenError> {
        if options.addrs.is_empty() {
            options.addrs = self.0.issuer.addrs(&self.0.announce);
        }
        self.0.issuer.token(options)
    }

    /// Says goodbye, closes all links and the store. Everything that was written is on the disk.
    pub async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        if self.0.input.send(Input::Stop(done)).await.is_ok() {
            // An error means that the driver ended before: as good as stopped.
            drop(stopped.await);
        }
        self.0.records.stop().await;
    }
}
