//! Other nodes' words about their viewers, under any bytes.
use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use fuzz_kit::{Input, join};
use mesh::view::{Member, View};
use routing::model::{BroadcastId, ClusterId, Load, Mode, NodeId, Roles, Uptime};

use super::{
    elsewhere,
    live::{VIEWERS, viewers_of, watched},
};

fuzz_kit::targets! {
    node_viewers: viewers, viewer_seeds;
    node_elsewhere: elsewhere::bear, elsewhere::samples;
}

const BROADCAST: BroadcastId = BroadcastId::from_bytes([1; 16]);

fn member(n: u8, said: &[u8]) -> Member {
    let id = NodeId::from_bytes([n; 32]);
    Member {
        id,
        alive: true,
        incarnation: 1,
        since: Uptime::ZERO,
        name: id.label(),
        cluster: ClusterId::from_bytes([1; 16]),
        roles: Roles::NONE,
        mode: Mode::Normal,
        place: None,
        load: Load::default(),
        capacity: None,
        services: Vec::new(),
        adverts: Vec::new(),
        remains: Vec::new(),
        issues: false,
        values: BTreeMap::from([(VIEWERS.to_owned(), Bytes::copy_from_slice(said))]),
    }
}

/// What some say too much of takes nothing from what others say.
fn viewers(bytes: &[u8]) {
    let (mut input, mut view) = (Input::new(bytes), View::default());
    for n in 0..4 {
        let member = member(n, input.block());
        view.members.insert(member.id, Arc::new(member));
    }
    let most = watched(&view)
        .filter(|w| w.broadcast == BROADCAST)
        .map(|w| w.viewers)
        .max();
    assert!(viewers_of(&view, BROADCAST) >= most.unwrap_or(0));
}

fn viewer_seeds() -> Vec<Vec<u8>> {
    let said = |n: u32| serde_json::to_vec(&[(BROADCAST, n)]).unwrap_or_default();
    vec![join([said(7), said(70_000), b"[]".to_vec()])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_viewers_than_there_are_people_are_as_many_as_can_be_counted() {
        let said = format!("[[\"{BROADCAST}\",{}]]", u32::MAX);
        let mut view = View::default();
        for n in 0..3 {
            let member = member(n, said.as_bytes());
            view.members.insert(member.id, Arc::new(member));
        }
        assert_eq!(viewers_of(&view, BROADCAST), u32::MAX);
    }
}
