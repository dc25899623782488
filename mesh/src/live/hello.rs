//! The first words on a stream, and who is let in.
use minicbor::{Decode, Encode};
use routing::model::{MeshId, NodeId, UnixMillis};

use crate::{
    authority::{ClusterGrant, Facts, NodeGrant, Signed},
    config::Config,
    gate::Admitted,
    join::wire::{Greeting, Renewal},
};

/// The first frame of a stream: what it is for.
#[derive(Debug, Encode, Decode)]
pub(crate) enum First {
    /// The control link of two members.
    #[n(0)]
    Link(#[n(0)] Hello),
    /// A request to a member: the protocol; the body follows as a frame.
    #[n(1)]
    Call(#[n(0)] String),
    /// Somebody wants to join.
    #[n(2)]
    Join(#[n(0)] Greeting),
    /// A node wants its grant renewed.
    #[n(3)]
    Renew(#[n(0)] Renewal),
}

/// How each side of a control link names itself.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Hello {
    /// Its mesh.
    #[n(0)]
    pub(crate) mesh: MeshId,
    /// Its incarnation.
    #[n(1)]
    pub(crate) incarnation: u64,
    /// Its clock.
    #[n(2)]
    pub(crate) at: UnixMillis,
    /// Its cluster's grant.
    #[n(3)]
    pub(crate) cluster: Signed<ClusterGrant>,
    /// Its own grant.
    #[n(4)]
    pub(crate) node: Signed<NodeGrant>,
}

/// The answer to a hello.
#[derive(Debug, Encode, Decode)]
pub(crate) enum Answer {
    /// Come in; and this is who answers.
    #[n(0)]
    Welcome(#[n(0)] Hello),
    /// Not let in.
    #[n(1)]
    Refused(#[n(0)] String),
}

/// Why a peer is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "this node is of mesh {ours}, yours is of mesh {theirs}: one node serves one mesh; check the addresses that it dials"
    )]
    OtherMesh { ours: String, theirs: String },
    #[error("your node was revoked in this mesh: join anew under a new key")]
    Revoked,
    #[error("your grant does not hold: {0}; join again with a new token")]
    Grant(String),
    #[error(
        "your grant has ended, or does not begin yet by this node's clock ({now} ms since 1970): it is renewed by any gateway of your cluster; check your clock"
    )]
    Expired { now: u64 },
}

/// Judges a hello of a peer whose key is proven. Only what this returns for may touch shared state.
pub(crate) fn admit(
    hello: &Hello,
    peer: NodeId,
    config: &Config,
    now: UnixMillis,
) -> Result<Admitted, Refusal> {
    let ours = config.mesh_id();
    if hello.mesh != ours {
        return Err(Refusal::OtherMesh {
            ours: ours.short(),
            theirs: hello.mesh.short(),
        });
    }
    if config.is_revoked(peer) {
        return Err(Refusal::Revoked);
    }
    let recorded = config.facts();
    if let (Some(standing), Some(grant)) = (recorded.standing(peer, now), recorded.node(peer)) {
        let until = grant.expires;
        return Ok(Admitted { standing, until });
    }
    let grant = |e: crate::authority::AuthorityError| Refusal::Grant(e.to_string());
    let mut facts = Facts::new(ours);
    facts.add_cluster(&hello.cluster).map_err(grant)?;
    facts.add_node(&hello.node).map_err(grant)?;
    if hello.node.node != peer {
        return Err(Refusal::Grant("it is another node's".into()));
    }
    // A cluster that got a new key signs with that one; what an old key signed counts only where it is on record.
    let latest = recorded.cluster(hello.node.cluster);
    if latest
        .is_some_and(|known| known.key != hello.cluster.key && known.issued > hello.cluster.issued)
    {
        return Err(Refusal::Grant("its cluster has another key now".into()));
    }
    let standing = facts
        .standing(peer, now)
        .ok_or(Refusal::Expired { now: now.0 })?;
    let until = hello.node.expires;
    Ok(Admitted { standing, until })
}
