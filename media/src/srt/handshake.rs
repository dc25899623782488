//! The handshake (draft sections 3.2.1 and 4.3), as a listener sees it.
use std::time::Duration;

use bytes::Bytes;
use routing::model::Secret;

use super::packet::{Body, Control, Packet, Seq, SocketId, control, words};

/// Bytes of a handshake without extensions.
pub(super) const LEN: usize = 48;
/// "SRT" to those who come with UDT's version.
const MAGIC: u16 = 0x4a17;
const INDUCTION: u32 = 1;
const CONCLUSION: u32 = u32::MAX;
/// What we are: the version whose protocol this is.
const VERSION: u32 = 0x1_0500;
const OLDEST: u32 = 0x1_0300;
/// The longest stream id (3.2.1.3).
const MAX_STREAM_ID: usize = 512;
/// Largest packet, with IP's and UDP's headers.
const MTU: u32 = 1500;

/// Kinds of extension (table 5).
mod extension {
    pub(super) const HS_REQUEST: u16 = 1;
    pub(super) const HS_RESPONSE: u16 = 2;
    pub(super) const KM_REQUEST: u16 = 3;
    pub(super) const KM_RESPONSE: u16 = 4;
    pub(super) const STREAM_ID: u16 = 5;
    pub(super) const CONGESTION: u16 = 6;
    pub(super) const FILTER: u16 = 7;
    pub(super) const GROUP: u16 = 8;
}

/// Flags of the handshake extension (table 6).
mod flag {
    /// Both directions keep to times; encryption is known; what is too late goes; losses are reported again and again;
    /// a packet says whether it was sent before.
    pub(super) const OURS: u32 = 0x3f;
    /// A stream of bytes, not of messages.
    pub(super) const STREAM: u32 = 0x40;
}

/// Why a caller is not let in: what it reads as the reason of libsrt's rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reject {
    /// Too many callers.
    Resource,
    /// The handshake makes no sense.
    Rogue,
    /// Too many callers wait.
    Backlog,
    /// The listener ends.
    Close,
    /// Older than 1.3.
    Version,
    /// Another passphrase.
    BadSecret,
    /// One side has a passphrase, the other has not.
    Unsecure,
    /// File or buffer mode.
    MessageApi,
    /// Another congestion control than for live streams.
    Congestion,
    /// A packet filter.
    Filter,
    /// A group of connections.
    Group,
    /// Another cipher.
    Crypto,
    /// A stream id that cannot be read.
    BadRequest,
    /// A known key that may not.
    Forbidden,
    /// No such key.
    NotFound,
    /// Another mode than publishing.
    BadMode,
    /// This node cannot now; another may.
    Unavailable,
}

impl Reject {
    /// The number that libsrt shows (`srt.h`, `access_control.h`).
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Resource => 3,
            Self::Rogue => 4,
            Self::Backlog => 5,
            Self::Close => 7,
            Self::Version => 8,
            Self::BadSecret => 10,
            Self::Unsecure => 11,
            Self::MessageApi => 12,
            Self::Congestion => 13,
            Self::Filter => 14,
            Self::Group => 15,
            Self::Crypto => 17,
            Self::BadRequest => 1400,
            Self::Forbidden => 1403,
            Self::NotFound => 1404,
            Self::BadMode => 1405,
            Self::Unavailable => 1503,
        }
    }
}

/// A handshake's fixed part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    version: u32,
    pub(super) seq: Seq,
    window: u32,
    kind: u32,
    pub(super) socket: SocketId,
    pub(super) cookie: u32,
}

/// What a caller that has shown its cookie wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// How long it wants us to wait for what is missing.
    pub(super) latency: Duration,
    /// How long it waits itself, of what we would send.
    pub(super) theirs: Duration,
    pub(super) key_material: Option<Bytes>,
    /// It has the stream key.
    pub(super) stream_id: Option<Secret>,
}

/// What a caller says first, to see whether a listener is there.
#[must_use]
pub fn greeting() -> Bytes {
    let hello = Handshake {
        version: 4,
        seq: Seq::new(0),
        window: 8192,
        kind: INDUCTION,
        socket: SocketId(1),
        cookie: 0,
    };
    // The field says that it is a stream of datagrams, for UDT's sake.
    control(Control::Handshake, 0, 0, SocketId(0), &hello.write(2, &[]))
}

/// Whether a datagram is a listener's answer to [`greeting`].
#[must_use]
pub fn is_greeted(answer: &[u8]) -> bool {
    let Some(Packet {
        to: SocketId(1),
        body:
            Body::Control {
                kind: Control::Handshake,
                body,
                ..
            },
    }) = Packet::read(answer)
    else {
        return false;
    };
    Handshake::read(body).is_some_and(|h| h.version == 5 && h.kind == INDUCTION)
}

impl Handshake {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        if body.len() < LEN {
            return None;
        }
        let [version, _, seq, _, window, kind, socket, cookie] = words(body);
        Some(Self {
            version,
            seq: Seq::new(seq),
            window,
            kind,
            socket: SocketId(socket),
            cookie,
        })
    }

    pub(super) const fn is_induction(&self) -> bool {
        self.kind == INDUCTION && self.version == 4
    }

    pub(super) const fn is_conclusion(&self) -> bool {
        self.kind == CONCLUSION
    }

    fn write(&self, fields: u32, extensions: &[u8]) -> Bytes {
        let mut body = Vec::with_capacity(LEN + extensions.len());
        for word in [
            self.version,
            fields,
            self.seq.get(),
            MTU,
            self.window,
            self.kind,
            self.socket.0,
            self.cookie,
        ] {
            body.extend(word.to_be_bytes());
        }
        // The peer's address, which nobody reads.
        body.resize(LEN, 0);
        body.extend(extensions);
        body.into()
    }

    /// The answer to an induction: a cookie, in as many bytes as were sent.
    pub(super) fn answer_induction(&self, cookie: u32) -> Bytes {
        let answer = Self {
            version: 5,
            cookie,
            ..*self
        };
        let body = answer.write(u32::from(MAGIC), &[]);
        control(Control::Handshake, 0, 0, self.socket, &body)
    }

    /// The answer to a conclusion that says no.
    pub(super) fn reject(&self, why: Reject) -> Bytes {
        let answer = Self {
            version: 5,
            kind: 1000 + why.code(),
            ..*self
        };
        control(Control::Handshake, 0, 0, self.socket, &answer.write(0, &[]))
    }

    /// The answer to a conclusion that says yes, by the socket `local`.
    pub(super) fn accept(
        &self,
        local: SocketId,
        latency: Duration,
        wish: &Wish,
        window: u32,
    ) -> Bytes {
        let answer = Self {
            version: 5,
            socket: local,
            window,
            ..*self
        };
        let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(0).min(0xffff);
        let delays = millis(latency) << 16 | millis(wish.theirs);
        let mut extensions = Vec::new();
        for word in [
            u32::from(extension::HS_RESPONSE) << 16 | 3,
            VERSION,
            flag::OURS,
            delays,
        ] {
            extensions.extend(word.to_be_bytes());
        }
        let mut fields = 1;
        if let Some(message) = &wish.key_material {
            fields |= 2;
            extensions.extend(extension::KM_RESPONSE.to_be_bytes());
            let len = u16::try_from(message.len() / 4).unwrap_or(0);
            extensions.extend(len.to_be_bytes());
            extensions.extend(message);
        }
        control(
            Control::Handshake,
            0,
            0,
            self.socket,
            &answer.write(fields, &extensions),
        )
    }

    /// What a conclusion wants, from its whole body.
    pub(super) fn wish(&self, body: &[u8]) -> Result<Wish, Reject> {
        if self.version != 5 {
            return Err(Reject::Version);
        }
        let mut delays = None;
        let mut wish = Wish {
            latency: Duration::ZERO,
            theirs: Duration::ZERO,
            key_material: None,
            stream_id: None,
        };
        let mut rest = body.get(LEN..).unwrap_or_default();
        while let Some((head, after)) = rest.split_first_chunk::<4>() {
            let [kind_high, kind_low, len_high, len_low] = *head;
            let len = usize::from(u16::from_be_bytes([len_high, len_low])) * 4;
            let (content, after) = after.split_at_checked(len).ok_or(Reject::Rogue)?;
            rest = after;
            match u16::from_be_bytes([kind_high, kind_low]) {
                extension::HS_REQUEST if len >= 12 => {
                    let [version, flags, both] = words(content);
                    if version < OLDEST {
                        return Err(Reject::Version);
                    }
                    if flags & flag::STREAM != 0 {
                        return Err(Reject::MessageApi);
                    }
                    delays = Some(both);
                }
                extension::KM_REQUEST => wish.key_material = Some(Bytes::copy_from_slice(content)),
                extension::STREAM_ID => wish.stream_id = Some(stream_id(content)?),
                extension::CONGESTION if text(content) != b"live" => {
                    return Err(Reject::Congestion);
                }
                extension::FILTER => return Err(Reject::Filter),
                extension::GROUP => return Err(Reject::Group),
                _ => {}
            }
        }
        // Of the receiver in the high half, of the sender in the low one: ours is what the sender wants.
        let delays = delays.ok_or(Reject::Rogue)?;
        wish.latency = Duration::from_millis(u64::from(delays & 0xffff));
        wish.theirs = Duration::from_millis(u64::from(delays >> 16));
        Ok(wish)
    }
}

/// A text, of which each word is written from its end.
fn text(content: &[u8]) -> Vec<u8> {
    let words = content.chunks(4).flat_map(|word| word.iter().rev());
    let mut text: Vec<u8> = words.copied().collect();
    while text.last() == Some(&0) {
        text.pop();
    }
    text
}

fn stream_id(content: &[u8]) -> Result<Secret, Reject> {
    if content.len() > MAX_STREAM_ID {
        return Err(Reject::Rogue);
    }
    let text = String::from_utf8(text(content));
    text.map(Secret::new).map_err(|_| Reject::BadRequest)
}
