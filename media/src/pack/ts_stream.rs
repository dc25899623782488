//! MPEG-TS without an end, an access unit at a time.
use std::sync::Arc;

use super::{EPOCH_ZERO, elementary::Elementary, ts::Mux, walk::ticks};
use crate::live::{Frame, TrackConfig, TrackId};

/// An endless transport stream: tables before every keyframe of its first track; without pictures, each half second.
pub(crate) struct Multiplex {
    mux: Mux,
    lines: Vec<Option<Elementary>>,
    pictures: bool,
    /// Access units since the tables.
    since: usize,
}

impl Multiplex {
    /// Access units of sound alone between two tables.
    const EVERY: usize = 25;

    /// Of tracks with these configurations, pictures first; `version` counts the changes of tables.
    pub(crate) fn new(configs: &[Arc<TrackConfig>], version: u8) -> Self {
        let ids = (0..=u8::MAX).map(TrackId);
        let streams: Vec<_> = ids.zip(configs.iter().cloned()).collect();
        Self {
            mux: Mux::new(&streams, 0, version),
            lines: configs.iter().map(|c| Elementary::new(c)).collect(),
            pictures: configs.first().is_some_and(|c| c.codec().is_video()),
            since: usize::MAX,
        }
    }

    /// Counters go on as those of the stream before.
    pub(crate) const fn goes_on(&mut self, from: &Self) {
        self.mux.count = from.mux.count;
    }

    /// The packets of a frame, whose times are in ticks of 90 kHz.
    pub(crate) fn frame(&mut self, line: u8, frame: &Frame) -> Vec<u8> {
        let zero = ticks(EPOCH_ZERO, 90_000);
        let track = TrackId(line);
        let of = self.lines.get(track.index()).and_then(Option::as_ref);
        let unit = of.and_then(|l| l.unit(track, frame, |t| t.saturating_add(zero)));
        let Some(unit) = unit else { return Vec::new() };
        let due = if self.pictures {
            line == 0 && unit.key
        } else {
            self.since >= Self::EVERY
        };
        if due || self.since == usize::MAX {
            self.mux.tables();
            self.since = 0;
        }
        self.since += 1;
        self.mux.unit(&unit, false);
        std::mem::take(&mut self.mux.out)
    }
}
