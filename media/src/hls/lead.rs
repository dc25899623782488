//! What time it is at the origin, by the frames that come from there.
use std::time::Duration;

use routing::model::{EpochId, UnixMillis, Uptime};

use super::View;

/// The frames that came soonest count, of so long ago at most; of half as long at least.
const MEMORY: Duration = Duration::from_secs(30);

/// How far the origin's media is ahead of this node's uptime: the most of what was seen lately, since a frame can
/// come late, but not early. It follows an encoder whose clock is not the origin's.
#[derive(Debug, Default)]
pub(super) struct Lead {
    epoch: Option<EpochId>,
    since: Uptime,
    now: Option<i64>,
    before: Option<i64>,
}

impl Lead {
    /// Looks at a view that has just come about: its newest part ends now, as the origin counts.
    pub(super) fn look(&mut self, view: &View, now: Uptime) {
        let edges = view.renditions.iter().filter_map(|r| {
            let edge = r.open.as_ref().or(r.segments.last().map(|s| &**s))?;
            let of_epoch = edge.epoch.id == view.epoch.id;
            of_epoch.then(|| crate::pack::rescale(edge.end, edge.timescale(), 1000))
        });
        let Some(edge) = edges.max() else { return };
        if self.epoch != Some(view.epoch.id) {
            *self = Self {
                epoch: Some(view.epoch.id),
                since: now,
                ..Self::default()
            };
        } else if now.since(self.since) >= MEMORY / 2 {
            (self.since, self.before, self.now) = (now, self.now, None);
        }
        let at = i64::try_from(view.epoch.programme_time.0).unwrap_or(i64::MAX);
        let lead = at.saturating_add(edge).saturating_sub(millis(now));
        self.now = self.now.max(Some(lead));
    }

    pub(super) fn time(&self, now: Uptime) -> Option<UnixMillis> {
        let lead = self.now.max(self.before)?;
        let time = millis(now).saturating_add(lead);
        u64::try_from(time).ok().map(UnixMillis)
    }
}

fn millis(at: Uptime) -> i64 {
    i64::try_from(at.0.as_millis()).unwrap_or(i64::MAX)
}
