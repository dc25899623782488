//! One coded picture or audio packet.
use bytes::Bytes;

/// What begins with a frame. Decided once, by the origin's cut rule; everybody else obeys.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Cut {
    /// Nothing: the frame belongs to the part of the frame before it.
    #[default]
    #[n(0)]
    None,
    /// A part of the running segment.
    #[n(1)]
    Part,
    /// A segment, and so its part 0. Only on the first frame of a group.
    #[n(2)]
    Segment,
}

/// One coded picture or audio packet, in decoding order, its bytes shared and never copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Decode time in ticks of its track's timescale, from the epoch's zero. Rises strictly within a track.
    pub dts: i64,
    /// Presentation time less decode time, in the same ticks; not negative for what this program ingests.
    pub cts: i32,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// What begins here.
    pub cut: Cut,
    /// By codec as in [`codec`](crate::codec): for H.264 NAL units with four-byte lengths, for AAC a raw access unit.
    pub data: Bytes,
}

impl Frame {
    /// Presentation time in ticks from the epoch's zero.
    #[must_use]
    pub fn pts(&self) -> i64 {
        self.dts + i64::from(self.cts)
    }
}
