//! Which publisher of a broadcast is live: the lowest (stamp, node) among the claims that living nodes advertise.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use media::ports::{Claim, Claims, HeldClaim, Standing};
use mesh::view::View;
use routing::model::{BroadcastId, Hlc, NodeId};
use tokio::sync::watch;

use super::House;

type Key = (BroadcastId, Claim);

/// The claims of this node's own publishers.
#[derive(Debug, Default)]
pub(crate) struct OwnClaims {
    held: Mutex<BTreeMap<Key, watch::Sender<Standing>>>,
}

impl OwnClaims {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<Key, watch::Sender<Standing>>) -> T) -> T {
        f(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says to every claim where it stands in this view.
    pub(crate) fn judge(&self, me: NodeId, view: &View) {
        self.with(|held| {
            let claims: Vec<Key> = held.keys().copied().collect();
            for ((broadcast, claim), standing) in held.iter() {
                let own = claims
                    .iter()
                    .filter(|(b, _)| b == broadcast)
                    .map(|(_, c)| *c);
                let lowest = own.chain(advertised(me, view, *broadcast)).min();
                let now = match lowest {
                    Some(live) if live < *claim => Standing::Standby { live },
                    _ => Standing::Live,
                };
                standing.send_if_modified(|old| std::mem::replace(old, now) != now);
            }
        });
    }
}

/// The claims under which living nodes other than `me` are a broadcast's origin.
fn advertised(me: NodeId, view: &View, broadcast: BroadcastId) -> impl Iterator<Item = Claim> + '_ {
    view.members
        .values()
        .filter(move |m| m.alive && m.id != me)
        .flat_map(move |m| {
            m.adverts
                .iter()
                .filter(move |a| a.broadcast == broadcast && a.replica_of.is_none())
                .map(|a| Claim {
                    stamp: a.claim.0,
                    node: a.claim.1,
                })
        })
}

struct Held {
    key: Key,
    standing: watch::Receiver<Standing>,
    house: Weak<House>,
}

impl HeldClaim for Held {
    fn claim(&self) -> Claim {
        self.key.1
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(house) = self.house.upgrade() {
            house.claims.with(|held| held.remove(&self.key));
            house.judge_claims();
        }
    }
}

impl House {
    /// Judges this node's claims by the present view: after each change of either.
    pub(crate) fn judge_claims(&self) {
        let view = Arc::clone(&self.mesh.view().borrow());
        self.claims.judge(self.id, &view);
    }
}

/// The handle that `media` makes claims by.
#[derive(Clone, Debug)]
pub struct ClaimDesk(pub Arc<House>);

impl Claims for ClaimDesk {
    fn claim(&self, broadcast: BroadcastId) -> Box<dyn HeldClaim> {
        let house = &self.0;
        let (sender, standing) = watch::channel(Standing::Live);
        let now = house.clock.unix();
        let key = house.claims.with(|held| {
            // Two claims of one node differ in their stamps.
            let latest = held.keys().map(|(_, c)| c.stamp).max().unwrap_or(Hlc(0));
            let key = (
                broadcast,
                Claim {
                    stamp: latest.tick(now),
                    node: house.id,
                },
            );
            held.insert(key, sender);
            key
        });
        house.judge_claims();
        Box::new(Held {
            key,
            standing,
            house: Arc::downgrade(house),
        })
    }
}
