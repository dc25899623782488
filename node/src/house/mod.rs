//! The house: what the crates ask of each other, answered from the mesh's records and view.
//!
//! `media`, `dns` and `api` know neither each other nor the mesh; each states its questions as traits. [`House`] answers
//! them all, so every answer about who may, who is and who is best comes from the same two snapshots: the records'
//! [`Config`](mesh::config::Config) and the mesh's [`View`].
mod claims;
pub mod commands;
mod desk;
mod elsewhere;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gate;
mod holders;
mod live;
mod place;
mod probe;
mod publish;
mod ready;
mod resolve;
mod tls;
mod zone;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU64},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use dns::Zone;
use mesh::{Mesh, identity::DataDir, view::View};
use rand::{SeedableRng, rngs::StdRng};
use routing::{
    model::{Clock, ClusterId, Label, NodeId, Place},
    place::Places,
};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

pub use claims::ClaimDesk;
pub use commands::router as command_router;
pub use live::LiveDesk;
pub use place::places;
pub use probe::Prober;
pub use ready::{ForwardDesk, ReadyDesk};
pub use resolve::ResolveDesk;
pub use tls::found as found_authority;

use crate::{certs::Authority, config::Config as Settings};

/// The ports that clients are told of, with the addresses that they are told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doors {
    /// HTTP's port, unless closed.
    pub http: Option<u16>,
    /// HTTPS's port, unless closed.
    pub https: Option<u16>,
    /// RTMP's port, unless closed.
    pub rtmp: Option<u16>,
}

/// The running media engine, once it runs.
#[derive(Debug)]
pub struct Engine {
    /// What this node holds.
    pub broadcasts: Arc<media::live::Broadcasts>,
    /// Playback over HTTP, and who watches here.
    pub playback: media::http::Http,
    /// Publishers at this node.
    pub ingest: media::ingest::Publishers,
    /// Frames between nodes.
    pub relay: Arc<media::relay::Relay>,
}

/// Everything that the crates' questions are answered from.
pub struct House {
    /// This node.
    pub id: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Records, view, carriers.
    pub mesh: Mesh,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where addresses are.
    pub places: Arc<dyn Places>,
    /// Where this node is.
    pub place: Option<Place>,
    /// The configuration file.
    pub settings: Settings,
    /// Its data directory, locked.
    pub data: DataDir,
    /// Where that is.
    pub dir: PathBuf,
    /// The addresses that others reach it by.
    pub announced: Vec<IpAddr>,
    /// The ports that clients are told of.
    pub doors: Doors,
    /// Names of the moment.
    pub zone: Arc<ArcSwap<Zone>>,
    /// Stops everything.
    pub stop: CancellationToken,
    /// Bytes sent by the HTTP ports since the start.
    pub sent: Arc<AtomicU64>,
    /// The media engine, once it runs.
    pub engine: OnceLock<Engine>,
    pub(crate) default_suffix: Label,
    pub(crate) claims: claims::OwnClaims,
    pub(crate) view_version: watch::Sender<u64>,
    pub(crate) authority: ArcSwapOption<Authority>,
    pub(crate) tls_ready: watch::Sender<bool>,
    pub(crate) events: broadcast::Sender<api::ports::LiveEvent>,
    pub(crate) rng: Mutex<StdRng>,
    pub(crate) questions: tokio::sync::Semaphore,
}

impl std::fmt::Debug for House {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("House")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The addresses of a member that others have seen to be its, for a service.
pub(crate) fn verified(
    member: &mesh::view::Member,
    service: mesh::view::Service,
) -> Vec<std::net::SocketAddr> {
    member
        .services
        .iter()
        .filter(|s| s.verified && s.service == service)
        .map(|s| s.addr)
        .collect()
}

/// A handler's refusal in the words of an error.
pub(crate) fn refuse(why: impl std::fmt::Display) -> mesh::carry::HandleError {
    mesh::carry::HandleError(why.to_string())
}

/// What a house is built with.
pub struct Plot {
    /// The mesh that runs.
    pub mesh: Mesh,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The configuration file.
    pub settings: Settings,
    /// The data directory, locked.
    pub data: DataDir,
    /// The addresses that others reach this node by.
    pub announced: Vec<IpAddr>,
    /// The ports that clients are told of.
    pub doors: Doors,
    /// Where addresses are.
    pub places: Arc<dyn Places>,
    /// Randomness for ids and keys.
    pub seed: [u8; 32],
}

impl House {
    /// Builds it; nothing runs yet.
    ///
    /// # Errors
    /// Where the mesh's base name is no domain name.
    pub fn build(plot: Plot) -> anyhow::Result<Arc<Self>> {
        let Plot {
            mesh,
            cluster,
            clock,
            settings,
            data,
            announced,
            doors,
            places,
            seed,
        } = plot;
        let dir = data.path().to_owned();
        let default_suffix: Label = "cdn".parse()?;
        let config = mesh.records().config();
        let empty = zone::silent(config.base(), default_suffix.clone(), Arc::clone(&places))?;
        Ok(Arc::new(Self {
            id: mesh.id(),
            cluster,
            place: settings.place.place(),
            authority: ArcSwapOption::from(Self::load_authority(&data)),
            zone: Arc::new(ArcSwap::from_pointee(empty)),
            stop: CancellationToken::new(),
            sent: Arc::default(),
            engine: OnceLock::new(),
            claims: claims::OwnClaims::default(),
            view_version: watch::Sender::new(0),
            tls_ready: watch::Sender::new(false),
            events: broadcast::Sender::new(256),
            rng: Mutex::new(StdRng::from_seed(seed)),
            questions: tokio::sync::Semaphore::new(elsewhere::AT_ONCE),
            mesh,
            clock,
            places,
            settings,
            data,
            dir,
            announced,
            doors,
            default_suffix,
        }))
    }

    /// Ends here what the records no longer know: a deleted stream's publisher is let go, its frames are forgotten, and
    /// who relays from here is judged anew.
    fn end_deleted(&self, config: &mesh::config::Config) {
        let Some(engine) = self.engine.get() else {
            return;
        };
        for broadcast in engine.broadcasts.all() {
            if Self::stream_of(config, broadcast.id()).is_none() {
                engine.ingest.disconnect(broadcast.id());
                engine.broadcasts.remove(broadcast.id());
            }
        }
        engine.relay.recheck();
    }

    /// Follows view and records until the house stops: the zone, the claims' standing, the word to whoever waits for a
    /// holder, the live events.
    pub(crate) async fn follow(self: Arc<Self>) {
        let (mut view, mut config) = (self.mesh.view(), self.mesh.records().watch());
        let mut seen = live::Seen::default();
        loop {
            let now: Arc<View> = view.borrow_and_update().clone();
            let agreed = config.borrow_and_update().clone();
            match self.make_zone(&agreed, &now) {
                Ok(zone) => self.zone.store(Arc::new(zone)),
                Err(error) => tracing::error!(%error, "names are answered from an older state"),
            }
            self.claims.judge(self.id, &now);
            self.end_deleted(&agreed);
            self.view_version.send_modify(|v| *v += 1);
            self.tell(&mut seen, &now);
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = view.changed() => if changed.is_err() { return },
                changed = config.changed() => if changed.is_err() { return },
            }
        }
    }
}
