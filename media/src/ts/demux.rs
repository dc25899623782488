//! Transport packets (ISO/IEC 13818-1 2.4.3.2) by PID.
use std::collections::{BTreeMap, VecDeque};

use super::{
    Event, Format, MAX_HELD, PACKET, Stream,
    pes::Assembly,
    tables::{self, Sections},
};

const SYNC: u8 = 0x47;
const PAT: u16 = 0;
/// The largest PID: packets without meaning.
const NULL: u16 = 0x1fff;

/// What a PID's payloads are for.
#[derive(Debug)]
enum Sink {
    Pat(Sections),
    /// A program map table, of the program that is read or of one that might be.
    Pmt(Sections),
    Stream(Assembly),
}

#[derive(Debug)]
struct Line {
    /// The continuity counter of its last payload.
    last: Option<u8>,
    sink: Sink,
}

impl Line {
    const fn new(sink: Sink) -> Self {
        Self { last: None, sink }
    }

    fn lose(&mut self) {
        match &mut self.sink {
            Sink::Pat(sections) | Sink::Pmt(sections) => sections.lose(),
            Sink::Stream(assembly) => assembly.lose(),
        }
    }
}

/// Finds a program's elementary streams: [`Demuxer::push`] in, [`Demuxer::poll`] out until it says `None`.
#[derive(Debug)]
pub struct Demuxer {
    /// Less than two packets: what is needed to find where packets begin.
    carry: Vec<u8>,
    synced: bool,
    lines: BTreeMap<u16, Line>,
    /// The PID of the program map table that is read.
    program: Option<u16>,
    streams: Vec<Stream>,
    out: VecDeque<Event>,
}

impl Default for Demuxer {
    fn default() -> Self {
        Self {
            carry: Vec::new(),
            synced: false,
            lines: BTreeMap::from([(PAT, Line::new(Sink::Pat(Sections::default())))]),
            program: None,
            streams: Vec::new(),
            out: VecDeque::new(),
        }
    }
}

impl Demuxer {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was found next.
    pub fn poll(&mut self) -> Option<Event> {
        self.out.pop_front()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.carry.is_empty() {
            let used = self.packets(bytes);
            self.carry.extend_from_slice(&bytes[used..]);
            return;
        }
        self.carry.extend_from_slice(bytes);
        let carry = std::mem::take(&mut self.carry);
        let used = self.packets(&carry);
        self.carry = carry;
        self.carry.drain(..used);
    }

    /// The bytes have ended: the last pictures are whole.
    pub fn end(&mut self) {
        for line in self.lines.values_mut() {
            if let Sink::Stream(assembly) = &mut line.sink {
                self.out.extend(assembly.finish().map(Event::Pes));
            }
        }
    }

    /// Takes packets from the front; how many bytes they were.
    fn packets(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            if !self.synced {
                match find(&bytes[at..]) {
                    Ok(skip) => (at, self.synced) = (at + skip, true),
                    Err(skip) => return at + skip,
                }
            }
            let Some(packet) = bytes[at..].first_chunk::<PACKET>() else {
                return at;
            };
            self.synced = packet[0] == SYNC;
            if self.synced {
                self.packet(packet);
                at += PACKET;
            }
        }
    }

    fn packet(&mut self, packet: &[u8; PACKET]) {
        let [_, high, low, control] = *packet.first_chunk::<4>().unwrap_or(&[0; 4]);
        let pid = u16::from_be_bytes([high & 0x1f, low]);
        // Damaged, without a payload, scrambled, or of no interest.
        if high & 0x80 != 0 || control & 0x10 == 0 || control & 0xc0 != 0 || pid == NULL {
            return;
        }
        let Some(line) = self.lines.get_mut(&pid) else {
            return;
        };
        let mut payload = &packet[4..];
        let mut flags = 0;
        if control & 0x20 != 0 {
            let len = usize::from(payload[0]);
            flags = if len > 0 { payload[1] } else { 0 };
            let Some(rest) = payload.get(1 + len..) else {
                return;
            };
            payload = rest;
        }
        let counter = control & 0x0f;
        let jump = flags & 0x80 != 0;
        match line.last.replace(counter) {
            // A packet may be sent twice.
            Some(last) if last == counter && !jump => return,
            Some(last) if (last + 1) & 0x0f != counter && !jump => line.lose(),
            _ => {}
        }
        let start = high & 0x40 != 0;
        match &mut line.sink {
            Sink::Pat(sections) => {
                let mut found = None;
                sections.push(payload, start, |s| {
                    found = tables::programs(s).or(found.take());
                });
                if let Some(programs) = found {
                    self.programs(&programs);
                }
            }
            Sink::Pmt(sections) => {
                let mut found = None;
                sections.push(payload, start, |s| {
                    found = tables::streams(s).or(found.take());
                });
                if let Some(streams) = found {
                    self.program(pid, streams);
                }
            }
            Sink::Stream(assembly) => {
                if start {
                    let (before, rest) = assembly.start(payload, flags & 0x40 != 0);
                    self.out.extend(before.map(Event::Pes));
                    payload = rest;
                }
                let whole = assembly.push(payload);
                self.out.extend(whole.map(Event::Pes));
                self.limit(pid);
            }
        }
    }

    /// The programs are these.
    fn programs(&mut self, pids: &[u16]) {
        if self.program.is_some_and(|p| !pids.contains(&p)) {
            self.program = None;
        }
        self.lines.retain(|pid, line| match line.sink {
            Sink::Pmt(_) => pids.contains(pid),
            Sink::Pat(_) | Sink::Stream(_) => true,
        });
        for pid in pids {
            let new = || Line::new(Sink::Pmt(Sections::default()));
            self.lines.entry(*pid).or_insert_with(new);
        }
    }

    /// A program's elementary streams are these.
    fn program(&mut self, pid: u16, streams: Vec<Stream>) {
        let media = streams
            .iter()
            .any(|s| !matches!(s.format, Format::Other(_)));
        match self.program {
            Some(program) if program != pid => return,
            None if !media => return,
            _ => self.program = media.then_some(pid),
        }
        if streams == self.streams {
            return;
        }
        self.lines.retain(|_, line| match &line.sink {
            Sink::Stream(assembly) => streams.contains(&assembly.stream),
            Sink::Pat(_) | Sink::Pmt(_) => true,
        });
        for stream in &streams {
            if !matches!(stream.format, Format::Other(_)) {
                let new = || Line::new(Sink::Stream(Assembly::new(*stream)));
                self.lines.entry(stream.pid).or_insert_with(new);
            }
        }
        self.streams.clone_from(&streams);
        self.out.push_back(Event::Streams(streams));
    }

    /// Leaves out the PES packet that made it too much.
    fn limit(&mut self, pid: u16) {
        let held = self.lines.values().map(|line| match &line.sink {
            Sink::Stream(assembly) => assembly.held(),
            Sink::Pat(_) | Sink::Pmt(_) => 0,
        });
        if held.sum::<usize>() > MAX_HELD
            && let Some(line) = self.lines.get_mut(&pid)
        {
            line.lose();
        }
    }
}

/// Where the first packet begins: `Err` with how many bytes cannot be its begin, where that cannot be told yet.
fn find(bytes: &[u8]) -> Result<usize, usize> {
    for at in 0..bytes.len() {
        match bytes.get(at + PACKET) {
            _ if bytes[at] != SYNC => {}
            Some(next) if *next != SYNC => {}
            Some(_) => return Ok(at),
            None => return Err(at),
        }
    }
    Err(bytes.len())
}
