//! `/play/*` and `/resolve/*` over HTTP: playlists, segments, the player page, resolution and steering.
//!
//! - [`Http::router`] is the one entry; it runs under HTTP/1.1 and HTTP/2, plain or TLS alike.
//! - `dash` has the description, the origin's time, and the segment at the edge as it comes.
//! - `path` says what a path asks for; `answer` has the shapes of answers; `hls` holds requests until a view has them.
//!
//! Everything is answered with `Access-Control-Allow-Origin: *`, since players live on other sites. Errors are JSON:
//! `{"code": …, "error": …}`.
#![allow(
    clippy::result_large_err,
    reason = "an answer is the error: it is made to be sent, not carried far"
)]
mod answer;
mod dash;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hls;
mod path;
mod play;

use std::sync::Arc;

use axum::{Router, routing::any};
use routing::model::{BroadcastId, Clock, NodeId};

use crate::{
    hls::Hub,
    ports::{Gate, Resolve},
    supply::Supply,
};

/// What the router needs.
#[derive(Clone)]
pub struct HttpOptions {
    /// This node: its label is its pathway's id.
    pub node: NodeId,
    /// Where broadcasts come from.
    pub supply: Arc<dyn Supply>,
    /// Who may watch.
    pub gate: Arc<dyn Gate>,
    /// Where else a viewer can go.
    pub resolve: Arc<dyn Resolve>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The HTTP side of outputs: a router and what it counts. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    hub: Arc<Hub>,
    node: NodeId,
    gate: Arc<dyn Gate>,
    resolve: Arc<dyn Resolve>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Http {
    /// Nothing watched yet. Call it on a tokio runtime's thread, or before there is one: it starts nothing by itself.
    #[must_use]
    pub fn new(options: HttpOptions) -> Self {
        let HttpOptions {
            node,
            supply,
            gate,
            resolve,
            clock,
        } = options;
        Self {
            hub: Hub::new(supply, Arc::clone(&clock)),
            node,
            gate,
            resolve,
            clock,
        }
    }

    /// Routes for `/play`, `/play/*` (the player page's files included) and `/resolve/*`. A caller's address is taken from axum's
    /// `ConnectInfo<SocketAddr>`; without it viewers are nowhere (`::/56`).
    pub fn router(&self) -> Router {
        Router::new()
            .route("/play", any(play::handle))
            .route("/play/", any(play::handle))
            .route("/play/{*path}", any(play::handle))
            .route("/resolve/{*path}", any(play::handle))
            .with_state(self.clone())
            .merge(crate::page::router())
    }

    /// Viewers by broadcast, seen in the last ten seconds.
    #[must_use]
    pub fn sessions(&self) -> Vec<(BroadcastId, usize)> {
        self.hub.sessions()
    }
}
