//! Sealing: what gateways may read back, and a disk or a relaying node may not.
//!
//! A stream key's text is sealed by XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) under HKDF-SHA-256 (RFC 5869) of
//! the cluster's [`EpochSecret`] and the tenant's id; which tenant, stream and key it belongs to is authenticated
//! with it, so that a sealed text moved elsewhere opens nothing.
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use minicbor::{Decode, Encode};
use routing::model::{StreamId, StreamKey, TenantId};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{identity::EpochSecret, records::KeyId};

/// A sealed text: 24 bytes of nonce, the encrypted text, 16 bytes of tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The longest, in bytes.
    pub const MAX: usize = StreamKey::MAX + NONCE + 16;

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

const NONCE: usize = 24;

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed(..)")
    }
}

impl<C> Encode<C> for Sealed {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Sealed {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        if bytes.len() > Self::MAX {
            return Err(minicbor::decode::Error::message("a sealed text this long"));
        }
        Ok(Self(bytes.to_vec()))
    }
}

/// Why a sealed text does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevealError {
    /// This node has no epoch secret.
    #[error("this node cannot read stream keys back: only gateways can; ask one of them")]
    NotAGateway,
    /// It was sealed by another cluster, or altered.
    #[error(
        "this stream key was sealed by another cluster, or altered: ask a gateway of the cluster that made it, or make a new key"
    )]
    Closed,
}

fn cipher(epoch: &EpochSecret, tenant: TenantId) -> XChaCha20Poly1305 {
    let mut key = Zeroizing::new([0; 32]);
    let derived = hkdf::Hkdf::<Sha256>::new(Some(b"shoal stream key seal 1"), epoch.bytes())
        .expand(tenant.as_bytes(), key.as_mut());
    debug_assert!(derived.is_ok(), "HKDF gives up to 8160 bytes");
    XChaCha20Poly1305::new(&(*key).into())
}

fn context(tenant: TenantId, stream: StreamId, key: KeyId) -> Vec<u8> {
    [*tenant.as_bytes(), *stream.as_bytes(), *key.as_bytes()].concat()
}

/// Seals a stream key's text. `nonce` is 24 random bytes, new for every call.
#[must_use]
pub fn seal(
    epoch: &EpochSecret,
    (tenant, stream, key): (TenantId, StreamId, KeyId),
    text: &StreamKey,
    nonce: [u8; NONCE],
) -> Sealed {
    let aad = context(tenant, stream, key);
    let payload = Payload {
        msg: text.expose().as_bytes(),
        aad: &aad,
    };
    let sealed = cipher(epoch, tenant).encrypt(&nonce.into(), payload);
    debug_assert!(sealed.is_ok(), "a key is far below the cipher's limit");
    Sealed([nonce.to_vec(), sealed.unwrap_or_default()].concat())
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`RevealError::Closed`] when it is another secret's, tenant's, stream's or key's, or altered.
pub fn open(
    epoch: &EpochSecret,
    (tenant, stream, key): (TenantId, StreamId, KeyId),
    sealed: &Sealed,
) -> Result<StreamKey, RevealError> {
    let (nonce, msg) = sealed
        .0
        .split_first_chunk::<NONCE>()
        .ok_or(RevealError::Closed)?;
    let aad = context(tenant, stream, key);
    let text = cipher(epoch, tenant)
        .decrypt(&(*nonce).into(), Payload { msg, aad: &aad })
        .map(Zeroizing::new)
        .map_err(|_| RevealError::Closed)?;
    std::str::from_utf8(&text)
        .map(StreamKey::new)
        .map_err(|_| RevealError::Closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_key_opens_with_its_secret_and_place_only() {
        let epoch = EpochSecret::from_bytes([1; 32]);
        let place = (
            TenantId::from_bytes([2; 16]),
            StreamId::from_bytes([3; 16]),
            KeyId::from_bytes([4; 16]),
        );
        let key = StreamKey::from_random([5; 28]);
        let sealed = seal(&epoch, place, &key, [6; 24]);
        assert_eq!(open(&epoch, place, &sealed), Ok(key.clone()));
        assert!(
            !sealed
                .0
                .windows(6)
                .any(|w| key.expose().as_bytes().starts_with(w))
        );

        let other = EpochSecret::from_bytes([9; 32]);
        assert_eq!(open(&other, place, &sealed), Err(RevealError::Closed));
        let elsewhere = (place.0, StreamId::from_bytes([9; 16]), place.2);
        assert_eq!(open(&epoch, elsewhere, &sealed), Err(RevealError::Closed));
        for i in 0..sealed.0.len() {
            let mut altered = sealed.clone();
            altered.0[i] ^= 1;
            assert_eq!(open(&epoch, place, &altered), Err(RevealError::Closed));
        }
        assert_eq!(
            open(&epoch, place, &Sealed(vec![0; 10])),
            Err(RevealError::Closed)
        );
    }
}
