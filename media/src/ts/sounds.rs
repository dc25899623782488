//! How sounds of each format are told apart.
use bytes::{BufMut as _, Bytes, BytesMut};

use super::frames::{Front, Head};
use crate::codec::{aac, ac3::SyncFrame, mpeg_audio, opus};

/// An ADTS header (ISO/IEC 13818-7 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Adts {
    /// The `AudioSpecificConfig` (ISO/IEC 14496-3 1.6.2.1) that says the same.
    pub(super) config: [u8; 2],
    read: aac::AudioConfig,
    skip: usize,
}

impl Head for Adts {
    fn read(bytes: &[u8]) -> Front<Self> {
        let Some(head) = bytes.first_chunk::<7>() else {
            return short(bytes, 0xff);
        };
        let skip = if head[1] & 1 == 1 { 7 } else { 9 };
        let len =
            usize::from(head[3] & 3) << 11 | usize::from(head[4]) << 3 | usize::from(head[5] >> 5);
        let (object, frequency) = ((head[2] >> 6) + 1, head[2] >> 2 & 0x0f);
        let channels = (head[2] & 1) << 2 | head[3] >> 6;
        let config = [object << 3 | frequency >> 1, frequency << 7 | channels << 3];
        // Several raw data blocks in one frame, and channels told inside the block, are not taken.
        let plain = head[6] & 3 == 0 && channels != 0;
        match aac::config(&config) {
            Ok(read) if head[0] == 0xff && head[1] & 0xf6 == 0xf0 && plain && len > skip => {
                Front::Frame {
                    len,
                    head: Self { config, read, skip },
                }
            }
            _ => Front::None,
        }
    }

    fn samples(&self) -> u32 {
        self.read.frame_samples
    }

    fn rate(&self) -> u32 {
        self.read.sample_rate
    }

    fn skip(&self) -> usize {
        self.skip
    }
}

impl Head for mpeg_audio::Header {
    fn read(bytes: &[u8]) -> Front<Self> {
        if bytes.len() < Self::LEN {
            return short(bytes, 0xff);
        }
        match Self::read(bytes) {
            Some(head) if head.length > Self::LEN => Front::Frame {
                len: head.length,
                head,
            },
            _ => Front::None,
        }
    }

    fn samples(&self) -> u32 {
        self.samples
    }

    fn rate(&self) -> u32 {
        self.sample_rate
    }

    fn skip(&self) -> usize {
        0
    }
}

/// An AC-3 sync frame, or an E-AC-3 one with those that add to it.
impl Head for SyncFrame {
    fn read(bytes: &[u8]) -> Front<Self> {
        if bytes.len() < Self::HEAD {
            return short(bytes, 0x0b);
        }
        let Some(head) = Self::read(bytes).filter(|f| !f.dependent && f.length > Self::HEAD) else {
            return Front::None;
        };
        let mut len = head.length;
        // An access unit ends with its PES packet, if not before: what adds to it is here, or is none.
        while let Some(more) = bytes
            .get(len..)
            .and_then(Self::read)
            .filter(|f| f.dependent)
            && len + more.length < 1 << 13
        {
            len += more.length;
        }
        Front::Frame { len, head }
    }

    fn samples(&self) -> u32 {
        self.samples
    }

    fn rate(&self) -> u32 {
        self.sample_rate
    }

    fn skip(&self) -> usize {
        0
    }
}

/// Of bytes too few for a header: whether one may come.
fn short<H>(bytes: &[u8], first: u8) -> Front<H> {
    match bytes.first() {
        Some(byte) if *byte != first => Front::None,
        _ => Front::More,
    }
}

/// The identification header of a stream with so many channels, as mapping families 0 and 1 lay them out (RFC 7845
/// 5.1.1.2; the streams as libopus' encoder makes them).
pub(super) fn opus_header(channels: u8) -> Option<Bytes> {
    const LAYOUTS: [(u8, u8, &[u8]); 6] = [
        (2, 1, &[0, 2, 1]),
        (2, 2, &[0, 1, 2, 3]),
        (3, 2, &[0, 4, 1, 2, 3]),
        (4, 2, &[0, 4, 1, 2, 3, 5]),
        (4, 3, &[0, 4, 1, 2, 3, 5, 6]),
        (5, 3, &[0, 6, 1, 2, 3, 4, 5, 7]),
    ];
    let mut config = opus::AudioConfig::plain(channels, 0);
    match channels {
        1 | 2 => {}
        _ => {
            let layout = LAYOUTS.get(usize::from(channels).checked_sub(3)?)?;
            let mut table = BytesMut::new();
            table.put_slice(&[layout.0, layout.1]);
            table.put_slice(layout.2);
            config.mapping = (1, table.freeze());
        }
    }
    Some(config.write())
}

/// The Opus packets of a PES packet, each with its distance from the first in samples at 48 kHz ("Opus in MPEG-TS" 4).
pub(super) fn opus_packets(mut data: &[u8], mut each: impl FnMut(u32, &[u8])) {
    let mut passed = 0;
    while let Some(([high, low], rest)) = data.split_first_chunk::<2>() {
        // The control header's prefix: eleven bits.
        if *high != 0x7f || low & 0xe0 != 0xe0 {
            return;
        }
        let more = rest.iter().take_while(|b| **b == 255).count();
        let Some(last) = rest.get(more) else { return };
        let len = more * 255 + usize::from(*last);
        // Two bytes for each trim, a length and as many bytes of extension.
        let trims = usize::from(low >> 4 & 1) * 2 + usize::from(low >> 3 & 1) * 2;
        let mut rest = rest.get(more + 1 + trims..).unwrap_or_default();
        if low >> 2 & 1 == 1 {
            let Some((extension, after)) = rest.split_first() else {
                return;
            };
            rest = after.get(usize::from(*extension)..).unwrap_or_default();
        }
        let Some((packet, after)) = rest.split_at_checked(len) else {
            return;
        };
        if let Some(samples) = opus::samples(packet) {
            each(passed, packet);
            passed += samples;
        }
        data = after;
    }
}
