//! What joiner and gateway say to each other.
use minicbor::{Decode, Encode, bytes::ByteVec};
use routing::model::{Label, MeshId, NodeId, Roles, UnixMillis};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::token::JoinPermit;
use crate::{
    authority::{ClusterGrant, NodeGrant, Signed},
    identity::Signature,
};

/// The longest answer: it carries the mesh scope.
pub(crate) const MAX_GRANTED: usize = 32 << 20;
/// The mesh scope's part of it; what does not fit comes over the first link.
pub(crate) const MAX_PIECES: usize = 24 << 20;

pub(crate) const PROOF: &str = "join proof 1";

/// 1.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Greeting {
    #[n(0)]
    pub(crate) permit: Signed<JoinPermit>,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) nonce: [u8; 32],
    #[n(2)]
    pub(crate) at: UnixMillis,
}

/// 2.
#[derive(Debug, Encode, Decode)]
pub(crate) enum Introduction {
    #[n(0)]
    Here {
        #[n(0)]
        cluster: Signed<ClusterGrant>,
        #[n(1)]
        node: Signed<NodeGrant>,
        #[cbor(n(2), with = "minicbor::bytes")]
        nonce: [u8; 32],
        #[n(3)]
        at: UnixMillis,
    },
    #[n(1)]
    Refused(#[n(0)] String),
    /// Another gateway redeems this token now: where, and why.
    #[n(2)]
    Elsewhere {
        #[n(0)]
        addrs: Vec<String>,
        #[n(1)]
        why: String,
    },
}

/// 3.
#[derive(Debug, Encode, Decode)]
pub(crate) struct Asked {
    #[n(0)]
    pub(crate) name: Label,
    #[n(1)]
    pub(crate) roles: Roles,
    #[n(2)]
    pub(crate) consent: Signature,
    #[n(3)]
    pub(crate) proof: Signature,
}

/// 4.
#[derive(Debug, Encode, Decode)]
pub(crate) enum Granted {
    #[n(0)]
    Welcome(#[n(0)] Box<Welcome>),
    #[n(1)]
    Refused(#[n(0)] String),
}

#[derive(Debug, Encode, Decode)]
pub(crate) struct Welcome {
    #[n(0)]
    pub(crate) cluster: Signed<ClusterGrant>,
    #[n(1)]
    pub(crate) node: Signed<NodeGrant>,
    #[n(2)]
    pub(crate) pieces: Vec<ByteVec>,
    #[n(3)]
    pub(crate) peers: Vec<(NodeId, Vec<String>)>,
    #[n(4)]
    pub(crate) keys: Option<Keys>,
}

/// What a gateway gets. Travels only on a connection whose both ends are proven.
#[derive(Encode, Decode, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Keys {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) cluster: [u8; 32],
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) epoch: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// A node asks for its next grant; the connection proves who asks.
#[derive(Debug, Encode, Decode)]
pub(crate) struct Renewal {
    #[n(0)]
    pub(crate) grant: Signed<NodeGrant>,
}

#[derive(Debug, Encode, Decode)]
pub(crate) enum Renewed {
    #[n(0)]
    Grant {
        #[n(0)]
        cluster: Signed<ClusterGrant>,
        #[n(1)]
        node: Signed<NodeGrant>,
    },
    #[n(1)]
    Refused(#[n(0)] String),
}

/// What the token's key signs: everything that this one join is about.
pub(crate) fn transcript(
    mesh: MeshId,
    (gateway, gateway_nonce): (NodeId, &[u8; 32]),
    (joiner, joiner_nonce): (NodeId, &[u8; 32]),
    name: &Label,
    roles: Roles,
) -> [u8; 32] {
    Sha256::new()
        .chain_update(mesh.as_bytes())
        .chain_update(gateway.as_bytes())
        .chain_update(gateway_nonce)
        .chain_update(joiner.as_bytes())
        .chain_update(joiner_nonce)
        .chain_update(minicbor::to_vec((name, roles)).unwrap_or_default())
        .finalize()
        .into()
}
