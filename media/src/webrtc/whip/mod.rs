//! A publisher's session without I/O: from datagrams to what the origin takes.
//!
//! ```text
//! datagrams ─► Peer (str0m: SRTP, NACK, TWCC, reordering) ─ Video, Audio ─ Sync ─► Config, Packet
//! ```
//! - A keyframe is asked for when one is needed: before the first, after a loss, and when the last is two seconds old, so
//!   that segments can end and viewers can join. Never more often than every two seconds.
//! - After a loss pictures are left out until the next keyframe. For sound that is lost, or left out in silence, stand
//!   packets without a frame, which decoders conceal (RFC 6716 3.2.1), so that what follows keeps its time.
//! - Of several layers (simulcast) the largest is taken, or another while that one is silent.
mod sync;
mod video;

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use str0m::{
    Event, RtcConfig,
    media::{MediaAdded, MediaData, MediaKind, MediaTime, Mid, Rid},
};

use self::{
    sync::{Line, Sync, ticks},
    video::{Picture, Video},
};
use super::{
    peer::{Datagram, Peer, Remote},
    sdp::{Kind, Use, first_of_each},
};
use crate::{
    codec::opus,
    origin::{Announced, Config, Input, Packet},
};

/// Between two wishes for a keyframe, and how old the last one may become.
const KEYFRAMES: Duration = Duration::from_secs(2);
/// A layer that is silent for so long gives way.
const SILENT: Duration = Duration::from_secs(1);
/// Layers of one picture.
const MAX_LAYERS: usize = 4;
/// Packets that a picture waits for missing ones: a keyframe has hundreds.
const REORDERING: usize = 1_024;
/// Packets that sound waits for missing ones.
const REORDERING_SOUND: usize = 5;
/// A longer hole in sound, in samples, is left.
const MAX_CONCEALED: u64 = 48_000;
/// What the origin has not taken yet.
const MAX_OUT: usize = 4_096;

/// What a publisher is answered with.
pub(super) fn config() -> RtcConfig {
    RtcConfig::new()
        .clear_codecs()
        .enable_opus(true, false)
        .enable_h264(true)
        .enable_vp8(true)
        .enable_vp9(true)
        .enable_av1(true)
        .set_reordering_size_video(REORDERING)
        .set_reordering_size_audio(REORDERING_SOUND)
}

/// What becomes of an offer's media lines: one of each kind is taken.
pub(super) fn uses() -> impl FnMut(Kind) -> Use {
    first_of_each(true, true, Use::Receive)
}

/// For the origin, in order.
#[derive(Debug)]
pub(super) enum Fed {
    Announce(Announced),
    Configure(Input, Config),
    Push(Packet),
}

enum Media {
    Picture(Picture),
    Sound(Bytes),
}

struct Layer {
    rid: Option<Rid>,
    video: Video,
    heard: Instant,
    /// Pixels of its last keyframe.
    size: u64,
}

/// A publisher's session.
pub(super) struct Publishing {
    peer: Peer,
    sync: Sync<Media>,
    video: Option<Mid>,
    layers: Vec<Layer>,
    /// Which layer is taken.
    taken: usize,
    broken: bool,
    last_keyframe: Option<Instant>,
    asked: Option<Instant>,
    announced: Announced,
    /// When the next sound begins by its own clock; nothing before the first.
    next_sound: Option<u64>,
    heard: Instant,
    out: VecDeque<Fed>,
}

impl Publishing {
    pub(super) fn new(now: Instant, peer: Peer) -> Self {
        Self {
            peer,
            sync: Sync::new(now),
            video: None,
            layers: Vec::new(),
            taken: 0,
            broken: false,
            last_keyframe: None,
            asked: None,
            announced: Announced::default(),
            next_sound: None,
            heard: now,
            out: VecDeque::new(),
        }
    }

    pub(super) const fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    /// When media came last.
    pub(super) const fn heard(&self) -> Instant {
        self.heard
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

    /// Goes on in time.
    pub(super) fn tick(&mut self, now: Instant) {
        self.peer.tick(now);
        self.events(now);
        if let Some(mid) = self.video
            && self.peer.connected()
            && !self.layers.is_empty()
            && now >= self.ask_at()
        {
            self.asked = Some(now);
            let rids: Vec<_> = self.layers.iter().map(|l| l.rid).collect();
            for rid in rids {
                self.peer.ask_keyframe(now, mid, rid);
            }
        }
    }

    /// When a keyframe is to be asked for.
    fn ask_at(&self) -> Instant {
        let Some(last) = self.last_keyframe.filter(|_| !self.broken) else {
            return self.asked.map_or(self.heard, |at| at + KEYFRAMES);
        };
        self.asked.map_or(last, |at| at.max(last)) + KEYFRAMES
    }

    /// When [`Publishing::tick`] is due.
    pub(super) fn deadline(&self) -> Instant {
        // Nothing can be asked of a line that has not been heard.
        let ask = (!self.layers.is_empty()).then(|| self.ask_at());
        [ask, self.sync.deadline()]
            .into_iter()
            .flatten()
            .fold(self.peer.deadline(), Instant::min)
    }

    /// What to send.
    pub(super) fn poll_datagram(&mut self) -> Option<Datagram> {
        self.peer.poll_datagram()
    }

    /// What the origin is to be told by `now`.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Fed> {
        while self.out.len() < MAX_OUT
            && let Some((_, time, media)) = self.sync.poll(now)
        {
            self.settled(time, media);
        }
        self.out.pop_front()
    }

    fn settled(&mut self, time: i64, media: Media) {
        let (input, keyframe, data) = match media {
            Media::Picture(picture) => {
                let config = picture.config;
                self.out
                    .extend(config.map(|c| Fed::Configure(Input::VIDEO, c)));
                (Input::VIDEO, picture.keyframe, picture.data)
            }
            Media::Sound(data) => (Input::AUDIO, true, data),
        };
        self.out.push_back(Fed::Push(Packet {
            input,
            time,
            composition: 0,
            keyframe,
            data,
        }));
    }

    fn events(&mut self, now: Instant) {
        while let Some(event) = self.peer.poll_event() {
            match event {
                Event::MediaAdded(media) if media.direction.is_receiving() => self.added(&media),
                Event::MediaData(data) => {
                    self.heard = now;
                    if Some(data.mid) == self.video {
                        self.picture(now, &data);
                    } else {
                        self.sound(now, &data);
                    }
                }
                _ => {}
            }
        }
    }

    fn added(&mut self, media: &MediaAdded) {
        match media.kind {
            MediaKind::Video => {
                self.video = Some(media.mid);
                self.sync.expect(Line::Video);
                self.announced.video = 1;
            }
            MediaKind::Audio => {
                self.sync.expect(Line::Audio);
                self.announced.audio = 1;
            }
        }
        self.out.push_back(Fed::Announce(self.announced));
    }

    fn sound(&mut self, now: Instant, data: &MediaData) {
        let Some(frame_samples) = opus::samples(&data.data) else {
            return;
        };
        let begins = data.time.numer();
        if let Some(mut next) = self.next_sound {
            if begins < next {
                return;
            }
            let hole = begins - next;
            while hole <= MAX_CONCEALED && next + u64::from(frame_samples) <= begins {
                let at = MediaTime::new(next, data.time.frequency());
                self.push(
                    now,
                    Line::Audio,
                    (at, data),
                    Media::Sound(concealed(&data.data)),
                );
                next += u64::from(frame_samples);
            }
        } else {
            // Whatever is put in, WebRTC's Opus is decoded to two channels (RFC 7587 4.1).
            let stereo = opus::AudioConfig::plain(2, 0);
            let config = Config {
                data: stereo.write(),
                summary: stereo.summary(),
                frame_samples,
            };
            self.out.push_back(Fed::Configure(Input::AUDIO, config));
        }
        self.next_sound = Some(begins + u64::from(frame_samples));
        let bytes = Bytes::copy_from_slice(&data.data);
        self.push(now, Line::Audio, (data.time, data), Media::Sound(bytes));
    }

    fn picture(&mut self, now: Instant, data: &MediaData) {
        let found = self.layers.iter().position(|l| l.rid == data.rid);
        let index = match found {
            Some(index) => index,
            None => {
                let video = Video::new(data.params.spec().codec);
                let Some(video) = video.filter(|_| self.layers.len() < MAX_LAYERS) else {
                    return;
                };
                self.layers.push(Layer {
                    rid: data.rid,
                    video,
                    heard: now,
                    size: 0,
                });
                self.layers.len() - 1
            }
        };
        let taken = self.taken;
        let (best, heard) = self
            .layers
            .get(taken)
            .map_or((0, now), |layer| (layer.size, layer.heard));
        let layer = &mut self.layers[index];
        layer.heard = now;
        let Some(picture) = layer.video.read(&data.data, data.is_keyframe()) else {
            return;
        };
        if picture.keyframe {
            layer.size = layer.video.pixels();
        }
        if index != taken {
            let better = layer.size > best || now.saturating_duration_since(heard) > SILENT;
            if !picture.keyframe || !better {
                return;
            }
            self.taken = index;
            self.sync.restart(Line::Video);
            // What this layer's configuration was, nobody has been told.
            let config = self.layers[index].video.config();
            let picture = Picture { config, ..picture };
            self.keyframe(now);
            self.push(now, Line::Video, (data.time, data), Media::Picture(picture));
            return;
        }
        if picture.keyframe {
            self.keyframe(now);
        } else {
            self.broken |= !data.contiguous;
            if self.broken || self.last_keyframe.is_none() {
                return;
            }
        }
        self.push(now, Line::Video, (data.time, data), Media::Picture(picture));
    }

    const fn keyframe(&mut self, now: Instant) {
        self.broken = false;
        self.last_keyframe = Some(now);
    }

    fn push(
        &mut self,
        now: Instant,
        line: Line,
        (time, data): (MediaTime, &MediaData),
        what: Media,
    ) {
        let rate = i64::from(time.denom().max(1));
        let media = time.numer().cast_signed();
        let at = |media: i64| {
            let ticks = i128::from(media) * 90_000 / i128::from(rate);
            i64::try_from(ticks).unwrap_or(i64::MAX)
        };
        if let Some(info) = data.last_sender_info
            && let Ok(wall) = info.ntp_time.duration_since(std::time::UNIX_EPOCH)
        {
            // The report's 32 bits, near this packet's.
            let behind = (info.rtp_time.numer() as u32).wrapping_sub(media as u32);
            let reported = media + i64::from(behind.cast_signed());
            self.sync.report(line, ticks(wall), at(reported));
        }
        self.sync.push(now, line, at(media), what);
    }
}

/// An Opus packet of as many frames as this one, all without data.
fn concealed(packet: &[u8]) -> Bytes {
    match *packet {
        [toc, count, ..] if toc & 3 == 3 => Bytes::copy_from_slice(&[toc, count & 0x3f]),
        [toc, ..] if toc & 3 == 2 => Bytes::copy_from_slice(&[toc & 0xfc | 1]),
        [toc, ..] => Bytes::copy_from_slice(&[toc]),
        [] => Bytes::new(),
    }
}
