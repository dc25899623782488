//! Reads a broadcast for one viewer: from the latest keyframe, frame by frame, from epoch to epoch.
use std::sync::Arc;

use routing::model::TrackKind;

use super::timeline::axis;
use crate::live::{
    Broadcast, Epoch, EpochLine, Frame, Group, GroupSeq, Phase, TrackConfig, TrackId,
};

/// What a viewer is shown next.
#[derive(Debug)]
pub(super) enum Step {
    /// It starts, or starts again: the keyframe's media time and that of the newest frame, in axis ticks.
    Join { from: i64, edge: i64 },
    /// A picture.
    Picture(Arc<TrackConfig>, u32, Frame),
    /// A sound.
    Sound(Arc<TrackConfig>, u32, Frame),
}

#[derive(Clone, Copy, Debug)]
struct At {
    track: TrackId,
    timescale: u32,
    seq: GroupSeq,
    next: usize,
}

/// A place in a broadcast.
#[derive(Debug)]
pub(super) struct Cursor {
    broadcast: Arc<Broadcast>,
    line: Option<Arc<EpochLine>>,
    video: Option<At>,
    audio: Option<At>,
}

impl Cursor {
    pub(super) const fn new(broadcast: Arc<Broadcast>) -> Self {
        Self {
            broadcast,
            line: None,
            video: None,
            audio: None,
        }
    }

    /// The epoch that is shown.
    pub(super) fn epoch(&self) -> Option<&Arc<Epoch>> {
        self.line.as_ref().map(|line| line.epoch())
    }

    /// Starts again at the latest keyframe, whatever was shown.
    pub(super) fn restart(&mut self) {
        self.line = None;
    }

    /// What is there to be shown now.
    pub(super) fn pull(&mut self, out: &mut Vec<Step>) {
        if let Some(line) = self.line.clone() {
            let lost = self.read(&line, out);
            let over = self.broadcast.current().is_some_and(|current| {
                current.epoch().id != line.epoch().id && start(&current).is_some()
            });
            if !lost && !over {
                return;
            }
        }
        let Some(line) = self.broadcast.current() else {
            return;
        };
        let Some((video, audio, from, edge)) = start(&line) else {
            return;
        };
        (self.video, self.audio) = (video, audio);
        out.push(Step::Join { from, edge });
        self.line = Some(Arc::clone(&line));
        self.read(&line, out);
    }

    /// Reads on; true where pictures were lost, and only another keyframe helps.
    fn read(&mut self, line: &EpochLine, out: &mut Vec<Step>) -> bool {
        let mut lost = false;
        if let Some(at) = &mut self.video {
            let (scale, mut step) = (at.timescale, Vec::new());
            lost = read(line, at, &mut step);
            out.extend(step.into_iter().map(|(c, f)| Step::Picture(c, scale, f)));
        }
        if let Some(at) = &mut self.audio {
            let (scale, mut step) = (at.timescale, Vec::new());
            while read(line, at, &mut step) {}
            out.extend(step.into_iter().map(|(c, f)| Step::Sound(c, scale, f)));
        }
        lost
    }
}

/// Reads a track's frames until there are no more; true where a group is missing and reading goes on after it.
fn read(line: &EpochLine, at: &mut At, out: &mut Vec<(Arc<TrackConfig>, Frame)>) -> bool {
    loop {
        let Some(group) = line.next_group(at.track, at.seq) else {
            return false;
        };
        if group.header().seq != at.seq {
            // A hole is waited for until what comes after it is whole.
            if group.phase() == Phase::Open && !line.ended() {
                return false;
            }
            (at.seq, at.next) = (group.header().seq, 0);
            return true;
        }
        let config = &group.header().config;
        let phase = group.with_frames(|frames, phase| {
            for frame in frames.iter().skip(at.next) {
                out.push((Arc::clone(config), frame.clone()));
            }
            at.next = at.next.max(frames.len());
            phase
        });
        if phase == Phase::Open {
            return false;
        }
        (at.seq, at.next) = (at.seq.next(), 0);
    }
}

/// Where to start in an epoch: places in video and audio, the media time there and that of the newest frame.
fn start(line: &EpochLine) -> Option<(Option<At>, Option<At>, i64, i64)> {
    let of = |kind| line.epoch().tracks.iter().find(move |t| t.kind == kind);
    let at = |track: &crate::live::Track, group: &Arc<Group>, next| At {
        track: track.id,
        timescale: track.timescale,
        seq: group.header().seq,
        next,
    };
    let newest = |track: &crate::live::Track| {
        let groups = line.groups(track.id);
        let last = groups
            .iter()
            .rev()
            .find_map(|g| g.with_frames(|frames, _| frames.last().map(|f| f.dts)))?;
        Some(axis(last, track.timescale))
    };
    let (video, from, edge) = match of(TrackKind::Video) {
        Some(track) => {
            let group = line.latest_independent(track.id)?;
            let from = axis(group.header().stamp.base_decode_time, track.timescale);
            (Some(at(track, &group, 0)), from, newest(track)?)
        }
        None => {
            let edge = newest(of(TrackKind::Audio)?)?;
            (None, edge, edge)
        }
    };
    let audio = of(TrackKind::Audio).and_then(|track| {
        // From where the newest picture is; earlier sound is not heard.
        let groups = line.groups(track.id);
        let starts = |g: &&Arc<Group>| axis(g.header().stamp.base_decode_time, track.timescale);
        let group = groups
            .iter()
            .rev()
            .find(|g| starts(g) <= edge)
            .or(groups.first())?;
        Some(at(track, group, 0))
    });
    Some((video, audio, from, edge))
}
