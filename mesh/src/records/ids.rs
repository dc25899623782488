//! Ids of what a tenant has besides streams.
use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER_PERMISSIVE;
use routing::model::IdError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

        impl $name {
            /// The id with these bytes, drawn at random: ids are never reused.
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
            /// 32 lower-case hexadecimal digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
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
                let bytes = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| IdError::Character)?;
                bytes.try_into().map(Self).map_err(|b: Vec<u8>| IdError::Length { expected: 32, got: b.len() * 2 })
            }
        }
    };
}

id! {
    /// A stream key, by which it is listed and deactivated; not the secret.
    KeyId
}
id! {
    /// An API token, by which it is listed and revoked; not the secret.
    TokenId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back() {
        let id = KeyId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("ab".parse::<KeyId>().is_err());
        assert!("zz".repeat(16).parse::<TokenId>().is_err());
    }
}
