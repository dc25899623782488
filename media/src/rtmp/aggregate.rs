//! Aggregate messages (RTMP 1.0 section 7.1.6).
use bytes::{Buf, Bytes};

use super::{ProtocolError, chunk::Message};
use crate::flv::{Tag, TagKind};

/// An aggregate message that is being taken apart.
#[derive(Debug)]
pub(super) struct Aggregate {
    rest: Bytes,
    /// The message's own time.
    base: u32,
    /// What to add to a tag's time, once the first tag has told it.
    offset: Option<u32>,
}

impl Aggregate {
    pub(super) fn new(message: Message) -> Self {
        Self {
            rest: message.payload,
            base: message.timestamp,
            offset: None,
        }
    }

    /// The next of its FLV tags, whose times count from that of the first.
    ///
    /// # Errors
    /// [`ProtocolError::Media`] where it is cut short.
    pub(super) fn next(&mut self) -> Result<Option<Tag>, ProtocolError> {
        let rest = &mut self.rest;
        while rest.len() >= 11 {
            let kind = rest[0];
            let size =
                usize::from(rest[1]) << 16 | usize::from(rest[2]) << 8 | usize::from(rest[3]);
            let own = u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]);
            if rest.len() < 11 + size {
                return Err(ProtocolError::Media("an aggregate is cut short"));
            }
            rest.advance(11);
            let body = rest.split_to(size);
            rest.advance(rest.len().min(4));
            let base = self.base;
            let offset = *self.offset.get_or_insert_with(|| base.wrapping_sub(own));
            if let Some(kind) = TagKind::from_byte(kind) {
                return Ok(Some(Tag {
                    kind,
                    timestamp: own.wrapping_add(offset),
                    body,
                }));
            }
        }
        Ok(None)
    }
}
