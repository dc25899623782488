//! The operators' console: a page at `/`, and the state of the mesh that it draws, at `/console/state` and
//! `/console/events`.
//!
//! Shape: [`state`] is the JSON's form, `build` makes it, this module answers, [`page`] is what a browser loads.
//! Everything but the page's own scripts is for operators only ([`Operators`]).
mod build;
pub mod page;
pub mod state;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State as Shared},
    http::{HeaderMap, HeaderValue, StatusCode, header, uri::Authority},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures::stream::unfold;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    gateway::{Deps, Gateway},
    http::{Peer, address, bearer},
    ports::{Caller, Operators},
};

/// How often the state is made anew while somebody looks: twice a second.
const LOOK: Duration = Duration::from_millis(500);
const KEEP: Duration = Duration::from_secs(15);

/// Admits callers from the loopback that name a loopback host, and nobody else.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopbackOnly;

impl Operators for LoopbackOnly {
    fn admits(&self, caller: Caller<'_>) -> bool {
        let host_is_local = caller.host.is_none_or(|host| {
            host.eq_ignore_ascii_case("localhost")
                || host
                    .trim_matches(['[', ']'])
                    .parse::<std::net::IpAddr>()
                    .is_ok()
        });
        caller.addr.to_canonical().is_loopback() && host_is_local
    }
}

pub(crate) fn router() -> Router<Gateway> {
    Router::new()
        .route("/", get(face))
        .route("/console/state", get(once))
        .route("/console/events", get(events))
        .merge(page::router())
}

#[derive(Deserialize)]
struct Shown {
    token: Option<String>,
}

fn admit(
    deps: &Deps,
    peer: &Peer,
    headers: &HeaderMap,
    shown: &Shown,
) -> Result<(), Box<Response>> {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let host = host.map(|h| h.parse::<Authority>());
    let host = match &host {
        None => None,
        Some(Ok(authority)) => Some(authority.host()),
        Some(Err(_)) => Some(""),
    };
    let caller = Caller {
        addr: address(peer),
        host,
        token: bearer(headers).or(shown.token.as_deref()),
    };
    if deps.operators.admits(caller) {
        return Ok(());
    }
    let message = "the console is for operators: open it on this machine by its loopback address, or show an operator's token";
    let mut refused = (StatusCode::FORBIDDEN, Json(json!({ "error": message }))).into_response();
    private(refused.headers_mut());
    Err(Box::new(refused))
}

fn private(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let none = HeaderValue::from_static("no-referrer");
    headers.insert(header::REFERRER_POLICY, none);
}

async fn face(
    Shared(gateway): Shared<Gateway>,
    peer: Peer,
    headers: HeaderMap,
    Query(shown): Query<Shown>,
) -> Response {
    if let Err(refused) = admit(&gateway.deps, &peer, &headers, &shown) {
        return *refused;
    }
    let mut response = page::face();
    private(response.headers_mut());
    response
}

fn look(deps: &Deps) -> state::State {
    let config = deps.records.config();
    let view = Arc::clone(&deps.view.borrow());
    build::state(&build::Sources {
        this: deps.node,
        config: &config,
        view: &view,
        watched: &deps.live.watched(),
        now: (deps.clock.unix(), deps.clock.uptime()),
    })
}

async fn once(
    Shared(gateway): Shared<Gateway>,
    peer: Peer,
    headers: HeaderMap,
    Query(shown): Query<Shown>,
) -> Response {
    if let Err(refused) = admit(&gateway.deps, &peer, &headers, &shown) {
        return *refused;
    }
    let mut response = Json(look(&gateway.deps)).into_response();
    private(response.headers_mut());
    response
}

async fn events(
    Shared(gateway): Shared<Gateway>,
    peer: Peer,
    headers: HeaderMap,
    Query(shown): Query<Shown>,
) -> Response {
    if let Err(refused) = admit(&gateway.deps, &peer, &headers, &shown) {
        return *refused;
    }
    let Ok(permit) = gateway.deps.sockets.clone().try_acquire_owned() else {
        let message = "too many pages follow this node: try again, or another node\n";
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    let mut every = interval(LOOK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The client's reading drives this: while it does not read, nothing is made and nothing waits.
    let states = unfold(
        (gateway, every, None, permit),
        |(gateway, mut every, mut last, permit)| async move {
            loop {
                every.tick().await;
                let mut now = look(&gateway.deps);
                let at = std::mem::take(&mut now.at);
                if last.as_ref() != Some(&now) {
                    last = Some(now.clone());
                    now.at = at;
                    let event = Event::default().event("state").json_data(&now);
                    let event = event.unwrap_or_else(|_| Event::default().comment("unwritable"));
                    let next = (gateway, every, last, permit);
                    return Some((Ok::<_, Infallible>(event), next));
                }
            }
        },
    );
    let mut response = Sse::new(states)
        .keep_alive(KeepAlive::new().interval(KEEP))
        .into_response();
    private(response.headers_mut());
    response
}
