//! The view, made of membership and the agreed state.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use routing::model::{NodeId, Roles};

use crate::{
    config::Config,
    facts,
    gate::Shown,
    member::{Core, Life},
    probe,
    view::{Advert, Member, Service, ServiceAddr, View},
};

/// Who reached what, by the node that was reached.
type Reached = BTreeMap<NodeId, BTreeMap<(Service, SocketAddr), usize>>;

/// Makes the view after `old`. With `only`, what these nodes say is read anew, and of the others only whether their
/// addresses count.
pub(crate) fn view(
    core: &Core,
    config: &Config,
    shown: &Shown,
    old: &View,
    only: Option<&BTreeSet<NodeId>>,
    settled: bool,
) -> View {
    let reached = reached(core);
    let living: BTreeSet<_> = core
        .nodes()
        .filter(|n| core.life(n).is_some_and(|(life, ..)| life == Life::Alive))
        .collect();
    let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
    let mut members = BTreeMap::new();
    for id in core.nodes() {
        let others = living.iter().filter(|n| **n != id).count();
        let count = |service, addr| {
            let by = reached.get(&id).and_then(|r| r.get(&(service, addr)));
            probe::is_verified(by.copied().unwrap_or(0), others)
        };
        let kept = old
            .members
            .get(&id)
            .filter(|_| only.is_some_and(|o| !o.contains(&id)));
        let member = match kept {
            Some(kept) => {
                let stale = kept
                    .services
                    .iter()
                    .any(|s| s.verified != count(s.service, s.addr));
                if stale {
                    let mut new = Member::clone(kept);
                    for s in &mut new.services {
                        s.verified = count(s.service, s.addr);
                    }
                    Some(Arc::new(new))
                } else {
                    Some(kept.clone())
                }
            }
            None => member(core, config, shown.get(&id).map(|a| a.standing), id).map(|mut m| {
                for s in &mut m.services {
                    s.verified = count(s.service, s.addr);
                }
                match old.members.get(&id) {
                    Some(same) if **same == m => same.clone(),
                    _ => Arc::new(m),
                }
            }),
        };
        if let Some(member) = member {
            members.insert(id, member);
        }
    }
    View {
        version: old.version + 1,
        settled,
        members,
    }
}

/// What living nodes say that they reached.
fn reached(core: &Core) -> Reached {
    let mut all = Reached::new();
    for by in core.nodes() {
        if !core.life(&by).is_some_and(|(life, ..)| life == Life::Alive) {
            continue;
        }
        for (key, value) in core.values(&by) {
            let Some(node) = key
                .strip_prefix("p/")
                .and_then(|id| id.parse::<NodeId>().ok())
            else {
                continue;
            };
            if node == by {
                continue;
            }
            let addrs: BTreeSet<_> = facts::decode_addrs(value).into_iter().collect();
            for addr in addrs {
                *all.entry(node).or_default().entry(addr).or_default() += 1;
            }
        }
    }
    all
}

fn member(
    core: &Core,
    config: &Config,
    shown: Option<crate::authority::Standing>,
    id: NodeId,
) -> Option<Member> {
    let (life, incarnation, since) = core.life(&id)?;
    let standing = config.standing(id).or(shown);
    let node = config.node(id);
    let cluster = node.map(|n| n.cluster).or(standing.map(|s| s.cluster))?;
    let mut member = Member {
        id,
        alive: life == Life::Alive,
        incarnation,
        since,
        name: node.map_or_else(|| id.label(), |n| n.name.clone()),
        cluster,
        roles: standing.map_or(Roles::NONE, |s| s.roles),
        mode: routing::model::Mode::Normal,
        place: None,
        load: routing::model::Load::default(),
        capacity: None,
        services: Vec::new(),
        adverts: Vec::new(),
        remains: Vec::new(),
        issues: false,
        values: BTreeMap::new(),
    };
    let mut services = BTreeSet::new();
    for (key, value) in core.values(&id) {
        say(&mut member, &mut services, key, value);
    }
    member.services = services
        .into_iter()
        .map(|(service, addr)| ServiceAddr {
            service,
            addr,
            verified: false,
        })
        .collect();
    Some(member)
}

fn say(
    member: &mut Member,
    services: &mut BTreeSet<(Service, SocketAddr)>,
    key: &str,
    value: &Bytes,
) {
    match key.split_once('/') {
        None if key == facts::STATE => {
            if let Some(state) = facts::decode::<facts::State>(value) {
                services.extend(
                    state
                        .services()
                        .into_iter()
                        .filter(|s| s.0 != Service::Control),
                );
                member.mode = state.mode;
                member.place = state.place;
                member.load = state.load;
                member.capacity = state.capacity;
            }
        }
        None if key == facts::CONTROL => {
            let control = facts::decode_addrs(value).into_iter();
            services.extend(control.filter(|s| s.0 == Service::Control));
        }
        Some(("a", _)) => {
            if let Some(advert) = facts::decode::<Advert>(value) {
                let list = if advert.over {
                    &mut member.remains
                } else {
                    &mut member.adverts
                };
                list.push(advert);
            }
        }
        None if key == facts::ISSUES => member.issues = true,
        Some(("v", name)) => {
            member.values.insert(name.to_owned(), value.clone());
        }
        _ => {}
    }
}
