//! A caller of our own, without I/O: it publishes packets and sends again what it is asked for.
use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use aws_lc_rs::{
    cipher::{AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, EncryptingKey},
    iv::FixedLength,
    pbkdf2,
};
use bytes::Bytes;
use routing::model::Uptime;

use super::super::packet::{Body, Control, Packet, SocketId, control, words};

/// How a caller encrypts.
#[derive(Clone, Debug)]
pub(crate) struct Cipher {
    pub(crate) passphrase: &'static str,
    /// Bytes of the key.
    pub(crate) length: usize,
}

const SALT: [u8; 16] = *b"sixteen of salt!";

fn unbound(key: &[u8]) -> aws_lc_rs::cipher::UnboundCipherKey {
    let algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        _ => &AES_256,
    };
    aws_lc_rs::cipher::UnboundCipherKey::new(algorithm, key).unwrap()
}

/// AES key wrap (RFC 3394 section 2.2.1).
fn wrap(kek: &[u8], key: &[u8]) -> Vec<u8> {
    let kek = EncryptingKey::ecb(unbound(kek)).unwrap();
    let (mut check, mut blocks) = (0xa6a6_a6a6_a6a6_a6a6_u64, key.to_vec());
    let count = key.len() / 8;
    for round in 1..=6 * count {
        let block = &mut blocks[(round - 1) % count * 8..][..8];
        let mut both = [check.to_be_bytes(), block.try_into().unwrap()].concat();
        kek.encrypt(&mut both).unwrap();
        check = u64::from_be_bytes(both[..8].try_into().unwrap()) ^ round as u64;
        block.copy_from_slice(&both[8..]);
    }
    [&check.to_be_bytes()[..], &blocks].concat()
}

impl Cipher {
    fn key(&self, odd: bool) -> Vec<u8> {
        vec![if odd { 7 } else { 8 }; self.length]
    }

    pub(crate) fn key_material(&self, odd: bool) -> Vec<u8> {
        let mut kek = vec![0; self.length];
        let rounds = NonZeroU32::new(2048).unwrap();
        let passphrase = self.passphrase.as_bytes();
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA1,
            rounds,
            &SALT[8..],
            passphrase,
            &mut kek,
        );
        let words = u8::try_from(self.length / 4).unwrap();
        let mut message = vec![0x12, 0x20, 0x29, if odd { 2 } else { 1 }];
        message.extend([0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 4, words]);
        message.extend(SALT);
        message.extend(wrap(&kek, &self.key(odd)));
        message
    }

    fn encrypt(&self, odd: bool, seq: u32, payload: &mut [u8]) {
        let mut iv = SALT;
        iv[14..].fill(0);
        for (byte, seq) in iv[10..14].iter_mut().zip(seq.to_be_bytes()) {
            *byte ^= seq;
        }
        let key = DecryptingKey::ctr(unbound(&self.key(odd))).unwrap();
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        key.decrypt(payload, context).unwrap();
    }
}

/// The caller.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) socket: SocketId,
    pub(crate) stream_id: Option<&'static str>,
    pub(crate) cipher: Option<Cipher>,
    /// Odd keys, after the first.
    pub(crate) odd: bool,
    pub(crate) latency: u32,
    pub(crate) next: u32,
    pub(crate) peer: Option<SocketId>,
    pub(crate) cookie: Option<u32>,
    pub(crate) rejected: Option<u32>,
    pub(crate) negotiated: Option<u32>,
    /// Since when nothing was heard.
    pub(crate) asked_at: Option<Uptime>,
    pub(crate) sent: BTreeMap<u32, Bytes>,
    pub(crate) acked: u32,
    pub(crate) keys_answered: u32,
    pub(crate) over: bool,
    pub(crate) out: Vec<Bytes>,
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len() / 4).unwrap();
    [&kind.to_be_bytes()[..], &len.to_be_bytes(), content].concat()
}

impl Caller {
    pub(crate) fn new(socket: u32) -> Self {
        Self {
            socket: SocketId(socket),
            stream_id: Some("sk_test"),
            cipher: None,
            odd: false,
            latency: 120,
            next: 0x7fff_fff0,
            peer: None,
            cookie: None,
            rejected: None,
            negotiated: None,
            asked_at: None,
            sent: BTreeMap::new(),
            acked: 0,
            keys_answered: 0,
            over: false,
            out: Vec::new(),
        }
    }

    pub(crate) fn connected(&self) -> bool {
        self.peer.is_some()
    }

    fn handshake(&self, version: u32, fields: u32, kind: u32, rest: &[u8]) -> Bytes {
        let head = [
            version,
            fields,
            self.next,
            1500,
            8192,
            kind,
            self.socket.0,
            self.cookie.unwrap_or(0),
        ];
        let mut body: Vec<u8> = head.into_iter().flat_map(u32::to_be_bytes).collect();
        body.extend([0; 16]);
        body.extend(rest);
        control(Control::Handshake, 0, 0, SocketId(0), &body)
    }

    pub(crate) fn induction(&self) -> Bytes {
        self.handshake(4, 2, 1, &[])
    }

    pub(crate) fn conclusion(&self) -> Bytes {
        let hello = [0x1_0503, 0xbf, self.latency << 16 | self.latency];
        let hello: Vec<u8> = hello.into_iter().flat_map(u32::to_be_bytes).collect();
        let mut rest = extension(1, &hello);
        if let Some(cipher) = &self.cipher {
            rest.extend(extension(3, &cipher.key_material(false)));
        }
        if let Some(id) = self.stream_id {
            let mut text = id.as_bytes().to_vec();
            text.resize(text.len().next_multiple_of(4), 0);
            text.chunks_mut(4).for_each(<[u8]>::reverse);
            rest.extend(extension(5, &text));
        }
        self.handshake(5, 7, u32::MAX, &rest)
    }

    /// Asks again every 250 ms, as libsrt does.
    pub(crate) fn tick(&mut self, now: Uptime) {
        let waited = self.asked_at.map(|at| now.since(at));
        if self.peer.is_none() && waited.is_none_or(|w| w >= Duration::from_millis(250)) {
            self.asked_at = Some(now);
            let ask = if self.cookie.is_some() {
                self.conclusion()
            } else {
                self.induction()
            };
            self.out.push(ask);
        }
    }

    pub(crate) fn send(&mut self, payload: &[u8]) {
        let (seq, mut payload) = (self.next, payload.to_vec());
        let mut key = 0;
        if let Some(cipher) = &self.cipher {
            cipher.encrypt(self.odd, seq, &mut payload);
            key = if self.odd { 2 } else { 1 };
        }
        let head = [seq, 3 << 30 | key << 27 | 1, 0, self.peer.unwrap().0];
        let head: Vec<u8> = head.into_iter().flat_map(u32::to_be_bytes).collect();
        let packet = Bytes::from([head, payload].concat());
        self.sent.insert(seq, packet.clone());
        self.out.push(packet);
        self.next = (seq + 1) & 0x7fff_ffff;
    }

    /// It does not have this packet any more.
    pub(crate) fn forget(&mut self, seq: u32) {
        self.sent.remove(&seq);
    }

    pub(crate) fn control(&mut self, kind: Control, info: u32, body: &[u8]) {
        self.out
            .push(control(kind, info, 0, self.peer.unwrap(), body));
    }

    pub(crate) fn take(&mut self, datagram: &[u8]) {
        let packet = Packet::read(datagram).unwrap();
        assert_eq!(packet.to, self.socket);
        let Body::Control { kind, info, body } = packet.body else {
            panic!("a listener sends no data");
        };
        match kind {
            Control::Handshake => {
                let [_, _, _, _, _, kind, socket, cookie] = words(body);
                match kind {
                    1 => {
                        self.cookie = Some(cookie);
                        self.out.push(self.conclusion());
                    }
                    u32::MAX => {
                        self.peer = Some(SocketId(socket));
                        let [.., delays] = words::<4>(&body[48..]);
                        self.negotiated = Some(delays >> 16);
                    }
                    other => self.rejected = Some(other - 1000),
                }
            }
            Control::Ack => {
                let [seq] = words(body);
                self.acked = seq;
                if body.len() > 4 {
                    self.control(Control::AckAck, info, &[]);
                }
            }
            Control::Nak => {
                let mut words = body
                    .chunks(4)
                    .map(|w| u32::from_be_bytes(w.try_into().unwrap()));
                while let Some(first) = words.next() {
                    let first_seq = first & 0x7fff_ffff;
                    let last = if first >> 31 == 1 {
                        words.next().unwrap()
                    } else {
                        first_seq
                    };
                    let mut seq = first_seq;
                    loop {
                        self.out.extend(self.sent.get(&seq).cloned());
                        if seq == last {
                            break;
                        }
                        seq = (seq + 1) & 0x7fff_ffff;
                    }
                }
            }
            Control::KeyMaterialAnswer => self.keys_answered += 1,
            Control::Shutdown => self.over = true,
            _ => {}
        }
    }
}
