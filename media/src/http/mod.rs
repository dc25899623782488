//! `/play/*`, `/resolve/*`, `/webrtc/*` and `/ingest/*` over HTTP: playlists, segments, the player page, resolution,
//! steering, and the offers of WebRTC.
//!
//! - [`Http::router`] is the one entry; it runs under HTTP/1.1 and HTTP/2, plain or TLS alike.
//! - `dash` has the description, the origin's time, and the segment at the edge as it comes.
//! - `file` has the containers that last as long as the broadcast.
//! - `path` says what a path asks for; `answer` has the shapes of answers; `hls` holds requests until a view has them;
//!   `webrtc` has WHIP and WHEP; `push` takes bodies of media in.
//!
//! Everything is answered with `Access-Control-Allow-Origin: *`, since players live on other sites. Errors are JSON:
//! `{"code": …, "error": …}`.
#![allow(
    clippy::result_large_err,
    reason = "an answer is the error: it is made to be sent, not carried far"
)]
mod answer;
mod dash;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hls;
mod path;
mod play;
mod push;
mod webrtc;

pub(crate) use play::without_port;

use std::sync::Arc;

use axum::{Router, routing::any};
use routing::model::{BroadcastId, Clock, NodeId};

use crate::{
    follow::Audience,
    hls::Hub,
    ingest::Publishers,
    ports::{Gate, Resolve},
    supply::Supply,
    webrtc::WebRtc,
};

/// What the router needs.
#[derive(Clone)]
pub struct HttpOptions {
    /// This node: its label is its pathway's id.
    pub node: NodeId,
    /// Who watches frame by frame.
    pub audience: Audience,
    /// Who publishes here, where streams may come as bodies of requests.
    pub publishers: Option<Publishers>,
    /// Where broadcasts come from.
    pub supply: Arc<dyn Supply>,
    /// Who may watch.
    pub gate: Arc<dyn Gate>,
    /// Where else a viewer can go.
    pub resolve: Arc<dyn Resolve>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// WebRTC, where this node offers it.
    pub webrtc: Option<WebRtc>,
}

/// The HTTP side of outputs: a router and what it counts. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    hub: Arc<Hub>,
    audience: Audience,
    publishers: Option<Publishers>,
    supply: Arc<dyn Supply>,
    webrtc: Option<WebRtc>,
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
            audience,
            publishers,
            supply,
            gate,
            resolve,
            clock,
            webrtc,
        } = options;
        Self {
            hub: Hub::new(Arc::clone(&supply), Arc::clone(&clock)),
            audience,
            publishers,
            supply,
            webrtc,
            node,
            gate,
            resolve,
            clock,
        }
    }

    /// Routes for `/play`, `/play/*` (the player page's files included), `/resolve/*`, `/webrtc/*` and `/ingest/*`. A caller's address is taken from axum's
    /// `ConnectInfo<SocketAddr>`; without it viewers are nowhere (`::/56`).
    pub fn router(&self) -> Router {
        Router::new()
            .route("/play", any(play::handle))
            .route("/play/", any(play::handle))
            .route("/play/{*path}", any(play::handle))
            .route("/resolve/{*path}", any(play::handle))
            .route("/webrtc", any(webrtc::whip))
            .route("/webrtc/{*path}", any(webrtc::whip))
            .route("/ingest/{*path}", any(webrtc::ingest))
            .with_state(self.clone())
            .merge(crate::page::router())
    }

    /// Viewers by broadcast: those of segments seen in the last ten seconds, those of single frames, by whatever
    /// protocol.
    #[must_use]
    pub fn sessions(&self) -> Vec<(BroadcastId, usize)> {
        let mut counts = self.audience.counts();
        let connected = self.webrtc.iter().flat_map(WebRtc::viewers);
        for (broadcast, viewers) in self.hub.sessions().into_iter().chain(connected) {
            *counts.entry(broadcast).or_default() += viewers;
        }
        counts.into_iter().collect()
    }
}
