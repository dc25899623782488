//! Program association and program map tables (ISO/IEC 13818-1 2.4.4).
use super::{Format, Stream};

/// The longest section of these tables, in bytes (2.4.4.4, 2.4.4.9).
const MAX_SECTION: usize = 1024;
/// Programs that are looked at.
const MAX_PROGRAMS: usize = 64;
/// Elementary streams that are looked at.
const MAX_STREAMS: usize = 32;

/// The checksum of a section (Annex A): that of a section with its checksum is 0.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}

/// Puts the sections of one PID together.
#[derive(Debug, Default)]
pub(super) struct Sections {
    held: Vec<u8>,
    /// Whether `held` is the front of a section; else what comes is skipped up to the next start.
    inside: bool,
}

impl Sections {
    /// Forgets a section whose rest was lost.
    pub(super) fn lose(&mut self) {
        self.held.clear();
        self.inside = false;
    }

    /// Takes a packet's payload; gives each section that is whole, has a good checksum and is in force now.
    pub(super) fn push(&mut self, payload: &[u8], start: bool, mut whole: impl FnMut(&[u8])) {
        let mut rest = payload;
        if start {
            let Some((pointer, after)) = payload.split_first() else {
                return;
            };
            let Some((before, after)) = after.split_at_checked(usize::from(*pointer)) else {
                return self.lose();
            };
            if self.inside {
                self.held.extend_from_slice(before);
                self.take(&mut whole);
            }
            self.lose();
            (self.inside, rest) = (true, after);
        }
        if self.inside {
            self.held.extend_from_slice(rest);
            self.take(&mut whole);
        }
    }

    fn take(&mut self, whole: &mut impl FnMut(&[u8])) {
        let mut at = 0;
        while let Some([table, high, low]) = self.held.get(at..).and_then(|s| s.first_chunk::<3>())
        {
            let len = 3 + usize::from(u16::from_be_bytes([high & 0x0f, *low]));
            // 0xff is what packets are filled up with.
            if *table == 0xff || len > MAX_SECTION {
                return self.lose();
            }
            let Some(section) = self.held.get(at..at + len) else {
                break;
            };
            let current = section.get(5).is_some_and(|b| b & 1 == 1);
            if high & 0x80 != 0 && current && len >= 12 && crc32(section) == 0 {
                whole(section);
            }
            at += len;
        }
        self.held.drain(..at);
    }
}

/// The PIDs of the program map tables that a program association table's first section names.
pub(super) fn programs(section: &[u8]) -> Option<Vec<u16>> {
    if section[0] != 0 || section[6] != 0 {
        return None;
    }
    let entries = section[8..section.len() - 4].chunks_exact(4);
    let pids = entries
        .filter(|e| e[..2] != [0, 0])
        .map(|e| pid(e[2], e[3]));
    Some(pids.take(MAX_PROGRAMS).collect())
}

/// The elementary streams of a program map table.
pub(super) fn streams(section: &[u8]) -> Option<Vec<Stream>> {
    if section[0] != 2 {
        return None;
    }
    let body = section.get(8..section.len() - 4)?;
    let info = length(*body.get(2)?, *body.get(3)?);
    let mut rest = body.get(4 + info..)?;
    let mut all = Vec::new();
    while let Some(([kind, a, b, c, d], after)) = rest.split_first_chunk::<5>() {
        let (descriptors, after) = after.split_at_checked(length(*c, *d))?;
        if all.len() < MAX_STREAMS {
            all.push(Stream {
                pid: pid(*a, *b),
                format: format(*kind, descriptors),
            });
        }
        rest = after;
    }
    Some(all)
}

/// What a stream carries: ISO/IEC 13818-1 table 2-34, else what its descriptors say (ATSC A/52 A, DVB EN 300 468 6.2,
/// "Opus in MPEG-TS").
fn format(kind: u8, descriptors: &[u8]) -> Format {
    match kind {
        0x03 | 0x04 => Format::MpegAudio,
        0x0f => Format::Adts,
        0x1b => Format::H264,
        0x24 => Format::Hevc,
        0x81 | 0x87 => Format::Ac3,
        0x06 => private(descriptors).unwrap_or(Format::Other(kind)),
        other => Format::Other(other),
    }
}

fn private(mut descriptors: &[u8]) -> Option<Format> {
    let (mut opus, mut found) = (false, None);
    while let Some(([tag, len], rest)) = descriptors.split_first_chunk::<2>() {
        let (content, rest) = rest.split_at_checked(usize::from(*len))?;
        descriptors = rest;
        match (tag, content) {
            (0x05, [b'O', b'p', b'u', b's', ..]) => opus = true,
            (0x05, [b'A', b'C', b'-', b'3', ..] | [b'E', b'A', b'C', b'3', ..])
            | (0x6a | 0x7a, _) => {
                found = Some(Format::Ac3);
            }
            (0x05, [b'H', b'E', b'V', b'C', ..]) => found = Some(Format::Hevc),
            // An extension descriptor of Opus: how its channels are laid out.
            (0x7f, [0x80, channels, ..]) if opus => found = Some(Format::Opus(*channels)),
            _ => {}
        }
    }
    found
}

fn pid(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high & 0x1f, low])
}

fn length(high: u8, low: u8) -> usize {
    usize::from(u16::from_be_bytes([high & 0x0f, low]))
}
