//! What a name stands for.
use hickory_proto::rr::Name;
use routing::model::{Label, PlaybackId, Verb};

use crate::zone::{PoolId, Work, Zone};

/// What a name stands for in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Not in this zone.
    Outside,
    /// In the zone, and there is no such name.
    Missing,
    /// The zone's own name.
    Apex,
    /// A name without addresses, because names below it exist.
    Between,
    /// A name server's host.
    NameServer,
    /// One node, by index.
    Node(usize),
    /// The best of a pool.
    Pool(PoolId),
    /// The best of a pool that hold a playback (by index), else the best of the pool.
    Playback(PoolId, Option<usize>),
}

impl Meaning {
    /// In words.
    pub(crate) const fn describe(&self) -> &'static str {
        match self {
            Self::Outside => "outside of this zone: refused",
            Self::Missing => "no such name in this zone",
            Self::Apex => "the zone itself",
            Self::Between => "a name that only others stand below",
            Self::NameServer => "a name server",
            Self::Node(_) => "one node by its own name",
            Self::Pool(_) => "the nearest fit nodes",
            Self::Playback(_, Some(_)) => "a node that holds this stream",
            Self::Playback(_, None) => {
                "a playback name that no holder is known of here: the nearest fit nodes"
            }
        }
    }
}

/// Reads a name. Letters' case does not matter (RFC 4343).
pub(crate) fn read(name: &Name, zone: &Zone) -> Meaning {
    if !zone.base.zone_of(name) {
        return Meaning::Outside;
    }
    if zone.ns_hosts.iter().any(|(host, _)| host == name) {
        return Meaning::NameServer;
    }
    match inside(name, zone) {
        Meaning::Missing if zone.ns_above.contains(name) => Meaning::Between,
        meaning => meaning,
    }
}

fn inside(name: &Name, zone: &Zone) -> Meaning {
    let above = name.iter().count() - zone.base.iter().count();
    // Nothing but name servers is deeper than three labels.
    let mut labels = [""; 3];
    if above > labels.len() {
        return Meaning::Missing;
    }
    for (slot, bytes) in labels.iter_mut().zip(name.iter().take(above)) {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Meaning::Missing;
        };
        *slot = text;
    }
    let suffix = |text: &str| text.eq_ignore_ascii_case(zone.facts.suffix.as_str());
    match labels[..above] {
        [] => Meaning::Apex,
        [one] if suffix(one) => Meaning::Between,
        [one] => {
            if let Some(work) = service(one) {
                Meaning::Pool(zone.official_pool(work))
            } else if let Some(cluster) = find(&zone.clusters, one) {
                Meaning::Pool(zone.cluster_pool(cluster, Work::Playback))
            } else {
                Meaning::Missing
            }
        }
        [tenant, above] if suffix(above) => match branded(zone, tenant) {
            Some(tenant) => Meaning::Pool(zone.tenant_pool(tenant, Work::Playback)),
            None => Meaning::Missing,
        },
        [one, slug] => match find(&zone.clusters, slug) {
            Some(cluster) => under_cluster(zone, one, cluster),
            None => Meaning::Missing,
        },
        [one, tenant, above] if suffix(above) => match branded(zone, tenant) {
            Some(tenant) => under_tenant(zone, one, tenant),
            None => Meaning::Missing,
        },
        _ => Meaning::Missing,
    }
}

fn under_cluster(zone: &Zone, label: &str, cluster: usize) -> Meaning {
    if let Some(work) = service(label) {
        return Meaning::Pool(zone.cluster_pool(cluster, work));
    }
    match find(&zone.nodes, label) {
        Some(node) if zone.facts.nodes[node].cluster == zone.facts.clusters[cluster].id => {
            Meaning::Node(node)
        }
        _ => Meaning::Missing,
    }
}

fn under_tenant(zone: &Zone, label: &str, tenant: usize) -> Meaning {
    if let Some(work) = service(label) {
        return Meaning::Pool(zone.tenant_pool(tenant, work));
    }
    if let Some(node) = find(&zone.nodes, label) {
        let verbs = zone.facts.tenants[tenant]
            .entitled
            .get(&zone.facts.nodes[node].cluster);
        let entitled = verbs.is_some_and(|v| v.has(Verb::Serve) || v.has(Verb::Ingest));
        return if entitled {
            Meaning::Node(node)
        } else {
            Meaning::Missing
        };
    }
    let Ok(playback) = label.parse::<PlaybackId>() else {
        return Meaning::Missing;
    };
    // Any playback id exists: a responder without the tenant's scope cannot tell, and all must answer alike.
    let id = zone.facts.tenants[tenant].id;
    let known = zone
        .playbacks
        .get(&playback)
        .copied()
        .filter(|at| zone.facts.playbacks[*at].tenant == id);
    Meaning::Playback(zone.tenant_pool(tenant, Work::Playback), known)
}

fn branded(zone: &Zone, label: &str) -> Option<usize> {
    find(&zone.tenants, label).filter(|at| zone.facts.tenants[*at].branded)
}

fn find(map: &std::collections::HashMap<Label, usize>, text: &str) -> Option<usize> {
    map.get(&text.parse::<Label>().ok()?).copied()
}

/// The service labels, the same at every level.
fn service(label: &str) -> Option<Work> {
    let is = |word: &str| label.eq_ignore_ascii_case(word);
    if is("foghorn") || is("play") || is("edge-egress") {
        Some(Work::Playback)
    } else if is("edge-ingest") {
        Some(Work::Ingest)
    } else {
        None
    }
}
