//! Pictures as RTP packetisers take them, in an order that can be sent.
use std::sync::Arc;

use bytes::Bytes;
use routing::model::Codec;

use crate::{
    codec::h264::VideoConfig,
    live::{Frame, Group, TrackConfig},
};

const START: [u8; 4] = [0, 0, 0, 1];

/// NAL units with four-byte lengths; ends at a broken length.
fn nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let nal = tail.get(..length)?;
        rest = &tail[length..];
        Some(nal)
    })
}

/// Whether another picture may refer to this one (`nal_ref_idc` of its slices, ISO/IEC 14496-10 7.4.1).
fn referred_to(codec: Codec, data: &[u8]) -> bool {
    codec != Codec::H264
        || nals(data)
            .filter_map(|nal| nal.first())
            .any(|header| (1..=5).contains(&(header & 0x1f)) && header & 0x60 != 0)
}

/// Puts pictures into RTP's order, which has one time only: that of presentation.
///
/// Pictures that nothing refers to are left out where they are presented before one that was decoded earlier. Where
/// others are, as under B-pyramids, the stream cannot be sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    last: Option<i64>,
}

/// What becomes of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Sent,
    LeftOut,
    /// It would have to be sent out of order.
    Impossible,
}

impl Order {
    pub(super) fn next(&mut self, codec: Codec, frame: &Frame) -> Fate {
        let pts = frame.pts();
        if frame.keyframe || self.last.is_none_or(|last| pts > last) {
            self.last = Some(pts);
            Fate::Sent
        } else if referred_to(codec, &frame.data) {
            Fate::Impossible
        } else {
            Fate::LeftOut
        }
    }

    /// Whether all of a group can be sent.
    pub(super) fn fits(codec: Codec, group: &Group) -> bool {
        let mut order = Self::default();
        group.with_frames(|frames, _| {
            frames
                .iter()
                .all(|f| order.next(codec, f) != Fate::Impossible)
        })
    }
}

/// Puts parameter sets before keyframes, and start codes before NAL units.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// Of which configuration.
    of: Option<Arc<TrackConfig>>,
    sets: Vec<Bytes>,
}

impl Pictures {
    /// A picture's payload.
    pub(super) fn payload(&mut self, config: &Arc<TrackConfig>, frame: &Frame) -> Arc<[u8]> {
        if config.codec() != Codec::H264 {
            return Arc::from(&frame.data[..]);
        }
        if self.of.as_ref().is_none_or(|of| of != config) {
            let read = VideoConfig::read(&config.data);
            self.sets = read.map_or_else(|_| Vec::new(), |c| [c.sps, c.pps].concat());
            self.of = Some(Arc::clone(config));
        }
        let mut out = Vec::with_capacity(frame.data.len() + 256);
        let sets = self.sets.iter().filter(|_| frame.keyframe);
        for nal in sets.map(|set| &set[..]).chain(nals(&frame.data)) {
            out.extend_from_slice(&START);
            out.extend_from_slice(nal);
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Cut;

    fn frame(dts: i64, cts: i32, header: u8) -> Frame {
        Frame {
            dts,
            cts,
            keyframe: header & 0x1f == 5,
            cut: Cut::None,
            data: vec![0, 0, 0, 2, header, 7].into(),
        }
    }

    #[test]
    fn pictures_that_nothing_refers_to_are_left_out_only_where_they_reorder() {
        let mut order = Order::default();
        let mut fate = |dts, cts, header| order.next(Codec::H264, &frame(dts, cts, header));
        assert_eq!(fate(0, 2, 0x65), Fate::Sent);
        assert_eq!(fate(1, 4, 0x41), Fate::Sent);
        assert_eq!(fate(2, 1, 0x01), Fate::LeftOut);
        assert_eq!(fate(3, 1, 0x01), Fate::LeftOut);
        // Nothing refers to it, but it is in order: half the pictures of some encoders.
        assert_eq!(fate(4, 3, 0x01), Fate::Sent);
        assert_eq!(fate(5, 1, 0x41), Fate::Impossible);
    }
}
