//! What a line of media is, in short.
use serde::{Deserialize, Serialize};

/// Picture, sound or neither.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum TrackKind {
    /// Pictures.
    #[n(0)]
    Video,
    /// Sound.
    #[n(1)]
    Audio,
    /// Timed data.
    #[n(2)]
    Data,
}

/// How its frames are coded.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[non_exhaustive]
#[cbor(index_only)]
pub enum Codec {
    /// H.264, ISO/IEC 14496-10, in length-prefixed NAL units.
    #[n(0)]
    H264,
    /// AAC, ISO/IEC 14496-3, raw access units.
    #[n(1)]
    Aac,
}

/// What matters by kind.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, minicbor::Encode, minicbor::Decode,
)]
#[serde(untagged)]
pub enum TrackDetail {
    /// Of pictures.
    #[n(0)]
    Video {
        /// In pixels.
        #[n(0)]
        width: u32,
        /// In pixels.
        #[n(1)]
        height: u32,
        /// Frames a second, as numerator and denominator (30000/1001); 0/1 when unknown.
        #[n(2)]
        rate: (u32, u32),
    },
    /// Of sound.
    #[n(1)]
    Audio {
        /// In hertz.
        #[n(0)]
        sample_rate: u32,
        /// Channels.
        #[n(1)]
        channels: u8,
    },
    /// Of data: nothing.
    #[n(2)]
    Data {},
}

/// A track as listings show it.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, minicbor::Encode, minicbor::Decode,
)]
pub struct TrackSummary {
    /// Picture, sound or data.
    #[n(0)]
    pub kind: TrackKind,
    /// How it is coded.
    #[n(1)]
    pub codec: Codec,
    /// The RFC 6381 string: `avc1.64001f`, `mp4a.40.2`.
    #[n(2)]
    pub codec_string: String,
    /// Measured or announced; 0 when unknown.
    #[n(3)]
    pub bitrate: super::BitsPerSecond,
    /// What matters by kind.
    #[n(4)]
    pub detail: TrackDetail,
}
