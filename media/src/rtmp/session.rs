//! The server's end of a connection, without I/O.
//!
//! [`Session::receive`] takes bytes, [`Session::poll`] then gives events until it says `None`, [`Session::take_output`]
//! gives the bytes to send, [`Session::deadline`] the moment at which to call [`Session::check_time`]. Bytes behind a
//! [`Event::Publish`] or an [`Event::Play`] are not looked at until [`Session::accept`] or [`Session::refuse`], so the
//! caller can ask whoever decides before any media is read. To one who plays, [`Session::send`] sends tags.
use std::time::Duration;

use bytes::BytesMut;
use routing::model::{PlaybackId, StreamKey, Uptime};

use super::{
    ProtocolError,
    address::{self, playback_id, segments, stream_key},
    aggregate::Aggregate,
    amf::{self, Value},
    chunk::{ChunkReader, Limits, Message},
    command::{self, Command, Speaker},
    handshake::Handshake,
};
use crate::flv::{Tag, TagKind};

/// From accept to a publish command: then a connection that wants nothing is closed.
pub const SETUP: Duration = Duration::from_secs(10);
/// Without a whole message for so long, a connection is closed: slow senders too.
pub const IDLE: Duration = Duration::from_secs(30);
/// Commands that a client may send before it publishes. OBS sends five.
const MAX_COMMANDS: u32 = 64;
/// The message stream that `createStream` gives.
const STREAM: u32 = 1;
/// How many bytes a peer may send before it expects an acknowledgement, as we announce it.
const OUR_WINDOW: u32 = 2_500_000;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The client wants to publish with this key. Answer with [`Session::accept`] or [`Session::refuse`].
    Publish(StreamKey),
    /// The client wants to play this stream. Answer with [`Session::accept`] or [`Session::refuse`].
    Play(PlaybackId),
    /// A media or data message of a publisher that was let in.
    Tag(Tag),
    /// The client ended its publication, or stopped playing. What it sends after that is not read.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Commands,
    Asking,
    AskingToPlay,
    Publishing,
    Playing,
    Closed,
}

/// The server's end of one connection.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    handshake: Handshake,
    reader: ChunkReader,
    speaker: Speaker,
    input: BytesMut,
    opened: Uptime,
    last_message: Uptime,
    app: Vec<String>,
    /// Whether the client connects again when it is asked to.
    reconnects: bool,
    host: Option<String>,
    commands: u32,
    /// The peer's acknowledgement window, bytes received, bytes acknowledged.
    window: u32,
    received: u64,
    acknowledged: u64,
    /// Tags of an aggregate message that were not handed out yet.
    aggregate: Option<Aggregate>,
}

impl Session {
    /// A connection accepted at `now`. `seed` varies the handshake's filling.
    #[must_use]
    pub fn new(now: Uptime, seed: u64) -> Self {
        Self {
            phase: Phase::Handshake,
            handshake: Handshake::server(seed),
            reader: ChunkReader::new(Limits::STRANGER),
            speaker: Speaker::default(),
            input: BytesMut::new(),
            opened: now,
            last_message: now,
            app: Vec::new(),
            reconnects: false,
            host: None,
            commands: 0,
            window: 0,
            received: 0,
            acknowledged: 0,
            aggregate: None,
        }
    }

    /// Takes what the peer sent. Poll before the next call: what is not polled is kept.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.phase != Phase::Closed {
            self.received += bytes.len() as u64;
            self.input.extend_from_slice(bytes);
        }
    }

    /// Bytes to send.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.speaker.out)
    }

    /// When [`Session::check_time`] has something to say, if nothing arrives before.
    #[must_use]
    pub fn deadline(&self) -> Uptime {
        match self.phase {
            Phase::Handshake | Phase::Commands => self.opened + SETUP,
            // Players have nothing to say.
            Phase::Playing => Uptime(Duration::MAX),
            _ => self.last_message + IDLE,
        }
    }

    /// Whether the peer took too long.
    ///
    /// # Errors
    /// [`ProtocolError::Timeout`], which says with what.
    pub fn check_time(&self, now: Uptime) -> Result<(), ProtocolError> {
        if now < self.deadline() {
            return Ok(());
        }
        Err(ProtocolError::Timeout(match self.phase {
            Phase::Handshake => "no RTMP handshake within 10 s",
            Phase::Commands => "no publish or play command within 10 s",
            _ => "no message for 30 s",
        }))
    }

    /// When the last whole message came.
    #[must_use]
    pub const fn last_message(&self) -> Uptime {
        self.last_message
    }

    /// Whether it ended or was refused: send the output, then close.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The next event; `None` when more bytes, or an answer to [`Event::Publish`], are needed.
    ///
    /// # Errors
    /// [`ProtocolError`]: close the connection.
    pub fn poll(&mut self, now: Uptime) -> Result<Option<Event>, ProtocolError> {
        if self.phase == Phase::Handshake {
            if !self
                .handshake
                .advance(&mut self.input, &mut self.speaker.out)?
            {
                return Ok(None);
            }
            self.phase = Phase::Commands;
        }
        loop {
            if matches!(
                self.phase,
                Phase::Asking | Phase::AskingToPlay | Phase::Closed
            ) {
                return Ok(None);
            }
            if let Some(tag) = self.next_of_aggregate()? {
                return Ok(Some(Event::Tag(tag)));
            }
            self.acknowledge();
            let Some(message) = self.reader.next(&mut self.input)? else {
                return Ok(None);
            };
            self.last_message = now;
            if let Some(event) = self.message(message)? {
                return Ok(Some(event));
            }
        }
    }

    /// Lets the publisher or the player in.
    pub fn accept(&mut self) {
        let playing = match self.phase {
            Phase::Asking => false,
            Phase::AskingToPlay => true,
            _ => return,
        };
        let begin = [[0; 2].as_slice(), &STREAM.to_be_bytes()].concat();
        self.speaker.control(command::USER_CONTROL, &begin);
        let mut status = |code, text| self.speaker.status(STREAM, "status", code, text);
        if playing {
            self.phase = Phase::Playing;
            status("NetStream.Play.Reset", "Playing begins anew.");
            status("NetStream.Play.Start", "Playing has started.");
            // What Flash asked for before it let a page look at pictures; some players still wait for it.
            let yes = || Value::Boolean(true);
            let body = amf::encode(&[Value::text("|RtmpSampleAccess"), yes(), yes()]);
            self.speaker
                .message(command::DATA_STREAM, command::DATA, STREAM, 0, body.into());
        } else {
            self.phase = Phase::Publishing;
            self.reader.set_limits(Limits::PUBLISHER);
            status("NetStream.Publish.Start", "Publishing has started.");
        }
    }

    /// Sends a tag to one who plays.
    pub fn send(&mut self, tag: &Tag) {
        if self.phase == Phase::Playing {
            self.speaker.tag(STREAM, tag);
        }
    }

    /// How much there is to send.
    #[must_use]
    pub const fn output_len(&self) -> usize {
        self.speaker.out.len()
    }

    /// Tells one who plays that there is no more.
    pub fn end_play(&mut self) {
        if self.phase != Phase::Playing {
            return;
        }
        let end = [[0, 1].as_slice(), &STREAM.to_be_bytes()].concat();
        self.speaker.control(command::USER_CONTROL, &end);
        let text = "The stream has ended.";
        self.speaker
            .status(STREAM, "status", "NetStream.Play.Stop", text);
        self.phase = Phase::Closed;
    }

    /// The host that the client connected to by its own words, without port, lower case.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Tells the client why its publication or playing does not begin, or does not go on. `code` is such as
    /// `NetStream.Publish.BadName`.
    pub fn refuse(&mut self, code: &str, text: &str) {
        if self.phase != Phase::Handshake {
            self.speaker.status(STREAM, "error", code, text);
        }
        self.phase = Phase::Closed;
    }

    /// Ends the connection for this server's own reasons. Who knows Enhanced RTMP's reconnect request is asked to connect
    /// again at once; others hear an error, and why.
    pub fn send_away(&mut self, text: &str) {
        if self.reconnects {
            let request = "NetConnection.Connect.ReconnectRequest";
            self.speaker.status(0, "status", request, text);
            self.phase = Phase::Closed;
        } else {
            self.refuse("NetStream.Publish.Failed", text);
        }
    }

    fn acknowledge(&mut self) {
        if self.window > 0 && self.received - self.acknowledged >= u64::from(self.window / 2).max(1)
        {
            self.acknowledged = self.received;
            // The count wraps at 32 bits (section 5.4.3).
            let count = (self.received & u64::from(u32::MAX)) as u32;
            self.speaker
                .control(command::ACKNOWLEDGEMENT, &count.to_be_bytes());
        }
    }

    fn message(&mut self, message: Message) -> Result<Option<Event>, ProtocolError> {
        let publishing = self.phase == Phase::Publishing;
        match message.kind {
            command::WINDOW => {
                if let Some(size) = message.payload.first_chunk::<4>() {
                    self.window = u32::from_be_bytes(*size);
                }
            }
            // A ping request is answered with its own time (section 7.1.7).
            command::USER_CONTROL
                if message.payload.len() >= 6 && message.payload[..2] == [0, 6] =>
            {
                let pong = [&[0, 7][..], &message.payload[2..6]].concat();
                self.speaker.control(command::USER_CONTROL, &pong);
            }
            command::COMMAND | command::COMMAND_AMF3 => {
                self.commands += 1;
                if self.commands > MAX_COMMANDS && !publishing {
                    return Err(ProtocolError::Commands);
                }
                if let Some(command) = Command::read(&message) {
                    return Ok(self.command(&command));
                }
            }
            command::AGGREGATE if publishing => {
                self.aggregate = Some(Aggregate::new(message));
                return Ok(self.next_of_aggregate()?.map(Event::Tag));
            }
            command::AUDIO | command::VIDEO | command::DATA | command::DATA_AMF3 if publishing => {
                let kind = match message.kind {
                    command::AUDIO => TagKind::Audio,
                    command::VIDEO => TagKind::Video,
                    _ => TagKind::Data,
                };
                let skip = usize::from(message.kind == command::DATA_AMF3);
                let body = message.payload.slice(skip.min(message.payload.len())..);
                return Ok(Some(Event::Tag(Tag {
                    kind,
                    timestamp: message.timestamp,
                    body,
                })));
            }
            // Acknowledgements, bandwidth, shared objects; and media of somebody who was not let in.
            _ => {}
        }
        Ok(None)
    }

    fn next_of_aggregate(&mut self) -> Result<Option<Tag>, ProtocolError> {
        let Some(aggregate) = &mut self.aggregate else {
            return Ok(None);
        };
        let tag = aggregate.next()?;
        if tag.is_none() {
            self.aggregate = None;
        }
        Ok(tag)
    }

    fn command(&mut self, command: &Command) -> Option<Event> {
        match command.name.as_str() {
            "connect" => self.connect(command),
            "createStream" => {
                self.answer(command, Value::Null, Value::Number(f64::from(STREAM)));
            }
            "FCPublish" => {
                self.speaker.command(
                    0,
                    &[Value::text("onFCPublish"), Value::Number(0.0), Value::Null],
                );
                self.answer(command, Value::Null, Value::Undefined);
            }
            "publish" if self.phase == Phase::Commands => {
                return self.publish(command.text(0));
            }
            "publish" => self.refuse(
                "NetStream.Publish.BadConnection",
                "This connection publishes already. Use one connection a stream.",
            ),
            "play" if self.phase == Phase::Commands => return self.play(command.text(0)),
            "play" | "play2" => self.refuse(
                "NetStream.Play.Failed",
                "This connection publishes or plays already. Use one connection a stream.",
            ),
            "closeStream" | "deleteStream" if self.phase == Phase::Playing => {
                self.phase = Phase::Closed;
                return Some(Event::Ended);
            }
            "FCUnpublish" | "closeStream" | "deleteStream" if self.phase == Phase::Publishing => {
                self.speaker.status(
                    STREAM,
                    "status",
                    "NetStream.Unpublish.Success",
                    "The publication has ended.",
                );
                self.phase = Phase::Closed;
                return Some(Event::Ended);
            }
            "getStreamLength" => self.answer(command, Value::Null, Value::Number(0.0)),
            // releaseStream, _checkbw and whatever else wants a result.
            _ if command.transaction > 0.0 && !command.name.starts_with('_')
                || command.name == "_checkbw" =>
            {
                self.answer(command, Value::Null, Value::Undefined);
            }
            _ => {}
        }
        None
    }

    fn answer(&mut self, command: &Command, object: Value, result: Value) {
        if command.transaction != 0.0 {
            self.speaker.command(
                0,
                &[
                    Value::text("_result"),
                    Value::Number(command.transaction),
                    object,
                    result,
                ],
            );
        }
    }

    fn connect(&mut self, command: &Command) {
        let object = command.values.first();
        let text = |name| {
            object
                .and_then(|o| o.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let mut app = segments(text("app"));
        if app.is_empty() {
            // rtmp://HOST[:PORT]/APP…
            let url = text("tcUrl");
            let path = url.split_once("://").map_or(url, |(_, rest)| rest);
            app = segments(path.split_once('/').map_or("", |(_, path)| path));
        }
        self.app = app;
        let capabilities = object
            .and_then(|o| o.get("capsEx"))
            .and_then(Value::as_number);
        self.reconnects = capabilities.is_some_and(|c| c % 2.0 >= 1.0);
        self.host = address::host(text("tcUrl"));
        self.speaker
            .control(command::WINDOW, &OUR_WINDOW.to_be_bytes());
        let bandwidth = [&OUR_WINDOW.to_be_bytes()[..], &[2]].concat();
        self.speaker.control(command::PEER_BANDWIDTH, &bandwidth);
        let Speaker { chunks, out } = &mut self.speaker;
        chunks.set_chunk_size(4096, out);
        let properties = Value::Object(vec![
            ("fmsVer".into(), Value::text("FMS/3,5,7,7009")),
            ("capabilities".into(), Value::Number(31.0)),
            ("mode".into(), Value::Number(1.0)),
        ]);
        let mut info = command::info(
            "status",
            "NetConnection.Connect.Success",
            "Connection succeeded.",
        );
        if let Value::Object(entries) = &mut info {
            entries.push(("objectEncoding".into(), Value::Number(0.0)));
            let asked = |name| object.is_some_and(|o| o.get(name).is_some());
            if asked("fourCcList") || asked("videoFourCcInfoMap") || asked("capsEx") {
                entries.extend(command::enhanced());
            }
        }
        self.answer(command, properties, info);
    }

    fn play(&mut self, name: &str) -> Option<Event> {
        if let Some(id) = playback_id(&self.app, name) {
            self.phase = Phase::AskingToPlay;
            return Some(Event::Play(id));
        }
        self.refuse(
            "NetStream.Play.StreamNotFound",
            "There is no playback id in this address. Play rtmp://HOST/play/ID.",
        );
        None
    }

    fn publish(&mut self, name: &str) -> Option<Event> {
        if let Some(key) = stream_key(&self.app, name) {
            self.phase = Phase::Asking;
            return Some(Event::Publish(key));
        }
        self.refuse(
            "NetStream.Publish.BadName",
            "There is no stream key in this address. Publish to rtmp://HOST/live/KEY: server rtmp://HOST/live, stream \
             key KEY.",
        );
        None
    }
}
