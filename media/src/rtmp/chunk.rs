//! The chunk stream (RTMP 1.0 section 5.3): messages cut into chunks, several messages interleaved.
//!
//! The reader keeps only the bytes of unfinished messages and of one unfinished chunk header. A message counts with its
//! whole length from its first chunk on, so memory is bounded by [`Limits`] whatever arrives and however it is interleaved.
use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};

use super::ProtocolError;

/// A message as the chunk stream carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The message type id (RTMP 1.0 sections 5.4, 6.2 and 7.1).
    pub kind: u8,
    /// The message stream.
    pub stream: u32,
    /// In milliseconds, wrapping.
    pub timestamp: u32,
    /// Its body.
    pub payload: Bytes,
}

/// What a reader accepts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest message, in bytes.
    pub message: usize,
    /// All unfinished messages together, in bytes, as long as they will be.
    pub unfinished: usize,
    /// How many chunk streams.
    pub streams: usize,
}

impl Limits {
    /// Before a publisher is let in: commands only.
    pub const STRANGER: Self = Self {
        message: 64 << 10,
        unfinished: 128 << 10,
        streams: 16,
    };
    /// Once it is in: a picture of 4 MiB is 1 Gbit/s at 30 a second.
    pub const PUBLISHER: Self = Self {
        message: 4 << 20,
        unfinished: 8 << 20,
        streams: 16,
    };
}

#[derive(Debug, Default)]
struct Line {
    /// The time field as it was last sent: absolute after a type 0 header, else a difference.
    field: u32,
    extended: bool,
    timestamp: u32,
    length: usize,
    kind: u8,
    stream: u32,
    partial: BytesMut,
    open: bool,
}

/// Turns bytes into messages.
#[derive(Debug)]
pub struct ChunkReader {
    limits: Limits,
    chunk_size: usize,
    lines: BTreeMap<u32, Line>,
    /// The lengths of all open messages.
    unfinished: usize,
    /// The chunk stream whose chunk is being read, and how many of the chunk's bytes are to come.
    current: Option<(u32, usize)>,
}

impl ChunkReader {
    /// A reader at the start of a chunk stream.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_size: 128,
            lines: BTreeMap::new(),
            unfinished: 0,
            current: None,
        }
    }

    /// Other limits from the next message on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The bytes of unfinished messages that it holds.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> usize {
        self.lines.values().map(|line| line.partial.len()).sum()
    }

    /// Takes chunks from the front of `input` until a message is whole. `None`: more bytes are needed; `input` then
    /// holds at most part of one chunk header. Set Chunk Size and Abort are obeyed here and not returned.
    ///
    /// # Errors
    /// [`ProtocolError`] where the bytes are no chunk stream, or beyond the limits. The stream cannot be read on.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Message>, ProtocolError> {
        loop {
            let (id, rest) = match self.current {
                Some(current) => current,
                None => match self.header(input)? {
                    Some(current) => current,
                    None => return Ok(None),
                },
            };
            let Some(line) = self.lines.get_mut(&id) else {
                return Err(ProtocolError::Chunk("a chunk stream that was not opened"));
            };
            let n = rest.min(input.len());
            line.partial.extend_from_slice(&input[..n]);
            input.advance(n);
            if n < rest {
                self.current = Some((id, rest - n));
                return Ok(None);
            }
            self.current = None;
            if line.partial.len() < line.length {
                continue;
            }
            line.open = false;
            self.unfinished -= line.length;
            let message = Message {
                kind: line.kind,
                stream: line.stream,
                timestamp: line.timestamp,
                payload: std::mem::take(&mut line.partial).freeze(),
            };
            if !self.obey(&message)? {
                return Ok(Some(message));
            }
        }
    }

    /// Whether the message was about the chunk stream itself.
    fn obey(&mut self, message: &Message) -> Result<bool, ProtocolError> {
        let word = message
            .payload
            .first_chunk::<4>()
            .map(|b| u32::from_be_bytes(*b));
        match (message.kind, word) {
            (1, Some(size @ 1..=0x7fff_ffff)) => {
                self.chunk_size = usize::try_from(size).unwrap_or(usize::MAX);
                Ok(true)
            }
            (1, _) => Err(ProtocolError::Chunk("a chunk size of zero or over 2^31")),
            (2, Some(id)) => {
                if let Some(line) = self.lines.get_mut(&id).filter(|line| line.open) {
                    self.unfinished -= line.length;
                    line.partial = BytesMut::new();
                    line.open = false;
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Reads one chunk's header whole or not at all; gives the chunk stream and the chunk's length.
    fn header(&mut self, input: &mut BytesMut) -> Result<Option<(u32, usize)>, ProtocolError> {
        let mut cursor = &input[..];
        let have = cursor.len();
        let Some((format, id)) = basic_header(&mut cursor) else {
            return Ok(None);
        };
        let known = self.lines.get(&id);
        if known.is_none() {
            if format != 0 && format != 1 {
                return Err(ProtocolError::Chunk(
                    "a chunk stream that starts with an abbreviated header",
                ));
            }
            if self.lines.len() >= self.limits.streams {
                return Err(ProtocolError::Chunk("too many chunk streams"));
            }
        }
        let open = known.is_some_and(|l| l.open);
        let size = [11, 7, 3, 0][usize::from(format)];
        if cursor.len() < size {
            return Ok(None);
        }
        let mut field = known.map_or(0, |l| l.field);
        let mut extended = known.is_some_and(|l| l.extended);
        let mut length = known.map_or(0, |l| l.length);
        let mut kind = known.map_or(0, |l| l.kind);
        let mut stream = known.map_or(0, |l| l.stream);
        if format <= 2 {
            field = cursor.get_uint(3).try_into().unwrap_or(u32::MAX);
            extended = field == 0xff_ffff;
        }
        if format <= 1 {
            length = cursor.get_uint(3).try_into().unwrap_or(usize::MAX);
            kind = cursor.get_u8();
        }
        if format == 0 {
            stream = cursor.get_u32_le();
        }
        if extended {
            if cursor.len() < 4 {
                return Ok(None);
            }
            let mut peek = cursor;
            let word = peek.get_u32();
            // A type 3 chunk repeats the extended field; some encoders leave it out, which shows in that other bytes
            // stand there.
            if format <= 2 || word == field {
                cursor = peek;
                field = word;
            }
        }
        if format != 3 && open {
            return Err(ProtocolError::Chunk(
                "a message starts before the one before it ended",
            ));
        }
        let used = have - cursor.len();
        if !open {
            if length > self.limits.message || self.unfinished + length > self.limits.unfinished {
                return Err(ProtocolError::TooLarge(length));
            }
            self.unfinished += length;
            let line = self.lines.entry(id).or_default();
            line.timestamp = if format == 0 {
                field
            } else {
                line.timestamp.wrapping_add(field)
            };
            line.open = true;
            (line.field, line.extended) = (field, extended);
            (line.length, line.kind, line.stream) = (length, kind, stream);
        }
        input.advance(used);
        let done = self.lines.get(&id).map_or(0, |l| l.partial.len());
        Ok(Some((id, (length - done).min(self.chunk_size))))
    }
}

/// The chunk type and chunk stream id (section 5.3.1.1).
fn basic_header(cursor: &mut &[u8]) -> Option<(u8, u32)> {
    let first = *cursor.first()?;
    let (len, id) = match first & 0x3f {
        0 => (2, 64 + u32::from(*cursor.get(1)?)),
        1 => (
            3,
            64 + u32::from(*cursor.get(1)?) + 256 * u32::from(*cursor.get(2)?),
        ),
        id => (1, u32::from(id)),
    };
    cursor.advance(len);
    Some((first >> 6, id))
}

/// Turns messages into bytes: a type 0 header for each message and type 3 for its further chunks, which every peer
/// understands.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk_size: usize,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self { chunk_size: 128 }
    }
}

impl ChunkWriter {
    /// Announces a chunk size and uses it from then on.
    pub fn set_chunk_size(&mut self, size: u16, out: &mut Vec<u8>) {
        let payload = u32::from(size.max(128)).to_be_bytes().to_vec();
        let message = Message {
            kind: 1,
            stream: 0,
            timestamp: 0,
            payload: payload.into(),
        };
        self.write(2, &message, out);
        self.chunk_size = usize::from(size.max(128));
    }

    /// Writes a message on chunk stream `id`, 2 to 63. The payload must be shorter than 16 MiB; what is beyond is cut.
    pub fn write(&self, id: u8, message: &Message, out: &mut Vec<u8>) {
        let payload = &message.payload[..message.payload.len().min(0xff_ffff)];
        let extended = message.timestamp >= 0xff_ffff;
        out.push(id & 0x3f);
        out.extend(&message.timestamp.min(0xff_ffff).to_be_bytes()[1..]);
        out.extend(
            &u32::try_from(payload.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes()[1..],
        );
        out.push(message.kind);
        out.extend(message.stream.to_le_bytes());
        let mut first = true;
        for chunk in payload.chunks(self.chunk_size) {
            if !first {
                out.push(0xc0 | (id & 0x3f));
            }
            first = false;
            if extended {
                out.extend(message.timestamp.to_be_bytes());
            }
            out.extend(chunk);
        }
        if first && extended {
            out.extend(message.timestamp.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(timestamp: u32, payload: Vec<u8>) -> Message {
        Message {
            kind: 9,
            stream: 1,
            timestamp,
            payload: payload.into(),
        }
    }

    fn read_all(bytes: &[u8], piece: usize) -> Result<Vec<Message>, ProtocolError> {
        let mut reader = ChunkReader::new(Limits::PUBLISHER);
        let mut input = BytesMut::new();
        let mut messages = Vec::new();
        for part in bytes.chunks(piece) {
            input.extend_from_slice(part);
            while let Some(message) = reader.next(&mut input)? {
                messages.push(message);
            }
            assert!(input.len() < 18, "at most part of a header is kept");
        }
        Ok(messages)
    }

    proptest! {
        #[test]
        fn messages_survive_the_wire(
            sizes in prop::collection::vec((0usize..3000, any::<u32>()), 1..6),
            chunk in 128u16..4096,
            piece in 1usize..700,
        ) {
            let mut writer = ChunkWriter::default();
            let mut out = Vec::new();
            writer.set_chunk_size(chunk, &mut out);
            let messages: Vec<_> = sizes
                .into_iter()
                .map(|(n, ts)| message(ts, vec![u8::try_from(n % 251).unwrap(); n]))
                .collect();
            for m in &messages {
                writer.write(6, m, &mut out);
            }
            prop_assert_eq!(read_all(&out, piece).unwrap(), messages);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), piece in 1usize..700) {
            let _ = read_all(&bytes, piece);
        }
    }

    #[test]
    fn abbreviated_headers_continue_the_clock_of_their_stream() {
        let bytes = [
            &[4, 0, 0, 40, 0, 0, 1, 8, 1, 0, 0, 0, b'a'][..],
            &[0x44, 0, 0, 20, 0, 0, 2, 8, b'b', b'b'],
            &[0x84, 0, 0, 30, b'c', b'c'],
            &[0xc4, b'd', b'd'],
        ]
        .concat();
        let times: Vec<_> = read_all(&bytes, 1)
            .unwrap()
            .iter()
            .map(|m| m.timestamp)
            .collect();
        assert_eq!(times, [40, 60, 90, 120]);
    }

    #[test]
    fn two_chunk_streams_interleave_and_an_abort_drops_what_was_begun() {
        let head = |id: u8, len: u8| vec![id, 0, 0, 0, 0, 0, len, 9, 1, 0, 0, 0];
        let bytes = [
            &head(4, 200)[..],
            &[b'v'; 128],
            &head(5, 3),
            b"abc",
            &[2, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 4],
            &head(4, 2),
            b"ok",
        ]
        .concat();
        let bodies: Vec<_> = read_all(&bytes, 9)
            .unwrap()
            .into_iter()
            .map(|m| m.payload)
            .collect();
        assert_eq!(bodies, [&b"abc"[..], b"ok"]);
    }

    #[test]
    fn a_repeated_extended_time_may_be_left_out() {
        let body = [7u8; 200];
        for repeat in [true, false] {
            let mut bytes = vec![4, 0xff, 0xff, 0xff, 0, 0, 200, 9, 1, 0, 0, 0];
            bytes.extend(0x0100_0000u32.to_be_bytes());
            bytes.extend(&body[..128]);
            bytes.push(0xc4);
            if repeat {
                bytes.extend(0x0100_0000u32.to_be_bytes());
            }
            bytes.extend(&body[128..]);
            let messages = read_all(&bytes, 1000).unwrap();
            assert_eq!(messages, [message(0x0100_0000, body.to_vec())], "{repeat}");
        }
    }

    #[test]
    fn messages_that_grow_side_by_side_are_limited_together() {
        // Four lines each begin a message that alone is small enough, and none ends its own.
        let begin = |id: u8| [&[id, 0, 0, 0, 0, 0x80, 0, 9, 1, 0, 0, 0][..], &[7; 128]].concat();
        let mut bytes: Vec<u8> = (3..7).flat_map(begin).collect();
        for id in 3..7 {
            bytes.extend([&[0xc0 | id][..], &[7; 128]].concat().repeat(200));
        }
        let mut reader = ChunkReader::new(Limits {
            message: 0x8000,
            unfinished: 0x1_0000,
            streams: 16,
        });
        let mut input = BytesMut::from(&bytes[..]);
        assert_eq!(
            reader.next(&mut input),
            Err(ProtocolError::TooLarge(0x8000))
        );
        assert!(reader.held() <= 0x1_0000);
    }

    #[test]
    fn sizes_and_numbers_are_limited() {
        let large = [4, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0];
        assert_eq!(
            read_all(&large, 12),
            Err(ProtocolError::TooLarge(0xff_ffff))
        );
        let zero = [2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(read_all(&zero, 20).is_err());
        let many: Vec<u8> = (3..40)
            .flat_map(|id| [id, 0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 0])
            .collect();
        assert_eq!(
            read_all(&many, 20),
            Err(ProtocolError::Chunk("too many chunk streams"))
        );
    }
}
