//! The listener under any datagrams: of strangers, of callers with a cookie, of callers that were let in.
use bytes::Bytes;
use fuzz_kit::{Input, join};
use routing::model::{Secret, Uptime};

use super::{
    Asked, Event, Listener, Options, Passphrase, Path, SocketId,
    handshake::{Handshake, LEN},
    packet::{Control, HEADER, MAX, control},
};

fuzz_kit::targets! {
    srt_listener: listener, seeds;
    srt_stream_id: stream_id, stream_id_seeds;
}

fn path(n: u8) -> Path {
    Path {
        remote: ([192, 0, 2, 1], 4000 + u16::from(n % 4)).into(),
        local: None,
    }
}

/// A handshake of the caller at this path.
fn handshake(n: u8, version: u32, kind: u32, cookie: u32, rest: &[u8]) -> Bytes {
    let head = [
        version,
        0,
        9,
        1500,
        8192,
        kind,
        u32::from(n % 4) + 1,
        cookie,
    ];
    let mut body: Vec<u8> = head.into_iter().flat_map(u32::to_be_bytes).collect();
    body.resize(LEN, 0);
    body.extend(rest);
    control(Control::Handshake, 0, 0, SocketId(0), &body)
}

/// What a listener did, and what it was told.
struct World {
    listener: Listener,
    now: Uptime,
    let_in: Vec<SocketId>,
    received: usize,
    sent: usize,
}

impl World {
    fn new(secure: bool) -> Self {
        let passphrase = Passphrase::new(Secret::new("open sesame".into())).ok();
        let options = Options {
            passphrase: passphrase.filter(|_| secure),
            ..Options::default()
        };
        Self {
            listener: Listener::new(options, [1; 32]),
            now: Uptime::ZERO,
            let_in: Vec::new(),
            received: 0,
            sent: 0,
        }
    }

    fn receive(&mut self, from: u8, datagram: &[u8]) {
        self.listener.receive(self.now, path(from), datagram);
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(event) = self.listener.poll() {
            match event {
                Event::Request { id, .. } => {
                    self.listener.accept(self.now, id);
                    self.let_in.push(id);
                }
                Event::Data { payload, .. } => self.received += payload.len(),
                Event::Closed { .. } => {}
            }
        }
        while let Some((_, datagram)) = self.listener.poll_transmit() {
            assert!(datagram.len() <= MAX, "what is sent fits into a packet");
            self.sent += 1;
        }
    }

    fn cookie(&mut self, from: u8) -> u32 {
        let ask = handshake(from, 4, 1, 0, &[]);
        self.listener.receive(self.now, path(from), &ask);
        let (_, answer) = self
            .listener
            .poll_transmit()
            .expect("an induction is answered");
        assert!(answer.len() <= ask.len());
        let read = Handshake::read(&answer[HEADER..]);
        read.map_or(0, |handshake| handshake.cookie)
    }
}

fn listener(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(input.byte() & 1 == 1);
    let mut datagrams = 0;
    while !input.is_empty() {
        let (what, from) = (input.byte(), input.byte());
        datagrams += 1;
        match what % 5 {
            0 => world.receive(from, input.block()),
            1 => {
                let cookie = world.cookie(from);
                let conclusion = handshake(from, 5, u32::MAX, cookie, input.block());
                world.receive(from, &conclusion);
            }
            2 => {
                let mut datagram = input.block().to_vec();
                if let (Some(id), Some(to)) = (world.let_in.last(), datagram.get_mut(12..16)) {
                    to.copy_from_slice(&id.0.to_be_bytes());
                }
                world.receive(from, &datagram);
            }
            3 => {
                world.now = world.now + std::time::Duration::from_millis(input.short().into());
                world.listener.tick(world.now);
                world.poll();
            }
            _ => {
                if let Some(id) = world.let_in.pop() {
                    world.listener.close(world.now, id);
                    world.poll();
                }
            }
        }
    }
    assert!(world.received <= bytes.len());
    // At an instant each connection says at most four things.
    assert!(world.sent <= 2 * datagrams + 4 * datagrams * world.let_in.len().max(4));
}

/// Extensions of a good conclusion.
fn extensions(stream_id: &[u8]) -> Vec<u8> {
    let hello = [1 << 16 | 3, 0x1_0503, 0xbf, 120 << 16 | 120];
    let mut all: Vec<u8> = hello.into_iter().flat_map(u32::to_be_bytes).collect();
    let mut text = stream_id.to_vec();
    text.resize(text.len().next_multiple_of(4), 0);
    text.chunks_mut(4).for_each(<[u8]>::reverse);
    all.extend([0, 5, 0, u8::try_from(text.len() / 4).unwrap_or(0)]);
    all.extend(text);
    all
}

fn seeds() -> Vec<Vec<u8>> {
    let op = |what: u8, block: &[u8]| [vec![what, 0], join([block])].concat();
    let data = |seq: u32| {
        let head = [seq, 3 << 30 | 1, 0, 0];
        let mut all: Vec<u8> = head.into_iter().flat_map(u32::to_be_bytes).collect();
        all.extend([7; 20]);
        all
    };
    let say = |kind, body: &[u8]| op(2, &control(kind, 1, 0, SocketId(0), body));
    let mut good = vec![0];
    good.extend(op(1, &extensions(b"sk_test")));
    for seq in [9, 10, 13, 14] {
        good.extend(op(2, &data(seq)));
    }
    good.extend([3, 0, 0, 30]);
    good.extend(say(Control::AckAck, &[]));
    good.extend(say(Control::DropRequest, &[0, 0, 0, 11, 0, 0, 0, 12]));
    good.extend(op(2, &data(9000)));
    good.extend([3, 0, 0, 150]);
    good.extend(say(Control::Shutdown, &[]));
    let mut secure = vec![1];
    let key = [
        &[
            0, 3, 0, 14, 0x12, 0x20, 0x29, 1, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 4, 4,
        ][..],
        &[5; 40],
    ]
    .concat();
    secure.extend(op(1, &[extensions(b"sk_test"), key].concat()));
    secure.extend(op(0, &handshake(0, 4, 1, 0, &[])));
    vec![good, secure]
}

fn stream_id(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(Asked::Publish(key)) = Asked::read(text)
    {
        assert!(text.to_ascii_lowercase().contains(key.expose()));
    }
}

fn stream_id_seeds() -> Vec<Vec<u8>> {
    vec![
        b"sk_test".to_vec(),
        b"#!::r=sk_test,m=publish,u=me".to_vec(),
    ]
}
