//! What a publisher's first epoch follows: the epoch of the publisher before, as far as any node knows it.
use std::sync::Arc;

use futures::future::BoxFuture;
use minicbor::{Decode, Encode};
use routing::model::{BroadcastId, TrackKind, UnixMillis};

use crate::live::{Epoch, EpochLine, Follows, Last};

/// An epoch and where its tracks end, as a node holds it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Past {
    /// Its header.
    #[cbor(n(0), with = "crate::wire::shared")]
    pub epoch: Arc<Epoch>,
    /// By track.
    #[n(1)]
    pub last: Vec<Last>,
    /// Whether it has its end mark. Without, it broke off.
    #[n(2)]
    pub ended: bool,
}

/// Segments a second at most, on average from 1970 on: every first number that is made up is at least so much.
const RATE: u64 = 8;
/// Nobody counts so many discontinuities.
const MAX_DISCONTINUITY: u64 = 1 << 20;

impl Past {
    /// What is held of an epoch here.
    #[must_use]
    pub fn of(line: &EpochLine) -> Self {
        let Follows { last, broken, .. } = line.follows();
        Self {
            epoch: Arc::clone(line.epoch()),
            last,
            ended: !broken,
        }
    }

    /// The one that knows more: the newer epoch; of one epoch, the end mark's word, else the highest numbers.
    #[must_use]
    pub fn or_later(mut self, other: Self) -> Self {
        if self.epoch.id != other.epoch.id {
            return if self.epoch.id > other.epoch.id {
                self
            } else {
                other
            };
        }
        if self.ended != other.ended {
            return if self.ended { self } else { other };
        }
        for (mine, theirs) in self.last.iter_mut().zip(other.last) {
            if (theirs.segment, theirs.dts) > (mine.segment, mine.dts) {
                *mine = theirs;
            }
        }
        self
    }

    /// Whether its numbers can be what a clock that is right at `now` has led to: another node's word is not believed
    /// beyond that.
    #[must_use]
    pub fn is_likely(&self, now: UnixMillis) -> bool {
        let most = now.seconds().saturating_add(3_600).saturating_mul(RATE);
        self.last.iter().all(|last| last.segment <= most)
            && self.epoch.discontinuity < MAX_DISCONTINUITY
    }

    /// What its successor's header says of it.
    #[must_use]
    pub fn follows(&self) -> Follows {
        Follows {
            epoch: self.epoch.id,
            last: self.last.clone(),
            broken: !self.ended,
        }
    }

    /// By track, the first number that is free: after an epoch that broke off one is left out, since another node may
    /// have begun it.
    #[must_use]
    pub fn next_numbers(&self) -> Vec<(TrackKind, u64)> {
        let tracks = self.epoch.tracks.iter().zip(&self.last);
        let step = 1 + u64::from(!self.ended);
        tracks
            .map(|(track, last)| (track.kind, last.segment.saturating_add(step)))
            .collect()
    }
}

/// Asks other nodes for the epoch that one which opens now would follow. The relay answers it.
pub trait Recall: Send + Sync + 'static {
    /// The most that anybody who can be asked knows, within half a second; `None` where nobody knows any.
    fn recall(&self, id: BroadcastId) -> BoxFuture<'_, Option<Past>>;
}

/// Where there are no other nodes.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Recall for Nobody {
    fn recall(&self, _: BroadcastId) -> BoxFuture<'_, Option<Past>> {
        Box::pin(std::future::ready(None))
    }
}
