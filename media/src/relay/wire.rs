//! What two relays say to each other: CBOR (RFC 8949) messages whose unknown fields are ignored, each behind its length,
//! and frames behind short heads. Parsers here take any bytes, check every limit and never panic.
use std::sync::Arc;

use minicbor::{Decode, Encode};
use routing::model::{BroadcastId, EpochId, NodeId};

use crate::{
    live::{Cut, Epoch, Frame, Group, GroupHeader, GroupSeq, Last, TrackConfig, TrackId},
    origin::Past,
};

/// The protocol's name in TLS (RFC 7301).
pub(crate) const ALPN: &[u8] = b"shoal-relay/1";
/// No message is longer; an epoch's header with sixteen tracks is a tenth of it.
pub(crate) const MAX_MESSAGE: usize = 256 << 10;
/// No frame's head is longer.
pub(crate) const MAX_FRAME_HEAD: usize = 128;
/// A path has at most this many nodes: at 35 ms a hop on the longest links, more would be late anyway.
pub(crate) const MAX_HOPS: usize = 16;
/// An epoch has at most this many tracks.
pub(crate) const MAX_TRACKS: usize = 16;
/// One fetch asks for at most this many groups.
pub(crate) const MAX_FETCH: u64 = 64;
/// No number and no time is so large. Packaging adds to them: far from the end of the range nothing overflows.
const FAR: u64 = 1 << 60;
/// A refusal names at most this many other nodes.
pub(crate) const MAX_TRY: usize = 64;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Not CBOR of this shape.
    #[error("the message is not of the shape that this protocol has")]
    Shape,
    /// A size, a count or a number is beyond its limit.
    #[error("the message exceeds a limit of this protocol")]
    Limit,
}

/// The first message on a stream that the asking side opens.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// A broadcast's frames from now on.
    #[n(0)]
    Subscribe(#[n(0)] Subscribe),
    /// Groups of the past.
    #[n(1)]
    Fetch(#[n(0)] Fetch),
    /// How far the other side's broadcast is.
    #[n(2)]
    Probe(#[n(0)] Probe),
    /// What an epoch that opens now would follow.
    #[n(3)]
    Past(#[n(0)] Probe),
}

/// Asks for a broadcast, all tracks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Subscribe {
    /// Which.
    #[n(0)]
    pub broadcast: BroadcastId,
    /// The number that group streams of this subscription will carry.
    #[n(1)]
    pub number: u64,
    /// Where to go on; without it the subscription starts at the latest keyframe.
    #[n(2)]
    pub resume: Option<Resume>,
}

/// Where a subscriber stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Resume {
    /// In which epoch.
    #[n(0)]
    pub epoch: EpochId,
    /// By track: the first group that it does not have whole.
    #[n(1)]
    pub next: Vec<GroupSeq>,
}

/// Asks for the finished groups of `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Fetch {
    /// Of which broadcast.
    #[n(0)]
    pub broadcast: BroadcastId,
    /// Of which epoch.
    #[n(1)]
    pub epoch: EpochId,
    /// Of which track.
    #[n(2)]
    pub track: TrackId,
    /// The first.
    #[n(3)]
    pub from: GroupSeq,
    /// After the last.
    #[n(4)]
    pub to: GroupSeq,
}

/// Asks how far a broadcast is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Probe {
    /// Which.
    #[n(0)]
    pub broadcast: BroadcastId,
}

/// What the asked side says, first as the answer and then for as long as a subscription lives.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// The subscription stands, or the fetched groups follow.
    #[n(0)]
    Accepted(#[n(0)] Accepted),
    /// No.
    #[n(1)]
    Refused(#[n(0)] Refused),
    /// An epoch whose groups come.
    #[n(2)]
    Epoch(#[n(0)] Announce),
    /// An epoch has its end mark.
    #[n(3)]
    End(#[n(0)] End),
    /// The asked side has another way to the origin.
    #[n(4)]
    Path(#[n(0)] Path),
    /// Where a probed broadcast stands.
    #[n(5)]
    Position(#[n(0)] Position),
    /// The newest epoch that is held here.
    #[n(6)]
    Past(#[n(0)] Past),
}

/// A subscription stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Accepted {
    /// The nodes from the origin to the one that says so, both included. Whoever finds itself in it would make a loop.
    #[n(0)]
    pub path: Vec<NodeId>,
}

/// A subscription does not stand, or stands no longer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refused {
    /// Why.
    #[n(0)]
    pub reason: Reason,
    /// Who has it from the one that says no and may have room.
    #[n(1)]
    pub instead: Vec<NodeId>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Reason {
    /// The asking node may not have this broadcast.
    #[n(0)]
    NotEntitled,
    /// It is not held here, or nothing of it yet.
    #[n(1)]
    Unknown,
    /// It is held here, but without a living way to its origin.
    #[n(2)]
    NoSource,
    /// The asking node is on the way to the origin, or the way is too long.
    #[n(3)]
    Loop,
    /// As many as it serves already.
    #[n(4)]
    Full,
    /// This node stops.
    #[n(5)]
    Leaving,
}

/// An epoch, and what of it comes by itself and what would be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Announce {
    /// Its header.
    #[cbor(n(0), with = "crate::wire::shared")]
    pub epoch: Arc<Epoch>,
    /// By track.
    #[n(1)]
    pub spans: Vec<Span>,
    /// Whether it is the one that runs now: every other that has no end mark is over for whoever follows.
    #[n(2)]
    pub current: bool,
}

/// Which groups of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Span {
    /// From here on a playlist may list them: fetch `back..live`.
    #[n(0)]
    pub back: GroupSeq,
    /// From here on they come by themselves.
    #[n(1)]
    pub live: GroupSeq,
}

/// An epoch's end mark.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct End {
    /// Which epoch.
    #[n(0)]
    pub epoch: EpochId,
    /// By track: after its last group.
    #[n(1)]
    pub next: Vec<GroupSeq>,
}

/// A way from the origin.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Path {
    /// The nodes, the origin first; empty while there is none.
    #[n(0)]
    pub path: Vec<NodeId>,
}

/// Where a node's copy of a broadcast stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Position {
    /// The current epoch.
    #[n(0)]
    pub epoch: EpochId,
    /// Under which claim: the stamp.
    #[n(1)]
    pub stamp: routing::model::Hlc,
    /// Under which claim: the node.
    #[n(2)]
    pub origin: NodeId,
    /// Whether the epoch has its end mark.
    #[n(3)]
    pub ended: bool,
    /// By track: its newest group and that one's frames so far.
    #[n(4)]
    pub tracks: Vec<(GroupSeq, u32)>,
    /// The way from the origin.
    #[n(5)]
    pub path: Vec<NodeId>,
}

impl Position {
    /// Whether it has a frame that `other`, in the same epoch, has not.
    #[must_use]
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.tracks.iter().zip(&other.tracks).any(|(a, b)| a > b)
    }
}

/// What a group stream opens with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GroupHead {
    /// The subscription's number.
    #[n(0)]
    pub number: u64,
    /// The group.
    #[n(1)]
    pub header: GroupHeader,
}

/// What comes before a frame's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FrameHead {
    /// [`Frame::dts`].
    #[n(0)]
    pub dts: i64,
    /// [`Frame::cts`].
    #[n(1)]
    pub cts: i32,
    /// [`Frame::keyframe`].
    #[n(2)]
    pub keyframe: bool,
    /// [`Frame::cut`].
    #[n(3)]
    pub cut: Cut,
    /// How many bytes follow.
    #[n(4)]
    pub len: u32,
}

impl From<&Frame> for FrameHead {
    fn from(frame: &Frame) -> Self {
        Self {
            dts: frame.dts,
            cts: frame.cts,
            keyframe: frame.keyframe,
            cut: frame.cut,
            // The model refuses frames beyond a group's 8 MiB.
            len: u32::try_from(frame.data.len()).unwrap_or(u32::MAX),
        }
    }
}

/// A message of this protocol.
pub trait Message: Sized + for<'b> Decode<'b, ()> + Encode<()> {
    /// Whether all sizes and counts are within this protocol's limits.
    fn within_limits(&self) -> bool;

    /// The message in these bytes.
    ///
    /// # Errors
    /// [`WireError`]; never a panic, whatever the bytes.
    fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(WireError::Limit);
        }
        let message: Self = minicbor::decode(bytes).map_err(|_| WireError::Shape)?;
        if message.within_limits() {
            Ok(message)
        } else {
            Err(WireError::Limit)
        }
    }
}

impl Message for Request {
    fn within_limits(&self) -> bool {
        match self {
            Self::Subscribe(s) => s.resume.as_ref().is_none_or(|r| r.next.len() <= MAX_TRACKS),
            Self::Fetch(f) => f.from <= f.to && f.to.0 - f.from.0 <= MAX_FETCH,
            Self::Probe(_) | Self::Past(_) => true,
        }
    }
}

impl Message for Reply {
    fn within_limits(&self) -> bool {
        match self {
            Self::Accepted(a) => a.path.len() <= MAX_HOPS,
            Self::Refused(r) => r.instead.len() <= MAX_TRY,
            Self::Epoch(a) => {
                a.spans.len() == a.epoch.tracks.len()
                    && a.spans
                        .iter()
                        .all(|s| s.back <= s.live && countable(s.live))
                    && sound(&a.epoch)
            }
            Self::End(e) => e.next.len() <= MAX_TRACKS && e.next.iter().all(|seq| countable(*seq)),
            Self::Path(p) => p.path.len() <= MAX_HOPS,
            Self::Position(p) => p.tracks.len() <= MAX_TRACKS && p.path.len() <= MAX_HOPS,
            Self::Past(p) => {
                p.last.len() == p.epoch.tracks.len()
                    && p.last.iter().all(last_fits)
                    && sound(&p.epoch)
            }
        }
    }
}

/// Whether packaging can work with a header.
fn sound(epoch: &Epoch) -> bool {
    let tracks = &epoch.tracks;
    let in_order = tracks.iter().zip(0_u8..).all(|(track, place)| {
        let longest = Epoch::SEGMENT_MAX.as_secs() * u64::from(track.timescale);
        track.id == TrackId(place)
            && track.timescale > 0
            && track.frames_per_part > 0
            && track.part_target <= longest
            && track.first_segment < FAR
            && plain(&track.config)
    });
    let in_time = epoch.discontinuity < FAR && epoch.programme_time.0 < 1 << 48;
    let follows = epoch.follows.as_ref().map(|follows| &follows.last[..]);
    let follows = follows.unwrap_or_default();
    let follows_fits = follows.len() <= MAX_TRACKS && follows.iter().all(last_fits);
    !tracks.is_empty() && tracks.len() <= MAX_TRACKS && in_order && in_time && follows_fits
}

/// Whether what a playlist quotes is no more than a codec's name: a source writes no lines of its own into playlists.
fn plain(config: &TrackConfig) -> bool {
    let codec = &config.summary.codec_string;
    codec.len() <= 64
        && codec
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}

fn last_fits(last: &Last) -> bool {
    let times = [last.dts, last.start];
    last.segment < FAR
        && countable(last.group)
        && times.iter().all(|time| time.unsigned_abs() < FAR)
}

impl Message for GroupHead {
    fn within_limits(&self) -> bool {
        let stamp = &self.header.stamp;
        countable(self.header.seq)
            && self.header.track.index() < MAX_TRACKS
            && stamp.base_decode_time.unsigned_abs() < FAR
            && stamp.segment < FAR
            && stamp.discontinuity < FAR
            && plain(&self.header.config)
    }
}

impl Message for FrameHead {
    fn within_limits(&self) -> bool {
        usize::try_from(self.len).is_ok_and(|len| len <= Group::MAX_BYTES)
            && self.dts.unsigned_abs() < FAR
    }
}

/// Whether a number can still be counted up from.
const fn countable(seq: GroupSeq) -> bool {
    seq.0 < FAR
}

/// A message behind its length, four bytes with the highest first.
pub(crate) fn with_length(message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    minicbor::encode(message, &mut bytes).expect("a Vec takes all bytes");
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// A frame's head behind its length in one byte. A length of 0, [`GROUP_END`], stands for the end of the group.
pub(crate) fn frame_head(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0];
    minicbor::encode(FrameHead::from(frame), &mut bytes).expect("a Vec takes all bytes");
    bytes[0] = u8::try_from(bytes.len() - 1).expect("five integers have at most 35 bytes");
    bytes
}

/// Says that a group has all its frames: without it a stream that ends was cut off.
pub(crate) const GROUP_END: &[u8] = &[0];
