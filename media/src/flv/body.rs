//! Tag bodies: the old form (FLV 10.1 annex E.4) and the enhanced one ("Enhanced RTMP" v2: `ExVideoTagHeader`,
//! `ExAudioTagHeader`), with several tracks in one body where the encoder says so.
use bytes::{Buf, Bytes};
use routing::model::Codec;

use super::{Content, FlvError, Packet};

/// Tracks that one body may hold.
const MAX_TRACKS: usize = 16;

/// `VideoFrameType`: a command for the server, which holds no picture.
const COMMAND: u8 = 5;

/// What a body is (`VideoPacketType`, `AudioPacketType`; both count alike).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    SequenceStart,
    CodedFrames,
    /// Without a composition time, which is 0.
    CodedFramesX,
    Multitrack,
    ModEx,
    /// Ends of sequences, metadata, channel layouts.
    Other,
}

impl Type {
    const fn video(number: u8) -> Self {
        match number {
            0 => Self::SequenceStart,
            1 => Self::CodedFrames,
            3 => Self::CodedFramesX,
            6 => Self::Multitrack,
            7 => Self::ModEx,
            _ => Self::Other,
        }
    }

    const fn audio(number: u8) -> Self {
        match number {
            0 => Self::SequenceStart,
            1 => Self::CodedFrames,
            5 => Self::Multitrack,
            7 => Self::ModEx,
            _ => Self::Other,
        }
    }
}

/// Reads a video body.
pub(super) fn video(body: &Bytes) -> Result<Vec<Packet>, FlvError> {
    let Some(&first) = body.first() else {
        return Ok(Vec::new());
    };
    let frame_type = first >> 4 & 7;
    let keyframe = frame_type == 1;
    if first & 0x80 != 0 {
        return Enhanced {
            keyframe,
            command: frame_type == COMMAND,
            number: Type::video,
            codec: |fourcc| match &fourcc {
                b"avc1" => Some(Codec::H264),
                b"hvc1" => Some(Codec::Hevc),
                b"av01" => Some(Codec::Av1),
                b"vp08" => Some(Codec::Vp8),
                b"vp09" => Some(Codec::Vp9),
                _ => None,
            },
        }
        .read(body.clone());
    }
    if frame_type == COMMAND {
        return Ok(Vec::new());
    }
    let codec = match first & 0x0f {
        7 => Codec::H264,
        // Not of any specification, but what encoders sent before there was one.
        12 => Codec::Hevc,
        2 => return Err(FlvError::Codec("Sorenson H.263 video".into())),
        4 | 5 => return Err(FlvError::Codec("VP6 video".into())),
        other => return Err(FlvError::Codec(format!("FLV video codec {other}"))),
    };
    if body.len() < 5 {
        return Err(FlvError::Broken("a video body shorter than its header"));
    }
    let data = body.slice(5..);
    let content = match body[1] {
        0 => Content::Config(data),
        1 if !data.is_empty() => Content::Frame {
            keyframe,
            composition: signed_24([body[2], body[3], body[4]]),
            data,
        },
        _ => return Ok(Vec::new()),
    };
    Ok(vec![Packet {
        track: 0,
        codec,
        content,
    }])
}

/// Reads an audio body.
pub(super) fn audio(body: &Bytes) -> Result<Vec<Packet>, FlvError> {
    let Some(&first) = body.first() else {
        return Ok(Vec::new());
    };
    let (codec, content) = match first >> 4 {
        9 => {
            return Enhanced {
                keyframe: true,
                command: false,
                number: Type::audio,
                codec: |fourcc| match &fourcc {
                    b"mp4a" => Some(Codec::Aac),
                    b"Opus" => Some(Codec::Opus),
                    b".mp3" => Some(Codec::Mp3),
                    b"ac-3" => Some(Codec::Ac3),
                    b"ec-3" => Some(Codec::Eac3),
                    b"fLaC" => Some(Codec::Flac),
                    _ => None,
                },
            }
            .read(body.clone());
        }
        10 if body.len() <= 2 => return Ok(Vec::new()),
        10 => match (body[1], body.slice(2..)) {
            (0, data) => (Codec::Aac, Content::Config(data)),
            (1, data) => (Codec::Aac, sound(data)),
            _ => return Ok(Vec::new()),
        },
        // 14 is MP3 at 8 kHz.
        2 | 14 if body.len() > 1 => (Codec::Mp3, sound(body.slice(1..))),
        2 | 14 => return Ok(Vec::new()),
        11 => return Err(FlvError::Codec("Speex audio".into())),
        other => return Err(FlvError::Codec(format!("FLV audio codec {other}"))),
    };
    Ok(vec![Packet {
        track: 0,
        codec,
        content,
    }])
}

const fn sound(data: Bytes) -> Content {
    Content::Frame {
        keyframe: true,
        composition: 0,
        data,
    }
}

const fn signed_24(bytes: [u8; 3]) -> i32 {
    i32::from_be_bytes([bytes[0], bytes[1], bytes[2], 0]) >> 8
}

/// A body with a FourCC.
struct Enhanced {
    keyframe: bool,
    command: bool,
    number: fn(u8) -> Type,
    codec: fn([u8; 4]) -> Option<Codec>,
}

const SHORT: FlvError = FlvError::Broken("an enhanced body shorter than it says");

fn byte(rest: &mut Bytes) -> Result<u8, FlvError> {
    rest.try_get_u8().map_err(|_| SHORT)
}

fn take(rest: &mut Bytes, n: usize) -> Result<Bytes, FlvError> {
    (n <= rest.len()).then(|| rest.split_to(n)).ok_or(SHORT)
}

impl Enhanced {
    fn read(&self, mut rest: Bytes) -> Result<Vec<Packet>, FlvError> {
        let mut kind = (self.number)(byte(&mut rest)? & 0xf);
        // Finer times, and what is to come: each has its length, so it can be passed over.
        while kind == Type::ModEx {
            let mut size = usize::from(byte(&mut rest)?) + 1;
            if size == 256 {
                size = usize::from(rest.try_get_u16().map_err(|_| SHORT)?) + 1;
            }
            take(&mut rest, size)?;
            kind = (self.number)(byte(&mut rest)? & 0xf);
        }
        if self.command {
            return Ok(Vec::new());
        }
        if kind != Type::Multitrack {
            let codec = self.fourcc(&mut rest)?;
            let content = self.content(kind, codec, rest)?;
            return Ok(packet(0, codec, content).into_iter().collect());
        }
        let header = byte(&mut rest)?;
        let (shape, kind) = (header >> 4, (self.number)(header & 0xf));
        let shared = match shape {
            0 | 1 => Some(self.fourcc(&mut rest)?),
            2 => None,
            _ => return Err(FlvError::Broken("an unknown form of several tracks")),
        };
        let mut packets = Vec::new();
        while !rest.is_empty() && packets.len() < MAX_TRACKS {
            let codec = match shared {
                Some(codec) => codec,
                None => self.fourcc(&mut rest)?,
            };
            let track = byte(&mut rest)?;
            let data = if shape == 0 {
                std::mem::take(&mut rest)
            } else {
                let [a, b, c] = [byte(&mut rest)?, byte(&mut rest)?, byte(&mut rest)?];
                let size = u32::from_be_bytes([0, a, b, c]);
                take(&mut rest, usize::try_from(size).unwrap_or(usize::MAX))?
            };
            packets.extend(packet(track, codec, self.content(kind, codec, data)?));
        }
        Ok(packets)
    }

    fn fourcc(&self, rest: &mut Bytes) -> Result<Codec, FlvError> {
        let four = take(rest, 4)?;
        (self.codec)([four[0], four[1], four[2], four[3]]).ok_or_else(|| {
            let name = four.iter().map(|c| char::from(*c));
            let shown = name.filter(|c| c.is_ascii_graphic()).collect::<String>();
            FlvError::Codec(format!("{shown:?}"))
        })
    }

    fn content(
        &self,
        kind: Type,
        codec: Codec,
        mut data: Bytes,
    ) -> Result<Option<Content>, FlvError> {
        let mut composition = 0;
        match kind {
            Type::SequenceStart => return Ok(Some(Content::Config(data))),
            Type::CodedFrames if matches!(codec, Codec::H264 | Codec::Hevc) => {
                let three = take(&mut data, 3)?;
                composition = signed_24([three[0], three[1], three[2]]);
            }
            Type::CodedFrames | Type::CodedFramesX => {}
            _ => return Ok(None),
        }
        Ok((!data.is_empty()).then_some(Content::Frame {
            keyframe: self.keyframe,
            composition,
            data,
        }))
    }
}

fn packet(track: u8, codec: Codec, content: Option<Content>) -> Option<Packet> {
    content.map(|content| Packet {
        track,
        codec,
        content,
    })
}
