//! Client and server against each other without sockets, and a valid session mutated.
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use routing::model::{StreamKey, Uptime};

use super::{
    ProtocolError,
    amf::{self, Value},
    chunk::{ChunkWriter, Message},
    client::{self, Client},
    session::{Event, IDLE, SETUP, Session},
};
use crate::flv::{Tag, TagKind};

const NOW: Uptime = Uptime::ZERO;

fn tag(timestamp: u32, size: usize) -> Tag {
    Tag {
        kind: TagKind::Video,
        timestamp,
        body: vec![0x27; size].into(),
    }
}

/// What a client sends from its first byte until it has published some tags and ended, and what the server took.
fn session() -> (Vec<u8>, Vec<Tag>) {
    let mut server = Session::new(NOW, 1);
    let mut client = Client::new("host", "live", "KEY", 2);
    let (mut sent, mut took, mut ready, mut ended) = (Vec::new(), Vec::new(), false, false);
    while !ended {
        let bytes = client.take_output();
        assert!(!bytes.is_empty(), "client and server wait for each other");
        sent.extend(&bytes);
        server.receive(&bytes);
        while let Some(event) = server.poll(NOW).unwrap() {
            match event {
                Event::Publish(key) => {
                    assert_eq!(key, StreamKey::new("key"));
                    server.accept();
                }
                Event::Tag(tag) => took.push(tag),
                Event::Play(_) => panic!("nobody asked to play"),
                Event::Ended => ended = true,
            }
        }
        client.receive(&server.take_output());
        while let Some(event) = client.poll().unwrap() {
            assert_eq!((event, ready), (client::Event::Ready, false));
            ready = true;
            for i in 0..5 {
                client.send(&tag(i * 40, 10 + 40_000 * i as usize));
            }
            client.finish();
        }
    }
    assert!(server.is_closed());
    (sent, took)
}

/// Runs a server on these bytes to its end; the tags that it took.
fn replay(bytes: &[u8], piece: usize) -> Result<Vec<Tag>, ProtocolError> {
    let mut server = Session::new(NOW, 1);
    let mut tags = Vec::new();
    for part in bytes.chunks(piece) {
        server.receive(part);
        while let Some(event) = server.poll(NOW)? {
            match event {
                Event::Publish(_) | Event::Play(_) => server.accept(),
                Event::Tag(tag) => tags.push(tag),
                Event::Ended => {}
            }
        }
        assert!(server.take_output().len() < 1 << 20);
    }
    Ok(tags)
}

#[test]
fn tags_arrive_whole_and_in_order_whatever_the_pieces() {
    let (sent, took) = session();
    let made: Vec<_> = (0..5)
        .map(|i| tag(i * 40, 10 + 40_000 * i as usize))
        .collect();
    assert_eq!(took, made);
    for piece in [1, 100, 5_000, sent.len()] {
        assert_eq!(replay(&sent, piece).unwrap(), made);
    }
}

/// A handshake and a connect to `live`, then these messages.
fn after_connect(messages: &[Message]) -> Vec<u8> {
    let mut out = vec![3];
    out.extend([0; 2 * 1536]);
    let writer = ChunkWriter::default();
    let connect = command(&[
        Value::text("connect"),
        Value::Number(1.0),
        Value::Object(vec![("app".into(), Value::text("live"))]),
    ]);
    writer.write(3, &connect, &mut out);
    for message in messages {
        writer.write(3, message, &mut out);
    }
    out
}

fn command(values: &[Value]) -> Message {
    Message {
        kind: 20,
        stream: 0,
        timestamp: 0,
        payload: amf::encode(values).into(),
    }
}

fn publish(name: &str) -> Message {
    let name = Value::text(name);
    command(&[
        Value::text("publish"),
        Value::Number(5.0),
        Value::Null,
        name,
    ])
}

#[test]
fn media_before_publish_is_not_read_and_a_refusal_has_its_words() {
    let media = Message {
        kind: 9,
        stream: 1,
        timestamp: 0,
        payload: Bytes::from_static(&[0x17, 1, 2]),
    };
    let mut server = Session::new(NOW, 1);
    server.receive(&after_connect(&[media.clone(), publish("KEY"), media]));
    assert!(matches!(server.poll(NOW), Ok(Some(Event::Publish(_)))));
    assert!(
        matches!(server.poll(NOW), Ok(None)),
        "it waits for the answer"
    );
    server.take_output();
    server.refuse("NetStream.Publish.BadName", "No stream has this key.");
    assert!(server.is_closed());
    let said = server.take_output();
    let has = |text: &str| said.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(has("onStatus") && has("NetStream.Publish.BadName") && has("No stream has this key."));
}

#[test]
fn the_tags_of_an_aggregate_have_the_time_of_its_first() {
    let mut body = Vec::new();
    for (time, byte) in [(20u8, 1u8), (40, 2)] {
        body.extend([8, 0, 0, 1, 0, 0, time, 0, 0, 0, 0, byte, 0, 0, 0, 12]);
    }
    let aggregate = Message {
        kind: 22,
        stream: 1,
        timestamp: 9_000,
        payload: body.into(),
    };
    let tags = replay(&after_connect(&[publish("KEY"), aggregate]), 4_000).unwrap();
    let times: Vec<_> = tags.iter().map(|t| (t.timestamp, t.body[0])).collect();
    assert_eq!(times, [(9_000, 1), (9_020, 2)]);
}

#[test]
fn time_runs_out_for_who_does_not_publish_or_falls_silent() {
    let server = Session::new(NOW, 1);
    assert_eq!(server.deadline(), NOW + SETUP);
    assert!(
        server
            .check_time(Uptime(SETUP - Duration::from_millis(1)))
            .is_ok()
    );
    assert!(server.check_time(NOW + SETUP).is_err());

    let mut server = Session::new(NOW, 1);
    server.receive(&after_connect(&[publish("KEY")]));
    while let Ok(Some(_)) = server.poll(NOW) {
        server.accept();
    }
    // Half a chunk every second is no message.
    server.receive(&[4, 0, 0, 0, 0, 1, 0, 9, 1, 0, 0, 0]);
    assert!(matches!(server.poll(NOW + IDLE), Ok(None)));
    assert_eq!(
        server.check_time(NOW + IDLE),
        Err(ProtocolError::Timeout("no message for 30 s"))
    );
}

#[test]
fn no_byte_is_acknowledged_twice() {
    let window = Message {
        kind: 5,
        stream: 0,
        timestamp: 0,
        payload: Bytes::from_static(&[0, 0, 0, 1]),
    };
    let mut server = Session::new(NOW, 1);
    server.receive(&after_connect(&[publish("KEY"), window]));
    while let Ok(Some(_)) = server.poll(NOW) {
        server.accept();
    }
    server.take_output();
    // A message without a body for each byte, 200 of them in one piece.
    server.receive(&[&[5, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0][..], &[0xc5; 200]].concat());
    while let Ok(Some(_)) = server.poll(NOW) {}
    let said = server.take_output();
    assert_eq!(said.len(), 16, "one acknowledgement");
}

#[test]
fn a_player_gets_what_is_sent_and_is_told_the_end() {
    let play = |name: &str| {
        let values = [Value::text("play"), Value::Number(5.0), Value::Null];
        command(&[&values[..], &[Value::text(name)]].concat())
    };
    let mut server = Session::new(NOW, 1);
    server.receive(&after_connect(&[play("abcdefghij012345")]));
    let id = "abcdefghij012345".parse().unwrap();
    assert!(matches!(server.poll(NOW), Ok(Some(Event::Play(p))) if p == id));
    server.send(&tag(0, 100));
    server.take_output();
    server.accept();
    let said = server.take_output();
    let has = |said: &[u8], text: &str| said.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(has(&said, "NetStream.Play.Start") && !said.ends_with(&[0x27; 100]));
    server.send(&tag(40, 100));
    assert!(server.take_output().ends_with(&[0x27; 100]));
    // A player has nothing to say for hours.
    assert!(server.check_time(NOW + IDLE * 1_000).is_ok());
    server.end_play();
    assert!(server.is_closed() && has(&server.take_output(), "NetStream.Play.Stop"));

    let mut server = Session::new(NOW, 1);
    server.receive(&after_connect(&[play("KEY")]));
    assert!(matches!(server.poll(NOW), Ok(None)) && server.is_closed());
    assert!(has(&server.take_output(), "NetStream.Play.StreamNotFound"));
}

#[test]
fn endless_commands_are_ended() {
    let noise = command(&[Value::text("noise"), Value::Number(2.0), Value::Null]);
    let many = vec![noise; 100];
    assert_eq!(
        replay(&after_connect(&many), 4_000),
        Err(ProtocolError::Commands)
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_after_the_handshake_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..4_000),
        piece in 1usize..2_000,
    ) {
        let _ = replay(&[after_connect(&[publish("KEY")]), bytes].concat(), piece);
    }

    #[test]
    fn a_mutated_session_never_panics(
        at in prop::collection::vec((3_073usize..5_000, any::<u8>()), 1..6),
        cut in 0usize..2_000,
    ) {
        let (mut sent, _) = session();
        for (at, to) in at {
            if let Some(byte) = sent.get_mut(at) {
                *byte = to;
            }
        }
        sent.drain(3_073 + cut..3_073 + cut + cut % 7);
        let _ = replay(&sent, 3_000);
    }
}

/// What a server says to a client that connected with these capabilities, when it sends it away.
fn last_words(capabilities: Option<f64>) -> String {
    let mut server = Session::new(NOW, 1);
    let hello = [&[3], &[0; 1536][..]].concat();
    server.receive(&hello);
    assert!(server.poll(NOW).unwrap().is_none());
    let answer = server.take_output();
    server.receive(&answer[1..1537]);
    let mut object = vec![("app".to_owned(), Value::text("live"))];
    object.extend(capabilities.map(|c| ("capsEx".to_owned(), Value::Number(c))));
    let mut bytes = Vec::new();
    let connect = Message {
        kind: 20,
        stream: 0,
        timestamp: 0,
        payload: amf::encode(&[
            Value::text("connect"),
            Value::Number(1.0),
            Value::Object(object),
        ])
        .into(),
    };
    ChunkWriter::default().write(3, &connect, &mut bytes);
    server.receive(&bytes);
    assert!(server.poll(NOW).unwrap().is_none());
    let answer = String::from_utf8_lossy(&server.take_output()).into_owned();
    assert_eq!(
        answer.contains("videoFourCcInfoMap"),
        capabilities.is_some()
    );
    server.send_away("Connect again.");
    assert!(server.is_closed());
    String::from_utf8_lossy(&server.take_output()).into_owned()
}

#[test]
fn who_can_reconnect_is_asked_to_and_others_hear_an_error() {
    assert!(last_words(Some(7.0)).contains("NetConnection.Connect.ReconnectRequest"));
    for capabilities in [Some(2.0), None] {
        assert!(last_words(capabilities).contains("NetStream.Publish.Failed"));
    }
}
