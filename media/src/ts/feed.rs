//! A program's elementary streams to what the origin takes.
use bytes::Bytes;
use routing::model::{Codec, TrackKind, UnixMillis};

use super::{
    Demuxer, Event, Format, Pes, Stream,
    annex_b::with_lengths,
    frames::{Frames, Head},
    sounds::{Adts, opus_header, opus_packets},
};
use crate::{
    codec::{ac3::SyncFrame, mpeg_audio, opus, reader::Reader},
    origin::{Announced, Origin, Packet, Unwrap},
};

/// Reads one publisher's transport stream for its [`Origin`]: its first pictures, and its first sound.
#[derive(Debug)]
pub struct Feed {
    demuxer: Demuxer,
    clock: Unwrap,
    video: Option<Line>,
    audio: Option<Line>,
}

/// An elementary stream that is read.
#[derive(Debug)]
struct Line {
    stream: Stream,
    reader: Reader,
    /// Of sound.
    frames: Frames,
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
                Event::Pes(pes) => self.pes(&mut Sink { origin, at }, &pes),
            }
        }
    }

    /// Keeps to the streams that are read already, where they are still there.
    fn choose(&mut self, origin: &mut Origin, streams: &[Stream]) {
        let choose = |line: &mut Option<Line>, fits: fn(Format) -> bool| {
            if line.as_ref().is_none_or(|l| !streams.contains(&l.stream)) {
                let first = streams.iter().find(|s| fits(s.format));
                *line = first.map(|stream| Line::new(*stream));
            }
        };
        choose(&mut self.video, Format::is_video);
        choose(&mut self.audio, Format::is_audio);
        tracing::debug!(?streams, "an MPEG-TS program");
        let (video, audio) = (self.video.is_some(), self.audio.is_some());
        if video || audio {
            origin.announce(Announced {
                video,
                audio,
                rate: None,
            });
        }
    }

    fn pes(&mut self, sink: &mut Sink<'_>, pes: &Pes) {
        let clock = &mut self.clock;
        let mut time = |raw: Option<u64>| raw.map(|raw| clock.time(raw));
        if let Some(video) = self.video.as_mut().filter(|v| v.stream.pid == pes.pid) {
            if let (Some(dts), Some(pts)) = (time(pes.dts), time(pes.pts)) {
                // Times further apart than that are broken.
                let composition = i32::try_from(pts - dts).unwrap_or(0);
                video.picture(sink, (dts, composition), pes);
            }
        } else if let Some(audio) = self.audio.as_mut().filter(|a| a.stream.pid == pes.pid) {
            audio.sound(sink, time(pes.pts), pes);
        }
    }
}

/// Where units go.
struct Sink<'a> {
    origin: &'a mut Origin,
    at: UnixMillis,
}

impl Sink<'_> {
    /// One unit, as the container has it.
    fn unit(&mut self, reader: &mut Reader, time: (i64, i32), data: &Bytes, flagged: bool) {
        let unit = match reader.unit(data, flagged) {
            Ok(unit) => unit,
            Err(error) => {
                tracing::debug!(%error, "a unit left out");
                return;
            }
        };
        if let Some(config) = unit.config {
            self.origin.configure(config);
        }
        if unit.data.is_empty() {
            return;
        }
        let kind = match reader.codec().is_video() {
            true => TrackKind::Video,
            false => TrackKind::Audio,
        };
        let (time, composition) = time;
        self.origin.push(
            self.at,
            Packet {
                kind,
                time,
                composition,
                keyframe: unit.keyframe,
                data: unit.data,
            },
        );
    }

    /// A configuration that the container has.
    fn configure(&mut self, reader: &mut Reader, data: &Bytes) {
        if let Ok(Some(config)) = reader.configure(data) {
            self.origin.configure(config);
        }
    }
}

impl Line {
    fn new(stream: Stream) -> Self {
        let codec = match stream.format {
            Format::H264 => Codec::H264,
            Format::Hevc => Codec::Hevc,
            Format::Opus(_) => Codec::Opus,
            // The others say it themselves.
            _ => Codec::Aac,
        };
        let mut reader = Reader::new(codec);
        if let Format::Opus(channels) = stream.format
            && let Some(header) = opus_header(channels)
            && let Err(error) = reader.configure(&header)
        {
            tracing::debug!(%error, "an Opus header of our own is not read");
        }
        Self {
            stream,
            reader,
            frames: Frames::new(),
        }
    }

    fn picture(&mut self, sink: &mut Sink<'_>, time: (i64, i32), pes: &Pes) {
        // Delimiters, end marks and filler stand in every picture: left out here, the rest need not be copied again.
        let hevc = self.stream.format == Format::Hevc;
        let units = with_lengths(&pes.data, |first| match hevc {
            true => !matches!(first >> 1 & 0x3f, 35..=38),
            false => !matches!(first & 0x1f, 9..=12),
        });
        sink.unit(&mut self.reader, time, &units, pes.random_access);
    }

    fn sound(&mut self, sink: &mut Sink<'_>, time: Option<i64>, pes: &Pes) {
        match self.stream.format {
            Format::Adts => self.framed(sink, time, pes, |sink, reader, head: &Adts| {
                sink.configure(reader, &Bytes::copy_from_slice(&head.config));
            }),
            Format::MpegAudio => {
                self.framed(sink, time, pes, |_, reader, head: &mpeg_audio::Header| {
                    of(reader, head.codec);
                });
            }
            Format::Ac3 => self.framed(sink, time, pes, |_, reader, head: &SyncFrame| {
                of(reader, head.codec);
            }),
            Format::Opus(_) => {
                let Some(time) = time else { return };
                opus_packets(&pes.data, |passed, packet| {
                    let time = time + i64::from(passed) * 90_000 / i64::from(opus::SAMPLE_RATE);
                    let packet = Bytes::copy_from_slice(packet);
                    sink.unit(&mut self.reader, (time, 0), &packet, true);
                });
            }
            Format::H264 | Format::Hevc | Format::Other(_) => {}
        }
    }

    /// Sounds with headers of their own; `prepare` is told each header before its sound is read.
    fn framed<H: Head>(
        &mut self,
        sink: &mut Sink<'_>,
        time: Option<i64>,
        pes: &Pes,
        prepare: impl Fn(&mut Sink<'_>, &mut Reader, &H),
    ) {
        let reader = &mut self.reader;
        self.frames.push(&pes.data, time, pes.after_loss, |sound| {
            prepare(sink, reader, &sound.head);
            sink.unit(reader, (sound.time, 0), &sound.data, true);
        });
    }
}

/// Makes it a reader of this codec.
fn of(reader: &mut Reader, codec: Codec) {
    if reader.codec() != codec {
        *reader = Reader::new(codec);
    }
}
