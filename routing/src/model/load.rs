//! What a node can do, may do and is doing.
use serde::{Deserialize, Serialize};

/// Thousandths of a whole, 0 to 1000.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Permille(#[n(0)] pub u16);

/// Bits a second.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct BitsPerSecond(#[n(0)] pub u64);

/// What a node could carry.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, minicbor::Encode, minicbor::Decode,
)]
pub struct Capacity {
    /// What its uplink may be filled with.
    #[n(0)]
    pub egress: BitsPerSecond,
}

/// What a node carries now.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
pub struct Load {
    /// Of all cores together.
    #[n(0)]
    pub cpu: Permille,
    /// Of memory.
    #[n(1)]
    pub memory: Permille,
    /// Sent to viewers and other nodes.
    #[n(2)]
    pub egress: BitsPerSecond,
    /// Sessions now.
    #[n(3)]
    pub viewers: u32,
}

/// What an operator wants of a node.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Mode {
    /// Takes new sessions.
    #[default]
    #[n(0)]
    Normal,
    /// No new sessions; old ones finish.
    #[n(1)]
    Draining,
    /// Out.
    #[n(2)]
    Maintenance,
}

macro_rules! flags {
    ($(#[$doc:meta])* $one:ident, $(#[$set_doc:meta])* $set:ident { $($(#[$vdoc:meta])* $variant:ident = $bit:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $one { $($(#[$vdoc])* $variant,)* }

        impl $one {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            const fn bit(self) -> u32 {
                match self { $(Self::$variant => 1 << $bit,)* }
            }
        }

        $(#[$set_doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(transparent)]
        pub struct $set(#[n(0)] u32);

        impl $set {
            /// None.
            pub const NONE: Self = Self(0);

            /// Whether `one` is among them.
            #[must_use]
            pub const fn has(self, one: $one) -> bool {
                self.0 & one.bit() != 0
            }

            /// These and `one`.
            #[must_use]
            pub const fn with(self, one: $one) -> Self {
                Self(self.0 | one.bit())
            }

            /// Those in both.
            #[must_use]
            pub const fn and(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            /// Those in it, in order. Bits that a later version defined stay in the value but are not listed.
            pub fn iter(self) -> impl Iterator<Item = $one> {
                $one::ALL.iter().copied().filter(move |one| self.has(*one))
            }
        }

        impl FromIterator<$one> for $set {
            fn from_iter<I: IntoIterator<Item = $one>>(all: I) -> Self {
                all.into_iter().fold(Self::NONE, Self::with)
            }
        }

        impl std::fmt::Debug for $set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_set().entries(self.iter()).finish()
            }
        }

        impl Serialize for $set {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_seq(self.iter())
            }
        }

        impl<'de> Deserialize<'de> for $set {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Ok(Vec::<$one>::deserialize(d)?.into_iter().collect())
            }
        }
    };
}

flags! {
    /// What a node's grant lets it do.
    Role,
    /// A set of [`Role`]s.
    Roles {
        /// Takes streams in.
        Ingest = 0, "ingest";
        /// Serves viewers.
        Edge = 1, "edge";
        /// Answers DNS.
        Dns = 2, "dns";
        /// Answers GraphQL and signs its tenants' and cluster's records.
        Gateway = 3, "gateway";
        /// Keeps recordings.
        Storage = 4, "storage";
    }
}

flags! {
    /// What an entitlement lets a cluster do for a tenant.
    Verb,
    /// A set of [`Verb`]s.
    Verbs {
        /// Deliver to viewers.
        Serve = 0, "serve";
        /// Take streams in.
        Ingest = 1, "ingest";
        /// Keep recordings.
        Store = 2, "store";
        /// Write the tenant's configuration.
        Write = 3, "write";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let roles: Roles = [Role::Ingest, Role::Dns].into_iter().collect();
        assert!(roles.has(Role::Dns) && !roles.has(Role::Edge));
        assert_eq!(
            serde_json::to_string(&roles).unwrap(),
            r#"["ingest","dns"]"#
        );
        let bytes = minicbor::to_vec(roles).unwrap();
        assert_eq!(minicbor::decode::<Roles>(&bytes).unwrap(), roles);
    }
}
