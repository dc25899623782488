//! How what a node says of itself is written in its map, and when a new state is worth saying.
//!
//! | key | value |
//! | --- | --- |
//! | `s` | [`State`]: place, capacity, load, mode, services |
//! | `c` | its control addresses |
//! | `i` | there while it holds its cluster's key |
//! | `a/BROADCAST` | an [`Advert`](crate::view::Advert) |
//! | `p/NODE` | the addresses of that node that it has reached |
//! | `v/KEY` | what others of the process publish |
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::net::SocketAddr;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use routing::model::{BroadcastId, Capacity, Load, Mode, NodeId, Place};

use crate::view::{NodeState, Service};

/// Addresses that are read of one value; further ones are passed over.
const MAX_ADDRS: usize = 32;

pub(crate) const STATE: &str = "s";
pub(crate) const CONTROL: &str = "c";
pub(crate) const ISSUES: &str = "i";

pub(crate) fn advert_key(broadcast: BroadcastId) -> String {
    format!("a/{broadcast}")
}

pub(crate) fn reached_key(node: NodeId) -> String {
    format!("p/{node}")
}

pub(crate) fn value_key(key: &str) -> String {
    format!("v/{key}")
}

/// What `s` holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct State {
    #[n(0)]
    pub(crate) place: Option<Place>,
    #[n(1)]
    pub(crate) capacity: Option<Capacity>,
    #[n(2)]
    pub(crate) load: Load,
    #[n(3)]
    pub(crate) mode: Mode,
    #[n(4)]
    services: Vec<(u8, String)>,
}

impl State {
    pub(crate) fn new(state: &NodeState) -> Self {
        Self {
            place: state.place.clone(),
            capacity: state.capacity,
            load: state.load,
            mode: state.mode,
            services: services(&state.services),
        }
    }

    pub(crate) fn services(&self) -> Vec<(Service, SocketAddr)> {
        known(&self.services)
    }
}

fn services(all: &[(Service, SocketAddr)]) -> Vec<(u8, String)> {
    all.iter()
        .take(MAX_ADDRS)
        .map(|(service, addr)| (*service as u8, addr.to_string()))
        .collect()
}

/// Services that a later version has are passed over.
fn known(all: &[(u8, String)]) -> Vec<(Service, SocketAddr)> {
    let one = |(service, addr): &(u8, String)| {
        let service = minicbor::decode(&[*service]).ok()?;
        Some((service, addr.parse().ok()?))
    };
    all.iter().take(MAX_ADDRS).filter_map(one).collect()
}

pub(crate) fn encode<T: Encode<()>>(value: &T) -> Bytes {
    minicbor::to_vec(value).unwrap_or_default().into()
}

/// Reads a value of another node; `None` when it is none. Never panics.
pub(crate) fn decode<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Option<T> {
    minicbor::decode(bytes).ok()
}

/// Writes a list of addresses by service.
pub(crate) fn encode_addrs(all: &[(Service, SocketAddr)]) -> Bytes {
    encode(&services(all))
}

/// Reads it; empty when it is none.
pub(crate) fn decode_addrs(bytes: &[u8]) -> Vec<(Service, SocketAddr)> {
    decode::<Vec<(u8, String)>>(bytes).map_or_else(Vec::new, |all| known(&all))
}

/// Whether `new` is worth saying after `old`: anything but the load differs, or the load by more than 5 %, of the
/// whole for processor and memory, of the capacity or else the old value for the rest.
pub(crate) fn differs(old: &NodeState, new: &NodeState) -> bool {
    let same = |load: Load, state: &NodeState| NodeState {
        load,
        ..state.clone()
    };
    if same(Load::default(), old) != same(Load::default(), new) {
        return true;
    }
    let (a, b) = (old.load, new.load);
    let whole = new.capacity.map_or(a.egress.0, |c| c.egress.0);
    a.cpu.0.abs_diff(b.cpu.0) > 50
        || a.memory.0.abs_diff(b.memory.0) > 50
        || a.egress.0.abs_diff(b.egress.0) > whole / 20
        || a.viewers.abs_diff(b.viewers) > a.viewers / 20
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use routing::model::{BitsPerSecond, Permille};

    use super::*;
    use crate::view::Advert;

    #[test]
    fn a_state_is_said_again_when_it_moved_by_more_than_a_twentieth() {
        let state = |cpu, egress, viewers| NodeState {
            capacity: Some(Capacity {
                egress: BitsPerSecond(1_000),
            }),
            load: Load {
                cpu: Permille(cpu),
                memory: Permille(100),
                egress: BitsPerSecond(egress),
                viewers,
            },
            ..NodeState::default()
        };
        let old = state(100, 500, 100);
        assert!(!differs(&old, &state(150, 550, 105)));
        assert!(differs(&old, &state(151, 500, 100)));
        assert!(differs(&old, &state(100, 551, 100)));
        assert!(differs(&old, &state(100, 500, 106)));
        assert!(differs(
            &old,
            &NodeState {
                mode: Mode::Draining,
                ..old.clone()
            }
        ));
    }

    #[test]
    fn addresses_read_back_and_unknown_services_are_passed_over() {
        let all = vec![(Service::Rtmp, "192.0.2.1:1935".parse().unwrap())];
        assert_eq!(decode_addrs(&encode_addrs(&all)), all);
        let later = encode(&vec![
            (200u8, "192.0.2.1:1".to_owned()),
            (4, "192.0.2.1:1935".into()),
        ]);
        assert_eq!(decode_addrs(&later), all);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode::<State>(&bytes).map(|s| s.services());
            let _ = decode::<Advert>(&bytes);
            let _ = decode_addrs(&bytes);
        }
    }
}
