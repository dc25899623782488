//! A program's elementary streams to what the origin takes.
use std::collections::BTreeMap;

use bytes::Bytes;
use routing::model::{Codec, TrackKind, UnixMillis};

use super::{
    Demuxer, Event, Format, Pes, Stream,
    frames::{Frames, Head},
    sounds::{Adts, opus_header, opus_packets},
};
use crate::{
    codec::{ac3::SyncFrame, annex_b::with_lengths, mpeg_audio, opus, reader::Reader},
    origin::{Announced, Input, Origin, Packet, Unwrap},
};

/// Reads one publisher's transport stream for its [`Origin`]: the pictures and sounds of a program.
#[derive(Debug)]
pub struct Feed {
    demuxer: Demuxer,
    clock: Unwrap,
    /// By PID.
    lines: BTreeMap<u16, Line>,
}

/// An elementary stream that is read.
#[derive(Debug)]
struct Line {
    input: Input,
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
            lines: BTreeMap::new(),
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

    /// Streams that are still there keep their places; others get what is free, in the table's order.
    fn choose(&mut self, origin: &mut Origin, streams: &[Stream]) {
        tracing::debug!(?streams, "an MPEG-TS program");
        self.lines.retain(|_, line| streams.contains(&line.stream));
        for stream in streams {
            let kind = match stream.format {
                Format::Other(_) => continue,
                format if format.is_video() => TrackKind::Video,
                _ => TrackKind::Audio,
            };
            let taken = |input| self.lines.values().any(|line| line.input == input);
            let free = (0..).map(|n| Input::of(kind, n)).find(|i| !taken(*i));
            let (Some(input), true) = (free, self.lines.len() < Input::MAX) else {
                continue;
            };
            let line = || Line::new(input, *stream);
            self.lines.entry(stream.pid).or_insert_with(line);
        }
        let of = |kind| self.lines.values().filter(move |l| l.input.kind == kind);
        let (video, audio) = (of(TrackKind::Video).count(), of(TrackKind::Audio).count());
        if video + audio > 0 {
            origin.announce(Announced {
                video,
                audio,
                rate: None,
            });
        }
    }

    fn pes(&mut self, sink: &mut Sink<'_>, pes: &Pes) {
        let Some(line) = self.lines.get_mut(&pes.pid) else {
            return;
        };
        let mut time = |raw: Option<u64>| raw.map(|raw| self.clock.time(raw));
        if !line.stream.format.is_video() {
            line.sound(sink, time(pes.pts), pes);
        } else if let (Some(dts), Some(pts)) = (time(pes.dts), time(pes.pts)) {
            // Times further apart than that are broken.
            let composition = i32::try_from(pts - dts).unwrap_or(0);
            line.picture(sink, (dts, composition), pes);
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
    fn unit(
        &mut self,
        (input, reader): (Input, &mut Reader),
        (time, composition): (i64, i32),
        data: &Bytes,
        flagged: bool,
    ) {
        let unit = match reader.unit(data, flagged) {
            Ok(unit) => unit,
            Err(error) => {
                tracing::debug!(%error, "a unit left out");
                return;
            }
        };
        if let Some(config) = unit.config {
            self.origin.configure(input, config);
        }
        if !unit.data.is_empty() {
            let packet = Packet {
                input,
                time,
                composition,
                keyframe: unit.keyframe,
                data: unit.data,
            };
            self.origin.push(self.at, packet);
        }
    }

    /// A configuration that the container has.
    fn configure(&mut self, (input, reader): (Input, &mut Reader), data: &Bytes) {
        if let Ok(Some(config)) = reader.configure(data) {
            self.origin.configure(input, config);
        }
    }
}

impl Line {
    fn new(input: Input, stream: Stream) -> Self {
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
            input,
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
        sink.unit(
            (self.input, &mut self.reader),
            time,
            &units,
            pes.random_access,
        );
    }

    fn sound(&mut self, sink: &mut Sink<'_>, time: Option<i64>, pes: &Pes) {
        match self.stream.format {
            Format::Adts => self.framed(sink, time, pes, |sink, line, head: &Adts| {
                sink.configure(line, &Bytes::copy_from_slice(&head.config));
            }),
            Format::MpegAudio => {
                self.framed(sink, time, pes, |_, line, head: &mpeg_audio::Header| {
                    of(line.1, head.codec);
                });
            }
            Format::Ac3 => self.framed(sink, time, pes, |_, line, head: &SyncFrame| {
                of(line.1, head.codec);
            }),
            Format::Opus(_) => {
                let Some(time) = time else { return };
                opus_packets(&pes.data, |passed, packet| {
                    let time = time + i64::from(passed) * 90_000 / i64::from(opus::SAMPLE_RATE);
                    let packet = Bytes::copy_from_slice(packet);
                    sink.unit((self.input, &mut self.reader), (time, 0), &packet, true);
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
        prepare: impl Fn(&mut Sink<'_>, (Input, &mut Reader), &H),
    ) {
        let (input, reader) = (self.input, &mut self.reader);
        self.frames.push(&pes.data, time, pes.after_loss, |sound| {
            prepare(sink, (input, reader), &sound.head);
            sink.unit((input, reader), (sound.time, 0), &sound.data, true);
        });
    }
}

/// Makes it a reader of this codec.
fn of(reader: &mut Reader, codec: Codec) {
    if reader.codec() != codec {
        *reader = Reader::new(codec);
    }
}
