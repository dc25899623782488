//! From what the origin decided to the live model, with the epoch's id and numbers.
//!
//! # Numbers
//! Segments of a track have no gap within what a playlist can show. Where this node, or one that it asked ([`Past`]),
//! has the epoch before, the new one follows it: each track goes on after its own last segment (the
//! second sound after the second sound), a track that was not there starts after the highest last one, and the discontinuity number is one more. Tracks can
//! therefore differ in their numbers: what goes in step in an epoch is the number less the track's first. An epoch
//! whose origin went away broke off: its last segment is void, and a number is left out after it.
//! Otherwise nobody can say where the epoch before ended: segments start at Unix seconds times 8, more than any has used,
//! and the discontinuity number at the twelve low bits of Unix seconds: most likely another one than a player of the
//! epoch before has, and small, because hls.js keeps arrays by it and stands still for minutes with one of a billion entries.
use std::sync::Arc;

use routing::model::{BroadcastId, EpochId, NodeId, UnixMillis};

use super::{Beginning, Opening, Output, Past};
use crate::{
    live::{
        Broadcast, Broadcasts, Epoch, Follows, GroupHeader, GroupWriter, ModelError, Stamp, Track,
    },
    ports::{Claim, Holders, Holding},
};

struct OpenEpoch {
    broadcast: Arc<Broadcast>,
    epoch: Arc<Epoch>,
    groups: Vec<Option<GroupWriter>>,
}

/// Writes one publisher's outputs. Dropping it ends the open epoch and withdraws the advertisement.
pub struct Writer {
    broadcasts: Arc<Broadcasts>,
    holders: Arc<dyn Holders>,
    id: BroadcastId,
    node: NodeId,
    claim: Claim,
    past: Option<Past>,
    open: Option<OpenEpoch>,
    advertised: bool,
}

impl Writer {
    /// A writer of broadcast `id`, published at `node` under `claim`.
    #[must_use]
    pub fn new(
        broadcasts: Arc<Broadcasts>,
        holders: Arc<dyn Holders>,
        id: BroadcastId,
        node: NodeId,
        claim: Claim,
    ) -> Self {
        Self {
            broadcasts,
            holders,
            id,
            node,
            claim,
            past: None,
            open: None,
            advertised: false,
        }
    }

    /// The open epoch.
    #[must_use]
    pub fn epoch(&self) -> Option<&Arc<Epoch>> {
        self.open.as_ref().map(|o| &o.epoch)
    }

    /// What another node knows of the epoch before the next one. What its numbers cannot be is not believed.
    pub fn recall(&mut self, now: UnixMillis, past: Past) {
        self.past = Some(past).filter(|past| past.is_likely(now));
    }

    /// Carries out what the origin decided at `now`.
    ///
    /// # Errors
    /// [`ModelError`] when the model refuses: the broadcast was taken away or overwritten by somebody else.
    pub fn write(&mut self, now: UnixMillis, output: Output) -> Result<(), ModelError> {
        match output {
            Output::Open(opening) => {
                self.end();
                self.open(now, opening);
                Ok(())
            }
            Output::Group(beginning) => self.begin(beginning),
            Output::Frame(track, frame) => {
                let open = self.open.as_mut().ok_or(ModelError::Ended)?;
                let writer = open.groups.get_mut(track.index()).and_then(Option::as_mut);
                writer.ok_or(ModelError::Unknown)?.push(frame)
            }
            Output::End => {
                self.end();
                Ok(())
            }
        }
    }

    /// Ends the open epoch, if any: its last groups are finished, its end mark is set.
    pub fn end(&mut self) {
        let Some(open) = self.open.take() else { return };
        for writer in open.groups.into_iter().flatten() {
            writer.finish();
        }
        open.broadcast.end(open.epoch.id);
    }

    /// Ends the open epoch and says that this node no longer publishes.
    pub fn withdraw(&mut self) {
        self.end();
        if std::mem::take(&mut self.advertised) {
            self.holders.withdraw(self.id);
        }
    }

    fn open(&mut self, now: UnixMillis, opening: Opening) {
        let broadcast = self.broadcasts.get_or_create(self.id);
        let held = broadcast.current().map(|line| Past::of(&line));
        let before = match (held, self.past.take()) {
            (Some(held), Some(told)) => Some(held.or_later(told)),
            (held, told) => held.or(told),
        };
        let numbers = Numbers::after(before.as_ref(), now, &opening.tracks);
        let mut id = EpochId::open(now, &self.node);
        if let Some(before) = before.map(|past| past.epoch.id)
            && id <= before
        {
            // The same millisecond, or a predecessor whose clock is ahead: one millisecond later than that one.
            id = EpochId::open(UnixMillis((before.as_u64() >> 16) + 1), &self.node);
        }
        let tracks = opening.tracks.into_iter().zip(numbers.first);
        let epoch = Arc::new(Epoch {
            id,
            broadcast: self.id,
            origin: self.node,
            claim: self.claim.stamp,
            programme_time: opening.programme_time,
            discontinuity: numbers.discontinuity,
            follows: numbers.follows,
            tracks: tracks
                .map(|(track, first_segment)| Track {
                    first_segment,
                    ..track
                })
                .collect(),
        });
        broadcast.open(Arc::clone(&epoch));
        // Whoever published before is gone, or stands by from now on.
        for line in broadcast.epochs() {
            if line.epoch().id != id && !line.ended() {
                broadcast.end(line.epoch().id);
            }
        }
        self.holders.advertise(Holding {
            broadcast: self.id,
            epoch: id,
            claim: self.claim,
            replica_of: None,
            over: false,
        });
        self.advertised = true;
        self.open = Some(OpenEpoch {
            groups: epoch.tracks.iter().map(|_| None).collect(),
            broadcast,
            epoch,
        });
    }

    fn begin(&mut self, beginning: Beginning) -> Result<(), ModelError> {
        let open = self.open.as_mut().ok_or(ModelError::Ended)?;
        let index = beginning.track.index();
        let (Some(track), Some(slot)) = (open.epoch.tracks.get(index), open.groups.get_mut(index))
        else {
            return Err(ModelError::Unknown);
        };
        if let Some(writer) = slot.take() {
            writer.finish();
        }
        *slot = Some(open.broadcast.begin(GroupHeader {
            epoch: open.epoch.id,
            track: beginning.track,
            seq: beginning.seq,
            independent: beginning.independent,
            stamp: Stamp {
                segment: track.first_segment + beginning.segment,
                part: beginning.part,
                discontinuity: open.epoch.discontinuity,
                base_decode_time: beginning.base_decode_time,
            },
            config: beginning.config,
        })?);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// What an epoch continues.
struct Numbers {
    first: Vec<u64>,
    discontinuity: u64,
    follows: Option<Follows>,
}

impl Numbers {
    fn after(before: Option<&Past>, now: UnixMillis, tracks: &[Track]) -> Self {
        let Some(before) = before else {
            let first = now.seconds().saturating_mul(8);
            return Self {
                first: tracks.iter().map(|_| first).collect(),
                discontinuity: now.seconds() % (1 << 12),
                follows: None,
            };
        };
        let next = before.next_numbers();
        let highest = next.iter().map(|(_, n)| *n).max().unwrap_or_default();
        let first = tracks.iter().enumerate().map(|(at, track)| {
            // The first after the first of its kind, the second after the second.
            let before = tracks[..at].iter().filter(|t| t.kind == track.kind).count();
            let mut same = next.iter().filter(|(kind, _)| *kind == track.kind);
            same.nth(before).map_or(highest, |(_, n)| *n)
        });
        Self {
            first: first.collect(),
            discontinuity: before.epoch.discontinuity.saturating_add(1),
            follows: Some(before.follows()),
        }
    }
}
