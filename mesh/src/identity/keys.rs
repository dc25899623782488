//! Ed25519 keys (RFC 8032). Secret halves are wiped when dropped and cannot be printed.
use std::fmt;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use routing::model::{ClusterId, MeshId, NodeId};
use zeroize::{Zeroize as _, Zeroizing};

/// Why a signature does not count, or a key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// These 32 bytes are no point of the curve, or one of small order.
    #[error("these 32 bytes are no Ed25519 public key")]
    Key,
    /// The signature is not this key's over these bytes in this context.
    #[error("the signature does not belong to this key and text")]
    Signature,
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct PublicKey(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

impl PublicKey {
    /// The key with these bytes; whether they are a point of the curve shows when it verifies.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature that was made in `context`, strictly (no malleable forms, no keys of small order).
    ///
    /// # Errors
    /// [`KeyError`] when it does not hold.
    pub fn verify(
        &self,
        context: &str,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), KeyError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| KeyError::Key)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&framed(context, message), &signature)
            .map_err(|_| KeyError::Signature)
    }
}

impl From<NodeId> for PublicKey {
    fn from(id: NodeId) -> Self {
        Self(*id.as_bytes())
    }
}

impl From<MeshId> for PublicKey {
    fn from(id: MeshId) -> Self {
        Self(*id.as_bytes())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = BASE32_NOPAD.encode(&self.0).to_ascii_lowercase();
        write!(f, "PublicKey({}…)", text.get(..8).unwrap_or_default())
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Signature(#[cbor(n(0), with = "minicbor::bytes")] [u8; 64]);

impl Signature {
    /// The signature with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

/// What is really signed: `shoal`, the context and a zero byte before the message, so that a signature of one kind
/// of statement is never one of another.
fn framed(context: &str, message: &[u8]) -> Vec<u8> {
    [b"shoal ", context.as_bytes(), b"\0", message].concat()
}

/// Whatever holds a secret key and signs with it.
pub trait Signs {
    /// Signs in a context; [`PublicKey::verify`] with the same context checks it.
    fn sign(&self, context: &str, message: &[u8]) -> Signature;
    /// The public half.
    fn public(&self) -> PublicKey;
}

macro_rules! secret_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SigningKey);

        impl $name {
            /// The key of a seed. A new key's seed is 32 bytes from the system's generator.
            #[must_use]
            pub fn from_seed(mut seed: [u8; 32]) -> Self {
                let key = SigningKey::from_bytes(&seed);
                seed.zeroize();
                Self(key)
            }

            /// The seed, for the key's file or for a library that needs it.
            #[must_use]
            pub fn seed(&self) -> Zeroizing<[u8; 32]> {
                Zeroizing::new(self.0.to_bytes())
            }

            /// The public half.
            #[must_use]
            pub fn public(&self) -> PublicKey {
                PublicKey(self.0.verifying_key().to_bytes())
            }

            /// Signs in a context; [`PublicKey::verify`] with the same context checks it.
            #[must_use]
            pub fn sign(&self, context: &str, message: &[u8]) -> Signature {
                Signature(self.0.sign(&framed(context, message)).to_bytes())
            }
        }

        impl Signs for $name {
            fn sign(&self, context: &str, message: &[u8]) -> Signature {
                $name::sign(self, context, message)
            }
            fn public(&self) -> PublicKey {
                $name::public(self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret_key! {
    /// A node's key: its libp2p identity, its QUIC certificate's key, and the author of its records.
    NodeKey
}
secret_key! {
    /// The founding key of a mesh. It signs cluster and tenant grants and the mesh's facts.
    RootKey
}
secret_key! {
    /// A cluster's issuing key. It signs node grants, entitlements and revocations.
    ClusterKey
}
secret_key! {
    /// A tenant's key. It signs entitlements.
    TenantKey
}

impl NodeKey {
    /// The node's id: the public half.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId::from_bytes(*self.public().as_bytes())
    }

    /// The node's word that it belongs to `cluster`: what a [`NodeGrant`](crate::authority::NodeGrant) must carry,
    /// so that no cluster can draw another's node into itself, or revoke it.
    #[must_use]
    pub fn consent(&self, mesh: &MeshId, cluster: ClusterId) -> Signature {
        self.sign(CONSENT, &consent_text(mesh, cluster))
    }
}

impl RootKey {
    /// The mesh's id: the public half.
    #[must_use]
    pub fn mesh(&self) -> MeshId {
        MeshId::from_bytes(*self.public().as_bytes())
    }
}

const CONSENT: &str = "node consent 1";

fn consent_text(mesh: &MeshId, cluster: ClusterId) -> Vec<u8> {
    [&mesh.as_bytes()[..], &cluster.as_bytes()[..]].concat()
}

/// Checks what [`NodeKey::consent`] made.
///
/// # Errors
/// [`KeyError`] when `node` did not give it for this mesh and cluster.
pub fn verify_consent(
    node: NodeId,
    mesh: &MeshId,
    cluster: ClusterId,
    consent: &Signature,
) -> Result<(), KeyError> {
    PublicKey::from(node).verify(CONSENT, &consent_text(mesh, cluster), consent)
}

/// A cluster's epoch secret: what the keys that seal its tenants' secrets derive from. Nodes with the role `gateway`
/// get it when they join.
#[derive(Clone)]
pub struct EpochSecret(Zeroizing<[u8; 32]>);

impl EpochSecret {
    /// The secret with these bytes, which come from the system's generator.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let secret = Self(Zeroizing::new(bytes));
        bytes.zeroize();
        secret
    }

    /// Its bytes, for its file and for the join answer.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for EpochSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_counts_for_its_key_text_and_context_only() {
        let key = NodeKey::from_seed([7; 32]);
        let sig = key.sign("a", b"text");
        assert_eq!(key.public().verify("a", b"text", &sig), Ok(()));
        for (k, context, text) in [
            (key.public(), "b", &b"text"[..]),
            (key.public(), "a", b"texu"),
            (NodeKey::from_seed([8; 32]).public(), "a", b"text"),
        ] {
            assert_eq!(k.verify(context, text, &sig), Err(KeyError::Signature));
        }
        // The neutral element, a key of small order, verifies nothing.
        let mut weak = [0; 32];
        weak[0] = 1;
        assert!(
            PublicKey::from_bytes(weak)
                .verify("a", b"text", &sig)
                .is_err()
        );
    }

    #[test]
    fn keys_cannot_be_printed() {
        assert_eq!(format!("{:?}", NodeKey::from_seed([7; 32])), "NodeKey(..)");
        assert_eq!(format!("{:?}", RootKey::from_seed([7; 32])), "RootKey(..)");
        assert_eq!(
            format!("{:?}", EpochSecret::from_bytes([7; 32])),
            "EpochSecret(..)"
        );
    }

    #[test]
    fn consent_is_to_one_cluster_of_one_mesh() {
        let (node, mesh) = (
            NodeKey::from_seed([1; 32]),
            RootKey::from_seed([2; 32]).mesh(),
        );
        let (ours, other) = (
            ClusterId::from_bytes([3; 16]),
            ClusterId::from_bytes([4; 16]),
        );
        let consent = node.consent(&mesh, ours);
        assert!(verify_consent(node.id(), &mesh, ours, &consent).is_ok());
        assert!(verify_consent(node.id(), &mesh, other, &consent).is_err());
    }
}
