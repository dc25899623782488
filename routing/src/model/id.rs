//! Ids: who and what. Each is its own type; none is a bare integer or string.
use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

/// Why a text or a byte string is not the id that it was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// It has another length.
    #[error("an id of this kind has {expected} characters or bytes, this one has {got}")]
    Length {
        /// What the kind asks for.
        expected: usize,
        /// What was there.
        got: usize,
    },
    /// A character that the kind does not have.
    #[error("this id has a character that ids of its kind do not have")]
    Character,
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'_, str>::deserialize(d)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

macro_rules! key_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

        impl $name {
            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
            /// The first eight characters of its text, enough for a log line.
            #[must_use]
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }

        impl fmt::Display for $name {
            /// 52 characters of lower-case base32 (RFC 4648 without padding).
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.len() != 52 {
                    return Err(IdError::Length { expected: 52, got: text.len() });
                }
                let bytes = BASE32_NOPAD
                    .decode(text.to_ascii_uppercase().as_bytes())
                    .map_err(|_| IdError::Character)?;
                bytes.try_into().map(Self).map_err(|b: Vec<u8>| IdError::Length { expected: 32, got: b.len() })
            }
        }

        text_serde!($name);
    };
}

key_id! {
    /// A node: its Ed25519 public key, which is also its libp2p identity and its QUIC certificate's key.
    NodeId
}
key_id! {
    /// A mesh: its founding root Ed25519 public key.
    MeshId
}

impl NodeId {
    /// The DNS label of this one node: `n-` and the first ten base32 characters (50 bits) of its key.
    #[must_use]
    pub fn label(&self) -> Label {
        let text: String = self.to_string().chars().take(10).collect();
        Label(format!("n-{text}"))
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

        impl $name {
            /// The id with these bytes. The caller draws them at random: ids are never reused.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            /// As a UUID (RFC 9562), lower case.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (i, b) in self.0.iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{b:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let hex: String = text.chars().filter(|c| *c != '-').collect();
                if hex.len() != 32 {
                    return Err(IdError::Length { expected: 36, got: text.len() });
                }
                let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| IdError::Character)?;
                bytes.try_into().map(Self).map_err(|_| IdError::Character)
            }
        }

        text_serde!($name);
    };
}

uuid_id! {
    /// One operator's set of nodes. Random, so that its keys can change.
    ClusterId
}
uuid_id! {
    /// A customer. Random, so that its keys and its label can change.
    TenantId
}
uuid_id! {
    /// What a tenant creates and publishes to; public.
    StreamId
}
uuid_id! {
    /// A stream while it is live, on every node alike.
    BroadcastId
}

impl BroadcastId {
    /// The broadcast of a stream itself.
    #[must_use]
    pub const fn of(stream: StreamId) -> Self {
        Self(stream.0)
    }

    /// The broadcast `suffix` that inherits from `base`: the first 16 bytes of SHA-256 over both.
    #[must_use]
    pub fn derived(base: StreamId, suffix: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(b"shoal broadcast 1")
            .chain_update(base.0)
            .chain_update(suffix)
            .finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(id)
    }
}

/// One publisher's unbroken timeline of a broadcast. Ordered by when it was opened; the low 16 bits come from the
/// origin's key, so that two nodes that open one in the same millisecond differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct EpochId(#[n(0)] u64);

impl EpochId {
    /// The epoch that `origin` opens at `at`.
    #[must_use]
    pub fn open(at: super::UnixMillis, origin: &NodeId) -> Self {
        Self(at.0 << 16 | u64::from(u16::from_be_bytes([origin.0[0], origin.0[1]])))
    }
    /// The id with this number, as a wire or a URL carries it.
    #[must_use]
    pub const fn from_u64(n: u64) -> Self {
        Self(n)
    }
    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for EpochId {
    /// 16 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochId({self})")
    }
}

impl FromStr for EpochId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != 16 {
            return Err(IdError::Length {
                expected: 16,
                got: text.len(),
            });
        }
        // `from_str_radix` takes a sign as well.
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(IdError::Character);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| IdError::Character)
    }
}

text_serde!(EpochId);

/// The public id that viewers use: 16 characters of `a-z0-9`. Read case-insensitively, kept in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode)]
#[cbor(transparent)]
pub struct PlaybackId(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl PlaybackId {
    /// An id from 16 random bytes. 36 symbols do not divide 256: the bias is under one part in 36 and of no use to a
    /// guesser, since playback ids are public.
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(random.map(|b| b"abcdefghijklmnopqrstuvwxyz0123456789"[usize::from(b) % 36]))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for PlaybackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PlaybackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlaybackId({self})")
    }
}

impl FromStr for PlaybackId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes: [u8; 16] = text.as_bytes().try_into().map_err(|_| IdError::Length {
            expected: 16,
            got: text.len(),
        })?;
        let lower = bytes.map(|b| b.to_ascii_lowercase());
        if lower
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            Ok(Self(lower))
        } else {
            Err(IdError::Character)
        }
    }
}

text_serde!(PlaybackId);

impl<'b, C> minicbor::Decode<'b, C> for PlaybackId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let text = std::str::from_utf8(d.bytes()?).ok();
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| minicbor::decode::Error::message("not a playback id"))
    }
}

/// One DNS label that a person chose (a tenant's label, a cluster's slug) or that stands for a node: 1 to 63 of
/// `a-z0-9-`, no hyphen at either end (RFC 1123 section 2.1), kept in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nobody may claim it: service words, `n-*` and `_*`.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        const WORDS: [&str; 16] = [
            "foghorn",
            "play",
            "edge",
            "edge-ingest",
            "edge-egress",
            "edge-storage",
            "edge-processing",
            "cdn",
            "ns",
            "ns1",
            "ns2",
            "www",
            "api",
            "livepeer",
            "chandler",
            "telemetry",
        ];
        self.0.starts_with("n-") || self.0.starts_with('_') || WORDS.contains(&self.0.as_str())
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({})", self.0)
    }
}

impl FromStr for Label {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > 63 {
            return Err(IdError::Length {
                expected: 63,
                got: text.len(),
            });
        }
        let ok = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if ok {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(IdError::Character)
        }
    }
}

text_serde!(Label);

impl<C> minicbor::Encode<C> for Label {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Label {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?
            .parse()
            .map_err(|_| minicbor::decode::Error::message("not a DNS label"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_ids_read_back() {
        let node = NodeId::from_bytes([0xa5; 32]);
        assert_eq!(node.to_string().parse(), Ok(node));
        assert_eq!(node.label().as_str(), "n-uws2ljnfuw");
        let stream = StreamId::from_bytes([0x1f; 16]);
        assert_eq!(stream.to_string(), "1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f");
        assert_eq!(stream.to_string().parse(), Ok(stream));
        let epoch = EpochId::open(crate::model::UnixMillis(1_760_000_000_123), &node);
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        let signed = "+000000000000001".parse::<EpochId>();
        assert_eq!(signed, Err(IdError::Character));
    }

    #[test]
    fn another_node_cannot_make_up_a_playback_id() {
        let read = |bytes: &[u8]| {
            let bytes = minicbor::to_vec(minicbor::bytes::ByteVec::from(bytes.to_vec())).unwrap();
            minicbor::decode::<PlaybackId>(&bytes).ok()
        };
        let id = PlaybackId::from_random([3; 16]);
        assert_eq!(read(id.as_str().as_bytes()), Some(id));
        for no in [&b"../../etc/passwd"[..], &[0xff; 16], b"short"] {
            assert_eq!(read(no), None);
        }
    }

    #[test]
    fn playback_ids_are_read_without_regard_to_case() {
        let id = PlaybackId::from_random([3; 16]);
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        assert_eq!(
            "short".parse::<PlaybackId>(),
            Err(IdError::Length {
                expected: 16,
                got: 5
            })
        );
        assert_eq!(
            "../../etc/passwd".parse::<PlaybackId>(),
            Err(IdError::Character)
        );
    }

    #[test]
    fn service_words_and_node_labels_are_reserved() {
        for word in ["foghorn", "play", "n-abc", "EDGE-ingest"] {
            assert!(word.parse::<Label>().unwrap().is_reserved(), "{word}");
        }
        assert!(!"acme".parse::<Label>().unwrap().is_reserved());
        assert!("-acme".parse::<Label>().is_err());
    }
}
