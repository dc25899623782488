//! An FLV file as it comes.
use bytes::{Buf, BytesMut};

use super::{FlvError, Tag, TagKind};

/// The longest tag that is taken, in bytes: a keyframe of 20 Mbit/s is far below.
const MAX_TAG: usize = 8 << 20;
/// The longest header that is taken; every file has one of nine bytes.
const MAX_HEADER: usize = 1024;

/// Reads a file's tags from pieces of it. What is not polled is kept: poll until it says `None` before the next piece.
#[derive(Debug, Default)]
pub struct Reader {
    input: BytesMut,
    begun: bool,
    /// Bytes of the tag's size, which stands behind each tag too, that did not come yet.
    skip: usize,
}

impl Reader {
    /// A file of which nothing came yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next piece.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next tag, once it is whole. Tags of unknown kinds are passed over.
    ///
    /// # Errors
    /// [`FlvError::Broken`] when it is no FLV file, or has a tag of more than 8 MiB: nothing can be read any more.
    pub fn poll(&mut self) -> Result<Option<Tag>, FlvError> {
        if !self.begun && !self.begin()? {
            return Ok(None);
        }
        loop {
            let skip = self.skip.min(self.input.len());
            self.input.advance(skip);
            self.skip -= skip;
            let Some(head) = self.input.first_chunk::<11>() else {
                return Ok(None);
            };
            let kind = TagKind::from_byte(head[0] & 0x1f);
            let size = u32::from_be_bytes([0, head[1], head[2], head[3]]);
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let timestamp = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
            if size > MAX_TAG {
                return Err(FlvError::Broken("a tag of more than 8 MiB"));
            }
            if self.input.len() < 11 + size {
                return Ok(None);
            }
            self.input.advance(11);
            let body = self.input.split_to(size).freeze();
            self.skip = 4;
            if let Some(kind) = kind {
                return Ok(Some(Tag {
                    kind,
                    timestamp,
                    body,
                }));
            }
        }
    }

    /// Takes the header, and the size of no tag that follows it; false while it is not whole.
    fn begin(&mut self) -> Result<bool, FlvError> {
        let seen = self.input.len().min(3);
        if self.input[..seen] != b"FLV"[..seen] {
            return Err(FlvError::Broken("no FLV header"));
        }
        let Some(head) = self.input.first_chunk::<9>() else {
            return Ok(false);
        };
        let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(9..=MAX_HEADER).contains(&length) {
            return Err(FlvError::Broken("a header of a length that no file has"));
        }
        if self.input.len() < length + 4 {
            return Ok(false);
        }
        self.input.advance(length + 4);
        self.begun = true;
        Ok(true)
    }
}

/// Reads a whole file. What is cut short at its end is left out.
///
/// # Errors
/// [`FlvError::Broken`] as from [`Reader::poll`].
pub fn file(bytes: &[u8]) -> Result<Vec<Tag>, FlvError> {
    let mut reader = Reader::new();
    reader.receive(bytes);
    let mut tags = Vec::new();
    while let Some(tag) = reader.poll()? {
        tags.push(tag);
    }
    if !reader.begun {
        return Err(FlvError::Broken("no FLV header"));
    }
    Ok(tags)
}
