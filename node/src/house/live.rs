//! What is live, for the gateway: facts of broadcasts, counts of viewers, events.
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use api::ports::{
    EndReason, LiveEvent, LiveEventKind, LiveFacts, LiveStats, SessionControl, Watched,
};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use mesh::{
    carry::{HandleError, Handler},
    view::View,
};
use routing::model::{BroadcastId, EpochId, NodeId, TenantId, TrackSummary, UnixMillis};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::{House, refuse};

/// The value under which a node tells its viewers by broadcast.
pub(super) const VIEWERS: &str = "viewers";
/// The protocol by which a holder is asked for a broadcast's tracks.
const FACTS: &str = "shoal/facts/1";
/// Broadcasts in one node's word about its viewers: the most watched first.
const MAX_COUNTED: usize = 256;
/// How long a holder is waited for.
const PATIENCE: Duration = Duration::from_millis(800);

/// What was live in the view before.
#[derive(Debug, Default)]
pub(crate) struct Seen(HashMap<BroadcastId, Sight>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sight {
    tenant: TenantId,
    origin: Option<(NodeId, EpochId)>,
    holders: Vec<NodeId>,
}

/// A holder's answer.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    started: UnixMillis,
    tracks: Vec<TrackSummary>,
}

fn sights(view: &View) -> HashMap<BroadcastId, Sight> {
    let mut all: HashMap<BroadcastId, Sight> = HashMap::new();
    for member in view.members.values().filter(|m| m.alive) {
        for advert in &member.adverts {
            let sight = all.entry(advert.broadcast).or_insert_with(|| Sight {
                tenant: advert.tenant,
                origin: None,
                holders: Vec::new(),
            });
            sight.holders.push(member.id);
            let newer = sight.origin.is_none_or(|(_, epoch)| advert.epoch > epoch);
            if advert.replica_of.is_none() && newer {
                sight.origin = Some((member.id, advert.epoch));
            }
        }
    }
    all
}

impl House {
    /// Sends an event for each difference between what was seen and this view.
    pub(crate) fn tell(&self, seen: &mut Seen, view: &View) {
        let now = sights(view);
        let at = self.clock.unix();
        let send = |broadcast: BroadcastId, sight: &Sight, kind: LiveEventKind| {
            let node = sight
                .origin
                .map(|(node, _)| node)
                .or(sight.holders.first().copied())
                .unwrap_or(self.id);
            let facts = match kind {
                LiveEventKind::End => None,
                _ => self.known_facts(broadcast, sight, view),
            };
            // No subscriber is no error.
            let _ = self.events.send(LiveEvent {
                tenant: sight.tenant,
                broadcast,
                kind,
                node,
                at,
                facts,
            });
        };
        for (broadcast, sight) in &now {
            let before = seen.0.get(broadcast);
            let was = before.and_then(|s| s.origin);
            match (was, sight.origin) {
                (None, Some(_)) => send(*broadcast, sight, LiveEventKind::Start),
                (Some(_), None) => send(*broadcast, sight, LiveEventKind::End),
                (Some(a), Some(b)) if a != b => send(*broadcast, sight, LiveEventKind::Source),
                _ if before.is_some_and(|s| s.holders != sight.holders) => {
                    send(*broadcast, sight, LiveEventKind::Lifecycle);
                }
                _ => {}
            }
        }
        for (broadcast, sight) in &seen.0 {
            if sight.origin.is_some() && !now.contains_key(broadcast) {
                send(*broadcast, sight, LiveEventKind::End);
            }
        }
        seen.0 = now;
    }

    fn known_facts(&self, broadcast: BroadcastId, sight: &Sight, view: &View) -> Option<LiveFacts> {
        let (origin, _) = sight.origin?;
        let here = self.facts_here(broadcast);
        Some(LiveFacts {
            origin,
            started: here.as_ref().map_or(UnixMillis(0), |f| f.started),
            updated: self.clock.unix(),
            tracks: here.map(|f| f.tracks).unwrap_or_default(),
            viewers: viewers_of(view, broadcast),
        })
    }

    fn facts_here(&self, broadcast: BroadcastId) -> Option<Facts> {
        let line = self.engine.get()?.broadcasts.get(broadcast)?.current()?;
        let epoch = line.epoch();
        let tracks = epoch
            .tracks
            .iter()
            .map(|t| t.config.summary.clone())
            .collect();
        Some(Facts {
            started: epoch.programme_time,
            tracks,
        })
    }

    /// Viewers at this node by broadcast.
    fn counts(&self) -> Vec<(BroadcastId, u32)> {
        let sessions = self
            .engine
            .get()
            .map(|e| e.playback.sessions())
            .unwrap_or_default();
        sessions
            .into_iter()
            .map(|(b, n)| (b, u32::try_from(n).unwrap_or(u32::MAX)))
            .collect()
    }

    /// Tells the mesh how many watch here, where that changed.
    pub(crate) fn tell_viewers(&self, told: &mut Vec<(BroadcastId, u32)>) -> u32 {
        let mut counts = self.counts();
        let total = counts.iter().map(|(_, n)| n).sum();
        counts.sort_by_key(|(broadcast, n)| (std::cmp::Reverse(*n), *broadcast));
        counts.truncate(MAX_COUNTED);
        if counts != *told {
            let value = serde_json::to_vec(&counts)
                .ok()
                .filter(|_| !counts.is_empty())
                .map(Bytes::from);
            self.mesh.publish(VIEWERS, value);
            *told = counts;
        }
        total
    }

    pub(crate) fn serve_facts(self: &Arc<Self>) {
        self.serve(FACTS, LiveDesk(Arc::clone(self)));
    }
}

/// Every node's word about its viewers.
pub(crate) fn watched(view: &View) -> impl Iterator<Item = Watched> + '_ {
    view.members
        .values()
        .filter(|m| m.alive)
        .flat_map(|member| {
            let counts: Vec<(BroadcastId, u32)> = member
                .values
                .get(VIEWERS)
                .and_then(|v| serde_json::from_slice(v).ok())
                .unwrap_or_default();
            counts.into_iter().map(|(broadcast, viewers)| Watched {
                broadcast,
                node: member.id,
                viewers,
            })
        })
}

/// How many watch a broadcast, by all nodes' words; no more than can be counted, whatever they say.
pub(super) fn viewers_of(view: &View, broadcast: BroadcastId) -> u32 {
    watched(view)
        .filter(|w| w.broadcast == broadcast)
        .fold(0, |sum, w| sum.saturating_add(w.viewers))
}

/// The handle that the gateway asks by.
#[derive(Clone, Debug)]
pub struct LiveDesk(pub Arc<House>);

impl Handler for LiveDesk {
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, HandleError>> {
        let house = Arc::clone(&self.0);
        async move {
            let broadcast: BroadcastId = serde_json::from_slice(&body).map_err(refuse)?;
            if !media::ports::Gate::may_relay(&*house, from, broadcast) {
                return Err(refuse("not entitled to this broadcast"));
            }
            let facts = house
                .facts_here(broadcast)
                .ok_or_else(|| refuse("not held here"))?;
            serde_json::to_vec(&facts).map(Bytes::from).map_err(refuse)
        }
        .boxed()
    }
}

impl LiveStats for LiveDesk {
    fn facts(&self, broadcast: BroadcastId) -> BoxFuture<'_, Option<LiveFacts>> {
        async move {
            let house = &self.0;
            let view = house.mesh.view().borrow().clone();
            let sight = sights(&view).remove(&broadcast)?;
            let mut known = house.known_facts(broadcast, &sight, &view)?;
            if known.tracks.is_empty() && known.origin != house.id {
                let body = Bytes::from(serde_json::to_vec(&broadcast).ok()?);
                let asked = house.mesh.request(known.origin, FACTS, body);
                if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, asked).await
                    && let Ok(facts) = serde_json::from_slice::<Facts>(&answer)
                {
                    known.started = facts.started;
                    known.tracks = facts.tracks;
                }
            }
            Some(known)
        }
        .boxed()
    }

    fn watched(&self) -> Vec<Watched> {
        let view = self.0.mesh.view().borrow().clone();
        let mut all: BTreeMap<_, _> = watched(&view).map(|w| ((w.broadcast, w.node), w)).collect();
        for (broadcast, viewers) in self.0.counts() {
            all.insert(
                (broadcast, self.0.id),
                Watched {
                    broadcast,
                    node: self.0.id,
                    viewers,
                },
            );
        }
        all.into_values().collect()
    }

    fn events(&self) -> broadcast::Receiver<LiveEvent> {
        self.0.events.subscribe()
    }
}

impl SessionControl for LiveDesk {
    fn viewers(&self, broadcast: BroadcastId) -> u32 {
        self.0
            .counts()
            .into_iter()
            .filter(|(b, _)| *b == broadcast)
            .map(|(_, n)| n)
            .sum()
    }

    fn end(&self, broadcast: BroadcastId, why: EndReason) {
        tracing::info!(%broadcast, ?why, "ending a broadcast's sessions");
        if let Some(engine) = self.0.engine.get() {
            engine.ingest.disconnect(broadcast);
            engine.broadcasts.remove(broadcast);
        }
    }
}
