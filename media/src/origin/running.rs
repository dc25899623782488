//! An open epoch: settled times, stamped frames.
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use routing::model::{TrackDetail, TrackKind};

use super::{
    Beginning, Config, Output,
    clock::{AudioClock, VIDEO_TIMESCALE, VideoClock},
    cut::{Cutter, Measure, Spot, Wish},
};
use crate::live::{Epoch, Frame, Track, TrackConfig, TrackId};

/// A group of audio lasts about this long.
const AUDIO_GROUP: Duration = Duration::from_secs(1);
/// How long an audio segment may last: what rounds to EXT-X-TARGETDURATION, less a margin. The quarter second above
/// [`Epoch::SEGMENT_MAX`] is there for video's start to become known.
const AUDIO_MAX: Duration = Duration::from_millis(4_250);
/// Starts of video segments that audio has not reached; sound that is further behind loses the oldest and catches up
/// at 4 s.
const MAX_STARTS: usize = 64;
/// The part target of video above its nominal duration, per mille.
const VIDEO_SLACK: i64 = 40;

#[derive(Debug)]
struct VideoLine {
    clock: VideoClock,
    cutter: Cutter,
    config: Arc<TrackConfig>,
    /// Takes effect at the next keyframe.
    next_config: Option<Arc<TrackConfig>>,
}

#[derive(Debug)]
struct AudioLine {
    track: TrackId,
    clock: AudioClock,
    cutter: Cutter,
    config: Arc<TrackConfig>,
}

/// An open epoch.
#[derive(Debug)]
pub(super) struct Running {
    /// The encoder's time of tick 0.
    zero: i64,
    video: Option<VideoLine>,
    audio: Option<AudioLine>,
    /// By video segment, when its first picture is presented, in ticks of video.
    starts: BTreeMap<u64, i64>,
}

impl Running {
    /// Opens an epoch whose tick 0 is `zero`; also gives its tracks.
    pub(super) fn open(
        zero: i64,
        video: Option<(&Config, (u32, u32))>,
        audio: Option<&Config>,
    ) -> (Self, Vec<Track>) {
        let mut tracks = Vec::new();
        let video = video.map(|(config, rate)| {
            let measure = Measure::new(
                VIDEO_TIMESCALE,
                i64::from(rate.1),
                i64::from(rate.0),
                VIDEO_SLACK,
            );
            let config = track_config(0, config);
            tracks.push(track(0, &config, VIDEO_TIMESCALE, measure));
            VideoLine {
                clock: VideoClock::new(rate),
                cutter: Cutter::new(measure),
                config,
                next_config: None,
            }
        });
        let audio = audio.map(|config| {
            let rate = match config.summary.detail {
                TrackDetail::Audio { sample_rate, .. } => sample_rate.max(1),
                TrackDetail::Video { .. } | TrackDetail::Data {} => 48_000,
            };
            let samples = config.frame_samples.max(1);
            let measure = Measure::new(rate, i64::from(samples), i64::from(rate), 0);
            let config = track_config(0, config);
            let place = u8::from(video.is_some());
            tracks.push(track(place, &config, rate, measure));
            AudioLine {
                track: TrackId(place),
                clock: AudioClock::new(rate, samples),
                cutter: Cutter::new(measure),
                config,
            }
        });
        let this = Self {
            zero,
            video,
            audio,
            starts: BTreeMap::new(),
        };
        (this, tracks)
    }

    /// The encoder's time of tick 0.
    pub(super) const fn zero(&self) -> i64 {
        self.zero
    }

    /// Whether the epoch has a track of this kind.
    pub(super) const fn has(&self, kind: TrackKind) -> bool {
        match kind {
            TrackKind::Video => self.video.is_some(),
            TrackKind::Audio => self.audio.is_some(),
            TrackKind::Data => false,
        }
    }

    /// Another video configuration, from the next keyframe on.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        if let Some(line) = &mut self.video {
            let number = line.config.number + 1;
            let same = line.config.data == config.data;
            line.next_config = (!same).then(|| track_config(number, config));
        }
    }

    /// The next picture.
    pub(super) fn picture(
        &mut self,
        time: i64,
        composition: i32,
        keyframe: bool,
        data: Bytes,
        out: &mut VecDeque<Output>,
    ) {
        let Some(line) = &mut self.video else { return };
        let (dts, cts) = line.clock.settle(time - self.zero, composition);
        let Measure { frame, .. } = line.cutter.measure;
        let so_far = dts - line.cutter.segment_start;
        let max = line.cutter.measure.ticks(Epoch::SEGMENT_MAX);
        let new_config = keyframe.then(|| line.next_config.take()).flatten();
        let wish = Wish {
            segment: keyframe && (so_far >= line.cutter.target() || new_config.is_some())
                || so_far + frame / 2 > max,
            group: keyframe,
        };
        if let Some(config) = new_config {
            line.config = config;
        }
        let spot = line.cutter.place(dts, data.len(), wish);
        if spot.cut == crate::live::Cut::Segment && self.audio.is_some() {
            self.starts.insert(spot.segment, dts + i64::from(cts));
            if self.starts.len() > MAX_STARTS {
                self.starts.pop_first();
            }
        }
        let frame = Frame {
            dts,
            cts,
            keyframe,
            cut: spot.cut,
            data,
        };
        write(TrackId(0), spot, &line.config, frame, out);
    }

    /// The next sound. What lies before tick 0 goes.
    pub(super) fn sound(&mut self, time: i64, data: Bytes, out: &mut VecDeque<Output>) {
        let Some(line) = &mut self.audio else { return };
        if time < self.zero {
            return;
        }
        let Some(dts) = line.clock.settle(time - self.zero) else {
            return;
        };
        let measure = line.cutter.measure;
        let so_far = dts - line.cutter.segment_start;
        let start = self.starts.get(&(line.cutter.segment + 1)).copied();
        let segment = if self.video.is_none() {
            so_far >= line.cutter.target()
        } else {
            start.is_some_and(|start| dts * i64::from(VIDEO_TIMESCALE) >= start * measure.timescale)
                || so_far + measure.frame > measure.ticks(AUDIO_MAX)
        };
        let group = dts - line.cutter.group_start >= measure.ticks(AUDIO_GROUP) - measure.frame / 2;
        let spot = line.cutter.place(dts, data.len(), Wish { segment, group });
        self.starts = self.starts.split_off(&spot.segment);
        let frame = Frame {
            dts,
            cts: 0,
            keyframe: true,
            cut: spot.cut,
            data,
        };
        write(line.track, spot, &line.config, frame, out);
    }
}

fn track_config(number: u32, config: &Config) -> Arc<TrackConfig> {
    Arc::new(TrackConfig {
        number,
        data: config.data.clone(),
        summary: config.summary.clone(),
    })
}

fn track(id: u8, config: &Arc<TrackConfig>, timescale: u32, measure: Measure) -> Track {
    Track {
        id: TrackId(id),
        kind: config.summary.kind,
        timescale,
        frames_per_part: measure.frames_per_part,
        part_target: measure.part_target.unsigned_abs(),
        first_segment: 0,
        config: Arc::clone(config),
    }
}

fn write(
    track: TrackId,
    spot: Spot,
    config: &Arc<TrackConfig>,
    frame: Frame,
    out: &mut VecDeque<Output>,
) {
    if let Some(seq) = spot.group {
        out.push_back(Output::Group(Beginning {
            track,
            seq,
            independent: frame.keyframe,
            segment: spot.segment,
            part: spot.part,
            base_decode_time: frame.dts,
            config: Arc::clone(config),
        }));
    }
    out.push_back(Output::Frame(track, frame));
}
