//! What two replicas say to each other, in CBOR. Unknown kinds of message are ignored by the reader.
use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};
use routing::model::NodeId;

use crate::records::Scope;

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The most records, heads or verdicts in one message.
pub(super) const MAX_LIST: usize = 16 * 1024;

/// How far a log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Head {
    /// Whose log.
    #[n(0)]
    pub(super) author: NodeId,
    /// The number of its last record; 0 when there is none.
    #[n(1)]
    pub(super) number: u64,
    /// The first eight bytes of that record's hash.
    #[n(2)]
    pub(super) hash: ByteArray<8>,
}

/// What a list of heads is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(super) enum Purpose {
    /// All that the sender has of the scope. The reader asks for what it lacks.
    #[n(0)]
    All,
    /// Some that the sender has anew. The reader asks for what it lacks.
    #[n(1)]
    News,
    /// The sender lacks what follows these: send it.
    #[n(2)]
    Ask,
    /// The sender has all up to these on its disk.
    #[n(3)]
    Ack,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Message {
    /// Sums over all heads by scope, and over the verdicts: equal where both have the same.
    #[n(0)]
    Digest {
        #[n(0)]
        scopes: Vec<(Scope, ByteArray<16>)>,
        #[n(1)]
        verdicts: ByteArray<16>,
    },
    /// How far logs go.
    #[n(1)]
    Heads {
        #[n(0)]
        scope: Scope,
        #[n(1)]
        purpose: Purpose,
        #[n(2)]
        heads: Vec<Head>,
    },
    /// Records, an author's in rising numbers.
    #[n(2)]
    Records(#[n(0)] Vec<ByteVec>),
    /// The sender has another record there, or another before it: show yours.
    #[n(3)]
    Show {
        #[n(0)]
        scope: Scope,
        #[n(1)]
        author: NodeId,
        #[n(2)]
        number: u64,
    },
    /// The verdicts that the sender has; `ask`: send it yours that are not among them, and your own list.
    #[n(4)]
    VerdictIds {
        #[n(0)]
        ids: Vec<ByteArray<32>>,
        #[n(1)]
        ask: bool,
    },
    /// Verdicts.
    #[n(5)]
    Verdicts(#[n(0)] Vec<ByteVec>),
}

impl Message {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let written = minicbor::encode(self, &mut out);
        debug_assert!(written.is_ok(), "a Vec takes every byte");
        out
    }

    /// Reads a message; none when it is none, or one of a later version.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_MESSAGE {
            return None;
        }
        let message: Self = minicbor::decode(bytes).ok()?;
        let len = match &message {
            Self::Digest { scopes, .. } => scopes.len(),
            Self::Heads { heads, .. } => heads.len(),
            Self::Records(all) | Self::Verdicts(all) => all.len(),
            Self::VerdictIds { ids, .. } => ids.len(),
            Self::Show { .. } => 0,
        };
        (len <= MAX_LIST).then_some(message)
    }
}
