//! Streams between nodes, under any bytes.
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{AsyncRead, executor::block_on};
use fuzz_kit::Input;

use super::{frame, node_id, peer_id};
use crate::{
    carry::Status,
    fuzz::{value, written},
    join::wire::Renewed,
    live::hello::{Answer, First},
};

fuzz_kit::targets! {
    link_frames: frames, frame_seeds;
    link_words: words, word_seeds;
    link_peer: peer, peer_seeds;
}

/// A stream whose bytes come in pieces.
struct Pieces<'a, I: Iterator<Item = &'a [u8]>>(&'a [u8], I);

impl<'a, I: Iterator<Item = &'a [u8]> + Unpin> AsyncRead for Pieces<'a, I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.is_empty() {
            self.0 = self.1.next().unwrap_or_default();
        }
        let (head, tail) = self.0.split_at(self.0.len().min(buf.len()));
        buf[..head.len()].copy_from_slice(head);
        self.0 = tail;
        Poll::Ready(Ok(head.len()))
    }
}

/// The frames of a stream, and how it ends.
fn read<R: AsyncRead + Unpin>(mut stream: R, max: usize) -> (Vec<Bytes>, io::ErrorKind) {
    let mut all = Vec::new();
    loop {
        match block_on(frame::read(&mut stream, max)) {
            Ok(frame) => {
                assert!(frame.len() <= max);
                all.push(frame);
            }
            Err(error) => return (all, error.kind()),
        }
    }
}

fn frames(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let seed = input.short();
    let max = usize::from(input.short());
    let (whole, end) = read(input.rest(), max);
    assert_eq!(
        read(Pieces(&[], input.pieces(seed)), max),
        (whole.clone(), end)
    );
    let mut again = Vec::new();
    for frame in &whole {
        block_on(frame::write(&mut again, frame)).expect("a Vec takes all bytes");
    }
    assert!(input.rest().starts_with(&again));
}

fn frame_seeds() -> Vec<Vec<u8>> {
    let mut all = vec![0, 7, 1, 0];
    for body in [&b"one"[..], b"", &[9; 200]] {
        block_on(frame::write(&mut all, body)).expect("a Vec takes all bytes");
    }
    vec![all]
}

/// The first words on a stream and the answers to them.
fn words(bytes: &[u8]) {
    value::<First>(bytes);
    value::<Answer>(bytes);
    value::<Status>(bytes);
    value::<Renewed>(bytes);
}

fn word_seeds() -> Vec<Vec<u8>> {
    vec![
        written(First::Call("shoal/facts/1".into())),
        written(Answer::Refused("no".into())),
        written(Status::Done),
        written(Status::Refused("no".into())),
        written(Renewed::Refused("no".into())),
    ]
}

/// A node has one name in libp2p, and that names no other node.
fn peer(bytes: &[u8]) {
    let Ok(id) = libp2p::PeerId::from_bytes(bytes) else {
        return;
    };
    if let Some(node) = node_id(&id) {
        assert_eq!(peer_id(&node), Some(id));
    }
}

fn peer_seeds() -> Vec<Vec<u8>> {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    let node = routing::model::NodeId::from_bytes(key.to_bytes());
    peer_id(&node)
        .into_iter()
        .map(libp2p::PeerId::to_bytes)
        .collect()
}
