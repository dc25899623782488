//! Packets (draft section 3).
use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of every packet's header.
pub(super) const HEADER: usize = 16;
/// The largest packet that is taken or sent: an Ethernet frame less IPv4's and UDP's headers.
pub(super) const MAX: usize = 1500 - 28;

/// By which one end of a connection is found; 0 finds the listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

/// A data packet's number, 31 bits that wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seq(u32);

impl Seq {
    const MASK: u32 = 0x7fff_ffff;

    pub(super) const fn new(bits: u32) -> Self {
        Self(bits & Self::MASK)
    }

    pub(super) const fn get(self) -> u32 {
        self.0
    }

    pub(super) const fn plus(self, n: u32) -> Self {
        Self::new(self.0.wrapping_add(n))
    }

    /// How many numbers after `other` this one is; negative before it.
    pub(super) const fn after(self, other: Self) -> i32 {
        (self.0.wrapping_sub(other.0) << 1).cast_signed() >> 1
    }
}

/// With which key a payload is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kk {
    /// Not at all.
    Plain,
    Even,
    Odd,
}

/// What a control packet is about (3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Handshake,
    KeepAlive,
    Ack,
    Nak,
    Shutdown,
    AckAck,
    DropRequest,
    /// New keys.
    KeyMaterial,
    /// The answer to them.
    KeyMaterialAnswer,
}

impl Control {
    /// Type and subtype.
    const fn code(self) -> (u16, u16) {
        match self {
            Self::Handshake => (0, 0),
            Self::KeepAlive => (1, 0),
            Self::Ack => (2, 0),
            Self::Nak => (3, 0),
            Self::Shutdown => (5, 0),
            Self::AckAck => (6, 0),
            Self::DropRequest => (7, 0),
            Self::KeyMaterial => (0x7fff, 3),
            Self::KeyMaterialAnswer => (0x7fff, 4),
        }
    }

    fn read(kind: u16, subtype: u16) -> Option<Self> {
        const ALL: [Control; 9] = [
            Control::Handshake,
            Control::KeepAlive,
            Control::Ack,
            Control::Nak,
            Control::Shutdown,
            Control::AckAck,
            Control::DropRequest,
            Control::KeyMaterial,
            Control::KeyMaterialAnswer,
        ];
        // The subtype says more only where the type is that of extensions.
        let fits = |c: &Self| c.code().0 == kind && (kind != 0x7fff || c.code().1 == subtype);
        ALL.into_iter().find(fits)
    }
}

/// A packet's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// Payload.
    Data {
        seq: Seq,
        key: Kk,
        payload: &'a [u8],
    },
    /// Everything else.
    Control {
        kind: Control,
        /// Of the header, by kind.
        info: u32,
        body: &'a [u8],
    },
}

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) to: SocketId,
    pub(super) body: Body<'a>,
}

impl<'a> Packet<'a> {
    /// Reads a datagram; `None` where it is no packet, or of a kind that means nothing here.
    pub(super) fn read(datagram: &'a [u8]) -> Option<Self> {
        let (head, body) = datagram.split_first_chunk::<HEADER>()?;
        let [first, info, _, to] = words(head);
        let to = SocketId(to);
        if first >> 31 == 0 {
            let key = match info >> 27 & 3 {
                0 => Kk::Plain,
                1 => Kk::Even,
                2 => Kk::Odd,
                _ => return None,
            };
            let seq = Seq::new(first);
            let payload = body;
            return Some(Self {
                to,
                body: Body::Data { seq, key, payload },
            });
        }
        let [high, low, sub @ ..] = first.to_be_bytes();
        let kind = u16::from_be_bytes([high & 0x7f, low]);
        let kind = Control::read(kind, u16::from_be_bytes(sub))?;
        Some(Self {
            to,
            body: Body::Control { kind, info, body },
        })
    }
}

/// A control packet. One without a body gets four bytes of zeros, as libsrt sends them and Wireshark wants them.
pub(super) fn control(kind: Control, info: u32, time: u32, to: SocketId, body: &[u8]) -> Bytes {
    let (code, subtype) = kind.code();
    let mut out = BytesMut::with_capacity(HEADER + body.len().max(4));
    out.put_u16(0x8000 | code);
    out.put_u16(subtype);
    out.put_u32(info);
    out.put_u32(time);
    out.put_u32(to.0);
    out.put_slice(if body.is_empty() { &[0; 4] } else { body });
    out.freeze()
}

/// Big-endian words.
pub(super) fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut all = [0; N];
    for (word, four) in all.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = four
            .first_chunk::<4>()
            .map_or(0, |four| u32::from_be_bytes(*four));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap_at_31_bits() {
        let last = Seq::new(u32::MAX);
        assert_eq!(last.plus(1), Seq::new(0));
        assert_eq!(last.plus(5).after(last), 5);
        assert_eq!(last.after(last.plus(5)), -5);
    }

    #[test]
    fn what_is_written_is_read() {
        for kind in [Control::Handshake, Control::Ack, Control::KeyMaterialAnswer] {
            let bytes = control(kind, 7, 8, SocketId(9), &[1, 2, 3, 4]);
            let read = Packet::read(&bytes).unwrap();
            assert_eq!(read.to, SocketId(9));
            let body = Body::Control {
                kind,
                info: 7,
                body: &[1, 2, 3, 4],
            };
            assert_eq!(read.body, body);
        }
        assert_eq!(Packet::read(&[0x80; 15]), None);
    }
}
