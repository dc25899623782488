//! The publishing client's end of a connection, without I/O.
use bytes::{Bytes, BytesMut};

use super::{
    ProtocolError,
    amf::Value,
    chunk::{ChunkReader, Limits, Message},
    command::{self, Command, Speaker},
    handshake::Handshake,
};
use crate::flv::Tag;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server takes the stream: tags may be sent.
    Ready,
    /// The server refuses, or ends what it had taken.
    Refused {
        /// Such as `NetStream.Publish.BadName`.
        code: String,
        /// Its words.
        text: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Connecting,
    Creating,
    Publishing,
    Ready,
}

const CONNECT: f64 = 1.0;
const RELEASE: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE: f64 = 4.0;
const PUBLISH: f64 = 5.0;

/// The client's end of one connection.
#[derive(Debug)]
pub struct Client {
    phase: Phase,
    handshake: Handshake,
    reader: ChunkReader,
    speaker: Speaker,
    input: BytesMut,
    app: String,
    url: String,
    key: String,
    stream: u32,
    window: u32,
    received: u64,
    acknowledged: u64,
}

impl Client {
    /// A client that will publish `key` in `app` of the server at `host` (with its port). Its first bytes are ready.
    #[must_use]
    pub fn new(host: &str, app: &str, key: &str, seed: u64) -> Self {
        let mut speaker = Speaker::default();
        Self {
            phase: Phase::Handshake,
            handshake: Handshake::client(seed, &mut speaker.out),
            reader: ChunkReader::new(Limits::STRANGER),
            speaker,
            input: BytesMut::new(),
            app: app.to_owned(),
            url: format!("rtmp://{host}/{app}"),
            key: key.to_owned(),
            stream: 1,
            window: 0,
            received: 0,
            acknowledged: 0,
        }
    }

    /// Takes what the server sent.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        self.input.extend_from_slice(bytes);
    }

    /// Bytes to send.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.speaker.out)
    }

    /// Sends a tag. It has an effect once [`Event::Ready`] was seen.
    pub fn send(&mut self, tag: &Tag) {
        if self.phase == Phase::Ready {
            self.speaker.tag(self.stream, tag);
        }
    }

    /// Ends the publication.
    pub fn finish(&mut self) {
        if self.phase == Phase::Ready {
            let key = Value::text(&self.key);
            self.speaker.command(
                0,
                &[
                    Value::text("FCUnpublish"),
                    Value::Number(6.0),
                    Value::Null,
                    key,
                ],
            );
            let stream = Value::Number(f64::from(self.stream));
            self.speaker.command(
                0,
                &[
                    Value::text("deleteStream"),
                    Value::Number(7.0),
                    Value::Null,
                    stream,
                ],
            );
        }
    }

    /// The next event; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`ProtocolError`]: close the connection.
    pub fn poll(&mut self) -> Result<Option<Event>, ProtocolError> {
        if self.phase == Phase::Handshake {
            if !self
                .handshake
                .advance(&mut self.input, &mut self.speaker.out)?
            {
                return Ok(None);
            }
            self.phase = Phase::Connecting;
            let Speaker { chunks, out } = &mut self.speaker;
            chunks.set_chunk_size(32_768, out);
            let object = Value::Object(vec![
                ("app".into(), Value::text(&self.app)),
                ("type".into(), Value::text("nonprivate")),
                (
                    "flashVer".into(),
                    Value::text("FMLE/3.0 (compatible; shoal)"),
                ),
                ("tcUrl".into(), Value::text(&self.url)),
            ]);
            self.call("connect", CONNECT, object, None);
        }
        while let Some(message) = self.reader.next(&mut self.input)? {
            if let Some(event) = self.message(&message) {
                return Ok(Some(event));
            }
        }
        if self.window > 0 && self.received - self.acknowledged >= u64::from(self.window / 2).max(1)
        {
            self.acknowledged = self.received;
            let count = (self.received & u64::from(u32::MAX)) as u32;
            self.speaker
                .control(command::ACKNOWLEDGEMENT, &count.to_be_bytes());
        }
        Ok(None)
    }

    fn call(&mut self, name: &str, transaction: f64, object: Value, argument: Option<Value>) {
        let mut values = vec![Value::text(name), Value::Number(transaction), object];
        values.extend(argument);
        self.speaker.command(0, &values);
    }

    fn message(&mut self, message: &Message) -> Option<Event> {
        match message.kind {
            command::WINDOW => {
                if let Some(size) = message.payload.first_chunk::<4>() {
                    self.window = u32::from_be_bytes(*size);
                }
                None
            }
            command::USER_CONTROL if message.payload.starts_with(&[0, 6]) => {
                let pong: Bytes = [&[0, 7][..], &message.payload[2..]].concat().into();
                self.speaker.control(command::USER_CONTROL, &pong);
                None
            }
            command::COMMAND | command::COMMAND_AMF3 => {
                Command::read(message).and_then(|command| self.command(&command))
            }
            _ => None,
        }
    }

    fn command(&mut self, command: &Command) -> Option<Event> {
        let transaction = command.transaction;
        match (command.name.as_str(), self.phase) {
            ("_result", Phase::Connecting) if transaction == CONNECT => {
                self.phase = Phase::Creating;
                let key = || Some(Value::text(&self.key));
                let (release, publish) = (key(), key());
                self.call("releaseStream", RELEASE, Value::Null, release);
                self.call("FCPublish", FC_PUBLISH, Value::Null, publish);
                self.call("createStream", CREATE, Value::Null, None);
                None
            }
            ("_result", Phase::Creating) if transaction == CREATE => {
                self.phase = Phase::Publishing;
                let id = command.argument(0).and_then(Value::as_number);
                // Float to integer casts saturate; a stream id is a small number.
                self.stream = id.unwrap_or(1.0) as u32;
                let values = [
                    Value::text("publish"),
                    Value::Number(PUBLISH),
                    Value::Null,
                    Value::text(&self.key),
                    Value::text("live"),
                ];
                self.speaker.command(self.stream, &values);
                None
            }
            ("_error", Phase::Connecting) if transaction == CONNECT => Some(refused(command)),
            ("_error", Phase::Creating) if transaction == CREATE => Some(refused(command)),
            ("onStatus", _) => {
                let text = |name| {
                    let value = command.argument(0).and_then(|info| info.get(name));
                    value.and_then(Value::as_str).unwrap_or_default()
                };
                if text("level") == "error" {
                    return Some(refused(command));
                }
                if text("code") == "NetStream.Publish.Start" && self.phase == Phase::Publishing {
                    self.phase = Phase::Ready;
                    return Some(Event::Ready);
                }
                None
            }
            _ => None,
        }
    }
}

fn refused(command: &Command) -> Event {
    let text = |name| {
        let value = command.argument(0).and_then(|info| info.get(name));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Event::Refused {
        code: text("code"),
        text: text("description"),
    }
}
