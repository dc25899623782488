//! A statement with the signatures over its exact bytes.
use std::{fmt, ops::Deref, sync::Arc};

use minicbor::{Decode, Decoder, Encode, Encoder};
use sha2::{Digest as _, Sha256};

use crate::identity::{KeyError, PublicKey, Signature, Signs};

/// The longest statement that is read at all, in bytes.
pub const MAX_STATEMENT: usize = 8 * 1024;

/// Why a statement does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Its bytes are none of this kind.
    #[error("this is no {kind}: {what}")]
    Malformed {
        /// What it was taken for.
        kind: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// It is of another mesh.
    #[error("this {kind} belongs to another mesh, one with another root key")]
    OtherMesh {
        /// What it is.
        kind: &'static str,
    },
    /// A signature is missing, wrong, or by the wrong key.
    #[error("this {kind} is not signed by those who must sign it: {source}")]
    Signature {
        /// What it is.
        kind: &'static str,
        /// What failed.
        source: KeyError,
    },
    /// A field is longer or larger than allowed.
    #[error("this {kind} breaks a limit: {what}")]
    Limit {
        /// What it is.
        kind: &'static str,
        /// Which limit.
        what: &'static str,
    },
}

/// What can be signed as a statement.
pub trait Statement: Encode<()> + for<'b> Decode<'b, ()> {
    /// What it is called in errors, and what keeps its signatures apart from others'.
    const KIND: &'static str;

    /// Checks lengths and ranges.
    ///
    /// # Errors
    /// The limit that is broken.
    fn check(&self) -> Result<(), &'static str>;
}

/// A statement, the exact bytes that were signed, and the signatures in the order that its kind asks for.
#[derive(Clone)]
pub struct Signed<T> {
    body: Arc<[u8]>,
    signatures: Arc<[Signature]>,
    value: Arc<T>,
}

impl<T: Statement> Signed<T> {
    /// Signs `value` with each of `keys`, in the order that its kind asks for.
    ///
    /// # Errors
    /// [`AuthorityError::Limit`] when a field breaks one.
    pub fn sign(value: T, keys: &[&dyn Signs]) -> Result<Self, AuthorityError> {
        let limit = |what| AuthorityError::Limit {
            kind: T::KIND,
            what,
        };
        value.check().map_err(limit)?;
        let mut body = Vec::new();
        minicbor::encode(&value, &mut body).map_err(|_| limit("cannot be encoded"))?;
        if body.len() > MAX_STATEMENT {
            return Err(limit("longer than 8 KiB"));
        }
        Ok(Self {
            signatures: keys.iter().map(|k| k.sign(T::KIND, &body)).collect(),
            body: body.into(),
            value: Arc::new(value),
        })
    }

    /// Checks that exactly these keys signed, in this order.
    ///
    /// # Errors
    /// [`AuthorityError::Signature`] when not.
    pub fn signed_by(&self, keys: &[PublicKey]) -> Result<(), AuthorityError> {
        let failed = |source| AuthorityError::Signature {
            kind: T::KIND,
            source,
        };
        if self.signatures.len() != keys.len() {
            return Err(failed(KeyError::Signature));
        }
        keys.iter()
            .zip(self.signatures.iter())
            .try_for_each(|(key, sig)| key.verify(T::KIND, &self.body, sig).map_err(failed))
    }

    /// Reads what [`Signed::to_bytes`] wrote. The signatures are not checked yet.
    ///
    /// # Errors
    /// [`AuthorityError::Malformed`] or [`AuthorityError::Limit`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AuthorityError> {
        let mut d = Decoder::new(bytes);
        let read = |e: minicbor::decode::Error| AuthorityError::Malformed {
            kind: T::KIND,
            what: e.to_string(),
        };
        let signed = Self::read(&mut d).map_err(read)?;
        signed.value.check().map_err(|what| AuthorityError::Limit {
            kind: T::KIND,
            what,
        })?;
        Ok(signed)
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        if d.array()? != Some(2) {
            return Err(Error::message("not a body and its signatures"));
        }
        let body = d.bytes()?;
        if body.len() > MAX_STATEMENT {
            return Err(Error::message("longer than 8 KiB"));
        }
        let count = d.array()?.filter(|n| (1..=2).contains(n));
        let count = count.ok_or_else(|| Error::message("not one or two signatures"))?;
        let signatures = (0..count)
            .map(|_| d.decode::<Signature>())
            .collect::<Result<Arc<[_]>, _>>()?;
        let value = minicbor::decode::<T>(body)?;
        Ok(Self {
            body: body.into(),
            signatures,
            value: Arc::new(value),
        })
    }

    /// The statement as it travels and rests: a body and its signatures.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 80);
        let written = self.write(&mut Encoder::new(&mut out));
        debug_assert!(written.is_ok(), "a Vec takes every byte");
        out
    }

    fn write<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?
            .bytes(&self.body)?
            .array(self.signatures.len() as u64)?;
        for signature in self.signatures.iter() {
            e.encode(signature)?;
        }
        e.ok()
    }
}

impl<T> Signed<T> {
    /// What it is told apart by: SHA-256 of what was signed.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.body).into()
    }
}

impl<T> Deref for Signed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.body == other.body && self.signatures == other.signatures
    }
}

impl<T> Eq for Signed<T> {}

impl<T: fmt::Debug> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signed").field(&self.value).finish()
    }
}

impl<C, T: Statement> Encode<C> for Signed<T> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.write(e)
    }
}

impl<'b, C, T: Statement> Decode<'b, C> for Signed<T> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let signed = Self::read(d)?;
        signed
            .value
            .check()
            .map_err(minicbor::decode::Error::message)?;
        Ok(signed)
    }
}
