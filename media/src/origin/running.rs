//! An open epoch: settled times, stamped frames.
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use routing::model::TrackDetail;

use super::{
    Beginning, Config, Input, Output, Packet,
    clock::{AudioClock, VIDEO_TIMESCALE, VideoClock},
    cut::{Cutter, Measure, Spot, Wish},
};
use crate::{
    live::{Cut, Epoch, Frame, Track, TrackConfig, TrackId},
    pack::rescale,
};

/// A group of audio lasts about this long.
const AUDIO_GROUP: Duration = Duration::from_secs(1);
/// How long a segment may last of a track that follows another: what rounds to EXT-X-TARGETDURATION, less a margin. The
/// quarter second above [`Epoch::SEGMENT_MAX`] is there for the other's start to become known.
const FOLLOWER_MAX: Duration = Duration::from_millis(4_250);
/// Starts of segments that are remembered; a track that is further behind loses the oldest and catches up at 4 s.
const MAX_STARTS: usize = 64;
/// The part target of video above its nominal duration, per mille.
const VIDEO_SLACK: i64 = 40;

#[derive(Debug)]
enum TrackClock {
    Video(VideoClock),
    Audio(AudioClock),
}

#[derive(Debug)]
struct Line {
    input: Input,
    track: TrackId,
    clock: TrackClock,
    cutter: Cutter,
    config: Arc<TrackConfig>,
    /// Of video: takes effect at the next keyframe.
    next_config: Option<Arc<TrackConfig>>,
    /// Whether its first keyframe came.
    begun: bool,
}

/// An open epoch.
#[derive(Debug)]
pub(super) struct Running {
    /// The encoder's time of tick 0.
    zero: i64,
    /// The leading track first.
    lines: Vec<Line>,
    /// By segment of the leading track, when its first frame is presented, in ticks of 90 kHz.
    starts: BTreeMap<u64, i64>,
}

impl Running {
    /// Opens an epoch whose tick 0 is `zero`; also gives its tracks. Of video with pictures a second.
    pub(super) fn open<'a>(
        zero: i64,
        tracks: impl Iterator<Item = (Input, &'a Config, Option<(u32, u32)>)>,
    ) -> (Self, Vec<Track>) {
        let (mut lines, mut listed) = (Vec::new(), Vec::new());
        for ((input, config, rate), id) in tracks.zip(0..) {
            let (clock, measure, timescale) = match (rate, &config.summary.detail) {
                (None, TrackDetail::Audio { sample_rate, .. }) => {
                    let rate = (*sample_rate).max(1);
                    let samples = config.frame_samples.max(1);
                    let measure = Measure::new(rate, i64::from(samples), i64::from(rate), 0);
                    let clock = TrackClock::Audio(AudioClock::new(rate, samples));
                    (clock, measure, rate)
                }
                (rate, _) => {
                    let rate = rate.unwrap_or((30, 1));
                    let (num, den) = (i64::from(rate.1), i64::from(rate.0));
                    let measure = Measure::new(VIDEO_TIMESCALE, num, den, VIDEO_SLACK);
                    let clock = TrackClock::Video(VideoClock::new(rate));
                    (clock, measure, VIDEO_TIMESCALE)
                }
            };
            let config = track_config(0, config);
            listed.push(track(id, &config, timescale, measure));
            lines.push(Line {
                input,
                track: TrackId(id),
                clock,
                cutter: Cutter::new(measure),
                config,
                next_config: None,
                begun: false,
            });
        }
        let starts = BTreeMap::new();
        (
            Self {
                zero,
                lines,
                starts,
            },
            listed,
        )
    }

    /// The encoder's time of tick 0, unwrapped.
    pub(super) const fn zero(&self) -> i64 {
        self.zero
    }

    /// Whether the epoch has this track.
    pub(super) fn has(&self, input: Input) -> bool {
        self.lines.iter().any(|line| line.input == input)
    }

    /// Another configuration of a video track, from the next keyframe on.
    pub(super) fn reconfigure(&mut self, input: Input, config: &Config) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.input == input) {
            let number = line.config.number + 1;
            let same = line.config.data == config.data;
            line.next_config = (!same).then(|| track_config(number, config));
        }
    }

    /// The next packet. What lies before tick 0 goes, and pictures before their track's first keyframe.
    pub(super) fn take(&mut self, packet: Packet, out: &mut VecDeque<Output>) {
        let Some(at) = self.lines.iter().position(|l| l.input == packet.input) else {
            return;
        };
        let (leads, followed, zero) = (at == 0, self.lines.len() > 1, self.zero);
        let line = &mut self.lines[at];
        line.begun |= packet.keyframe && packet.time >= zero;
        if !line.begun || packet.time < zero && !leads {
            return;
        }
        let next_start = self.starts.get(&(line.cutter.segment + 1)).copied();
        let next_start = (!leads).then_some(next_start);
        let written = match &mut line.clock {
            TrackClock::Video(clock) => {
                let (dts, cts) = clock.settle(packet.time - zero, packet.composition);
                Some(line.picture((dts, cts), next_start, packet))
            }
            TrackClock::Audio(clock) => {
                let dts = clock.settle(packet.time - zero);
                dts.map(|dts| line.sound(dts, next_start, packet.data))
            }
        };
        let Some((spot, frame)) = written else { return };
        if leads && followed && spot.cut == Cut::Segment {
            let start = rescale(frame.pts(), line.timescale(), VIDEO_TIMESCALE);
            self.starts.insert(spot.segment, start);
            if self.starts.len() > MAX_STARTS {
                self.starts.pop_first();
            }
        }
        line.write(spot, frame, out);
    }
}

/// Whether a frame presented at `pts` is at or after a start in ticks of 90 kHz.
fn reached(pts: i64, timescale: i64, start: i64) -> bool {
    pts * i64::from(VIDEO_TIMESCALE) >= start * timescale
}

impl Line {
    /// `next_start`: of a track that follows another, when that one's next segment starts, as far as it is known.
    fn picture(
        &mut self,
        (dts, cts): (i64, i32),
        next_start: Option<Option<i64>>,
        packet: Packet,
    ) -> (Spot, Frame) {
        let Packet { keyframe, data, .. } = packet;
        let measure = self.cutter.measure;
        let so_far = dts - self.cutter.segment_start;
        let new_config = keyframe.then(|| self.next_config.take()).flatten();
        let half = measure.frame / 2;
        let (due, most) = match next_start {
            None => (so_far >= self.cutter.target(), Epoch::SEGMENT_MAX),
            Some(start) => {
                let pts = dts + i64::from(cts) + half;
                let due = start.is_some_and(|start| reached(pts, measure.timescale, start));
                (due, FOLLOWER_MAX)
            }
        };
        let wish = Wish {
            segment: keyframe && (due || new_config.is_some())
                || so_far + half > measure.ticks(most),
            group: keyframe,
        };
        if let Some(config) = new_config {
            self.config = Arc::new(TrackConfig {
                since: dts + i64::from(cts),
                ..TrackConfig::clone(&config)
            });
        }
        let spot = self.cutter.place(dts, data.len(), wish);
        let frame = Frame {
            dts,
            cts,
            keyframe,
            cut: spot.cut,
            data,
        };
        (spot, frame)
    }

    fn timescale(&self) -> u32 {
        u32::try_from(self.cutter.measure.timescale).unwrap_or(VIDEO_TIMESCALE)
    }

    fn sound(&mut self, dts: i64, next_start: Option<Option<i64>>, data: Bytes) -> (Spot, Frame) {
        let measure = self.cutter.measure;
        let so_far = dts - self.cutter.segment_start;
        let segment = match next_start {
            None => so_far >= self.cutter.target(),
            Some(start) => {
                start.is_some_and(|start| reached(dts, measure.timescale, start))
                    || so_far + measure.frame > measure.ticks(FOLLOWER_MAX)
            }
        };
        let group = dts - self.cutter.group_start >= measure.ticks(AUDIO_GROUP) - measure.frame / 2;
        let spot = self.cutter.place(dts, data.len(), Wish { segment, group });
        let frame = Frame {
            dts,
            cts: 0,
            keyframe: true,
            cut: spot.cut,
            data,
        };
        (spot, frame)
    }

    fn write(&self, spot: Spot, frame: Frame, out: &mut VecDeque<Output>) {
        if let Some(seq) = spot.group {
            out.push_back(Output::Group(Beginning {
                track: self.track,
                seq,
                independent: frame.keyframe,
                segment: spot.segment,
                part: spot.part,
                base_decode_time: frame.dts,
                config: Arc::clone(&self.config),
            }));
        }
        out.push_back(Output::Frame(self.track, frame));
    }
}

fn track_config(number: u32, config: &Config) -> Arc<TrackConfig> {
    Arc::new(TrackConfig {
        number,
        data: config.data.clone(),
        summary: config.summary.clone(),
        since: 0,
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
