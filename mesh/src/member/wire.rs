//! Signed heads and entries, and the messages that carry them.
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};
use routing::model::NodeId;
use sha2::{Digest as _, Sha256};

const HEAD: &[u8] = b"shoal head 1\0";
const ENTRY: &[u8] = b"shoal entry 1\0";

/// What a node states about its whole map, with every beat.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// Whose it is.
    #[n(0)]
    pub node: NodeId,
    /// Rises with each start, and when the node was taken for dead.
    #[n(1)]
    pub incarnation: u64,
    /// Rises with each head of an incarnation.
    #[n(2)]
    pub beat: u64,
    /// The highest version given to an entry.
    #[n(3)]
    pub version: u64,
    /// Entries with a version below it are void.
    #[n(4)]
    pub floor: u64,
    /// The exclusive-or of the hashes of all entries that count.
    #[n(5)]
    pub root: Root,
    /// The node is stopping: this incarnation ends now.
    #[n(6)]
    pub leaving: bool,
}

/// One key of a node's map.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Whose it is.
    #[n(0)]
    pub node: NodeId,
    /// In which incarnation.
    #[n(1)]
    pub incarnation: u64,
    /// Which of the node's changes it was.
    #[n(2)]
    pub version: u64,
    /// The key.
    #[n(3)]
    pub key: String,
    /// The value; `None` when it was deleted.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub value: Option<Vec<u8>>,
}

/// Exclusive-or over the entries' hashes. Only the owner can make entries, so nobody else can look for collisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Root(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl Root {
    /// Adds an entry, or takes it away again.
    pub(super) fn toggle(&mut self, key: &str, version: u64) {
        let hash = Sha256::new()
            .chain_update(version.to_be_bytes())
            .chain_update(key)
            .finalize();
        for (mine, theirs) in self.0.iter_mut().zip(hash) {
            *mine ^= theirs;
        }
    }
}

/// Bytes and their owner's signature, kept as they came so that they can be passed on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Signed {
    #[cbor(n(0), with = "minicbor::bytes")]
    body: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    signature: [u8; 64],
}

impl Signed {
    fn new(domain: &[u8], body: Vec<u8>, key: &SigningKey) -> Self {
        let signature = key.sign(&[domain, &body].concat()).to_bytes();
        Self { body, signature }
    }

    pub(super) fn head(head: &Head, key: &SigningKey) -> Self {
        Self::new(HEAD, encoded(head), key)
    }

    pub(super) fn entry(entry: &Entry, key: &SigningKey) -> Self {
        Self::new(ENTRY, encoded(entry), key)
    }

    /// The head inside, not yet checked.
    pub(super) fn as_head(&self) -> Option<Head> {
        minicbor::decode(&self.body).ok()
    }

    /// The entry inside, not yet checked.
    pub(super) fn as_entry(&self) -> Option<Entry> {
        minicbor::decode(&self.body).ok()
    }

    pub(super) fn is_head_by(&self, key: &VerifyingKey) -> bool {
        self.verify(HEAD, key)
    }

    pub(super) fn is_entry_by(&self, key: &VerifyingKey) -> bool {
        self.verify(ENTRY, key)
    }

    fn verify(&self, domain: &[u8], key: &VerifyingKey) -> bool {
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&[domain, &self.body].concat(), &signature)
            .is_ok()
    }

    pub(super) fn len(&self) -> usize {
        self.body.len() + 72
    }
}

/// What a peer has of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Has {
    #[n(0)]
    pub(super) node: NodeId,
    #[n(1)]
    pub(super) incarnation: u64,
    #[n(2)]
    pub(super) beat: u64,
    /// All entries up to this version are there.
    #[n(3)]
    pub(super) complete: u64,
    /// The peer has withdrawn this incarnation.
    #[n(4)]
    pub(super) dead: bool,
}

/// What linked members say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Message {
    /// A beat, a push or a repair.
    #[n(0)]
    State {
        #[n(0)]
        head: Signed,
        #[n(1)]
        entries: Vec<Signed>,
    },
    /// What the sender has; `answer` when it replies to a digest and wants none back.
    #[n(1)]
    Digest {
        #[n(0)]
        has: Vec<Has>,
        #[n(1)]
        answer: bool,
    },
    /// The sender's own link to `node` is gone; `answer` when it replies to such a report.
    #[n(2)]
    Lost {
        #[n(0)]
        node: NodeId,
        #[n(1)]
        incarnation: u64,
        #[n(2)]
        answer: bool,
    },
}

impl Message {
    /// Reads one; `None` for anything else. Its size is bounded by the frame that carried it, and nothing is allocated
    /// ahead of the bytes that fill it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        encoded(self)
    }
}

fn encoded<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        let key = SigningKey::from_bytes(&[7; 32]);
        let node = NodeId::from_bytes(key.verifying_key().to_bytes());
        let entry = Entry {
            node,
            incarnation: 1,
            version: 2,
            key: "k".into(),
            value: Some(vec![1, 2, 3]),
        };
        let head = Head {
            node,
            incarnation: 1,
            beat: 9,
            version: 2,
            floor: 0,
            root: Root::default(),
            leaving: false,
        };
        let message = Message::State {
            head: Signed::head(&head, &key),
            entries: vec![Signed::entry(&entry, &key)],
        };
        assert_eq!(Message::decode(&message.encode()), Some(message.clone()));
        message.encode()
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn a_changed_message_never_keeps_both_its_signatures(at in 0usize..400, bit in 0u8..8) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
            if let Some(Message::State { head, entries }) = Message::decode(&bytes) {
                let whole = entries.len() == 1 && entries[0].is_entry_by(&key);
                prop_assert!(!(head.is_head_by(&key) && whole));
            }
        }
    }
}
