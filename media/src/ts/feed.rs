//! A program's elementary streams to what the origin takes.
use bytes::Bytes;
use routing::model::{TrackKind, UnixMillis};

use super::{
    Demuxer, Event, Format, Pes, Stream,
    annex_b::with_lengths,
    frames::{Adts, Frames},
};
use crate::{
    codec::{
        aac,
        h264::{AccessUnit, VideoConfig},
    },
    origin::{Announced, Config, Origin, Packet, Unwrap},
};

/// Reads one publisher's transport stream for its [`Origin`]: its first pictures, and its first sound.
#[derive(Debug)]
pub struct Feed {
    demuxer: Demuxer,
    clock: Unwrap,
    video: Option<Video>,
    audio: Option<Audio>,
}

#[derive(Debug)]
struct Video {
    stream: Stream,
    config: Option<VideoConfig>,
}

#[derive(Debug)]
struct Audio {
    stream: Stream,
    frames: Frames,
    config: Option<[u8; 2]>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            demuxer: Demuxer::new(),
            clock: Unwrap::new(33),
            video: None,
            audio: None,
        }
    }
}

impl Feed {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes, which arrived at `at`. What is damaged or not taken is left out.
    pub fn push(&mut self, origin: &mut Origin, at: UnixMillis, bytes: &[u8]) {
        self.demuxer.push(bytes);
        self.take(origin, at);
    }

    /// The bytes have ended.
    pub fn end(&mut self, origin: &mut Origin, at: UnixMillis) {
        self.demuxer.end();
        self.take(origin, at);
    }

    fn take(&mut self, origin: &mut Origin, at: UnixMillis) {
        while let Some(event) = self.demuxer.poll() {
            match event {
                Event::Streams(streams) => self.choose(origin, &streams),
                Event::Pes(pes) => self.pes(origin, at, &pes),
            }
        }
    }

    /// Keeps to the streams that are read already, where they are still there.
    fn choose(&mut self, origin: &mut Origin, streams: &[Stream]) {
        let first = |video: bool| {
            let of = |s: &&Stream| match s.format {
                Format::H264 => video,
                Format::Adts => !video,
                Format::Other(_) => false,
            };
            streams.iter().find(of).copied()
        };
        if self
            .video
            .as_ref()
            .is_none_or(|v| !streams.contains(&v.stream))
        {
            self.video = first(true).map(|stream| Video {
                stream,
                config: None,
            });
        }
        if self
            .audio
            .as_ref()
            .is_none_or(|a| !streams.contains(&a.stream))
        {
            self.audio = first(false).map(|stream| Audio {
                stream,
                frames: Frames::new(),
                config: None,
            });
        }
        let left: Vec<_> = streams
            .iter()
            .filter(|s| matches!(s.format, Format::Other(_)))
            .collect();
        tracing::debug!(video = ?self.video.as_ref().map(|v| v.stream), audio = ?self.audio.as_ref().map(|a| a.stream), ?left, "program");
        let (video, audio) = (self.video.is_some(), self.audio.is_some());
        if video || audio {
            origin.announce(Announced {
                video,
                audio,
                rate: None,
            });
        }
    }

    fn pes(&mut self, origin: &mut Origin, at: UnixMillis, pes: &Pes) {
        let clock = &mut self.clock;
        let mut time = |raw: Option<u64>| raw.map(|raw| clock.time(raw));
        if let Some(video) = self.video.as_mut().filter(|v| v.stream.pid == pes.pid)
            && let (Some(dts), Some(pts)) = (time(pes.dts), time(pes.pts))
        {
            // Times further apart than that are broken, and the origin cuts what is left to zero.
            let composition = i32::try_from(pts - dts).unwrap_or(0);
            video.picture(origin, at, (dts, composition), pes);
        } else if let Some(audio) = self.audio.as_mut().filter(|a| a.stream.pid == pes.pid) {
            audio.sound(origin, at, time(pes.pts), pes);
        }
    }
}

impl Video {
    fn picture(
        &mut self,
        origin: &mut Origin,
        at: UnixMillis,
        (time, composition): (i64, i32),
        pes: &Pes,
    ) {
        // Delimiters, end marks and filler stand in every picture: left out here, the rest need not be copied again.
        let units = with_lengths(&pes.data, |first| !matches!(first & 0x1f, 9..=12));
        let Ok(unit) = AccessUnit::read(&units, 4) else {
            return;
        };
        let known = self.config.as_ref().map(|c| (&c.sps, &c.pps));
        let (sps, pps) = known.map_or((&[][..], &[][..]), |(s, p)| (&s[..], &p[..]));
        let or = |new: Vec<Bytes>, old: &[Bytes]| if new.is_empty() { old.to_vec() } else { new };
        let new = (or(unit.sps, sps), or(unit.pps, pps));
        if (&new.0[..], &new.1[..]) != (sps, pps)
            && let Ok(config) = VideoConfig::of(4, own(&new.0), own(&new.1))
        {
            origin.configure(Config {
                data: config.write(),
                summary: config.summary(None),
                frame_samples: 0,
            });
            self.config = Some(config);
        }
        if unit.data.is_empty() || self.config.is_none() {
            return;
        }
        origin.push(
            at,
            Packet {
                kind: TrackKind::Video,
                time,
                composition,
                keyframe: unit.idr || pes.random_access && unit.recovery,
                data: unit.data,
            },
        );
    }
}

/// Copies, which do not keep a whole picture in memory.
fn own(sets: &[Bytes]) -> Vec<Bytes> {
    sets.iter().map(|s| Bytes::copy_from_slice(s)).collect()
}

impl Audio {
    fn sound(&mut self, origin: &mut Origin, at: UnixMillis, time: Option<i64>, pes: &Pes) {
        let config = &mut self.config;
        self.frames
            .push::<Adts>(&pes.data, time, pes.after_loss, |sound| {
                if *config != Some(sound.head.config) {
                    let Ok(read) = aac::config(&sound.head.config) else {
                        return;
                    };
                    origin.configure(Config {
                        data: Bytes::copy_from_slice(&sound.head.config),
                        summary: read.summary(),
                        frame_samples: read.frame_samples,
                    });
                    *config = Some(sound.head.config);
                }
                origin.push(
                    at,
                    Packet {
                        kind: TrackKind::Audio,
                        time: sound.time,
                        composition: 0,
                        keyframe: true,
                        data: sound.data,
                    },
                );
            });
    }
}
