//! This node's own grants and the peers that it remembers, as small files of the data directory: what it needs before
//! its records are there, or when its grant has ended.
use std::{collections::BTreeMap, net::SocketAddr};

use minicbor::{Decode, Encode};
use routing::model::NodeId;

use crate::{
    authority::{ClusterGrant, NodeGrant, Signed},
    identity::{DataDir, DataDirError},
};

const GRANTS: &str = "grants";
const PEERS: &str = "peers";
/// Peers that are remembered.
const MAX_PEERS: usize = 512;

#[derive(Encode, Decode)]
struct Grants {
    #[n(0)]
    cluster: Signed<ClusterGrant>,
    #[n(1)]
    node: Signed<NodeGrant>,
}

/// Keeps the grants.
pub(crate) fn save(
    dir: &DataDir,
    cluster: &Signed<ClusterGrant>,
    node: &Signed<NodeGrant>,
) -> Result<(), DataDirError> {
    let grants = Grants {
        cluster: cluster.clone(),
        node: node.clone(),
    };
    dir.write(GRANTS, &minicbor::to_vec(&grants).unwrap_or_default())
}

/// A cluster's grant and a node's by it.
pub(crate) type Pair = (Signed<ClusterGrant>, Signed<NodeGrant>);

/// Reads them; `None` when they are not there or damaged.
pub(crate) fn load(dir: &DataDir) -> Result<Option<Pair>, DataDirError> {
    let bytes = dir.read(GRANTS)?;
    let grants: Option<Grants> = bytes.and_then(|b| minicbor::decode(&b).ok());
    Ok(grants.map(|g| (g.cluster, g.node)))
}

/// Peers and their control addresses.
pub(crate) type Known = BTreeMap<NodeId, Vec<SocketAddr>>;

/// Keeps them.
pub(crate) fn save_peers(dir: &DataDir, peers: &Known) -> Result<(), DataDirError> {
    let list: Vec<(NodeId, Vec<String>)> = peers
        .iter()
        .take(MAX_PEERS)
        .map(|(id, addrs)| (*id, addrs.iter().map(ToString::to_string).collect()))
        .collect();
    dir.write(PEERS, &minicbor::to_vec(&list).unwrap_or_default())
}

/// Reads them. What is damaged is as good as not there.
pub(crate) fn load_peers(dir: &DataDir) -> Result<Known, DataDirError> {
    let bytes = dir.read(PEERS)?;
    let list: Option<Vec<(NodeId, Vec<String>)>> = bytes.and_then(|b| minicbor::decode(&b).ok());
    Ok(parse(list.unwrap_or_default()))
}

/// Reads such a list as a peer sends it.
pub(crate) fn parse(list: Vec<(NodeId, Vec<String>)>) -> Known {
    list.into_iter()
        .take(MAX_PEERS)
        .map(|(id, addrs)| {
            (
                id,
                addrs
                    .iter()
                    .take(8)
                    .filter_map(|a| a.parse().ok())
                    .collect(),
            )
        })
        .collect()
}
