//! What is looked at again and again: whom to dial, whose addresses to try, the clock, the grant.
use std::{collections::BTreeSet, sync::PoisonError, time::Duration};

use bytes::Bytes;
use routing::model::{NodeId, Uptime};

use super::{CHORES, Driver, Input, STATE};
use crate::{
    facts,
    link::ConnectionId,
    live::{
        grants::{self, Known},
        own,
        peers::tag,
    },
    probe::{self, Target},
    view::Service,
};

/// How often a link's clock offset is measured.
const PING: Duration = Duration::from_secs(2);
/// How often the grant's age is looked at.
const RENEW: Duration = Duration::from_secs(60);

/// How often the next grant is asked for, once it is time.
const ASK: Duration = Duration::from_secs(2);

impl Driver {
    pub(super) async fn chores(&mut self) {
        let now = self.now();
        self.next_chores = now + CHORES;
        self.banned.retain(|_, until| *until > now);
        self.on_words();
        if self.said.is_some() {
            self.say_state(now);
        }
        self.dial(now).await;
        self.probe(now).await;
        if now >= self.next_ping {
            self.next_ping = now + PING;
            let stamp = self.parts.clock.unix().0.to_be_bytes();
            let all: Vec<_> = self.parts.peers.lock().keys().copied().collect();
            for peer in all {
                self.parts.peers.send(peer, tag::PING, &stamp);
            }
        }
        if now >= self.next_renewal {
            let wanted = self.parts.own.wants_renewal(self.parts.clock.unix());
            self.next_renewal = now + if wanted.is_some() { ASK } else { RENEW };
            self.say_issues();
            self.renew();
        }
        if !self.parts.view.borrow().settled {
            self.show(None);
        }
        if self.known_dirty && now.since(self.known_saved) >= STATE {
            self.known_dirty = false;
            self.known_saved = now;
            let known = self
                .parts
                .known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let dir = self.parts.dir.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = grants::save_peers(&dir, &known) {
                    tracing::warn!(%error, "peers not remembered");
                }
            });
        }
    }

    async fn dial(&mut self, now: Uptime) {
        let config = self.parts.records.config();
        let known: Known = {
            let mut all = self
                .parts
                .known
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // Whoever is on record without a grant in force is no peer, unless our own records may be old.
            all.retain(|id, _| !config.is_revoked(*id));
            all.clone()
        };
        let peers = self.parts.peers.lock().clone();
        let banned = &self.banned;
        let linked = |id: &NodeId| peers.contains_key(id) || banned.contains_key(id);
        for (id, addrs) in self.dials.due(self.parts.id, &known, linked, now) {
            self.parts.links.dial(Some(id), addrs).await;
        }
        if self.dials.seeds_due(peers.is_empty(), now) && !self.parts.seeds.is_empty() {
            self.parts.links.dial(None, self.parts.seeds.clone()).await;
        }
    }

    async fn probe(&mut self, now: Uptime) {
        let view = self.parts.view.borrow().clone();
        let live: BTreeSet<_> = view.alive().map(|m| m.id).collect();
        let targets: BTreeSet<Target> = view
            .alive()
            .flat_map(|m| m.services.iter().map(|s| (m.id, s.service, s.addr)))
            .filter(|t| t.1 == Service::Control || self.prober.is_some())
            .collect();
        self.dialed.retain(|(id, _)| live.contains(id));
        for target in self.probes.due(self.parts.id, &live, &targets, now) {
            let (node, service, addr) = target;
            if service == Service::Control {
                if self.dialed.remove(&(node, addr)) {
                    self.on_tried(&target, true);
                } else {
                    self.trying.insert((node, addr), now);
                    self.parts.links.try_dial(node, addr).await;
                }
            } else if let Some(prober) = &self.prober {
                let (input, work) = (self.parts.input.clone(), prober.probe(node, service, addr));
                tokio::spawn(async move {
                    let reached = tokio::time::timeout(probe::TRY, work)
                        .await
                        .unwrap_or(false);
                    drop(input.send(Input::Tried { target, reached }).await);
                });
            }
        }
        // Control dials that came to an end, one way or the other.
        let ended: Vec<_> = self.probes.running(Service::Control).collect();
        for target in ended {
            let at = (target.0, target.2);
            if self.dialed.remove(&at) {
                self.trying.remove(&at);
                self.on_tried(&target, true);
            } else if self
                .trying
                .get(&at)
                .is_none_or(|t| now.since(*t) >= probe::TRY)
            {
                self.trying.remove(&at);
                self.on_tried(&target, false);
            }
        }
    }

    pub(super) fn on_tried(&mut self, target: &Target, reached: bool) {
        let now = self.now();
        if self.probes.done(target, reached, now) {
            let reached = self.probes.reached(target.0);
            let value = (!reached.is_empty()).then(|| facts::encode_addrs(&reached));
            self.set(vec![(facts::reached_key(target.0), value)]);
        }
        let tried = self.probes.nodes();
        let stale: Vec<_> = self
            .core
            .values(&self.parts.id)
            .filter_map(|(key, _)| key.strip_prefix("p/")?.parse().ok())
            .filter(|id: &NodeId| !tried.contains(id))
            .map(|id| (facts::reached_key(id), None))
            .collect();
        if !stale.is_empty() {
            self.set(stale);
        }
    }

    /// Says whether this node can let others in.
    pub(super) fn say_issues(&mut self) {
        let value = self.parts.issuer.issues().then(Bytes::new);
        self.set(vec![(facts::ISSUES.to_owned(), value)]);
    }

    /// Gets this node's next grant when it is time: from itself, or from a linked gateway of its cluster.
    pub(super) fn renew(&mut self) {
        let now = self.parts.clock.unix();
        let Some(grant) = self.parts.own.wants_renewal(now) else {
            return;
        };
        if self.parts.issuer.issues_for(grant.cluster) {
            let (issuer, id) = (self.parts.issuer.clone(), self.parts.id);
            let (dir, input) = (self.parts.dir.clone(), self.parts.input.clone());
            tokio::spawn(async move {
                let renewed = issuer.renewed(id, &grant).await;
                own::keep(&dir, renewed, &input).await;
            });
            return;
        }
        let view = self.parts.view.borrow().clone();
        let gateway = view.alive().find(|m| {
            m.cluster == grant.cluster && m.issues && self.parts.peers.connection(m.id).is_some()
        });
        if let Some(connection) = gateway.and_then(|m| self.parts.peers.connection(m.id)) {
            self.renew_at(connection);
        }
    }

    pub(super) fn renew_at(&self, connection: ConnectionId) {
        let Some(grant) = self.parts.own.wants_renewal(self.parts.clock.unix()) else {
            return;
        };
        let (links, dir) = (self.parts.links.clone(), self.parts.dir.clone());
        let (input, peers) = (self.parts.input.clone(), self.parts.peers.clone());
        tokio::spawn(async move {
            let renewed = match links.open(connection).await {
                Ok(stream) => crate::join::renew(stream, grant).await,
                Err(error) => Err(error.to_string()),
            };
            own::keep(&dir, renewed, &input).await;
            if !peers.lock().values().any(|p| p.connection == connection) {
                // The next dial greets with the new grant.
                links.close(connection).await;
            }
        });
    }
}

/// The median of the peers' clocks against this node's. Of an even number, the middle one that is nearer to this node: one
/// wrong clock of two must not outvote the other and this node together.
pub(super) fn median(mut offsets: Vec<i64>) -> i64 {
    offsets.sort_unstable();
    let middle = |at| offsets.get(at).copied().unwrap_or(0);
    let (low, high) = (
        middle(offsets.len().saturating_sub(1) / 2),
        middle(offsets.len() / 2),
    );
    if low.unsigned_abs() < high.unsigned_abs() {
        low
    } else {
        high
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn one_wrong_clock_of_three_is_the_wrong_one_to_each() {
        assert_eq!(median(vec![]), 0);
        assert_eq!(median(vec![5]), 5);
        assert_eq!(median(vec![7_200_000, 3]), 3);
        assert_eq!(median(vec![-7_200_000, -3]), -3);
        assert_eq!(median(vec![-7_200_001, -7_199_999]), -7_199_999);
        assert_eq!(median(vec![9, 7_200_000, -4]), 9);
    }
}
