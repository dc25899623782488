//! Which epoch a packet belongs to: waiting for one to open, keeping it, ending it.
use std::collections::VecDeque;

use bytes::Bytes;
use routing::model::{TrackKind, UnixMillis};

use super::{
    Announced, Config, Opening, Output, Packet,
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
/// How much sound is kept while a keyframe is waited for: more than it can be ahead of pictures in arrival.
const KEEP_SOUND: i64 = 2_000 * MILLI;
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
    time: i64,
    composition: i32,
    keyframe: bool,
    kind: TrackKind,
    data: Bytes,
}

/// The origin of one publisher: [`Origin::push`] and its like in, [`Origin::poll`] out until it says `None`.
#[derive(Debug, Default)]
pub struct Origin {
    live: bool,
    announced: Option<Announced>,
    video: Line,
    audio: Line,
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
            self.video.last = None;
            self.audio.last = None;
        }
        self.live = live;
    }

    /// What the metadata says.
    pub const fn announce(&mut self, announced: Announced) {
        self.announced = Some(announced);
    }

    /// A track's configuration, the first or another.
    pub fn configure(&mut self, config: Config) {
        let line = match config.summary.kind {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
            TrackKind::Data => return,
        };
        let kind = config.summary.kind;
        let before = line.config.as_ref();
        // The same again with other words about it, such as a bit rate that metadata told since, changes no stream.
        let same = before.is_some_and(|b| {
            (&b.data, b.frame_samples) == (&config.data, config.frame_samples)
                && (kind == TrackKind::Video || b.summary.detail == config.summary.detail)
        });
        let codec = before.is_none_or(|b| b.summary.codec == config.summary.codec);
        let first = before.is_none();
        match &mut self.open {
            Some(open) if kind == TrackKind::Video && codec => open.reconfigure(&config),
            Some(open) if open.has(kind) && !same => self.reopen(),
            // What is held needs the configuration before.
            None if !same && !first => self.reopen(),
            _ => {}
        }
        self.line_mut(kind).config = Some(config);
    }

    /// A packet that arrived at `at`.
    pub fn push(&mut self, at: UnixMillis, packet: Packet) {
        if !self.live || packet.kind == TrackKind::Data {
            return;
        }
        let time = packet.time;
        if self.line(packet.kind).config.is_none() || !self.in_line(packet.kind, time) {
            return;
        }
        self.newest = Some(self.newest.map_or(time, |n| n.max(time)));
        let line = self.line_mut(packet.kind);
        line.last = Some(time);
        line.gone = false;
        if self.open.is_some() && self.tracks_changed(&packet) {
            self.reopen();
        }
        let Some(open) = &mut self.open else {
            self.hold(at, time, packet);
            return;
        };
        match packet.kind {
            TrackKind::Video => open.picture(
                time,
                packet.composition,
                packet.keyframe,
                packet.data,
                &mut self.out,
            ),
            _ => open.sound(time, packet.data, &mut self.out),
        }
    }

    const fn line(&self, kind: TrackKind) -> &Line {
        match kind {
            TrackKind::Video => &self.video,
            _ => &self.audio,
        }
    }

    const fn line_mut(&mut self, kind: TrackKind) -> &mut Line {
        match kind {
            TrackKind::Video => &mut self.video,
            _ => &mut self.audio,
        }
    }

    /// Ends the open epoch, if any, and waits for the next from nothing but the configurations.
    fn reopen(&mut self) {
        if self.open.take().is_some() {
            self.out.push_back(Output::End);
        }
        self.held.clear();
        self.held_bytes = 0;
        self.since = None;
        for line in [&mut self.video, &mut self.audio] {
            line.entered = false;
            line.stragglers = 0;
        }
    }

    /// Whether a packet is to be used; opens the way for another epoch where its time does not fit this one.
    fn in_line(&mut self, kind: TrackKind, time: i64) -> bool {
        let Some(newest) = self.newest else {
            return true;
        };
        let line = self.line(kind);
        let jump = time > newest + JUMP_FORWARD
            || line.last.is_some_and(|last| time < last - JUMP_BACK)
            || line.last.is_none() && time < newest - JUMP_FORWARD;
        let (entered, other_entered) = (line.entered, self.video.entered || self.audio.entered);
        let hole = entered && line.last.is_some_and(|last| time > last + HOLE);
        // After a jump of one track, packets of the other still come from the time before it.
        let leads = kind == TrackKind::Video || !self.video.there();
        let off = (time - newest).abs() > IN_STEP;
        if !entered && other_entered && off || jump && !entered && !leads {
            let line = self.line_mut(kind);
            line.stragglers += 1;
            if line.stragglers < MAX_STRAGGLERS {
                return false;
            }
        }
        if jump || hole {
            self.reopen();
            self.video.last = None;
            self.audio.last = None;
            self.newest = Some(time);
        }
        self.line_mut(kind).entered = self.open.is_some();
        true
    }

    /// Whether the open epoch's tracks are not those that are there, at a packet that can open another.
    fn tracks_changed(&mut self, packet: &Packet) -> bool {
        let (newest, Some(open)) = (self.newest.unwrap_or_default(), &self.open) else {
            return false;
        };
        let mut changed = false;
        for (kind, line) in [
            (TrackKind::Video, &mut self.video),
            (TrackKind::Audio, &mut self.audio),
        ] {
            if open.has(kind) {
                let last = line.last.map_or(open.zero(), |last| last.max(open.zero()));
                let silent = last < newest - SILENT;
                line.gone |= silent;
                changed |= silent;
            } else {
                changed |= line.there() && line.last.is_some();
            }
        }
        let leads = if self.video.there() {
            packet.kind == TrackKind::Video && packet.keyframe
        } else {
            packet.kind == TrackKind::Audio
        };
        changed && leads
    }

    fn hold(&mut self, at: UnixMillis, time: i64, packet: Packet) {
        self.since.get_or_insert(time);
        let keyframe_held = self.held.iter().any(|h| h.kind == TrackKind::Video);
        match packet.kind {
            TrackKind::Video if !keyframe_held && !packet.keyframe => return,
            TrackKind::Audio if !keyframe_held => {
                while self
                    .held
                    .front()
                    .is_some_and(|h| h.time < time - KEEP_SOUND)
                {
                    self.held.pop_front();
                }
            }
            _ => {}
        }
        self.held_bytes += packet.data.len();
        self.held.push_back(Held {
            at,
            time,
            composition: packet.composition,
            keyframe: packet.keyframe,
            kind: packet.kind,
            data: packet.data,
        });
        self.try_open(time);
        if self.open.is_none() && !self.held.iter().any(|h| h.kind == TrackKind::Video) {
            // Sound alone cannot pile up: its 2 s are far below the limit, unless its times do not rise.
            while self.held.len() > MAX_HELD {
                self.held.pop_front();
            }
        }
    }

    fn try_open(&mut self, now: i64) {
        let since = self.since.unwrap_or(now);
        let full = self.held.len() >= MAX_HELD || self.held_bytes >= MAX_HELD_BYTES;
        let first = self.held.iter().position(|h| h.kind == TrackKind::Video);
        if let Some(first) = first {
            let zero = self.held[first].time;
            let waited = now - zero >= WAIT_OTHER || full;
            let silent = self.announced.is_some_and(|a| !a.audio && a.video);
            let rate = self.rate(waited);
            if let Some(rate) = rate
                && (self.audio.config.is_some() || silent || waited)
            {
                self.open_at(first, Some(rate));
            }
            return;
        }
        // No keyframe yet: with pictures to come, sound waits for it while pictures come.
        if self.video.there() {
            let alive = self.video.last.is_some_and(|last| last >= now - SILENT);
            if alive || now - since < SILENT {
                return;
            }
            self.video.gone = true;
        }
        let blind = self.announced.is_some_and(|a| a.audio && !a.video);
        if self.audio.there() && (blind || self.video.gone || now - since >= WAIT_VIDEO) {
            self.open_at(0, None);
        }
    }

    /// Pictures a second: what is announced, else what the configuration says, else what the held pictures tell.
    fn rate(&self, must: bool) -> Option<(u32, u32)> {
        use routing::model::TrackDetail;
        let plausible = |(num, den): (u32, u32)| frame_rate(u64::from(num), u64::from(den));
        if let Some(rate) = self.announced.and_then(|a| a.rate).and_then(plausible) {
            return Some(rate);
        }
        if let Some(Config { summary, .. }) = &self.video.config
            && let TrackDetail::Video { rate, .. } = summary.detail
            && let Some(rate) = plausible(rate)
        {
            return Some(rate);
        }
        let pictures = || self.held.iter().filter(|h| h.kind == TrackKind::Video);
        let count = pictures().count();
        if count < RATE_PICTURES && !must {
            return None;
        }
        let (first, last) = (pictures().next()?.time, pictures().next_back()?.time);
        let distances = u64::try_from(count - 1).ok()?;
        let span = u64::try_from(last - first).ok()?;
        Some(measured_rate(distances, span).unwrap_or((30, 1)))
    }

    fn open_at(&mut self, first: usize, rate: Option<(u32, u32)>) {
        let zero = &self.held[first];
        let (programme_time, zero) = (zero.at, zero.time);
        let video = self.video.config.as_ref().zip(rate);
        let audio = self.audio.config.as_ref().filter(|_| self.audio.there());
        let (mut running, tracks) = Running::open(zero, video, audio);
        self.out.push_back(Output::Open(Opening {
            programme_time,
            tracks,
        }));
        for held in std::mem::take(&mut self.held) {
            match held.kind {
                TrackKind::Video => {
                    self.video.entered = true;
                    running.picture(
                        held.time,
                        held.composition,
                        held.keyframe,
                        held.data,
                        &mut self.out,
                    );
                }
                _ => {
                    self.audio.entered |= held.time >= zero;
                    running.sound(held.time, held.data, &mut self.out);
                }
            }
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
