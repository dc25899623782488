//! MPEG-1 and MPEG-2 audio, layers II and III (ISO/IEC 11172-3 2.4, 13818-3 2.4): what a frame's header says.
use routing::model::{BitsPerSecond, Codec, TrackDetail, TrackKind, TrackSummary};

/// What a frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`Codec::Mp2`] or [`Codec::Mp3`].
    pub codec: Codec,
    /// Kilobits a second.
    pub kilobits: u32,
    /// In hertz.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// Samples of a frame.
    pub samples: u32,
    /// The frame's length in bytes, header included.
    pub length: usize,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 4;

    /// Reads the header that `frame` begins with; `None` where there is none, for layer I, and for the free format, whose
    /// length it does not say.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        const LAYER_2: [u32; 15] = [
            0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
        ];
        const LAYER_3: [u32; 15] = [
            0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
        ];
        const HALVED: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
        let head = frame.first_chunk::<4>()?;
        if head[0] != 0xff || head[1] & 0xe0 != 0xe0 {
            return None;
        }
        // MPEG 2.5 has a quarter of MPEG-1's rates, MPEG-2 half of them.
        let (shift, mpeg1) = match head[1] >> 3 & 3 {
            0 => (2, false),
            2 => (1, false),
            3 => (0, true),
            _ => return None,
        };
        let layer3 = match head[1] >> 1 & 3 {
            1 => true,
            2 => false,
            _ => return None,
        };
        let table = match (mpeg1, layer3) {
            (true, true) => LAYER_3,
            (true, false) => LAYER_2,
            (false, _) => HALVED,
        };
        let kilobits = *table.get(usize::from(head[2] >> 4)).filter(|k| **k > 0)?;
        let base = *[44_100_u32, 48_000, 32_000].get(usize::from(head[2] >> 2 & 3))?;
        let sample_rate = base >> shift;
        let samples = if layer3 && !mpeg1 { 576 } else { 1152 };
        let padding = u32::from(head[2] >> 1 & 1);
        let length = samples / 8 * kilobits * 1000 / sample_rate + padding;
        Some(Self {
            codec: if layer3 { Codec::Mp3 } else { Codec::Mp2 },
            kilobits,
            sample_rate,
            channels: if head[3] >> 6 == 3 { 1 } else { 2 },
            samples,
            length: usize::try_from(length).ok()?,
        })
    }

    /// The track in short.
    #[must_use]
    pub fn summary(&self) -> TrackSummary {
        TrackSummary {
            kind: TrackKind::Audio,
            codec: self.codec,
            // By the object type indication of ISO/IEC 14496-1 table 5: MPEG-1 audio, which layer II falls under too.
            codec_string: if self.codec == Codec::Mp3 {
                "mp4a.40.34".into()
            } else {
                "mp4a.6B".into()
            },
            bitrate: BitsPerSecond(u64::from(self.kilobits) * 1000),
            detail: TrackDetail::Audio {
                sample_rate: self.sample_rate,
                channels: self.channels,
            },
        }
    }
}
