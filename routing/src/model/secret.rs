//! Secrets that cannot be printed.
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A text that must not reach a log, an error or a screen: `Debug` shows only that it is there, and its memory is
/// wiped when dropped. Compared in constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Name the call's reason where it is not plain.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// A secret on its way to somebody who may have it: the one form of a secret that is written out by `serde`, as a plain
/// text. `Debug` shows no more of it than of [`Secret`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed(pub Secret);

impl Serialize for Exposed {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for Exposed {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|text| Self(Secret::new(text)))
    }
}

/// What a streamer shows to publish: `sk_` and 28 of `a-z0-9` (over 128 bits) when we made it. Read
/// case-insensitively.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamKey(Secret);

impl StreamKey {
    /// The longest key that is looked at at all, in bytes.
    pub const MAX: usize = 256;

    /// A key as a client gave it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Secret::new(text.to_ascii_lowercase()))
    }

    /// A key from 28 random bytes; 28 symbols of 36 carry 144 bits, less an irrelevant bias.
    #[must_use]
    pub fn from_random(random: [u8; 28]) -> Self {
        let tail = random
            .iter()
            .map(|b| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[usize::from(*b) % 36]));
        Self(Secret::new("sk_".chars().chain(tail).collect()))
    }

    /// The text, for whoever may see it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What the key is indexed by: SHA-256 of its text.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"shoal stream key 1")
            .chain_update(self.0.expose())
            .finalize()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_be_printed_and_is_read_without_regard_to_case() {
        let key = StreamKey::new("sk_ABC");
        assert_eq!(format!("{key:?}"), "StreamKey(Secret(..))");
        assert_eq!(key, StreamKey::new("SK_abc"));
        assert_eq!(key.hash(), StreamKey::new("sk_abc").hash());
    }

    #[test]
    fn what_is_written_out_on_purpose_reads_back_and_cannot_be_printed_either() {
        let handed = Exposed(Secret::new("open sesame".into()));
        let wire = serde_json::to_string(&handed).unwrap();
        assert_eq!(wire, "\"open sesame\"");
        assert_eq!(serde_json::from_str::<Exposed>(&wire).unwrap(), handed);
        assert_eq!(format!("{handed:?}"), "Exposed(Secret(..))");
    }
}
