//! One publisher's unbroken timeline: its constants and its tracks.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use routing::model::{
    BroadcastId, Codec, EpochId, Hlc, NodeId, TrackDetail, TrackKind, TrackSummary, UnixMillis,
};

use super::GroupSeq;

/// A track's place in its epoch's list, from 0.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
#[cbor(transparent)]
pub struct TrackId(#[n(0)] pub u8);

impl TrackId {
    /// Its index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a decoder needs before a track's frames, and what listings say of it. Another one within an epoch starts a
/// group with a new init segment; another codec starts a new epoch.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct TrackConfig {
    /// Counts the configurations of this track in this epoch, from 0: names the init segment.
    #[n(0)]
    pub number: u32,
    /// By codec as in [`codec`](crate::codec): for H.264 an `AVCDecoderConfigurationRecord`.
    #[cbor(n(1), with = "crate::wire::bytes")]
    pub data: Bytes,
    /// For listings.
    #[n(2)]
    pub summary: TrackSummary,
    /// When its first frame is presented, in ticks from the epoch's zero; 0 of the first configuration.
    #[n(3)]
    #[cbor(default)]
    pub since: i64,
}

impl TrackConfig {
    /// The codec.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.summary.codec
    }
    /// The detail by kind.
    #[must_use]
    pub const fn detail(&self) -> &TrackDetail {
        &self.summary.detail
    }
}

/// A track's constants for the length of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Track {
    /// Its place in the epoch's list.
    #[n(0)]
    pub id: TrackId,
    /// Picture, sound or data.
    #[n(1)]
    pub kind: TrackKind,
    /// Ticks a second: 90,000 for video, the sample rate for audio.
    #[n(2)]
    pub timescale: u32,
    /// How many frames make a part: the count whose duration is nearest 200 ms.
    #[n(3)]
    pub frames_per_part: u32,
    /// What playlists announce as PART-TARGET, in ticks: no part is longer, none but a segment's last shorter than 85 %.
    #[n(4)]
    pub part_target: u64,
    /// The first segment's number.
    #[n(5)]
    pub first_segment: u64,
    /// The first configuration.
    #[cbor(n(6), with = "crate::wire::shared")]
    pub config: Arc<TrackConfig>,
}

/// What an epoch continues: the epoch before it and where that one's tracks ended.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Follows {
    /// The epoch before.
    #[n(0)]
    pub epoch: EpochId,
    /// By track of the epoch before.
    #[n(1)]
    pub last: Vec<Last>,
    /// Whether it broke off: its origin went away without an end mark. Then nobody can say that its last segments are
    /// whole, and in every playlist a gap stands for each, and for the number after it, which some node may have begun.
    #[n(2)]
    #[cbor(default)]
    pub broken: bool,
}

impl Follows {
    /// The first segment number of a track of the epoch before that no playlist lists as media.
    #[must_use]
    pub fn void_from(&self, track: TrackId) -> Option<u64> {
        let last = self.last.get(track.index())?;
        Some(last.segment.saturating_add(u64::from(!self.broken)))
    }
}

/// The last numbers of a track in an epoch that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Last {
    /// Its last segment's number.
    #[n(0)]
    pub segment: u64,
    /// Its last frame's decode time, in ticks.
    #[n(1)]
    pub dts: i64,
    /// Where its last segment starts, in ticks: there the one before it closes, whoever has no frame of the last.
    #[n(2)]
    #[cbor(default)]
    pub start: i64,
    /// The last segment's first group.
    #[n(3)]
    #[cbor(default)]
    pub group: GroupSeq,
}

/// An epoch's header: all that packaging takes for constant. Immutable and the same on every node.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Epoch {
    /// Names its segments.
    #[n(0)]
    pub id: EpochId,
    /// Of which broadcast.
    #[n(1)]
    pub broadcast: BroadcastId,
    /// The node that the publisher is connected to.
    #[n(2)]
    pub origin: NodeId,
    /// The stamp of the claim under which it publishes; the lowest (stamp, node) alive is the live one.
    #[n(3)]
    pub claim: Hlc,
    /// The wall-clock time of tick 0.
    #[n(4)]
    pub programme_time: UnixMillis,
    /// EXT-X-DISCONTINUITY-SEQUENCE of its first segment.
    #[n(5)]
    pub discontinuity: u64,
    /// What it continues; without, older epochs leave every playlist.
    #[n(6)]
    pub follows: Option<Follows>,
    /// Its tracks, `tracks[i].id == TrackId(i)`, video first.
    #[n(7)]
    pub tracks: Vec<Track>,
}

impl Epoch {
    /// A segment is closed at the first keyframe from here on.
    pub const SEGMENT_TARGET: Duration = Duration::from_secs(2);
    /// The same for an epoch's first segment: stock players start once one segment is whole, so the first one is short.
    pub const FIRST_TARGET: Duration = Duration::from_millis(500);
    /// A segment is closed here even without a keyframe; EXT-X-TARGETDURATION.
    pub const SEGMENT_MAX: Duration = Duration::from_secs(4);
    /// What a part's duration is near to.
    pub const PART_NEAR: Duration = Duration::from_millis(200);

    /// The track with this id.
    #[must_use]
    pub fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks.get(id.index())
    }
}
