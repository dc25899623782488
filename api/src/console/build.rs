//! The console's state out of the agreed state, the view and the counts of viewers: pure.
use std::collections::BTreeMap;

use mesh::{
    authority::ClusterKind,
    config::Config,
    view::{Advert, Member, Service, View},
};
use routing::model::{BroadcastId, Hlc, NodeId, StreamId, UnixMillis, Uptime};

use super::state::{ClusterInfo, HolderInfo, MeshInfo, NodeInfo, ServiceInfo, State, StreamInfo};
use crate::ports::Watched;

/// What the state is made of.
pub(crate) struct Sources<'a> {
    pub(crate) this: NodeId,
    pub(crate) config: &'a Config,
    pub(crate) view: &'a View,
    pub(crate) watched: &'a [Watched],
    pub(crate) now: (UnixMillis, Uptime),
}

/// What the console shows now.
pub(crate) fn state(from: &Sources<'_>) -> State {
    let config = from.config;
    let mut clusters: Vec<_> = config
        .clusters()
        .map(|c| ClusterInfo {
            id: c.id,
            slug: c.slug.clone(),
            name: c.name.clone(),
            kind: match c.kind {
                ClusterKind::Official => "official",
                ClusterKind::TenantPrivate => "tenant_private",
                ClusterKind::Marketplace => "marketplace",
            },
        })
        .collect();
    clusters.sort_by(|a, b| (&a.slug, a.id).cmp(&(&b.slug, b.id)));
    let mut nodes: Vec<_> = from
        .view
        .members
        .values()
        .map(|m| node(m, from.now))
        .collect();
    nodes.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    State {
        version: 1,
        at: from.now.0,
        mesh: MeshInfo {
            id: config.mesh_id(),
            base: config.base().to_owned(),
            settled: from.view.settled,
        },
        this: from.this,
        clusters,
        tenants: config.tenants().count(),
        nodes,
        streams: streams(from),
    }
}

fn node(member: &Member, (unix, uptime): (UnixMillis, Uptime)) -> NodeInfo {
    let ago = u64::try_from(uptime.since(member.since).as_millis()).unwrap_or(u64::MAX);
    NodeInfo {
        id: member.id,
        label: member.id.label(),
        name: member.name.clone(),
        cluster: member.cluster,
        alive: member.alive,
        since: UnixMillis(unix.0.saturating_sub(ago)),
        place: member.place.clone(),
        mode: member.mode,
        roles: member.roles,
        load: member.load,
        capacity: member.capacity,
        services: member
            .services
            .iter()
            .map(|s| ServiceInfo {
                service: match s.service {
                    Service::Control => "control",
                    Service::Media => "media",
                    Service::Http => "http",
                    Service::Https => "https",
                    Service::Rtmp => "rtmp",
                    Service::Dns => "dns",
                    Service::Srt => "srt",
                },
                addr: s.addr,
                verified: s.verified,
            })
            .collect(),
    }
}

fn streams(from: &Sources<'_>) -> Vec<StreamInfo> {
    let mut held: BTreeMap<BroadcastId, Vec<(NodeId, Advert)>> = BTreeMap::new();
    for member in from.view.members.values().filter(|m| m.alive) {
        for advert in &member.adverts {
            let holders = held.entry(advert.broadcast).or_default();
            holders.push((member.id, *advert));
        }
    }
    held.into_iter()
        .map(|(broadcast, holders)| {
            let viewers_at = |node: NodeId| {
                let there = |w: &&Watched| w.broadcast == broadcast && w.node == node;
                from.watched.iter().find(there).map_or(0, |w| w.viewers)
            };
            // Of several claims the lowest is the one that is live.
            let claim = holders.iter().map(|(_, a)| a.claim).min();
            let mut rows: Vec<_> = holders
                .iter()
                .map(|(node, advert)| HolderInfo {
                    node: *node,
                    from: advert.replica_of,
                    viewers: viewers_at(*node),
                })
                .collect();
            rows.sort_by_key(|h| (h.from.is_some(), h.node));
            let tenant = holders.first().map(|(_, a)| a.tenant);
            let stream = from
                .config
                .stream(StreamId::from_bytes(*broadcast.as_bytes()))
                .filter(|s| Some(s.tenant) == tenant);
            StreamInfo {
                broadcast,
                tenant: tenant
                    .and_then(|t| from.config.tenant(t))
                    .and_then(|t| t.label.clone()),
                name: stream.map(|s| s.name.clone()),
                playback_id: stream.map(|s| s.playback),
                origin: rows.iter().find(|h| h.from.is_none()).map(|h| h.node),
                claimed: claim.map_or(UnixMillis(0), |(at, _): (Hlc, NodeId)| at.millis()),
                viewers: rows.iter().fold(0, |sum, h| sum.saturating_add(h.viewers)),
                holders: rows,
            }
        })
        .collect()
}
