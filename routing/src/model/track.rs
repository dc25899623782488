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
    /// HEVC, ISO/IEC 23008-2, in length-prefixed NAL units.
    #[n(2)]
    Hevc,
    /// AV1, temporal units of OBUs with sizes.
    #[n(3)]
    Av1,
    /// VP8, RFC 6386.
    #[n(4)]
    Vp8,
    /// VP9, superframes where the encoder makes them.
    #[n(5)]
    Vp9,
    /// Opus, RFC 6716, packets.
    #[n(6)]
    Opus,
    /// MPEG-1 and MPEG-2 audio layer II, frames with their headers.
    #[n(7)]
    Mp2,
    /// MPEG-1 and MPEG-2 audio layer III, frames with their headers.
    #[n(8)]
    Mp3,
    /// AC-3, ETSI TS 102 366, sync frames.
    #[n(9)]
    Ac3,
    /// Enhanced AC-3, ETSI TS 102 366 annex E, access units.
    #[n(10)]
    Eac3,
    /// FLAC, RFC 9639, frames.
    #[n(11)]
    Flac,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 12] = [
        Self::H264,
        Self::Hevc,
        Self::Av1,
        Self::Vp8,
        Self::Vp9,
        Self::Aac,
        Self::Opus,
        Self::Mp2,
        Self::Mp3,
        Self::Ac3,
        Self::Eac3,
        Self::Flac,
    ];

    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Hevc => "HEVC",
            Self::Av1 => "AV1",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Aac => "AAC",
            Self::Opus => "OPUS",
            Self::Mp2 => "MP2",
            Self::Mp3 => "MP3",
            Self::Ac3 => "AC3",
            Self::Eac3 => "EAC3",
            Self::Flac => "FLAC",
        }
    }

    /// Whether it codes pictures; else sound.
    #[must_use]
    pub const fn is_video(self) -> bool {
        matches!(
            self,
            Self::H264 | Self::Hevc | Self::Av1 | Self::Vp8 | Self::Vp9
        )
    }
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
