//! What a record says.
use minicbor::{Decode, Decoder, Encode};
use routing::model::{PlaybackId, StreamId, TenantId, UnixMillis};

use super::{KeyId, Scope, TokenId};
use crate::{
    authority::{ClusterGrant, Entitlement, MeshFacts, NodeGrant, Revocation, Signed, TenantGrant},
    seal::Sealed,
};

const MAX_NAME: usize = 256;
const MAX_TEXT: usize = 4096;

/// Why a change cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A field is longer than allowed.
    #[error("{field} is longer than {max} bytes: shorten it")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// How long it may be, in bytes.
        max: usize,
    },
    /// It belongs in another scope.
    #[error("a change of this kind belongs in another scope than {scope:?}")]
    Scope {
        /// Where it was to be written.
        scope: Scope,
    },
    /// This version does not know it.
    #[error("this version of shoal does not know changes of kind {kind}, so it writes none")]
    Unknown {
        /// Its number.
        kind: u64,
    },
}

/// One thing that a record says. Kinds and fields are numbered: a later version adds numbers and never reuses one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum Change {
    /// Mesh scope: the mesh's facts.
    #[n(1)]
    Mesh(#[n(0)] Signed<MeshFacts>),
    /// Mesh scope: a cluster is granted, or its grant is replaced.
    #[n(2)]
    Cluster(#[n(0)] Signed<ClusterGrant>),
    /// Mesh scope: a node is granted, or its grant is renewed.
    #[n(3)]
    Node(#[n(0)] Signed<NodeGrant>),
    /// Mesh scope: a tenant is granted, or its grant is replaced.
    #[n(4)]
    Tenant(#[n(0)] Signed<TenantGrant>),
    /// Mesh scope: a cluster is entitled, or its entitlement is replaced.
    #[n(5)]
    Entitled(#[n(0)] Signed<Entitlement>),
    /// Mesh scope: a node is no more. Final.
    #[n(6)]
    Revoked(#[n(0)] Signed<Revocation>),
    /// Mesh scope: a tenant's name for people.
    #[n(7)]
    TenantNamed {
        /// The tenant.
        #[n(0)]
        tenant: TenantId,
        /// At most 256 bytes.
        #[n(1)]
        name: String,
    },
    /// Mesh scope: an API token exists. Every node knows its hash, so that every gateway can check it.
    #[n(8)]
    TokenCreated {
        /// The token.
        #[n(0)]
        token: TokenId,
        /// Whose it is.
        #[n(1)]
        tenant: TenantId,
        /// Of its text: [`token_hash`](super::changes::token_hash).
        #[cbor(n(2), with = "minicbor::bytes")]
        hash: [u8; 32],
        /// At most 256 bytes.
        #[n(3)]
        name: String,
        /// When it ends, if it does.
        #[n(4)]
        expires: Option<UnixMillis>,
    },
    /// Mesh scope: an API token is no more. Final.
    #[n(9)]
    TokenRevoked {
        /// The token.
        #[n(0)]
        token: TokenId,
        /// Whose it is.
        #[n(1)]
        tenant: TenantId,
    },
    /// Tenant scope: a stream exists.
    #[n(32)]
    StreamCreated {
        /// The stream.
        #[n(0)]
        stream: StreamId,
        /// Its public id: a claim.
        #[n(1)]
        playback: PlaybackId,
    },
    /// Tenant scope: a stream's name for people.
    #[n(33)]
    StreamNamed {
        /// The stream.
        #[n(0)]
        stream: StreamId,
        /// At most 256 bytes.
        #[n(1)]
        name: String,
    },
    /// Tenant scope: a stream's description.
    #[n(34)]
    StreamDescribed {
        /// The stream.
        #[n(0)]
        stream: StreamId,
        /// At most 4096 bytes; none removes it.
        #[n(1)]
        description: Option<String>,
    },
    /// Tenant scope: a stream is no more. Final.
    #[n(35)]
    StreamDeleted {
        /// The stream.
        #[n(0)]
        stream: StreamId,
    },
    /// Tenant scope: a stream key exists.
    #[n(36)]
    KeyCreated {
        /// The stream.
        #[n(0)]
        stream: StreamId,
        /// The key.
        #[n(1)]
        key: KeyId,
        /// What it is found by: [`StreamKey::hash`](routing::model::StreamKey::hash). A claim.
        #[cbor(n(2), with = "minicbor::bytes")]
        hash: [u8; 32],
        /// Its text, for gateways.
        #[n(3)]
        sealed: Sealed,
        /// At most 256 bytes.
        #[n(4)]
        name: String,
    },
    /// Tenant scope: a stream key opens nothing any more. Final.
    #[n(37)]
    KeyDeactivated {
        /// The stream.
        #[n(0)]
        stream: StreamId,
        /// The key.
        #[n(1)]
        key: KeyId,
    },
    /// Tenant scope: a stream key is no more. Final.
    #[n(38)]
    KeyDeleted {
        /// The stream.
        #[n(0)]
        stream: StreamId,
        /// The key.
        #[n(1)]
        key: KeyId,
    },
    /// Tenant scope: which of a stream's keys is shown first.
    #[n(39)]
    KeyPrimary {
        /// The stream.
        #[n(0)]
        stream: StreamId,
        /// The key.
        #[n(1)]
        key: KeyId,
    },
    /// What this version does not understand: kept and passed on, without effect.
    #[n(4_294_967_295)]
    Unknown {
        /// Its number.
        #[n(0)]
        kind: u64,
    },
}

impl Change {
    /// Checks lengths, and that it belongs in `scope`.
    ///
    /// # Errors
    /// [`ChangeError`]: which rule it breaks.
    pub fn check(&self, scope: Scope) -> Result<(), ChangeError> {
        let long = |field, text: &str, max| {
            if text.len() > max {
                Err(ChangeError::TooLong { field, max })
            } else {
                Ok(())
            }
        };
        let in_tenant = match self {
            Self::Mesh(_)
            | Self::Cluster(_)
            | Self::Node(_)
            | Self::Tenant(_)
            | Self::Entitled(_)
            | Self::Revoked(_)
            | Self::TokenRevoked { .. } => false,
            Self::TenantNamed { name, .. } => {
                long("the tenant's name", name, MAX_NAME)?;
                false
            }
            Self::TokenCreated { name, .. } => {
                long("the token's name", name, MAX_NAME)?;
                false
            }
            Self::StreamNamed { name, .. } => {
                long("the stream's name", name, MAX_NAME)?;
                true
            }
            Self::KeyCreated { name, .. } => {
                long("the key's name", name, MAX_NAME)?;
                true
            }
            Self::StreamDescribed { description, .. } => {
                let text = description.as_deref().unwrap_or_default();
                long("the description", text, MAX_TEXT)?;
                true
            }
            Self::StreamCreated { .. }
            | Self::StreamDeleted { .. }
            | Self::KeyDeactivated { .. }
            | Self::KeyDeleted { .. }
            | Self::KeyPrimary { .. } => true,
            Self::Unknown { kind } => return Err(ChangeError::Unknown { kind: *kind }),
        };
        if in_tenant == matches!(scope, Scope::Tenant(_)) {
            Ok(())
        } else {
            Err(ChangeError::Scope { scope })
        }
    }

    /// Reads one change; what this version does not understand, or what breaks a limit, is [`Change::Unknown`], so
    /// that a record of a later version is kept whole.
    ///
    /// # Errors
    /// When it has not the shape `[kind, fields]`.
    pub(crate) fn read(d: &mut Decoder<'_>, scope: Scope) -> Result<Self, minicbor::decode::Error> {
        let start = d.position();
        if d.array()? != Some(2) {
            return Err(minicbor::decode::Error::message(
                "not a kind and its fields",
            ));
        }
        let kind = d.u64()?;
        d.skip()?;
        let whole = d.input().get(start..d.position()).unwrap_or_default();
        let known = minicbor::decode::<Self>(whole).ok();
        Ok(known
            .filter(|change| change.check(scope).is_ok())
            .unwrap_or(Self::Unknown { kind }))
    }
}
