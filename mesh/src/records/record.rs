//! One record, as it travels and rests.
use std::{fmt, sync::Arc};

use bytes::Bytes;
use minicbor::{Decode, Decoder, Encode, Encoder};
use routing::model::{Hlc, MeshId, NodeId, TenantId};
use sha2::{Digest as _, Sha256};

use super::Change;
use crate::identity::{KeyError, NodeKey, PublicKey, Signature};

/// The longest record, in bytes as it travels.
pub const MAX_RECORD: usize = 64 * 1024;
/// The most changes in one record.
pub const MAX_CHANGES: usize = 64;

const CONTEXT: &str = "record 1";

/// A set of records that spreads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Scope {
    /// Grants, tenants, tokens: on every node.
    #[n(0)]
    Mesh,
    /// A tenant's own: on the nodes of entitled clusters.
    #[n(1)]
    Tenant(#[n(0)] TenantId),
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// They have not a record's shape.
    #[error("this is no record: {0}")]
    Malformed(String),
    /// It is too long or has too many changes.
    #[error("a record has at most {MAX_RECORD} bytes and {MAX_CHANGES} changes")]
    TooLarge,
    /// It is of another mesh.
    #[error("this record belongs to another mesh, one with another root key")]
    OtherMesh,
    /// Its author did not sign it.
    #[error("this record is not signed by the node that it names: {0}")]
    Signature(#[from] KeyError),
}

/// A record whose author's signature was checked. Cheap to clone.
#[derive(Clone)]
pub struct Record(Arc<Inner>);

struct Inner {
    raw: Bytes,
    hash: [u8; 32],
    scope: Scope,
    author: NodeId,
    number: u64,
    prev: [u8; 32],
    at: Hlc,
    changes: Vec<Change>,
}

/// Where a new record goes in its author's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) scope: Scope,
    pub(crate) number: u64,
    pub(crate) prev: [u8; 32],
    pub(crate) at: Hlc,
}

impl Record {
    /// Writes and signs a record.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`].
    pub(crate) fn sign(
        key: &NodeKey,
        mesh: MeshId,
        slot: Slot,
        changes: Vec<Change>,
    ) -> Result<Self, RecordError> {
        if changes.len() > MAX_CHANGES {
            return Err(RecordError::TooLarge);
        }
        let author = key.id();
        let mut body = Vec::new();
        let mut e = Encoder::new(&mut body);
        let write = |e: &mut Encoder<&mut Vec<u8>>| -> Result<(), minicbor::encode::Error<_>> {
            e.array(7)?
                .encode(mesh)?
                .encode(slot.scope)?
                .encode(author)?
                .u64(slot.number)?
                .bytes(&slot.prev)?
                .encode(slot.at)?
                .encode(&changes)?;
            Ok(())
        };
        write(&mut e).map_err(|e| RecordError::Malformed(e.to_string()))?;
        let signature = key.sign(CONTEXT, &body);
        let mut raw = Vec::with_capacity(body.len() + 80);
        let mut e = Encoder::new(&mut raw);
        e.array(2)
            .and_then(|e| e.bytes(&body))
            .and_then(|e| e.encode(signature))
            .map_err(|e| RecordError::Malformed(e.to_string()))?;
        if raw.len() > MAX_RECORD {
            return Err(RecordError::TooLarge);
        }
        Ok(Self(Arc::new(Inner {
            hash: Sha256::digest(&body).into(),
            raw: raw.into(),
            scope: slot.scope,
            author,
            number: slot.number,
            prev: slot.prev,
            at: slot.at,
            changes,
        })))
    }

    /// Reads a record and checks its author's signature. Never panics, whatever the bytes.
    ///
    /// # Errors
    /// [`RecordError`]: what is wrong with it.
    pub fn read(mesh: MeshId, raw: Bytes) -> Result<Self, RecordError> {
        let record = Self::parse(mesh, raw)?;
        record.verify()?;
        Ok(record)
    }

    /// Checks the author's signature.
    ///
    /// # Errors
    /// [`RecordError::Signature`].
    pub(crate) fn verify(&self) -> Result<(), RecordError> {
        let mut outer = Decoder::new(&self.0.raw);
        let malformed = |e: minicbor::decode::Error| RecordError::Malformed(e.to_string());
        outer.array().map_err(malformed)?;
        let body = outer.bytes().map_err(malformed)?;
        let signature: Signature = outer.decode().map_err(malformed)?;
        Ok(PublicKey::from(self.0.author).verify(CONTEXT, body, &signature)?)
    }

    /// Reads a record without checking its signature: from our own store, where only checked ones are, or to see
    /// whether it is there already.
    pub(crate) fn parse(mesh: MeshId, raw: Bytes) -> Result<Self, RecordError> {
        if raw.len() > MAX_RECORD {
            return Err(RecordError::TooLarge);
        }
        let malformed = |e: minicbor::decode::Error| RecordError::Malformed(e.to_string());
        let shape = |what: &str| RecordError::Malformed(what.to_owned());
        let mut outer = Decoder::new(&raw);
        if outer.array().map_err(malformed)? != Some(2) {
            return Err(shape("not a body and a signature"));
        }
        let body = outer.bytes().map_err(malformed)?;
        let _: Signature = outer.decode().map_err(malformed)?;
        if outer.position() != raw.len() {
            return Err(shape("bytes after its end"));
        }
        let mut d = Decoder::new(body);
        // Later versions may append fields.
        if d.array().map_err(malformed)?.is_none_or(|n| n < 7) {
            return Err(shape("too few fields"));
        }
        if d.decode::<MeshId>().map_err(malformed)? != mesh {
            return Err(RecordError::OtherMesh);
        }
        let scope: Scope = d.decode().map_err(malformed)?;
        let author: NodeId = d.decode().map_err(malformed)?;
        let number = d.u64().map_err(malformed)?;
        let prev = d.bytes().map_err(malformed)?;
        let prev = prev.try_into().map_err(|_| shape("not a hash"))?;
        let at: Hlc = d.decode().map_err(malformed)?;
        if number == 0 || (number == 1) != (prev == [0; 32]) {
            return Err(shape(
                "numbers start at 1, and only the first has no predecessor",
            ));
        }
        let count = d.array().map_err(malformed)?;
        let count = count.ok_or_else(|| shape("changes without a count"))?;
        if count > MAX_CHANGES as u64 {
            return Err(RecordError::TooLarge);
        }
        let changes = (0..count)
            .map(|_| Change::read(&mut d, scope).map_err(malformed))
            .collect::<Result<Vec<_>, _>>()?;
        let hash = Sha256::digest(body).into();
        Ok(Self(Arc::new(Inner {
            hash,
            scope,
            author,
            number,
            prev,
            at,
            changes,
            raw,
        })))
    }

    /// The record as it travels and rests, to the byte as its author wrote it.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.0.raw
    }

    /// SHA-256 of what was signed.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.0.hash
    }

    /// The set that it spreads in.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.0.scope
    }

    /// The node that wrote it.
    #[must_use]
    pub fn author(&self) -> NodeId {
        self.0.author
    }

    /// Its place in its author's log of this scope, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// The hash of the record before it; zeros for the first.
    #[must_use]
    pub fn prev(&self) -> &[u8; 32] {
        &self.0.prev
    }

    /// Its stamp.
    #[must_use]
    pub fn at(&self) -> Hlc {
        self.0.at
    }

    /// What it says.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.0.changes
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.0.hash == other.0.hash
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            scope,
            author,
            number,
            at,
            changes,
            ..
        } = &*self.0;
        write!(
            f,
            "Record({scope:?} {author:?} #{number} at {at:?}: {changes:?})"
        )
    }
}
