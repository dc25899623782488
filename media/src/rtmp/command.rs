//! Commands (RTMP 1.0 section 7.2) and the small control messages, written and read.
use bytes::Bytes;

use super::{
    amf::{self, Value},
    chunk::{ChunkWriter, Message},
};
use crate::flv::{Tag, TagKind};

pub(super) const ABORT_OR_SIZE_STREAM: u8 = 2;
pub(super) const COMMAND_STREAM: u8 = 3;
pub(super) const AUDIO_STREAM: u8 = 4;
pub(super) const DATA_STREAM: u8 = 5;
pub(super) const VIDEO_STREAM: u8 = 6;
pub(super) const ACKNOWLEDGEMENT: u8 = 3;
pub(super) const USER_CONTROL: u8 = 4;
pub(super) const WINDOW: u8 = 5;
pub(super) const PEER_BANDWIDTH: u8 = 6;
pub(super) const AUDIO: u8 = 8;
pub(super) const VIDEO: u8 = 9;
pub(super) const DATA_AMF3: u8 = 15;
pub(super) const COMMAND_AMF3: u8 = 17;
pub(super) const DATA: u8 = 18;
pub(super) const COMMAND: u8 = 20;
pub(super) const AGGREGATE: u8 = 22;

/// A command as it came.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: String,
    pub(super) transaction: f64,
    /// What follows the transaction: the command object, then the arguments.
    pub(super) values: Vec<Value>,
}

impl Command {
    /// Reads a command message; `None` where it has no name or no transaction. The AMF3 form (type 17) is AMF0 after
    /// one byte in all clients seen.
    pub(super) fn read(message: &Message) -> Option<Self> {
        let skip = usize::from(message.kind == COMMAND_AMF3 && message.payload.first() == Some(&0));
        let mut values = amf::decode_leading(message.payload.get(skip..)?).into_iter();
        let name = values.next()?.as_str()?.to_owned();
        let transaction = values.next().and_then(|v| v.as_number()).unwrap_or(0.0);
        Some(Self {
            name,
            transaction,
            values: values.collect(),
        })
    }

    /// The argument after the command object.
    pub(super) fn argument(&self, index: usize) -> Option<&Value> {
        self.values.get(index + 1)
    }

    /// The text argument after the command object.
    pub(super) fn text(&self, index: usize) -> &str {
        self.argument(index)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// Writes control messages and commands.
#[derive(Debug, Default)]
pub(super) struct Speaker {
    pub(super) chunks: ChunkWriter,
    pub(super) out: Vec<u8>,
}

impl Speaker {
    pub(super) fn control(&mut self, kind: u8, payload: &[u8]) {
        self.message(
            ABORT_OR_SIZE_STREAM,
            kind,
            0,
            0,
            Bytes::copy_from_slice(payload),
        );
    }

    pub(super) fn message(&mut self, id: u8, kind: u8, stream: u32, timestamp: u32, body: Bytes) {
        let message = Message {
            kind,
            stream,
            timestamp,
            payload: body,
        };
        self.chunks.write(id, &message, &mut self.out);
    }

    /// A tag, on the chunk stream of its kind.
    pub(super) fn tag(&mut self, stream: u32, tag: &Tag) {
        let id = match tag.kind {
            TagKind::Audio => AUDIO_STREAM,
            TagKind::Video => VIDEO_STREAM,
            TagKind::Data => DATA_STREAM,
        };
        let (kind, body) = (tag.kind.as_byte(), tag.body.clone());
        self.message(id, kind, stream, tag.timestamp, body);
    }

    pub(super) fn command(&mut self, stream: u32, values: &[Value]) {
        self.message(
            COMMAND_STREAM,
            COMMAND,
            stream,
            0,
            amf::encode(values).into(),
        );
    }

    /// `onStatus` (section 7.2.2).
    pub(super) fn status(&mut self, stream: u32, level: &str, code: &str, text: &str) {
        self.command(
            stream,
            &[
                Value::text("onStatus"),
                Value::Number(0.0),
                Value::Null,
                info(level, code, text),
            ],
        );
    }
}

/// What is taken of Enhanced RTMP (v2, "Enhancing NetConnection connect Command"): codecs that are passed on,
/// reconnect requests, several tracks, extended headers.
pub(super) fn enhanced() -> [(String, Value); 3] {
    const CAN_FORWARD: f64 = 4.0;
    const RECONNECT_MULTITRACK_MODEX: f64 = 7.0;
    let map = |names: &[&str]| {
        let entry = |name: &&str| ((*name).to_owned(), Value::Number(CAN_FORWARD));
        Value::Object(names.iter().map(entry).collect())
    };
    [
        (
            "videoFourCcInfoMap".into(),
            map(&["avc1", "hvc1", "av01", "vp08", "vp09"]),
        ),
        (
            "audioFourCcInfoMap".into(),
            map(&["mp4a", "Opus", ".mp3", "ac-3", "ec-3", "fLaC"]),
        ),
        ("capsEx".into(), Value::Number(RECONNECT_MULTITRACK_MODEX)),
    ]
}

/// An information object.
pub(super) fn info(level: &str, code: &str, text: &str) -> Value {
    Value::Object(vec![
        ("level".into(), Value::text(level)),
        ("code".into(), Value::text(code)),
        ("description".into(), Value::text(text)),
    ])
}
