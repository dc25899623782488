//! Who holds a broadcast, ranked for this node; and this node's own word that it does.
use std::net::SocketAddr;

use media::ports::{Holders, Holding, Source};
use mesh::view::{Advert, Member, Service};
use routing::{
    model::{BroadcastId, Prefix},
    rank::{Asker, Holds, Policy, rank},
};
use tokio::sync::watch;

use super::{House, verified};

impl House {
    /// The living others of which `advert` finds an advertisement, best first.
    fn advertisers(&self, advert: impl Fn(&Member) -> Option<&Advert>) -> Vec<Source> {
        let view = self.mesh.view().borrow().clone();
        let holding: Vec<_> = view
            .members
            .values()
            .filter(|m| m.id != self.id && m.alive)
            .filter_map(|m| Some((m, advert(m)?)))
            .collect();
        let candidates: Vec<_> = holding
            .iter()
            .map(|(member, advert)| {
                let holds = if advert.replica_of.is_none() {
                    Holds::Origin
                } else {
                    Holds::Replica
                };
                let mut candidate = self.candidate(member, true, Service::Media);
                candidate.holds = holds;
                candidate
            })
            .collect();
        let asker = Asker {
            place: self.place.clone(),
            prefix: Prefix::new([0, 0, 0, 0].into(), 0),
        };
        let ranked = rank(&candidates, &asker, &Policy::sources());
        ranked
            .chosen
            .iter()
            .filter_map(|scored| {
                let (member, advert) = holding.iter().find(|(m, _)| m.id == scored.node)?;
                let addresses: Vec<SocketAddr> = verified(member, Service::Media);
                Some(Source {
                    node: member.id,
                    addresses,
                    origin: advert.replica_of.is_none(),
                })
            })
            .collect()
    }
}

impl Holders for House {
    fn sources(&self, broadcast: BroadcastId) -> Vec<Source> {
        self.advertisers(|m| m.adverts.iter().find(|a| a.broadcast == broadcast))
    }

    fn remains(&self, broadcast: BroadcastId) -> Vec<Source> {
        self.advertisers(|m| {
            let mut all = m.adverts.iter().chain(&m.remains);
            all.find(|a| a.broadcast == broadcast)
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.view_version.subscribe()
    }

    fn advertise(&self, holding: Holding) {
        let config = self.mesh.records().config();
        let Some((_, tenant)) = Self::stream_of(&config, holding.broadcast) else {
            // Its stream was deleted, or the entitlement ended, while it was being set up.
            return;
        };
        self.mesh.advertise(Advert {
            broadcast: holding.broadcast,
            tenant,
            epoch: holding.epoch,
            claim: (holding.claim.stamp, holding.claim.node),
            replica_of: holding.replica_of,
            over: holding.over,
        });
    }

    fn withdraw(&self, broadcast: BroadcastId) {
        self.mesh.withdraw(broadcast);
    }
}
