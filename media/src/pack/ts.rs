//! MPEG-TS (ISO/IEC 13818-1) segments, one after the other without a seam although each is made by itself.
//!
//! Continuity counters start at 0 in every segment, because each PID has a multiple of 16 packets in each: the tables
//! are repeated 16 times, spread over the segment (what receivers who join in the middle want anyway), and the last
//! access unit of an elementary stream is cut into more, shorter payloads with stuffing between them.
use std::sync::Arc;

use bytes::Bytes;

use super::{
    Chain, EPOCH_ZERO,
    elementary::{Elementary, MASK, Unit},
    piece::Run,
    walk::{rescale, ticks},
};
use crate::live::{Epoch, TrackConfig, TrackId};

const PACKET: usize = 188;
const PAT: u16 = 0;
const PMT: u16 = 0x1000;
/// The PID of the epoch's first track; the others follow.
const FIRST_PID: u16 = 0x100;
/// Packets a PID and segment are a multiple of this.
const CYCLE: usize = 16;
/// The program clock runs this far behind decode times (27 MHz / 300), the time that decoders have to buffer.
const CLOCK_LAG: i64 = 27_000;

/// The segment of these runs, each track's in order; the first line carries the program clock.
pub(super) fn segment(epoch: &Epoch, lines: &[(TrackId, Vec<Run>)]) -> Chain {
    let mut units = Vec::new();
    let mut streams = Vec::new();
    for (track, runs) in lines {
        let Some(first) = epoch.track(*track) else {
            continue;
        };
        streams.push((*track, Arc::clone(&first.config)));
        for run in runs {
            let config = &run.group().header().config;
            let clock = |t: i64| {
                let zero = ticks(EPOCH_ZERO, 90_000);
                rescale(t, first.timescale, 90_000).saturating_add(zero)
            };
            let Some(codec) = Elementary::new(config) else {
                continue;
            };
            for frame in run.frames() {
                units.extend(codec.unit(*track, &frame, clock));
            }
        }
    }
    units.sort_by_key(|u| (u.dts, u.track));
    let mut mux = Mux::new(&streams, units.iter().map(|u| u.pes.len()).sum());
    let mut last = std::collections::BTreeMap::new();
    for (i, unit) in units.iter().enumerate() {
        last.insert(unit.track, i);
    }
    let mut tables = 0;
    for (i, unit) in units.iter().enumerate() {
        while tables < CYCLE && tables * units.len() <= i * CYCLE {
            mux.tables();
            tables += 1;
        }
        mux.unit(unit, last.get(&unit.track) == Some(&i));
    }
    for _ in tables..CYCLE {
        mux.tables();
    }
    Chain::new(vec![Bytes::from(mux.out)])
}

struct Mux {
    out: Vec<u8>,
    pat: Vec<u8>,
    pmt: Vec<u8>,
    clock: Option<TrackId>,
    /// Packets so far: of the tables, then by track.
    count: [usize; 258],
}

impl Mux {
    fn new(streams: &[(TrackId, Arc<TrackConfig>)], payload: usize) -> Self {
        let clock = streams.first().map(|(t, _)| *t);
        let mut pmt = vec![0x02, 0, 0, 0, 1, 0xc1, 0, 0];
        pmt.extend_from_slice(&(0xe000 | clock.map_or(0x1fff, pid)).to_be_bytes());
        pmt.extend_from_slice(&[0xf0, 0]);
        for (track, config) in streams {
            let Some((kind, descriptors)) = Elementary::table_entry(config) else {
                continue;
            };
            pmt.push(kind);
            pmt.extend_from_slice(&(0xe000 | pid(*track)).to_be_bytes());
            pmt.extend_from_slice(&[0xf0, u8::try_from(descriptors.len()).unwrap_or(0)]);
            pmt.extend_from_slice(&descriptors);
        }
        let [high, low] = (0xe000 | PMT).to_be_bytes();
        let pat = vec![0x00, 0, 0, 0, 1, 0xc1, 0, 0, 0, 1, high, low];
        Self {
            // A tenth more than the payload, and the tables.
            out: Vec::with_capacity(payload + payload / 10 + 4 * CYCLE * PACKET),
            pat: section(pat),
            pmt: section(pmt),
            clock,
            count: [0; 258],
        }
    }

    fn header(&mut self, pid: u16, counter: usize, start: bool, adaptation: bool) {
        let [high, low] = pid.to_be_bytes();
        let count = self.count.get_mut(counter).map_or(0, |c| {
            *c += 1;
            (*c - 1) % CYCLE
        });
        let control = if adaptation { 0x30 } else { 0x10 };
        self.out.extend_from_slice(&[
            0x47,
            high | u8::from(start) << 6,
            low,
            control | u8::try_from(count).unwrap_or(0),
        ]);
    }

    fn tables(&mut self) {
        for (counter, pid) in [(0, PAT), (1, PMT)] {
            self.header(pid, counter, true, false);
            let end = self.out.len() + PACKET - 4;
            self.out.push(0);
            let table = if counter == 0 { &self.pat } else { &self.pmt };
            self.out.extend_from_slice(table);
            self.out.resize(end, 0xff);
        }
    }

    /// Writes an access unit; the last one of its track in enough packets to come to a multiple of [`CYCLE`].
    fn unit(&mut self, unit: &Unit, last: bool) {
        let clocked = self.clock == Some(unit.track);
        // Flags of the first packet's adaptation field, and the clock reference.
        let flags = u8::from(unit.key) << 6 | u8::from(clocked) << 4;
        let mut field = Vec::new();
        if flags != 0 {
            field.push(flags);
        }
        if clocked {
            let base = unit.dts.saturating_sub(CLOCK_LAG) & MASK;
            let [.., a, b, c, d, e] = (base << 7).to_be_bytes();
            field.extend_from_slice(&[a, b, c, d, e & 0x80 | 0x7e, 0]);
        }
        let room = PACKET - 4;
        let first_room = room - if field.is_empty() { 0 } else { field.len() + 1 };
        let len = unit.pes.len();
        let counter = unit.track.index() + 2;
        let mut packets = 1 + len.saturating_sub(first_room).div_ceil(room);
        if last {
            let so_far = self.count.get(counter).copied().unwrap_or(0);
            // Each packet carries a byte at least; a unit has more than sixteen, its header alone has fourteen.
            packets = (so_far + packets).next_multiple_of(CYCLE) - so_far;
        }
        let mut rest = &unit.pes[..];
        for i in 0..packets {
            let mut field: &[u8] = if i == 0 { &field } else { &[] };
            let fixed = if field.is_empty() { 0 } else { field.len() + 1 };
            let keep = packets - i - 1;
            let take = (room - fixed).min(rest.len().saturating_sub(keep));
            let stuffing = room - fixed - take;
            self.header(pid(unit.track), counter, i == 0, fixed > 0 || stuffing > 0);
            let end = self.out.len() + room - take;
            if fixed > 0 || stuffing > 0 {
                self.out
                    .push(u8::try_from(room - take - 1).unwrap_or(u8::MAX));
                if field.is_empty() && stuffing > 1 {
                    field = &[0];
                }
                self.out.extend_from_slice(field);
                self.out.resize(end, 0xff);
            }
            let (now, later) = rest.split_at(take);
            self.out.extend_from_slice(now);
            rest = later;
        }
    }
}

fn pid(track: TrackId) -> u16 {
    FIRST_PID + u16::from(track.0)
}

/// Fills in a section's length and appends its checksum (ISO/IEC 13818-1 Annex A).
fn section(mut body: Vec<u8>) -> Vec<u8> {
    let len = u16::try_from(body.len() + 4 - 3).unwrap_or(0) | 0xb000;
    if let Some(field) = body.get_mut(1..3) {
        field.copy_from_slice(&len.to_be_bytes());
    }
    let crc = crate::ts::crc32(&body);
    body.extend_from_slice(&crc.to_be_bytes());
    body
}
