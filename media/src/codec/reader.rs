//! One track's units as containers carry them, to what the live model holds: the one place where a codec's habits meet
//! the rest of the house.
//!
//! A container gives a configuration where it has one ([`Reader::configure`]) and units ([`Reader::unit`]); whatever in
//! the units says what a decoder needs (parameter sets, sequence headers, frame headers) makes a configuration too.
use bytes::Bytes;
use routing::model::{Codec, TrackDetail, TrackSummary};

use super::{aac, ac3, av1, flac, h264, hevc, mpeg_audio, opus, vpx};

/// Why a track's data was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// H.264.
    #[error(transparent)]
    H264(#[from] h264::H264Error),
    /// HEVC.
    #[error(transparent)]
    Hevc(#[from] hevc::HevcError),
    /// AV1.
    #[error(transparent)]
    Av1(#[from] av1::Av1Error),
    /// AAC.
    #[error(transparent)]
    Aac(#[from] aac::AacError),
    /// Opus.
    #[error(transparent)]
    Opus(#[from] opus::OpusError),
    /// FLAC.
    #[error(transparent)]
    Flac(#[from] flac::FlacError),
}

/// What a decoder needs, as in [`crate::live::TrackConfig`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// By codec as in [`crate::codec`].
    pub data: Bytes,
    /// The track in short.
    pub summary: TrackSummary,
    /// Samples of one frame, of audio; 0 of video.
    pub frame_samples: u32,
}

/// A unit, cleaned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// What is needed from this unit on, where that is not what was needed before.
    pub config: Option<Config>,
    /// Whether decoding can start here; always true of sound.
    pub keyframe: bool,
    /// By codec as in [`crate::codec`]; empty where nothing of it is to be kept.
    pub data: Bytes,
}

#[derive(Debug)]
enum State {
    H264(Option<h264::VideoConfig>),
    Hevc(Option<hevc::VideoConfig>),
    /// The others need no more than to know what they told last.
    Plain(Codec),
}

/// Reads one track.
#[derive(Debug)]
pub struct Reader {
    state: State,
    /// Configuration, samples of a frame and the rest that tells one track from another, as told last.
    told: Option<(Bytes, u32, TrackDetail)>,
    /// The Opus header, whose packets alone say how long they are.
    opus: Option<opus::AudioConfig>,
}

impl Reader {
    /// A reader of a track in this codec.
    #[must_use]
    pub const fn new(codec: Codec) -> Self {
        let state = match codec {
            Codec::H264 => State::H264(None),
            Codec::Hevc => State::Hevc(None),
            other => State::Plain(other),
        };
        Self {
            state,
            told: None,
            opus: None,
        }
    }

    /// The codec.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        match self.state {
            State::H264(_) => Codec::H264,
            State::Hevc(_) => Codec::Hevc,
            State::Plain(codec) => codec,
        }
    }

    /// Takes the container's configuration. The new one, unless it is what was told before, or the units tell more.
    ///
    /// # Errors
    /// [`CodecError`]: nothing that follows can be read either.
    pub fn configure(&mut self, data: &Bytes) -> Result<Option<Config>, CodecError> {
        let config = match &mut self.state {
            State::H264(sets) => {
                let read = h264::VideoConfig::read(data)?;
                let config = video(read.write(), read.summary(None));
                *sets = Some(read);
                config
            }
            State::Hevc(sets) => {
                let read = hevc::VideoConfig::read(data)?;
                let config = video(read.write(), read.summary(None));
                *sets = Some(read);
                config
            }
            State::Plain(Codec::Av1) => {
                let read = av1::VideoConfig::read(data)?;
                video(read.write(), read.summary(None))
            }
            State::Plain(Codec::Aac) => {
                let read = aac::config(data)?;
                sound(data.clone(), read.summary(), read.frame_samples)
            }
            State::Plain(Codec::Flac) => {
                let read = flac::AudioConfig::read(data)?;
                sound(read.block.clone(), read.summary(), read.frame_samples)
            }
            State::Plain(Codec::Opus) => {
                self.opus = Some(opus::AudioConfig::read(data)?);
                return Ok(None);
            }
            // Their frames say it all.
            State::Plain(_) => return Ok(None),
        };
        Ok(self.tell(config))
    }

    /// Takes a unit: NAL units with lengths as the configuration says (four bytes without one), a temporal unit, a frame,
    /// a packet. `flagged`: the container says that it is a keyframe.
    ///
    /// # Errors
    /// [`CodecError`]: this unit is broken, the next one may be whole.
    pub fn unit(&mut self, data: &Bytes, flagged: bool) -> Result<Unit, CodecError> {
        let (config, keyframe, data) = match &mut self.state {
            State::H264(sets) => h264_unit(sets, data, flagged)?,
            State::Hevc(sets) => hevc_unit(sets, data)?,
            State::Plain(Codec::Av1) => {
                let unit = av1::TemporalUnit::read(data)?;
                let config = unit.config.map(|c| video(c.write(), c.summary(None)));
                let keyframe = flagged && (config.is_some() || self.told.is_some());
                (config, keyframe, unit.data)
            }
            State::Plain(codec @ (Codec::Vp8 | Codec::Vp9)) => {
                let key = match codec {
                    Codec::Vp8 => vpx::Keyframe::vp8(data),
                    _ => vpx::Keyframe::vp9(data),
                };
                let config = key.map(|k| video(k.record(), k.summary(None)));
                (config, key.is_some(), data.clone())
            }
            State::Plain(codec) => {
                let (codec, data) = (*codec, data.clone());
                (self.of_sound(codec, &data), true, data)
            }
        };
        Ok(Unit {
            config: config.and_then(|config| self.tell(config)),
            keyframe,
            data,
        })
    }

    /// What a packet or frame of sound says of its track.
    fn of_sound(&self, codec: Codec, data: &[u8]) -> Option<Config> {
        match codec {
            Codec::Opus => {
                let header = self.opus.clone();
                let stereo = data.first().is_some_and(|toc| toc & 4 != 0);
                let header =
                    header.unwrap_or_else(|| opus::AudioConfig::plain(1 + u8::from(stereo), 0));
                let samples = opus::samples(data)?;
                Some(sound(header.write(), header.summary(), samples))
            }
            Codec::Mp2 | Codec::Mp3 => {
                let header = mpeg_audio::Header::read(data)?;
                Some(sound(Bytes::new(), header.summary(), header.samples))
            }
            Codec::Ac3 | Codec::Eac3 => {
                let frame = ac3::SyncFrame::read(data)?;
                Some(sound(frame.record(), frame.summary(), frame.samples))
            }
            _ => None,
        }
    }

    /// The configuration, where it is another than that of before.
    fn tell(&mut self, config: Config) -> Option<Config> {
        let new = (
            config.data.clone(),
            config.frame_samples,
            config.summary.detail.clone(),
        );
        (self.told.as_ref() != Some(&new)).then(|| {
            self.told = Some(new);
            config
        })
    }
}

const fn video(data: Bytes, summary: TrackSummary) -> Config {
    sound(data, summary, 0)
}

const fn sound(data: Bytes, summary: TrackSummary, frame_samples: u32) -> Config {
    Config {
        data,
        summary,
        frame_samples,
    }
}

/// Sets in the unit take the place of those of before, kind by kind.
fn newer(sets: Vec<Bytes>, before: Option<&Vec<Bytes>>) -> Vec<Bytes> {
    match before {
        Some(before) if sets.is_empty() => before.clone(),
        _ => sets,
    }
}

type Read = (Option<Config>, bool, Bytes);

fn h264_unit(
    sets: &mut Option<h264::VideoConfig>,
    data: &Bytes,
    flagged: bool,
) -> Result<Read, CodecError> {
    let length_size = sets.as_ref().map_or(4, |s| s.length_size);
    let unit = h264::AccessUnit::read(data, length_size)?;
    let mut config = None;
    if !unit.sps.is_empty() || !unit.pps.is_empty() {
        let sps = newer(unit.sps, sets.as_ref().map(|s| &s.sps));
        let pps = newer(unit.pps, sets.as_ref().map(|s| &s.pps));
        let same = sets
            .as_ref()
            .is_some_and(|s| (&s.sps, &s.pps) == (&sps, &pps));
        // Sets that cannot be read are left out; the frame may be good with those of before.
        if !same && let Ok(new) = h264::VideoConfig::of(length_size, sps, pps) {
            config = Some(video(new.write(), new.summary(None)));
            *sets = Some(new);
        }
    }
    let keyframe = unit.idr || flagged && unit.recovery;
    Ok((config, keyframe, unit.data))
}

fn hevc_unit(sets: &mut Option<hevc::VideoConfig>, data: &Bytes) -> Result<Read, CodecError> {
    let length_size = sets.as_ref().map_or(4, |s| s.length_size);
    let unit = hevc::AccessUnit::read(data, length_size)?;
    let mut config = None;
    if unit.sets.iter().any(|s| !s.is_empty()) {
        let mut of_unit = unit.sets.into_iter().enumerate();
        let merged = [(); 3].map(|()| {
            let (place, new) = of_unit.next().unwrap_or_default();
            newer(new, sets.as_ref().map(|s| &s.sets[place]))
        });
        let same = sets.as_ref().is_some_and(|s| s.sets == merged);
        if !same && let Ok(new) = hevc::VideoConfig::of(length_size, merged) {
            config = Some(video(new.write(), new.summary(None)));
            *sets = Some(new);
        }
    }
    Ok((config, unit.keyframe, unit.data))
}
