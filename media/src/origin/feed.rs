//! FLV tags, as RTMP carries them, to what the origin takes.
use std::collections::BTreeMap;

use routing::model::{BitsPerSecond, TrackDetail, TrackKind, UnixMillis};

use super::{Announced, Config, Input, Origin, Packet, Unwrap, clock::MILLI};
use crate::{
    codec::{
        h264::frame_rate,
        reader::{CodecError, Reader},
    },
    flv::{self, Content, FlvError, Tag, TagKind},
    rtmp::amf::{self, Value},
};

/// Why a publication cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// A codec that is not taken, or a broken body.
    #[error(transparent)]
    Flv(#[from] FlvError),
    /// A configuration that cannot be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Reads one publisher's tags for its [`Origin`].
#[derive(Debug)]
pub struct Feed {
    clock: Unwrap,
    readers: BTreeMap<Input, Reader>,
    rate: Option<(u32, u32)>,
    /// Announced bit rates of video and audio.
    bitrates: (BitsPerSecond, BitsPerSecond),
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            clock: Unwrap::new(u32::BITS),
            readers: BTreeMap::new(),
            rate: None,
            bitrates: Default::default(),
        }
    }
}

impl Feed {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a tag that arrived at `at`. A unit that is broken is left out; the next one may be whole.
    ///
    /// # Errors
    /// [`FeedError`] when nothing that follows can be taken either.
    pub fn tag(&mut self, origin: &mut Origin, at: UnixMillis, tag: &Tag) -> Result<(), FeedError> {
        if tag.kind == TagKind::Data {
            self.data(origin, &tag.body);
            return Ok(());
        }
        let time = self.clock.time(u64::from(tag.timestamp)) * MILLI;
        for packet in tag.packets()? {
            self.packet(origin, (at, time), packet)?;
        }
        Ok(())
    }

    fn packet(
        &mut self,
        origin: &mut Origin,
        (at, time): (UnixMillis, i64),
        packet: flv::Packet,
    ) -> Result<(), FeedError> {
        let kind = match packet.codec.is_video() {
            true => TrackKind::Video,
            false => TrackKind::Audio,
        };
        let input = Input::of(kind, packet.track);
        if self.readers.len() >= Input::MAX && !self.readers.contains_key(&input) {
            return Ok(());
        }
        let fresh = || Reader::new(packet.codec);
        let reader = self.readers.entry(input).or_insert_with(fresh);
        if reader.codec() != packet.codec {
            *reader = fresh();
        }
        match packet.content {
            Content::Config(data) => {
                let config = reader.configure(&data)?;
                self.configure(origin, input, config);
            }
            Content::Frame {
                keyframe,
                composition,
                data,
            } => {
                let unit = match reader.unit(&data, keyframe) {
                    Ok(unit) => unit,
                    Err(error) => {
                        tracing::debug!(%error, time, "a unit left out");
                        return Ok(());
                    }
                };
                self.configure(origin, input, unit.config);
                if !unit.data.is_empty() {
                    origin.push(
                        at,
                        Packet {
                            input,
                            time,
                            // 24 bits of milliseconds: no overflow.
                            composition: composition * 90,
                            keyframe: unit.keyframe,
                            data: unit.data,
                        },
                    );
                }
            }
        }
        Ok(())
    }

    /// Hands a configuration on, with what the metadata said of its track.
    fn configure(&self, origin: &mut Origin, input: Input, config: Option<Config>) {
        let Some(mut config) = config else { return };
        let summary = &mut config.summary;
        let told = match &mut summary.detail {
            TrackDetail::Video { rate, .. } => {
                *rate = self.rate.unwrap_or(*rate);
                self.bitrates.0
            }
            _ => self.bitrates.1,
        };
        if told.0 > 0 {
            summary.bitrate = told;
        }
        origin.configure(input, config);
    }

    /// `@setDataFrame` `onMetaData` {…}, or without the first.
    fn data(&mut self, origin: &mut Origin, body: &[u8]) {
        let values = amf::decode_leading(body);
        let mut names = values.iter().filter_map(Value::as_str);
        if !names.any(|name| name == "onMetaData") {
            return;
        }
        let Some(meta) = values.iter().find(|v| matches!(v, Value::Object(_))) else {
            return;
        };
        let (video, audio) = (
            meta.get("videocodecid").is_some(),
            meta.get("audiocodecid").is_some(),
        );
        self.rate = meta
            .get("framerate")
            .and_then(Value::as_number)
            .and_then(rate_of);
        // Metadata says kilobits of 1000.
        let bitrate = |name| {
            let kilobits = meta.get(name).and_then(Value::as_number);
            // The cast saturates, and takes what is no number as 0.
            BitsPerSecond(kilobits.map_or(0, |k| (k * 1000.0) as u64))
        };
        self.bitrates = (bitrate("videodatarate"), bitrate("audiodatarate"));
        if video || audio {
            origin.announce(Announced {
                video: usize::from(video),
                audio: usize::from(audio),
                rate: self.rate,
            });
        }
    }
}

/// A rate that an encoder wrote as a decimal: the NTSC ones are quotients by 1.001.
fn rate_of(rate: f64) -> Option<(u32, u32)> {
    if !(1.0..=240.0).contains(&rate) {
        return None;
    }
    for (num, den) in [
        (24_000u32, 1001u32),
        (30_000, 1001),
        (60_000, 1001),
        (120_000, 1001),
    ] {
        if (rate - f64::from(num) / f64::from(den)).abs() < 0.006 {
            return Some((num, den));
        }
    }
    // In the range that was checked above: no sign, no overflow.
    frame_rate((rate * 1000.0).round() as u64, 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_rates_are_named_exactly() {
        assert_eq!(rate_of(29.97), Some((30_000, 1001)));
        assert_eq!(rate_of(23.976), Some((24_000, 1001)));
        assert_eq!(rate_of(29.970_029_97), Some((30_000, 1001)));
        assert_eq!(rate_of(30.0), Some((30, 1)));
        assert_eq!(rate_of(12.5), Some((25, 2)));
        assert_eq!(rate_of(f64::NAN), None);
        assert_eq!(rate_of(1000.0), None);
    }
}
