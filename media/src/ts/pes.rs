//! PES packets (ISO/IEC 13818-1 2.4.3.6) put together from one PID's payloads.
use bytes::{Buf, Bytes, BytesMut};

use super::{Pes, Stream};

/// One elementary stream's PES packet in the making.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) stream: Stream,
    held: BytesMut,
    /// Bytes of the whole packet, where it says so.
    want: Option<usize>,
    random_access: bool,
    lost: bool,
    /// Whether a packet has begun.
    begun: bool,
}

impl Assembly {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            held: BytesMut::new(),
            want: None,
            random_access: false,
            lost: false,
            begun: false,
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Something was lost: what is held is of no use.
    pub(super) fn lose(&mut self) {
        self.held.clear();
        self.begun = false;
        self.lost = true;
    }

    /// A payload that begins a PES packet. Gives the one before, where only this tells that it is whole, and what of
    /// the payload is to be pushed.
    pub(super) fn start<'a>(
        &mut self,
        payload: &'a [u8],
        random_access: bool,
    ) -> (Option<Pes>, &'a [u8]) {
        if self.begun && self.goes_on(payload) {
            let head = payload.get(8).map_or(9, |n| 9 + usize::from(*n));
            return (None, payload.get(head..).unwrap_or_default());
        }
        let before = self.finish();
        self.begun = payload.starts_with(&[0, 0, 1]);
        self.want = payload
            .get(4..6)
            .map(|l| usize::from(u16::from_be_bytes([l[0], l[1]])))
            .filter(|l| *l > 0)
            .map(|l| l + 6);
        self.random_access = random_access;
        (before, payload)
    }

    /// Whether a PES packet of video has no times, and so is of the picture before.
    fn goes_on(&self, payload: &[u8]) -> bool {
        let timeless = payload.get(7).is_some_and(|flags| flags & 0x80 == 0);
        self.stream.format.is_video() && self.want.is_none() && timeless
    }

    /// A payload that goes on; gives the PES packet where it is whole with it.
    pub(super) fn push(&mut self, payload: &[u8]) -> Option<Pes> {
        if !self.begun {
            return None;
        }
        self.held.extend_from_slice(payload);
        let whole = self.want.is_some_and(|want| self.held.len() >= want);
        if whole { self.finish() } else { None }
    }

    /// What is held, as a PES packet.
    pub(super) fn finish(&mut self) -> Option<Pes> {
        if !std::mem::take(&mut self.begun) {
            return None;
        }
        let mut all = self.held.split().freeze();
        all.truncate(self.want.unwrap_or(usize::MAX));
        let (pts, dts, data) = read(all)?;
        Some(Pes {
            pid: self.stream.pid,
            pts,
            dts: dts.or(pts),
            random_access: self.random_access,
            after_loss: std::mem::take(&mut self.lost),
            data,
        })
    }
}

/// Times and payload of a whole PES packet.
fn read(mut packet: Bytes) -> Option<(Option<u64>, Option<u64>, Bytes)> {
    let head = packet.first_chunk::<9>()?;
    // Video, audio, private stream 1 and extended ids have this header; scrambled ones are of no use.
    let known = matches!(head[3], 0xbd | 0xc0..=0xef | 0xfd);
    if !known || head[6] & 0xf0 != 0x80 {
        return None;
    }
    let start = 9 + usize::from(head[8]);
    let fields = packet.get(9..start)?;
    let pts = (head[7] & 0x80 != 0).then(|| time(fields)).flatten();
    let dts = (head[7] & 0xc0 == 0xc0).then(|| time(fields.get(5..)?));
    let dts = dts.flatten();
    packet.advance(start);
    Some((pts, dts, packet))
}

/// 33 bits in five bytes, between marker bits.
fn time(bytes: &[u8]) -> Option<u64> {
    let [a, b, c, d, e] = *bytes.first_chunk::<5>()?;
    let [a, b, c, d, e] = [a, b, c, d, e].map(u64::from);
    Some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}
