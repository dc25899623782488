//! A viewer's session without I/O: from the broadcast's frames to datagrams.
//!
//! ```text
//! Broadcast ─ Cursor ─ Order ─ Timeline ─ queue until due ─ Pictures ─ Peer (str0m) ─ Pace ─► datagrams
//! ```
//! - It starts at the latest keyframe, and again there when the viewer asks for one: nobody upstream is asked.
//! - A viewer whose network drops much is sent no picture more until the next keyframe; nothing is buffered for it, and
//!   nothing is sent again while that lasts.
//! - An epoch that follows goes on on the same rising RTP timeline; one of another codec ends the session.
mod cursor;
mod picture;
mod timeline;

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use routing::model::{Codec, TrackKind};
use str0m::{
    Event, RtcConfig,
    format::PayloadParams,
    media::{Frequency, MediaKind, MediaTime, Mid, Pt},
};

use self::{
    cursor::{Cursor, Step},
    picture::{Fate, Order, Pictures},
    timeline::{AXIS, Timeline, axis},
};
use super::{
    pace::Pace,
    peer::{Datagram, Peer, Remote},
    sdp::{Kind, Use, first_of_each},
};
use crate::live::{Broadcast, EpochLine, Frame, TrackConfig};

/// Lost packets, of all in a second, that say that the network carries less than the stream.
const TOO_MUCH_LOSS: f32 = 0.2;
/// So long after much was lost, a wish for a keyframe waits for the next one: sending again would be more of too much.
const THIN: Duration = Duration::from_secs(3);
/// How often a viewer's wish for a keyframe starts it again.
const AGAIN: Duration = Duration::from_secs(1);
/// RTP ticks a second of video and of Opus.
const VIDEO_RTP: i64 = 90_000;
const AUDIO_RTP: i64 = 48_000;

/// What of an epoch can be sent by WebRTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) video: Option<Codec>,
    /// Whether there is sound that can be sent.
    pub(super) opus: bool,
    /// A codec of sound that cannot.
    pub(super) silent: Option<Codec>,
}

impl Plan {
    /// What can be sent of an epoch.
    ///
    /// # Errors
    /// Why nothing can, for the viewer.
    pub(super) fn of(line: &EpochLine) -> Result<Self, String> {
        let tracks = &line.epoch().tracks;
        let video = tracks.iter().find(|t| t.kind == TrackKind::Video);
        let audio = tracks.iter().find(|t| t.kind == TrackKind::Audio);
        let sound = audio.map(|t| t.config.codec());
        if let Some(track) = video {
            let codec = track.config.codec();
            if !matches!(codec, Codec::H264 | Codec::Vp8 | Codec::Vp9 | Codec::Av1) {
                return Err(format!(
                    "The pictures are in {codec:?}, which browsers do not take by WebRTC. Use LL-HLS instead."
                ));
            }
            let groups = line.groups(track.id);
            if !groups.iter().rev().take(4).all(|g| Order::fits(codec, g)) {
                return Err(
                    "The pictures are coded in another order than they are shown in, which WebRTC cannot carry: the \
                     encoder uses B-frames that others refer to. Turn B-frames off (x264: bframes=0), or use LL-HLS."
                        .into(),
                );
            }
        } else if sound != Some(Codec::Opus) {
            return Err("There is nothing in this stream that WebRTC can carry: no pictures, and sound that is not \
                        Opus. Use LL-HLS instead."
                .into());
        }
        Ok(Self {
            video: video.map(|t| t.config.codec()),
            opus: sound == Some(Codec::Opus),
            silent: sound.filter(|c| *c != Codec::Opus),
        })
    }

    /// The codecs to answer with.
    pub(super) fn config(self) -> RtcConfig {
        // Opus stays where there is none to send: an inactive line needs a format too.
        let config = RtcConfig::new().clear_codecs().enable_opus(true, false);
        match self.video {
            Some(Codec::Vp8) => config.enable_vp8(true),
            Some(Codec::Vp9) => config.enable_vp9(true),
            Some(Codec::Av1) => config.enable_av1(true),
            _ => config.enable_h264(true),
        }
    }

    /// What becomes of an offer's media lines: the first of each kind that there is something for.
    pub(super) fn uses(self) -> impl FnMut(Kind) -> Use {
        first_of_each(self.video.is_some(), self.opus, Use::Send)
    }
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    axis: i64,
    config: Arc<TrackConfig>,
    frame: Frame,
}

/// A viewer's session.
pub(super) struct Watching {
    peer: Peer,
    pace: Pace,
    plan: Plan,
    cursor: Cursor,
    timeline: Timeline,
    order: Order,
    pictures: Pictures,
    video: Option<(Mid, Pt)>,
    audio: Option<(Mid, Pt)>,
    queue: VecDeque<Waiting>,
    steps: Vec<Step>,
    /// Pictures are left out until the next keyframe.
    skipping: bool,
    started: Option<Instant>,
    /// When much was lost.
    thin: Option<Instant>,
    over: Option<&'static str>,
    bytes: u64,
}

impl Watching {
    pub(super) fn new(now: Instant, peer: Peer, plan: Plan, broadcast: Arc<Broadcast>) -> Self {
        Self {
            peer,
            pace: Pace::new(now),
            plan,
            cursor: Cursor::new(broadcast),
            timeline: Timeline::new(now),
            order: Order::default(),
            pictures: Pictures::default(),
            video: None,
            audio: None,
            queue: VecDeque::new(),
            steps: Vec::new(),
            skipping: false,
            started: None,
            thin: None,
            over: None,
            bytes: 0,
        }
    }

    pub(super) const fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    /// Bytes sent.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a datagram; true where it is this session's.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        (source, local): (Remote, Option<IpAddr>),
        bytes: &[u8],
    ) -> bool {
        let ours = self.peer.receive(now, source, local, bytes);
        self.events(now);
        ours
    }

    /// Goes on in time, and with what the broadcast has.
    pub(super) fn tick(&mut self, now: Instant) {
        self.peer.tick(now);
        self.events(now);
        if self.peer.connected() && self.over.is_none() {
            self.pull(now);
            self.send_due(now);
        }
    }

    /// When [`Watching::tick`] is due, unless the broadcast changes before.
    pub(super) fn deadline(&self) -> Instant {
        let due = self.queue.front().map(|w| w.due);
        [due, self.pace.deadline()]
            .into_iter()
            .flatten()
            .fold(self.peer.deadline(), Instant::min)
    }

    /// What to send now.
    pub(super) fn poll_datagram(&mut self, now: Instant) -> Option<Datagram> {
        while let Some(datagram) = self.peer.poll_datagram() {
            self.pace.push(datagram);
        }
        let datagram = self.pace.poll(now)?;
        self.bytes += datagram.bytes.len() as u64;
        Some(datagram)
    }

    /// Why it is over, once it is.
    pub(super) fn over(&self) -> Option<&'static str> {
        self.over
            .or_else(|| self.peer.over().then_some("the viewer went away"))
    }

    fn events(&mut self, now: Instant) {
        while let Some(event) = self.peer.poll_event() {
            match event {
                Event::MediaAdded(media) if media.direction.is_sending() => {
                    let payload = self.payload(media.mid, media.kind);
                    let line = payload.map(|pt| (media.mid, pt));
                    match media.kind {
                        MediaKind::Video => self.video = self.video.or(line),
                        MediaKind::Audio => self.audio = self.audio.or(line),
                    }
                }
                Event::KeyframeRequest(_) if self.thin.is_some_and(|at| now < at + THIN) => {
                    self.skip();
                }
                Event::KeyframeRequest(_) if self.started.is_none_or(|at| now >= at + AGAIN) => {
                    self.cursor.restart();
                    self.queue.clear();
                }
                Event::MediaEgressStats(stats) => {
                    let video = self.video.is_some_and(|(mid, _)| mid == stats.mid);
                    if video && stats.loss.is_some_and(|loss| loss > TOO_MUCH_LOSS) {
                        self.thin = Some(now);
                        self.skip();
                    }
                }
                _ => {}
            }
        }
    }

    /// Leaves pictures out until the next keyframe.
    fn skip(&mut self) {
        self.skipping = true;
        self.queue.clear();
    }

    /// The payload type to send with. For H.264 the profile of the stream's own, or else the highest below it that the
    /// viewer takes: decoders do more than browsers say.
    fn payload(&mut self, mid: Mid, kind: MediaKind) -> Option<Pt> {
        let offered = self.peer.payloads(mid);
        if kind == MediaKind::Audio || self.plan.video != Some(Codec::H264) {
            return offered.first().map(PayloadParams::pt);
        }
        let format = |p: &PayloadParams| p.spec().format;
        let in_parts = offered
            .iter()
            .filter(|p| format(p).packetization_mode == Some(1));
        let best = in_parts.max_by_key(|p| format(p).profile_level_id.map(|id| id >> 16));
        best.or(offered.first()).map(PayloadParams::pt)
    }

    fn pull(&mut self, now: Instant) {
        let mut steps = std::mem::take(&mut self.steps);
        self.cursor.pull(&mut steps);
        for step in steps.drain(..) {
            match step {
                Step::Join { from, edge } => self.join(now, from, edge),
                Step::Picture(config, scale, frame) => self.picture(config, scale, frame),
                Step::Sound(config, scale, frame) => self.sound(now, &config, scale, &frame),
            }
        }
        self.steps = steps;
    }

    fn join(&mut self, now: Instant, from: i64, edge: i64) {
        self.timeline.join(now, from, edge);
        self.order = Order::default();
        self.queue.clear();
        self.skipping = false;
        self.started = Some(now);
        let of = |kind| {
            let tracks = &self.cursor.epoch()?.tracks;
            Some(tracks.iter().find(|t| t.kind == kind)?.config.codec())
        };
        if of(TrackKind::Video) != self.plan.video {
            self.over = Some("the stream goes on in another codec");
        }
    }

    fn picture(&mut self, config: Arc<TrackConfig>, scale: u32, frame: Frame) {
        if self.video.is_none() || self.skipping && !frame.keyframe {
            return;
        }
        self.skipping = false;
        match self.order.next(config.codec(), &frame) {
            Fate::Sent => {}
            Fate::LeftOut => return,
            Fate::Impossible => {
                self.over = Some("the stream goes on with B-frames");
                return;
            }
        }
        let media = axis(frame.pts(), scale);
        let at = self.timeline.picture(media);
        self.queue.push_back(Waiting {
            due: self.timeline.due(media, at),
            axis: at,
            config,
            frame,
        });
    }

    fn sound(&mut self, now: Instant, config: &TrackConfig, scale: u32, frame: &Frame) {
        let Some(line) = self.audio.filter(|_| config.codec() == Codec::Opus) else {
            return;
        };
        if let Some(at) = self.timeline.sound(axis(frame.dts, scale)) {
            let time = MediaTime::new(ticks(at, AUDIO_RTP), Frequency::FORTY_EIGHT_KHZ);
            self.write(now, line, at, time, Arc::from(&frame.data[..]));
        }
    }

    fn send_due(&mut self, now: Instant) {
        while self.queue.front().is_some_and(|w| w.due <= now)
            && let Some(line) = self.video
            && let Some(waiting) = self.queue.pop_front()
        {
            let data = self.pictures.payload(&waiting.config, &waiting.frame);
            let time = MediaTime::new(ticks(waiting.axis, VIDEO_RTP), Frequency::NINETY_KHZ);
            self.write(now, line, waiting.axis, time, data);
        }
    }

    fn write(&mut self, now: Instant, line: (Mid, Pt), at: i64, time: MediaTime, data: Arc<[u8]>) {
        let wallclock = self.timeline.wallclock(at);
        if let Err(error) = self.peer.write(now, line, (wallclock, time), data) {
            tracing::debug!(%error, "a frame could not be sent by WebRTC");
            self.over = Some("a frame could not be sent");
        }
    }
}

fn ticks(at: i64, rate: i64) -> u64 {
    (at / (AXIS / rate)).unsigned_abs()
}
