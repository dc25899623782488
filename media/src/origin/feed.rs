//! FLV tags, as RTMP carries them, to what the origin takes.
use bytes::Bytes;
use routing::model::{BitsPerSecond, TrackKind, TrackSummary, UnixMillis};

use super::{Announced, Config, Origin, Packet};
use crate::{
    codec::{
        aac,
        h264::{AccessUnit, H264Error, VideoConfig, frame_rate},
    },
    flv::{self, Audio, FlvError, Tag, TagKind, Video},
    rtmp::amf::{self, Value},
};

/// Why a publication cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// A codec that is not taken, or a broken body.
    #[error(transparent)]
    Flv(#[from] FlvError),
    /// A video configuration that cannot be read.
    #[error(transparent)]
    Video(#[from] H264Error),
    /// An audio configuration that cannot be read.
    #[error(transparent)]
    Audio(#[from] aac::AacError),
}

/// Reads one publisher's tags for its [`Origin`].
#[derive(Debug, Default)]
pub struct Feed {
    video: Option<VideoConfig>,
    rate: Option<(u32, u32)>,
    /// Announced bit rates of video and audio.
    bitrates: (BitsPerSecond, BitsPerSecond),
}

impl Feed {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a tag that arrived at `at`. An access unit that is broken is left out; the next one may be whole.
    ///
    /// # Errors
    /// [`FeedError`] when nothing that follows can be taken either.
    pub fn tag(&mut self, origin: &mut Origin, at: UnixMillis, tag: &Tag) -> Result<(), FeedError> {
        match tag.kind {
            TagKind::Data => self.data(origin, &tag.body),
            TagKind::Video => match flv::video(&tag.body)? {
                Video::Config(record) => self.configure_video(origin, VideoConfig::read(&record)?),
                Video::Frame {
                    keyframe,
                    composition,
                    data,
                } => self.picture(origin, at, (tag.timestamp, composition), keyframe, &data),
                Video::Other => {}
            },
            TagKind::Audio => match flv::audio(&tag.body)? {
                Audio::Config(data) => {
                    let config = aac::config(&data)?;
                    origin.configure(Config {
                        data,
                        summary: TrackSummary {
                            bitrate: self.bitrates.1,
                            ..config.summary()
                        },
                        frame_samples: config.frame_samples,
                    });
                }
                Audio::Frame(data) => origin.push(
                    at,
                    Packet {
                        kind: TrackKind::Audio,
                        time: tag.timestamp,
                        composition: 0,
                        keyframe: true,
                        data,
                    },
                ),
                Audio::Other => {}
            },
        }
        Ok(())
    }

    fn configure_video(&mut self, origin: &mut Origin, config: VideoConfig) {
        origin.configure(Config {
            data: config.write(),
            summary: TrackSummary {
                bitrate: self.bitrates.0,
                ..config.summary(self.rate)
            },
            frame_samples: 0,
        });
        self.video = Some(config);
    }

    fn picture(
        &mut self,
        origin: &mut Origin,
        at: UnixMillis,
        (time, composition): (u32, i32),
        flagged: bool,
        data: &Bytes,
    ) {
        let Some(config) = &self.video else { return };
        let unit = match AccessUnit::read(data, config.length_size) {
            Ok(unit) => unit,
            Err(error) => {
                tracing::debug!(%error, time, "video frame left out");
                return;
            }
        };
        if !unit.sps.is_empty() || !unit.pps.is_empty() {
            let or = |new: Vec<Bytes>, old: &Vec<Bytes>| {
                if new.is_empty() { old.clone() } else { new }
            };
            let (sps, pps) = (or(unit.sps, &config.sps), or(unit.pps, &config.pps));
            if (&sps, &pps) != (&config.sps, &config.pps)
                && let Ok(new) = VideoConfig::of(config.length_size, sps, pps)
            {
                self.configure_video(origin, new);
            }
        }
        if unit.data.is_empty() {
            return;
        }
        origin.push(
            at,
            Packet {
                kind: TrackKind::Video,
                time,
                composition,
                keyframe: unit.idr || flagged && unit.recovery,
                data: unit.data,
            },
        );
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
                video,
                audio,
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
