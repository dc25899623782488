//! What a codec's own bytes say, as far as a relay needs it: configurations read and written, pictures and sounds told
//! apart. Nothing is decoded.
//!
//! # What the live model holds
//! By codec: [`TrackConfig::data`](crate::live::TrackConfig::data), and [`Frame::data`](crate::live::Frame::data).
//!
//! | codec | configuration | frame |
//! | --- | --- | --- |
//! | H.264 | `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 5.3.3.1) | NAL units with four-byte lengths, without parameter sets and delimiters |
//! | HEVC | `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 8.3.3.1) | as H.264 |
//! | AV1 | `AV1CodecConfigurationRecord` (AV1 in ISOBMFF 2.3) | a temporal unit of OBUs with sizes, without temporal delimiter |
//! | VP8, VP9 | `VPCodecConfigurationRecord` (VP codec in ISOBMFF), after the box's version and flags | a frame or superframe |
//! | AAC | `AudioSpecificConfig` (ISO/IEC 14496-3 1.6.2.1) | a raw access unit |
//! | Opus | identification header (RFC 7845 5.1) | a packet |
//! | MP2, MP3 | nothing | a frame with its header |
//! | AC-3, E-AC-3 | contents of the `dac3`, `dec3` box (ETSI TS 102 366 annex F) | a sync frame, an access unit |
//! | FLAC | the `STREAMINFO` block (RFC 9639 8.2), 34 bytes | a frame |
pub mod aac;
pub mod ac3;
pub(crate) mod annex_b;
pub mod av1;
pub(crate) mod bits;
pub mod flac;
pub mod h264;
pub mod hevc;
pub mod mpeg_audio;
mod nal;
pub mod opus;
pub mod reader;
pub mod vpx;

#[cfg(test)]
pub(crate) mod tests;

pub use nal::BrokenUnit;
