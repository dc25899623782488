//! What is fuzzed of this crate: everything that takes bytes of an encoder, of another node or of a viewer. Targets of
//! private parsers stand beside them; here are those of the codecs, and of all that follows from what a publisher sends.
mod codecs;
pub(crate) mod ingest;
mod readers;

use fuzz_kit::Target;

/// All targets.
#[must_use]
pub fn targets() -> Vec<Target> {
    [
        crate::rtmp::fuzz::TARGETS,
        crate::srt::fuzz::TARGETS,
        crate::ts::fuzz::TARGETS,
        codecs::TARGETS,
        ingest::TARGETS,
        readers::TARGETS,
        crate::relay::fuzz::TARGETS,
        crate::http::fuzz::TARGETS,
        crate::webrtc::fuzz::TARGETS,
    ]
    .concat()
}
