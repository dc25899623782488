//! RTMP under any bytes. What is common to all: cutting the bytes into other pieces changes nothing.
use bytes::{Bytes, BytesMut};
use fuzz_kit::Input;
use routing::model::Uptime;

use super::{
    ProtocolError,
    amf::{self, Value},
    chunk::{ChunkReader, ChunkWriter, Limits, Message},
    client::{self, Client},
    command::{self, Command},
    handshake::Handshake,
    session::{Event, Session},
};
use crate::flv::{Tag, TagKind};

fuzz_kit::targets! {
    rtmp_handshake: handshake, handshake_seeds;
    rtmp_chunks: chunks, chunks_seeds;
    rtmp_amf0: amf0, amf0_seeds;
    rtmp_command: commands, command_seeds;
    rtmp_session: session, session_seeds;
    rtmp_client: client, client_seeds;
}

const NOW: Uptime = Uptime::ZERO;
/// C0 to C2, or S0 to S2, without a word in them.
const SHAKEN: usize = 1 + 2 * 1536;

fn shaken() -> Vec<u8> {
    let mut all = vec![0; SHAKEN];
    all[0] = 3;
    all
}

/// How a handshake ended, what it answered, what it left.
fn shake<'a>(
    mut end: Handshake,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Result<bool, ProtocolError>, Vec<u8>, usize) {
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    let mut done = Ok(false);
    for piece in pieces {
        input.extend_from_slice(piece);
        done = end.advance(&mut input, &mut out);
        if done.is_err() {
            break;
        }
    }
    // What comes after an error is not looked at.
    let left = if done.is_ok() { input.len() } else { 0 };
    (done, out, left)
}

fn handshake(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let seed = input.short();
    let ends: [fn() -> Handshake; 2] = [
        || Handshake::server(1),
        || Handshake::client(1, &mut Vec::new()),
    ];
    for end in ends {
        let (done, out, left) = shake(end(), [input.rest()].into_iter());
        assert!(out.len() <= SHAKEN);
        if done == Ok(true) {
            assert_eq!(left, input.rest().len() - SHAKEN);
        }
        assert_eq!((done, out, left), shake(end(), input.pieces(seed)));
    }
}

fn handshake_seeds() -> Vec<Vec<u8>> {
    vec![[vec![0, 7], shaken(), b"more".to_vec()].concat()]
}

/// The messages in these pieces, and why there are no more.
fn messages<'a>(
    limits: Limits,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Message>, Option<ProtocolError>) {
    let mut reader = ChunkReader::new(limits);
    let (mut input, mut all) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(Some(message)) => {
                    assert!(message.payload.len() <= limits.message);
                    all.push(message);
                }
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
            assert!(reader.held() <= limits.unfinished);
        }
        assert!(reader.held() <= limits.unfinished);
        assert!(input.len() < 18, "at most part of a header is kept");
    }
    (all, None)
}

/// Small limits, so that a small input meets them.
const SMALL: Limits = Limits {
    message: 300,
    unfinished: 500,
    streams: 4,
};

fn chunks(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (seed, limits) = match input.short() {
        seed if seed & 1 == 0 => (seed, Limits::STRANGER),
        seed => (seed, SMALL),
    };
    let (all, error) = messages(limits, [input.rest()].into_iter());
    assert_eq!(
        (&all, error),
        (
            &messages(limits, input.pieces(seed)).0,
            messages(limits, input.pieces(seed)).1
        )
    );
    let mut out = Vec::new();
    let mut writer = ChunkWriter::default();
    writer.set_chunk_size(seed, &mut out);
    let told: Vec<Message> = all
        .into_iter()
        .filter(|m| !matches!(m.kind, 1 | 2))
        .collect();
    for message in &told {
        writer.write(6, message, &mut out);
    }
    let read = messages(Limits::STRANGER, [&out[..]].into_iter());
    assert_eq!(read, (told, None), "what was read can be written");
}

fn message(kind: u8, timestamp: u32, payload: Vec<u8>) -> Message {
    Message {
        kind,
        stream: 1,
        timestamp,
        payload: payload.into(),
    }
}

fn chunks_seeds() -> Vec<Vec<u8>> {
    let mut plain = vec![0, 6];
    let writer = ChunkWriter::default();
    writer.write(4, &message(8, 40, vec![7; 300]), &mut plain);
    writer.write(6, &message(9, 0x0100_0000, vec![9; 200]), &mut plain);
    // Abbreviated headers, two lines interleaved, a smaller chunk size, an abort.
    let mut short = vec![0, 3];
    short.extend([2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 10]);
    short.extend([4, 0, 0, 40, 0, 0, 12, 8, 1, 0, 0, 0]);
    short.extend(*b"0123456789");
    short.extend([0x05, 0, 0, 20, 0, 0, 200, 9, 1, 0, 0, 0]);
    short.extend(*b"abcdefghij");
    short.extend([0xc4, b'x', b'y']);
    short.extend([2, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 5]);
    short.extend([0x44, 0, 0, 20, 0, 0, 2, 8, b'b', b'b']);
    short.extend([
        0x84, 0, 0, 30, b'c', b'c', 0x00, 9, 0, 0, 1, 0, 0, 1, 8, 1, 0, 0, 0, b'e',
    ]);
    vec![plain, short]
}

fn amf0(bytes: &[u8]) {
    let leading = amf::decode_leading(bytes);
    if let Ok(whole) = amf::decode(bytes) {
        assert_eq!(format!("{whole:?}"), format!("{leading:?}"));
    }
    let written = amf::encode(&leading);
    let read = amf::decode(&written).expect("what was read can be written");
    // In bytes, since a number may be none (NaN).
    assert_eq!(amf::encode(&read), written);
}

fn metadata() -> Value {
    Value::Object(vec![
        ("videocodecid".into(), Value::Number(7.0)),
        ("audiocodecid".into(), Value::Number(10.0)),
        ("framerate".into(), Value::Number(29.97)),
        ("videodatarate".into(), Value::Number(2_500.0)),
        ("stereo".into(), Value::Boolean(true)),
        (
            "list".into(),
            Value::Array(vec![Value::Null, Value::Undefined]),
        ),
    ])
}

fn amf0_seeds() -> Vec<Vec<u8>> {
    let plain = amf::encode(&[
        Value::text("@setDataFrame"),
        Value::text("onMetaData"),
        metadata(),
    ]);
    // An ECMA array, a date, a long text, a typed object, a reference.
    let rare = [
        &[8, 0, 0, 0, 1, 0, 1, b'a', 1, 1, 0, 0, 9][..],
        &[11, 0x42, 0x77, 0, 0, 0, 0, 0, 0, 0, 0],
        &[12, 0, 0, 0, 2, b'o', b'k', 16, 0, 1, b'T', 0, 0, 9, 7, 0, 1],
    ];
    vec![plain, rare.concat()]
}

fn commands(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = if input.byte() & 1 == 0 {
        command::COMMAND
    } else {
        command::COMMAND_AMF3
    };
    let Some(read) = Command::read(&message(kind, 0, input.rest().to_vec())) else {
        return;
    };
    let mut values = vec![Value::text(&read.name), Value::Number(read.transaction)];
    values.extend(read.values.iter().cloned());
    let again = Command::read(&message(command::COMMAND, 0, amf::encode(&values)));
    let again = again.expect("what was read can be written");
    assert_eq!(format!("{read:?}"), format!("{again:?}"));
}

fn call(name: &str, transaction: f64, rest: &[Value]) -> Vec<u8> {
    let mut values = vec![Value::text(name), Value::Number(transaction)];
    values.extend_from_slice(rest);
    amf::encode(&values)
}

fn connect() -> Vec<u8> {
    let object = Value::Object(vec![
        ("app".into(), Value::text("live")),
        ("tcUrl".into(), Value::text("rtmp://host/live")),
    ]);
    call("connect", 1.0, &[object])
}

fn publish() -> Vec<u8> {
    call(
        "publish",
        5.0,
        &[Value::Null, Value::text("KEY"), Value::text("live")],
    )
}

fn command_seeds() -> Vec<Vec<u8>> {
    vec![
        [vec![0], connect()].concat(),
        [vec![1, 0], publish()].concat(),
    ]
}

/// A session's events as text (a key cannot be printed, and is hashed), and why there are no more.
fn events<'a>(
    accept: bool,
    prefix: &'a [u8],
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<ProtocolError>, bool) {
    let mut session = Session::new(NOW, 1);
    let mut all = Vec::new();
    let (mut taken, mut said) = (0, 0);
    for piece in std::iter::once(prefix).chain(pieces) {
        session.receive(piece);
        taken += piece.len();
        loop {
            match session.poll(NOW) {
                Ok(Some(Event::Publish(key))) => {
                    all.push(format!("{:?}", key.hash()));
                    if accept {
                        session.accept();
                    } else {
                        session.refuse("NetStream.Publish.BadName", "no");
                    }
                }
                Ok(Some(event @ Event::Play(_))) => {
                    all.push(format!("{event:?}"));
                    if accept {
                        session.accept();
                    } else {
                        session.refuse("NetStream.Play.StreamNotFound", "no");
                    }
                }
                Ok(Some(event)) => all.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => return (all, Some(error), session.is_closed()),
            }
        }
        said += session.take_output().len();
    }
    assert!(
        said <= 4_096 + 32 * taken,
        "{said} bytes said for {taken} taken"
    );
    (all, None, session.is_closed())
}

fn session(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (seed, mode) = (input.short(), input.byte());
    let mut prefix = if mode & 1 == 0 { shaken() } else { Vec::new() };
    if mode & 3 == 2 {
        for command in [connect(), publish()] {
            let message = message(command::COMMAND, 0, command);
            ChunkWriter::default().write(3, &message, &mut prefix);
        }
    }
    let accept = mode & 4 == 0;
    let whole = events(accept, &prefix, [input.rest()].into_iter());
    assert_eq!(whole, events(accept, &prefix, input.pieces(seed)));
}

/// What a client and a server say to each other until two pictures are through: the client's bytes, the server's.
fn talk() -> (Vec<u8>, Vec<u8>) {
    let (mut server, mut client) = (Session::new(NOW, 1), Client::new("host", "live", "KEY", 2));
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let mut ready = false;
    loop {
        let bytes = client.take_output();
        if bytes.is_empty() {
            return (to_server, to_client);
        }
        to_server.extend(&bytes);
        server.receive(&bytes);
        while let Ok(Some(event)) = server.poll(NOW) {
            if matches!(event, Event::Publish(_)) {
                server.accept();
            }
        }
        let bytes = server.take_output();
        to_client.extend(&bytes);
        client.receive(&bytes);
        while let Ok(Some(_)) = client.poll() {
            if std::mem::replace(&mut ready, true) {
                continue;
            }
            for timestamp in [0, 40] {
                client.send(&Tag {
                    kind: TagKind::Video,
                    timestamp,
                    body: Bytes::from_static(&[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65]),
                });
            }
            client.finish();
        }
    }
}

fn session_seeds() -> Vec<Vec<u8>> {
    let said = talk().0;
    let mut media = vec![0, 9, 2];
    let aggregate = [
        &[8, 0, 0, 1, 0, 0, 20, 0, 0, 0, 0, 0xaf, 0, 0, 0, 12][..],
        &[9, 0, 0, 2, 0, 0, 40, 0, 0, 0, 0, 0x17, 1, 0, 0, 0, 13],
    ];
    let writer = ChunkWriter::default();
    for (kind, payload) in [
        (command::WINDOW, vec![0, 0, 1, 0]),
        (command::USER_CONTROL, vec![0, 6, 1, 2, 3, 4]),
        (
            command::DATA,
            amf::encode(&[Value::text("onMetaData"), metadata()]),
        ),
        (command::AUDIO, vec![0xaf, 0, 0x11, 0x90]),
        (command::AGGREGATE, aggregate.concat()),
        (command::COMMAND, call("FCUnpublish", 6.0, &[Value::Null])),
    ] {
        writer.write(5, &message(kind, 20, payload), &mut media);
    }
    vec![
        [&[0, 1, 1][..], &said].concat(),
        [&[0, 5, 0][..], &said[SHAKEN..]].concat(),
        media,
    ]
}

fn answers<'a>(
    prefix: &'a [u8],
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<client::Event>, Option<ProtocolError>) {
    let mut client = Client::new("host", "live", "KEY", 2);
    let mut all = Vec::new();
    let (mut taken, mut said) = (0, 0);
    for piece in std::iter::once(prefix).chain(pieces) {
        client.receive(piece);
        taken += piece.len();
        loop {
            match client.poll() {
                Ok(Some(event)) => {
                    client.finish();
                    all.push(event);
                }
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
        said += client.take_output().len();
    }
    assert!(
        said <= 4_096 + 32 * taken,
        "{said} bytes said for {taken} taken"
    );
    (all, None)
}

fn client(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (seed, mode) = (input.short(), input.byte());
    let prefix = if mode & 1 == 0 { shaken() } else { Vec::new() };
    let whole = answers(&prefix, [input.rest()].into_iter());
    assert_eq!(whole, answers(&prefix, input.pieces(seed)));
}

fn client_seeds() -> Vec<Vec<u8>> {
    let said = talk().1;
    let status = [
        ("level", Value::text("error")),
        ("code", Value::text("NetStream.Publish.BadName")),
        ("description", Value::text("no")),
    ];
    let status = status.map(|(name, value)| (name.to_owned(), value));
    let refusal = call(
        "onStatus",
        0.0,
        &[Value::Null, Value::Object(status.into())],
    );
    let mut refused = vec![0, 3, 0];
    ChunkWriter::default().write(3, &message(command::COMMAND, 0, refusal), &mut refused);
    vec![
        [&[0, 1, 1][..], &said].concat(),
        [&[0, 5, 0][..], &said[SHAKEN..]].concat(),
        refused,
    ]
}
