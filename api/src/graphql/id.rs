//! Relay global ids: base64 of `Type:rawId`. Clients may also give the raw id; one of another type is an error.
use std::str::FromStr;

use async_graphql::ID;
use data_encoding::{BASE64, BASE64URL_NOPAD};

/// The types that have global ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stream; raw: its UUID.
    Stream,
    /// A stream key; raw: its id, not its text.
    StreamKey,
    /// A live event of a stream; raw: its sequence in this process.
    StreamEvent,
    /// What a request wrote; raw: by which node, and its number.
    Write,
}

impl Kind {
    /// The type's name in the schema.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stream => "Stream",
            Self::StreamKey => "StreamKey",
            Self::StreamEvent => "StreamEvent",
            Self::Write => "Write",
        }
    }

    /// The global id of a raw one.
    #[must_use]
    pub fn global(self, raw: &str) -> ID {
        ID(BASE64.encode(format!("{}:{raw}", self.name()).as_bytes()))
    }
}

/// Why a text names nothing of the type that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdFault {
    /// It is a global id of another type.
    #[error("this is the id of a {got}, and a {expected} was asked for")]
    WrongType {
        /// What it names.
        got: String,
        /// What was asked for.
        expected: &'static str,
    },
    /// It is neither a global nor a raw id; such a thing cannot exist.
    #[error("this is no id of a {expected}")]
    Malformed {
        /// What was asked for.
        expected: &'static str,
    },
}

/// Reads a global or a raw id. Ids are at most 256 bytes.
///
/// # Errors
/// [`IdFault`].
pub fn read<T: FromStr>(kind: Kind, text: &str) -> Result<T, IdFault> {
    let expected = kind.name();
    let malformed = IdFault::Malformed { expected };
    if text.len() > 256 {
        return Err(malformed);
    }
    if let Ok(raw) = text.parse() {
        return Ok(raw);
    }
    let decoded = BASE64
        .decode(text.as_bytes())
        .or_else(|_| BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()))
        .map_err(|_| malformed.clone())?;
    let decoded = String::from_utf8(decoded).map_err(|_| malformed.clone())?;
    let (got, raw) = decoded.split_once(':').ok_or_else(|| malformed.clone())?;
    if got == expected {
        raw.parse().map_err(|_| malformed)
    } else if !got.is_empty() && got.bytes().all(|b| b.is_ascii_alphanumeric()) {
        Err(IdFault::WrongType {
            got: got.to_owned(),
            expected,
        })
    } else {
        Err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use routing::model::StreamId;

    #[test]
    fn global_and_raw_ids_name_the_same_and_another_type_is_an_error() {
        let id = StreamId::from_bytes([7; 16]);
        let global = Kind::Stream.global(&id.to_string());
        assert_eq!(read(Kind::Stream, &global), Ok(id));
        assert_eq!(read(Kind::Stream, global.trim_end_matches('=')), Ok(id));
        assert_eq!(read(Kind::Stream, &id.to_string()), Ok(id));
        let key = Kind::StreamKey.global(&id.to_string());
        assert_eq!(
            read::<StreamId>(Kind::Stream, &key),
            Err(IdFault::WrongType {
                got: "StreamKey".into(),
                expected: "Stream"
            })
        );
        for text in ["", "stream-global-id", "U3RyZWFtOm5vdC1hbi1pZA==", "////"] {
            assert_eq!(
                read::<StreamId>(Kind::Stream, text),
                Err(IdFault::Malformed { expected: "Stream" }),
                "{text}"
            );
        }
    }
}
