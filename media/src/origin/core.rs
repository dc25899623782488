//! Which epoch a packet belongs to: waiting for one to open, keeping it, ending it.
use std::collections::{BTreeMap, VecDeque};

use routing::model::{TrackDetail, TrackKind, UnixMillis};

use super::{
    Announced, Config, Input, Opening, Output, Packet,
    clock::{MILLI, VIDEO_TIMESCALE},
    running::Running,
};
use crate::codec::h264::frame_rate;

/// A jump forward by more than this opens an epoch.
const JUMP_FORWARD: i64 = 10_000 * MILLI;
/// And one backward within a track.
const JUMP_BACK: i64 = 1_000 * MILLI;
/// And a hole in a track: no segment may be longer.
const HOLE: i64 = 4_000 * MILLI;
/// A track that is silent for so long while another goes on is left out of the next epoch, which opens then.
const SILENT: i64 = 5_000 * MILLI;
/// How far a track may be from the other when it enters an epoch; beyond, its packets are those of the time before a
/// jump.
const IN_STEP: i64 = 1_500 * MILLI;
/// But after so many of them they are believed.
const MAX_STRAGGLERS: u32 = 100;
/// How long an opening waits for the other track's configuration, or for pictures to tell their rate by.
const WAIT_OTHER: i64 = 500 * MILLI;
/// How long sound waits for pictures.
const WAIT_VIDEO: i64 = 1_000 * MILLI;
/// How much of the other tracks is kept while a keyframe of the leading one is waited for: more than they can be ahead of it in arrival.
const KEEP: i64 = 2_000 * MILLI;
/// Packets kept at most while an epoch waits to open; then it opens.
const MAX_HELD: usize = 1_024;
/// Bytes kept at most while an epoch waits to open; then it opens.
const MAX_HELD_BYTES: usize = 16 << 20;
/// Pictures that tell a rate.
const RATE_PICTURES: usize = 9;

#[derive(Debug, Default)]
struct Line {
    config: Option<Config>,
    /// The last packet's time.
    last: Option<i64>,
    /// Silent so long that it was left out.
    gone: bool,
    stragglers: u32,
    /// Whether the open epoch has a packet of it.
    entered: bool,
}

impl Line {
    const fn there(&self) -> bool {
        self.config.is_some() && !self.gone
    }
}

#[derive(Debug)]
struct Held {
    at: UnixMillis,
    packet: Packet,
}

/// The origin of one publisher: [`Origin::push`] and its like in, [`Origin::poll`] out until it says `None`.
#[derive(Debug, Default)]
pub struct Origin {
    live: bool,
    announced: Option<Announced>,
    /// By track, the leading one first among those that are there.
    lines: BTreeMap<Input, Line>,
    /// The newest time of any track since the last jump.
    newest: Option<i64>,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// The first packet's time since the waiting began.
    since: Option<i64>,
    open: Option<Running>,
    out: VecDeque<Output>,
}

impl Origin {
    /// An origin that stands by: configurations are kept, frames are dropped.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do next.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Goes live, or stands by. Live, an epoch opens at the next keyframe; standing by ends the one that is open.
    pub fn set_live(&mut self, live: bool) {
        if self.live && !live {
            self.reopen();
            self.newest = None;
            self.lines.values_mut().for_each(|line| line.last = None);
        }
        self.live = live;
    }

    /// What the metadata says.
    pub const fn announce(&mut self, announced: Announced) {
        self.announced = Some(announced);
    }

    /// A track's configuration, the first or another. Tracks beyond [`Input::MAX`] are left out.
    pub fn configure(&mut self, input: Input, config: Config) {
        let full = self.lines.len() >= Input::MAX && !self.lines.contains_key(&input);
        if full || config.summary.kind != input.kind || input.kind == TrackKind::Data {
            return;
        }
        let video = input.kind == TrackKind::Video;
        let before = self.lines.get(&input).and_then(|l| l.config.as_ref());
        // The same again with other words about it, such as a bit rate that metadata told since, changes no stream.
        let same = before.is_some_and(|b| {
            (&b.data, b.frame_samples) == (&config.data, config.frame_samples)
                && (video || b.summary.detail == config.summary.detail)
        });
        let codec = before.is_none_or(|b| b.summary.codec == config.summary.codec);
        let first = before.is_none();
        match &mut self.open {
            Some(open) if video && codec => open.reconfigure(input, &config),
            Some(open) if open.has(input) && !same => self.reopen(),
            // What is held needs the configuration before.
            None if !same && !first => self.reopen(),
            _ => {}
        }
        self.lines.entry(input).or_default().config = Some(config);
    }

    /// A packet that arrived at `at`.
    pub fn push(&mut self, at: UnixMillis, packet: Packet) {
        let (input, time) = (packet.input, packet.time);
        let configured = self.lines.get(&input).is_some_and(|l| l.config.is_some());
        if !self.live || !configured || !self.in_line(input, time) {
            return;
        }
        self.newest = Some(self.newest.map_or(time, |n| n.max(time)));
        if let Some(line) = self.lines.get_mut(&input) {
            line.last = Some(time);
            line.gone = false;
        }
        if self.open.is_some() && self.tracks_changed(&packet) {
            self.reopen();
        }
        match &mut self.open {
            Some(open) => open.take(packet, &mut self.out),
            None => self.hold(at, packet),
        }
    }

    /// The track that decides when segments open: the first that is there, video before audio.
    fn lead(&self) -> Option<Input> {
        let mut there = self.lines.iter().filter(|(_, line)| line.there());
        there.next().map(|(input, _)| *input)
    }

    /// The leading track, where it has pictures.
    fn lead_video(&self) -> Option<Input> {
        self.lead().filter(|lead| lead.kind == TrackKind::Video)
    }

    fn there(&self, kind: TrackKind) -> usize {
        let there = |(input, line): &(&Input, &Line)| input.kind == kind && line.there();
        self.lines.iter().filter(there).count()
    }

    /// Ends the open epoch, if any, and waits for the next from nothing but the configurations.
    fn reopen(&mut self) {
        if self.open.take().is_some() {
            self.out.push_back(Output::End);
        }
        self.held.clear();
        self.held_bytes = 0;
        self.since = None;
        for line in self.lines.values_mut() {
            line.entered = false;
            line.stragglers = 0;
        }
    }

    /// Whether a packet is to be used; opens the way for another epoch where its time does not fit this one.
    fn in_line(&mut self, input: Input, time: i64) -> bool {
        let lead = self.lead();
        let others = self.lines.iter().filter(|(other, _)| **other != input);
        let other_entered = others.clone().any(|(_, line)| line.entered);
        let (Some(newest), Some(line)) = (self.newest, self.lines.get_mut(&input)) else {
            return true;
        };
        let jump = time > newest + JUMP_FORWARD
            || line.last.is_some_and(|last| time < last - JUMP_BACK)
            || line.last.is_none() && time < newest - JUMP_FORWARD;
        let hole = line.entered && line.last.is_some_and(|last| time > last + HOLE);
        // After a jump of one track, packets of the others still come from the time before it.
        let leads = lead.is_none_or(|lead| lead == input || input < lead);
        let off = (time - newest).abs() > IN_STEP;
        if !line.entered && (other_entered && off || jump && !leads) {
            line.stragglers += 1;
            if line.stragglers < MAX_STRAGGLERS {
                return false;
            }
        }
        if jump || hole {
            self.reopen();
            self.lines.values_mut().for_each(|line| line.last = None);
            self.newest = Some(time);
        }
        if let Some(line) = self.lines.get_mut(&input) {
            line.entered = self.open.is_some();
        }
        true
    }

    /// Whether the open epoch's tracks are not those that are there, at a packet that can open another.
    fn tracks_changed(&mut self, packet: &Packet) -> bool {
        let (newest, Some(open)) = (self.newest.unwrap_or_default(), &self.open) else {
            return false;
        };
        let mut changed = false;
        for (input, line) in &mut self.lines {
            if open.has(*input) {
                let last = line.last.map_or(open.zero(), |last| last.max(open.zero()));
                let silent = last < newest - SILENT;
                line.gone |= silent;
                changed |= silent;
            } else {
                changed |= line.there() && line.last.is_some();
            }
        }
        changed && self.lead() == Some(packet.input) && packet.keyframe
    }

    fn hold(&mut self, at: UnixMillis, packet: Packet) {
        let (input, time) = (packet.input, packet.time);
        self.since.get_or_insert(time);
        let lead = self.lead_video();
        let held = |of: Option<Input>| self.held.iter().any(|h| Some(h.packet.input) == of);
        let keyframe_held = lead.is_some() && held(lead);
        if lead == Some(input) {
            if !keyframe_held && !packet.keyframe {
                return;
            }
        } else if !keyframe_held {
            let old = |h: &Held| h.packet.time < time - KEEP;
            while self.held.front().is_some_and(old) {
                self.release();
            }
        }
        self.held_bytes += packet.data.len();
        self.held.push_back(Held { at, packet });
        self.try_open(time);
        if self.open.is_none() && !self.held.iter().any(|h| Some(h.packet.input) == lead) {
            // What waits for a keyframe cannot pile up: its 2 s are far below the limits, unless its times do not rise.
            while self.held.len() > MAX_HELD || self.held_bytes > MAX_HELD_BYTES {
                self.release();
            }
        }
    }

    /// Lets go of the oldest that is held.
    fn release(&mut self) {
        if let Some(held) = self.held.pop_front() {
            self.held_bytes -= held.packet.data.len();
        }
    }

    fn try_open(&mut self, now: i64) {
        let since = self.since.unwrap_or(now);
        let full = self.held.len() >= MAX_HELD || self.held_bytes >= MAX_HELD_BYTES;
        let lead = self.lead_video();
        let first = self.held.iter().position(|h| Some(h.packet.input) == lead);
        if let (Some(first), Some(_)) = (first, lead) {
            let zero = self.held[first].packet.time;
            let waited = now - zero >= WAIT_OTHER || full;
            let known = |kind| self.lines.keys().filter(|input| input.kind == kind).count();
            let enough = match self.announced {
                Some(a) => known(TrackKind::Video) >= a.video && known(TrackKind::Audio) >= a.audio,
                None => known(TrackKind::Audio) > 0,
            };
            let rates: BTreeMap<_, _> = self
                .lines
                .keys()
                .filter_map(|input| Some((*input, self.rate(*input, waited)?)))
                .collect();
            let told = rates.len() >= self.there(TrackKind::Video);
            if waited || told && enough {
                self.open_at(first, &rates);
            }
            return;
        }
        // No keyframe yet: with pictures to come, sound waits for it while pictures come.
        let newest = self
            .lines
            .iter()
            .filter(|(i, l)| i.kind == TrackKind::Video && l.there());
        if let Some(newest) = newest.map(|(_, line)| line.last).max() {
            let alive = newest.is_some_and(|last| last >= now - SILENT);
            if alive || now - since < SILENT {
                return;
            }
            for (input, line) in &mut self.lines {
                line.gone |= input.kind == TrackKind::Video;
            }
        }
        let blind = self.announced.is_some_and(|a| a.audio > 0 && a.video == 0);
        let gone = self
            .lines
            .iter()
            .any(|(i, l)| i.kind == TrackKind::Video && l.gone);
        let patience = match self.announced {
            Some(a) if a.video > 0 => SILENT,
            _ => WAIT_VIDEO,
        };
        if self.there(TrackKind::Audio) > 0 && (blind || gone || now - since >= patience) {
            self.held
                .retain(|h| h.packet.input.kind == TrackKind::Audio);
            self.open_at(0, &BTreeMap::new());
        }
    }

    /// Pictures a second: what is announced of the first, else what the configuration says, else what the held pictures tell.
    fn rate(&self, input: Input, must: bool) -> Option<(u32, u32)> {
        let line = self.lines.get(&input).filter(|l| l.there())?;
        let plausible = |(num, den): (u32, u32)| frame_rate(u64::from(num), u64::from(den));
        let TrackDetail::Video { rate, .. } = line.config.as_ref()?.summary.detail else {
            return None;
        };
        let announced = self.announced.filter(|_| Some(input) == self.lead_video());
        if let Some(rate) = announced.and_then(|a| a.rate).and_then(plausible) {
            return Some(rate);
        }
        if let Some(rate) = plausible(rate) {
            return Some(rate);
        }
        let pictures = || {
            let held = self.held.iter().filter(|h| h.packet.input == input);
            held.map(|h| h.packet.time)
        };
        let count = pictures().count();
        if count < RATE_PICTURES && !must {
            return None;
        }
        let measured = || {
            let distances = u64::try_from(count.checked_sub(1)?).ok()?;
            let span = pictures().next_back()? - pictures().next()?;
            measured_rate(distances, u64::try_from(span).ok()?)
        };
        Some(measured().unwrap_or((30, 1)))
    }

    fn open_at(&mut self, first: usize, rates: &BTreeMap<Input, (u32, u32)>) {
        let Some(zero) = self.held.get(first) else {
            return;
        };
        let (programme_time, zero) = (zero.at, zero.packet.time);
        let there = self.lines.iter().filter(|(_, line)| line.there());
        let tracks = there.filter_map(|(input, line)| {
            let rate = rates.get(input).copied();
            let known = input.kind != TrackKind::Video || rate.is_some();
            known.then_some((*input, line.config.as_ref()?, rate))
        });
        let (mut running, tracks) = Running::open(zero, tracks);
        self.out.push_back(Output::Open(Opening {
            programme_time,
            tracks,
        }));
        for Held { packet, .. } in std::mem::take(&mut self.held) {
            if let Some(line) = self.lines.get_mut(&packet.input) {
                line.entered |= packet.time >= zero;
            }
            running.take(packet, &mut self.out);
        }
        self.held_bytes = 0;
        self.since = None;
        self.open = Some(running);
    }
}

/// The usual rate within 1 % of `distances` in `ticks`, else that quotient.
fn measured_rate(distances: u64, ticks: u64) -> Option<(u32, u32)> {
    const USUAL: [(u32, u32); 9] = [
        (25, 1),
        (30_000, 1001),
        (24_000, 1001),
        (50, 1),
        (60_000, 1001),
        (15, 1),
        (20, 1),
        (10, 1),
        (120, 1),
    ];
    let scaled = distances * u64::from(VIDEO_TIMESCALE);
    let near = |(num, den): &(u32, u32)| {
        let (a, b) = (scaled * u64::from(*den), ticks * u64::from(*num));
        a.abs_diff(b) * 100 <= b
    };
    if ticks == 0 {
        return None;
    }
    USUAL
        .into_iter()
        .find(near)
        .or_else(|| frame_rate(scaled, ticks))
}
