//! What a [`Config`](super::Config) lists.
use routing::model::{
    ClusterId, Hlc, Label, NodeId, PlaybackId, Roles, StreamId, TenantId, UnixMillis,
};

use crate::{
    authority::{ClusterKind, NodeGrant, Signed},
    identity::PublicKey,
    records::{KeyId, TokenId},
    seal::Sealed,
};

/// One operator's nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Whose it is.
    pub kind: ClusterKind,
    /// Its label in DNS; none when another cluster holds it.
    pub slug: Option<Label>,
    /// Its name for people.
    pub name: String,
    /// The roles that its nodes may have.
    pub roles: Roles,
    /// The key that issues its node grants.
    pub key: PublicKey,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its name for people.
    pub name: Label,
    /// Its roles, as far as its cluster may give them.
    pub roles: Roles,
    /// When its grant ends.
    pub expires: UnixMillis,
    /// The grant itself.
    pub grant: Signed<NodeGrant>,
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its label in DNS; none when another tenant holds it.
    pub label: Option<Label>,
    /// Its name for people; its label until it was named.
    pub name: String,
    /// Whether it has names of its own under BASE.
    pub branded: bool,
}

/// An API token, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Of its text.
    pub hash: [u8; 32],
    /// Its name for people.
    pub name: String,
    /// When it was made.
    pub created: UnixMillis,
    /// When it ends, if it does.
    pub expires: Option<UnixMillis>,
}

/// What a tenant publishes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its id.
    pub id: StreamId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its public id for viewers.
    pub playback: PlaybackId,
    /// Its name for people.
    pub name: String,
    /// What its tenant says of it.
    pub description: Option<String>,
    /// When it was made.
    pub created: UnixMillis,
    /// When anything of it changed last, its keys included.
    pub updated: UnixMillis,
    /// The stamp of that change.
    pub stamp: Hlc,
}

/// A stream key, its text sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its id.
    pub id: KeyId,
    /// Its stream.
    pub stream: StreamId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name for people.
    pub name: String,
    /// Whether it still opens the stream.
    pub active: bool,
    /// Whether it is the one that is shown first.
    pub primary: bool,
    /// When it was made.
    pub created: UnixMillis,
    /// What it is found by.
    pub hash: [u8; 32],
    /// Its text, for [`Records::reveal`](crate::records::Records::reveal).
    pub sealed: Sealed,
}
