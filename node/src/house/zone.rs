//! The zone of the moment: made anew from records and view whenever either changes.
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use dns::{NameServer, Zone, ZoneCluster, ZoneFacts, ZoneNode, ZonePlayback, ZoneTenant};
use mesh::{
    authority::ClusterKind,
    config::Config,
    view::{Member, Service, View},
};
use routing::{
    model::{BroadcastId, Label, Role, StreamId},
    place::Places,
    rank::{Candidate, Holds},
};

use super::{House, verified};

/// How many name servers the NS set names: enough for any one to be away.
const NAME_SERVERS: usize = 4;

/// A zone that answers nothing yet.
pub(crate) fn silent(
    base: &str,
    suffix: Label,
    places: Arc<dyn Places>,
) -> Result<Zone, dns::ZoneError> {
    Zone::new(ZoneFacts {
        base: base.to_owned(),
        suffix,
        ready: false,
        version: 0,
        ttl: ZoneFacts::TTL,
        negative_ttl: ZoneFacts::NEGATIVE_TTL,
        answers: ZoneFacts::ANSWERS,
        ns: Vec::new(),
        tenants: Vec::new(),
        clusters: Vec::new(),
        nodes: Vec::new(),
        playbacks: Vec::new(),
        places,
    })
}

impl House {
    /// A member as a candidate for `service`.
    pub(crate) fn candidate(&self, member: &Member, entitled: bool, service: Service) -> Candidate {
        Candidate {
            node: member.id,
            label: member.name.clone(),
            cluster: member.cluster,
            alive: member.alive,
            reachable: !verified(member, service).is_empty(),
            roles: member.roles,
            mode: member.mode,
            entitled,
            place: member.place.clone(),
            load: member.load,
            capacity: member.capacity,
            holds: Holds::No,
        }
    }

    /// Addresses at which a member was seen to serve `service`.
    fn addrs(member: &Member, service: Service) -> Vec<IpAddr> {
        verified(member, service)
            .iter()
            .map(std::net::SocketAddr::ip)
            .collect()
    }

    /// The zone that follows from these.
    pub(crate) fn make_zone(&self, config: &Config, view: &View) -> Result<Zone, dns::ZoneError> {
        let base = config.base().to_owned();
        // The oldest responders first, so that the set does not change with every node that comes.
        let mut responders: Vec<_> = view
            .members
            .values()
            .filter(|m| m.alive && m.roles.has(Role::Dns))
            .cloned()
            .collect();
        responders.sort_by_key(|m| (m.name.clone(), m.id));
        let ns = responders
            .iter()
            .filter(|m| !verified(m, Service::Dns).is_empty())
            .take(NAME_SERVERS)
            .enumerate()
            .map(|(i, m)| NameServer {
                name: format!("ns{}.{base}", i + 1),
                addrs: Self::addrs(m, Service::Dns),
            })
            .collect();
        let tenants = config
            .tenants()
            .filter_map(|tenant| {
                Some(ZoneTenant {
                    id: tenant.id,
                    label: tenant.label.clone()?,
                    branded: tenant.branded,
                    entitled: config
                        .clusters()
                        .map(|cluster| (cluster.id, config.entitled(tenant.id, cluster.id)))
                        .collect::<BTreeMap<_, _>>(),
                })
            })
            .collect();
        let clusters = config
            .clusters()
            .filter_map(|c| {
                Some(ZoneCluster {
                    id: c.id,
                    slug: c.slug.clone()?,
                    official: c.kind == ClusterKind::Official,
                })
            })
            .collect();
        let nodes = view
            .members
            .values()
            .map(|m| {
                // A streamer and a viewer are answered by address alone, so an address counts where the service's port
                // answers on it.
                let playback = if verified(m, Service::Http).is_empty() {
                    Service::Https
                } else {
                    Service::Http
                };
                let ingest = if verified(m, Service::Rtmp).is_empty() {
                    Service::Srt
                } else {
                    Service::Rtmp
                };
                ZoneNode {
                    id: m.id,
                    name: m.name.clone(),
                    cluster: m.cluster,
                    alive: m.alive,
                    roles: m.roles,
                    mode: m.mode,
                    place: m.place.clone(),
                    load: m.load,
                    capacity: m.capacity,
                    playback: Self::addrs(m, playback),
                    ingest: Self::addrs(m, ingest),
                }
            })
            .collect();
        let mut holders: BTreeMap<BroadcastId, Vec<_>> = BTreeMap::new();
        for member in view.members.values().filter(|m| m.alive) {
            for advert in &member.adverts {
                let holds = if advert.replica_of.is_none() {
                    Holds::Origin
                } else {
                    Holds::Replica
                };
                holders
                    .entry(advert.broadcast)
                    .or_default()
                    .push((member.id, holds));
            }
        }
        let playbacks = holders
            .into_iter()
            .filter_map(|(broadcast, holders)| {
                let stream = config.stream(StreamId::from_bytes(*broadcast.as_bytes()))?;
                Some(ZonePlayback {
                    id: stream.playback,
                    tenant: stream.tenant,
                    holders,
                })
            })
            .collect();
        Zone::new(ZoneFacts {
            suffix: config
                .suffix()
                .parse()
                .unwrap_or_else(|_| self.default_suffix.clone()),
            base,
            ready: view.settled,
            version: view.version,
            ttl: self.settings.dns.ttl_seconds,
            negative_ttl: ZoneFacts::NEGATIVE_TTL,
            answers: ZoneFacts::ANSWERS,
            ns,
            tenants,
            clusters,
            nodes,
            playbacks,
            places: Arc::clone(&self.places),
        })
    }
}
