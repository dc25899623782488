//! What a caller asks for: the stream id (draft section 3.2.1.3; "SRT Access Control (Stream ID) Guidelines").
use routing::model::StreamKey;

/// Why a stream id says nothing that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamIdError {
    /// There is none, or it cannot be read.
    #[error("no stream id, or one that cannot be read. Give streamid=KEY")]
    Broken,
    /// Another mode than publishing.
    #[error("the stream id asks for another mode than m=publish")]
    Mode,
}

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// To publish with this key.
    Publish(StreamKey),
}

impl Asked {
    /// Reads a stream id: a key, or `#!::` and `NAME=VALUE` between commas, of which `r` is the key and `m`, which has
    /// to be there, `publish`.
    ///
    /// # Errors
    /// [`StreamIdError`].
    pub fn read(stream_id: &str) -> Result<Self, StreamIdError> {
        let key = match stream_id.strip_prefix("#!") {
            None => stream_id,
            Some(rest) => {
                let pairs = rest.strip_prefix("::").ok_or(StreamIdError::Broken)?;
                let value = |wanted: &str| {
                    let mut pairs = pairs.split(',').filter_map(|pair| pair.split_once('='));
                    pairs.find(|(name, _)| *name == wanted).map(|(_, v)| v)
                };
                // Without a mode it is `request`.
                if value("m") != Some("publish") {
                    return Err(StreamIdError::Mode);
                }
                value("r").ok_or(StreamIdError::Broken)?
            }
        };
        if key.is_empty() || key.len() > StreamKey::MAX {
            return Err(StreamIdError::Broken);
        }
        Ok(Self::Publish(StreamKey::new(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_both_forms() {
        let key = Asked::Publish(StreamKey::new("sk_abc"));
        for id in [
            "sk_abc",
            "#!::r=sk_abc,m=publish",
            "#!::m=publish,u=me,r=sk_abc,t=stream",
        ] {
            assert_eq!(Asked::read(id).as_ref(), Ok(&key), "{id}");
        }
        for id in [
            "#!::r=sk_abc",
            "#!::r=sk_abc,m=request",
            "#!::m=bidirectional",
        ] {
            assert_eq!(Asked::read(id), Err(StreamIdError::Mode), "{id}");
        }
        for id in ["", "#!", "#!{}", "#!::m=publish", &"k".repeat(300)] {
            assert_eq!(Asked::read(id), Err(StreamIdError::Broken), "{id}");
        }
    }
}
