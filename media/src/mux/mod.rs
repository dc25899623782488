//! Containers that go out frame by frame, for as long as the broadcast lasts.
//!
//! ```text
//! follow::Event ── Mux ──► buffers: small heads of our own between the frames' own bytes
//! ```
//! Nothing is kept but counters. A codec is a match arm of [`Form::takes`] and of the container's own table.
mod flv;
mod mkv;

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use mp4_atom::FourCC;
use routing::model::{Codec, TrackKind};

pub(crate) use self::flv::{config_tags, frame_tag, metadata};
use self::{flv::Flv, mkv::Matroska};
use crate::{
    follow::{Event, Line, Shown},
    live::{Cut, Frame},
    pack::{self, Multiplex, codec::Adts},
};

/// A container by HTTP: `/play/ID.` and its [`Form::ending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// MPEG transport stream.
    Ts,
    /// Fragmented MP4, a fragment a frame.
    Mp4,
    /// FLV.
    Flv,
    /// AAC in ADTS frames.
    Aac,
    /// Matroska.
    Mkv,
    /// WebM.
    Webm,
}

impl Form {
    /// Every form, those that carry most first.
    pub const ALL: [Self; 6] = [
        Self::Mp4,
        Self::Mkv,
        Self::Ts,
        Self::Flv,
        Self::Webm,
        Self::Aac,
    ];

    /// Its file name's ending.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Ts => "ts",
            Self::Mp4 => "mp4",
            Self::Flv => "flv",
            Self::Aac => "aac",
            Self::Mkv => "mkv",
            Self::Webm => "webm",
        }
    }

    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Ts => "video/mp2t",
            Self::Mp4 => "video/mp4",
            Self::Flv => "video/x-flv",
            Self::Aac => "audio/aac",
            Self::Mkv => "video/x-matroska",
            Self::Webm => "video/webm",
        }
    }

    /// Whether it carries frames of this codec.
    #[must_use]
    pub const fn takes(self, codec: Codec) -> bool {
        match self {
            Self::Ts => pack::carries(codec),
            Self::Mp4 => true,
            Self::Flv => flv::name(codec).is_some(),
            Self::Aac => matches!(codec, Codec::Aac),
            Self::Mkv => mkv::codec_id(codec).is_some(),
            Self::Webm => matches!(codec, Codec::Vp8 | Codec::Vp9 | Codec::Av1 | Codec::Opus),
        }
    }

    /// Whether it carries pictures.
    #[must_use]
    pub const fn has_pictures(self) -> bool {
        !matches!(self, Self::Aac)
    }
}

/// Why a container ends before its broadcast.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// A configuration cannot be read, or not be said in this container.
    #[error("the decoder configuration of a track cannot be carried: {0}")]
    Config(String),
}

/// A container on its way out.
pub struct Mux {
    lines: Vec<Line>,
    inner: Inner,
}

enum Inner {
    Ts(Option<Box<Multiplex>>, u8),
    Mp4(u32),
    Flv(Flv),
    Aac(Option<Adts>),
    Mkv(Matroska),
}

impl Mux {
    /// An empty one.
    #[must_use]
    pub fn new(form: Form) -> Self {
        let inner = match form {
            Form::Ts => Inner::Ts(None, 0),
            Form::Mp4 => Inner::Mp4(0),
            Form::Flv => Inner::Flv(Flv::default()),
            Form::Aac => Inner::Aac(None),
            Form::Mkv => Inner::Mkv(Matroska::new("matroska")),
            Form::Webm => Inner::Mkv(Matroska::new("webm")),
        };
        Self {
            lines: Vec::new(),
            inner,
        }
    }

    /// What goes out for an event.
    ///
    /// # Errors
    /// [`MuxError`]: the container cannot go on.
    pub fn event(&mut self, event: Event) -> Result<Vec<Bytes>, MuxError> {
        match event {
            Event::Lines(lines) => {
                // An epoch that follows with the same tracks changes nothing.
                let same = same(&self.lines, &lines);
                self.lines = lines;
                if same { Ok(Vec::new()) } else { self.begin() }
            }
            Event::Frame(frame) => Ok(self.frame(frame)),
        }
    }

    fn begin(&mut self) -> Result<Vec<Bytes>, MuxError> {
        Ok(match &mut self.inner {
            Inner::Ts(mux, version) => {
                let configs: Vec<_> = self.lines.iter().map(|l| Arc::clone(&l.config)).collect();
                let mut next = Box::new(Multiplex::new(&configs, *version));
                *version = version.wrapping_add(1);
                if let Some(before) = mux.take() {
                    next.goes_on(&before);
                }
                *mux = Some(next);
                Vec::new()
            }
            Inner::Mp4(_) => {
                let traks = self
                    .lines
                    .iter()
                    .zip(1..)
                    .map(|(line, id)| pack::trak(id, line.timescale, &line.config));
                let traks: Result<Vec<_>, _> = traks.collect();
                let brands = [b"iso6", b"mp41"].map(FourCC::new);
                let movie = traks.and_then(|traks| pack::movie(&brands, traks));
                vec![movie.map_err(|e| MuxError::Config(e.to_string()))?]
            }
            Inner::Flv(flv) => flv.begin(&self.lines),
            Inner::Aac(adts) => {
                let config = self.lines.first().map_or(&[][..], |l| &l.config.data);
                *adts = Some(Adts::read(config).ok_or_else(|| {
                    MuxError::Config("ADTS cannot say this AAC configuration".into())
                })?);
                Vec::new()
            }
            Inner::Mkv(mkv) => vec![mkv.begin(&self.lines)],
        })
    }

    fn frame(&mut self, shown: Shown) -> Vec<Bytes> {
        let Some(line) = self.lines.get(shown.line) else {
            return Vec::new();
        };
        match &mut self.inner {
            Inner::Ts(Some(mux), _) => {
                let index = u8::try_from(shown.line).unwrap_or(u8::MAX);
                vec![mux.frame(index, &in_ticks(&shown, 90_000)).into()]
            }
            Inner::Ts(None, _) => Vec::new(),
            Inner::Mp4(sequence) => {
                *sequence = sequence.wrapping_add(1);
                let frame = in_ticks(&shown, line.timescale);
                let lasts = ticks(shown.dts + shown.lasts, line.timescale) - frame.dts;
                let sample = pack::sample(&frame, line.kind == TrackKind::Video, lasts);
                let track = u32::try_from(shown.line + 1).unwrap_or(1);
                let start = u64::try_from(frame.dts).unwrap_or(0);
                let head = pack::head(track, *sequence, start, vec![sample], frame.data.len());
                head.map_or_else(Vec::new, |head| with(head, shown.data))
            }
            Inner::Flv(flv) => flv.frame(line, &shown),
            Inner::Aac(adts) => {
                let head = adts.as_ref().and_then(|a| a.header(shown.data.len()));
                head.map_or_else(Vec::new, |head| with(BytesMut::from(&head[..]), shown.data))
            }
            Inner::Mkv(mkv) => mkv.frame(line.kind, shown),
        }
    }
}

/// Payload up to this is copied behind its head rather than sent as a buffer of its own.
const COPY_UP_TO: usize = 4096;

fn with(mut head: BytesMut, data: Bytes) -> Vec<Bytes> {
    if data.len() <= COPY_UP_TO {
        head.extend_from_slice(&data);
        return vec![head.freeze()];
    }
    vec![head.freeze(), data]
}

/// Whether decoders can go on as they are.
fn same(a: &[Line], b: &[Line]) -> bool {
    let what = |l: &Line| (l.kind, l.timescale, l.config.codec(), l.config.data.clone());
    a.len() == b.len() && a.iter().map(what).eq(b.iter().map(what))
}

/// A time in ticks, to the nearest.
fn ticks(time: Duration, timescale: u32) -> i64 {
    let ticks = (time.as_nanos() * u128::from(timescale) + 500_000_000) / 1_000_000_000;
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

fn in_ticks(shown: &Shown, timescale: u32) -> Frame {
    let dts = ticks(shown.dts, timescale);
    Frame {
        dts,
        cts: i32::try_from(ticks(shown.pts(), timescale) - dts).unwrap_or(0),
        keyframe: shown.keyframe,
        cut: Cut::None,
        data: shown.data.clone(),
    }
}

/// A configuration record as containers have it: of H.264 it says that lengths have four bytes, whatever the publisher's said.
fn record(line: &Line) -> Bytes {
    let data = &line.config.data;
    let at = match line.config.codec() {
        Codec::H264 => 4,
        Codec::Hevc => 21,
        _ => return data.clone(),
    };
    let mut data = data.to_vec();
    if let Some(byte) = data.get_mut(at) {
        *byte |= 3;
    }
    data.into()
}

/// A FLAC stream's head (RFC 9639 section 8): its mark, and one block, the last, of type 0 and 34 bytes.
fn flac_header(info: &[u8]) -> Bytes {
    [b"fLaC\x80\0\0\x22", info].concat().into()
}
