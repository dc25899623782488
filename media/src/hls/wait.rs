//! Delivery directives (RFC 8216bis 6.2.5): what a request asks to wait for, and whether a view has it.
use std::time::Duration;

use super::view::{Container, Rendition, View};
use crate::live::Epoch;

/// A place in a rendition that can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// A segment.
    pub segment: u64,
    /// A part of it; without, all of it.
    pub part: Option<u32>,
}

/// The directives of a playlist request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// `_HLS_msn` and `_HLS_part`.
    pub until: Option<Position>,
    /// `_HLS_skip`: older segments may be left out.
    pub skip: bool,
}

/// Directives that cannot be answered: status 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadAsk {
    /// A part of no segment.
    #[error("_HLS_part needs _HLS_msn: say which segment the part is of")]
    PartWithoutSegment,
    /// Not a number.
    #[error("_HLS_msn and _HLS_part are decimal numbers")]
    Number,
    /// Nobody would wait that long.
    #[error(
        "_HLS_msn is more than two segments ahead of the playlist: load the playlist without it first"
    )]
    TooFar,
}

impl Ask {
    /// Reads a query. Directives that are not known, and any other parameters, are ignored.
    ///
    /// # Errors
    /// [`BadAsk::PartWithoutSegment`], [`BadAsk::Number`].
    pub fn read(query: &str) -> Result<Self, BadAsk> {
        let (mut segment, mut part, mut skip) = (None, None, false);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_HLS_msn" => segment = Some(value.parse().map_err(|_| BadAsk::Number)?),
                "_HLS_part" => part = Some(value.parse().map_err(|_| BadAsk::Number)?),
                "_HLS_skip" => skip = matches!(value, "YES" | "v2"),
                _ => {}
            }
        }
        let until = match (segment, part) {
            (Some(segment), part) => Some(Position { segment, part }),
            (None, Some(_)) => return Err(BadAsk::PartWithoutSegment),
            (None, None) => None,
        };
        Ok(Self { until, skip })
    }
}

/// Whether a request can be answered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Yes.
    Now,
    /// Not yet.
    Hold,
    /// Never from here.
    Refuse(BadAsk),
}

impl Reload {
    /// A request is held no longer than this: three target durations.
    pub const LIMIT: Duration = Duration::from_secs(3 * Epoch::SEGMENT_MAX.as_secs());
}

impl Rendition {
    /// Whether a playlist of this edge answers a request that waits for `until`. A part past its segment's end means
    /// part 0 of the next segment.
    #[must_use]
    pub fn reload(&self, until: Position) -> Reload {
        let last = self.last();
        if last.is_some_and(|last| until.segment > last.saturating_add(2)) {
            return Reload::Refuse(BadAsk::TooFar);
        }
        let ready = match until.part.filter(|_| self.container == Container::Cmaf) {
            None => self
                .segments
                .last()
                .is_some_and(|s| s.number >= until.segment),
            Some(part) => self.has_part(until.segment, part),
        };
        if ready { Reload::Now } else { Reload::Hold }
    }

    fn has_part(&self, segment: u64, part: u32) -> bool {
        if self.last().is_some_and(|last| last > segment) {
            return true;
        }
        let Some(found) = self.any(segment) else {
            return false;
        };
        // Of a closed segment, the last, a part beyond its end is one of a segment that has none yet.
        usize::try_from(part).is_ok_and(|part| part < found.parts.len())
    }
}

impl View {
    /// Whether a first playlist can be given: a segment is listed, since ffmpeg gives up on a playlist that has only
    /// parts and hls.js calls it an error; and the window is as long as at every node, or nothing more can be fetched
    /// back, and the other renditions are here as far as it tells of them; or `late`: then it is as it is.
    #[must_use]
    pub fn ready(&self, name: &str, late: bool) -> bool {
        self.rendition(name).is_some_and(|r| {
            !r.segments.is_empty() && ((r.full || self.filled) && !r.early || late)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_and_the_unknown_is_ignored() {
        let at = |segment, part| Some(Position { segment, part });
        let read = |q| Ask::read(q).map(|a| (a.until, a.skip));
        assert_eq!(read(""), Ok((None, false)));
        assert_eq!(read("_HLS_msn=7&_HLS_part=3"), Ok((at(7, Some(3)), false)));
        assert_eq!(
            read("a=b&_HLS_msn=7&_HLS_new=x&_HLS_skip=YES"),
            Ok((at(7, None), true))
        );
        assert_eq!(read("_HLS_skip=v2"), Ok((None, true)));
        assert_eq!(read("_HLS_skip=NO"), Ok((None, false)));
        assert_eq!(read("_HLS_part=3"), Err(BadAsk::PartWithoutSegment));
        assert_eq!(read("_HLS_msn=-1"), Err(BadAsk::Number));
        assert_eq!(read("_HLS_msn=99999999999999999999"), Err(BadAsk::Number));
    }
}
