//! CMAF (ISO/IEC 23000-19): initialisation segments and chunks, one track each.
use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{
    Dinf, Dref, Encode, FixedPoint, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Mfhd, Minf, Moof, Moov, Mvex,
    Mvhd, Smhd, Stbl, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry, Url, Vmhd,
};
use routing::model::TrackDetail;

use super::{Chain, EPOCH_ZERO, entry, segment::Part, walk::ticks};
use crate::live::{Frame, Track, TrackConfig};

/// Why there is no initialisation segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The codec's own configuration cannot be read.
    #[error("the decoder configuration of this track cannot be read: {0}")]
    Config(String),
}

/// Every file here has one track, with this id.
pub(super) const TRACK: u32 = 1;
/// `sample_depends_on` = 2: decoding can start here.
const SYNC: u32 = 0x0200_0000;
/// `sample_depends_on` = 1, `sample_is_non_sync_sample`.
const NON_SYNC: u32 = 0x0101_0000;
/// Frames shorter than this are copied into the buffer before them: handing such a slice on costs more than its bytes.
const COPY_BELOW: usize = 1024;

/// The initialisation segment of a track with this configuration: `ftyp` and `moov`.
///
/// # Errors
/// [`InitError::Config`] where `config.data` is not what its codec says.
pub fn init(track: &Track, config: &TrackConfig) -> Result<Bytes, InitError> {
    let (width, height) = match config.detail() {
        TrackDetail::Video { width, height, .. } => {
            let size = |v: u32| u16::try_from(v).unwrap_or(u16::MAX);
            (size(*width), size(*height))
        }
        _ => (0, 0),
    };
    let codec = entry::sample_entry(config, (width, height))?;
    let video = config.codec().is_video();
    let stbl = Stbl {
        stsd: Stsd {
            codecs: vec![codec],
        },
        stco: Some(mp4_atom::Stco::default()),
        ..Stbl::default()
    };
    let dref = Dref {
        entries: vec![Url::default().into()],
    };
    let minf = Minf {
        vmhd: video.then(Vmhd::default),
        smhd: (!video).then(Smhd::default),
        dinf: Dinf { dref },
        stbl,
        ..Minf::default()
    };
    let hdlr = Hdlr {
        handler: FourCC::new(if video { b"vide" } else { b"soun" }),
        name: String::new(),
    };
    let mdhd = Mdhd {
        timescale: track.timescale,
        language: "und".into(),
        ..Mdhd::default()
    };
    let tkhd = Tkhd {
        track_id: TRACK,
        enabled: true,
        in_movie: true,
        volume: FixedPoint::from(u8::from(!video)),
        width: width.into(),
        height: height.into(),
        ..Tkhd::default()
    };
    let trex = Trex {
        track_id: TRACK,
        default_sample_description_index: 1,
        default_sample_flags: SYNC,
        ..Trex::default()
    };
    let moov = Moov {
        mvhd: Mvhd {
            timescale: track.timescale,
            next_track_id: TRACK + 1,
            rate: 1.into(),
            volume: 1.into(),
            ..Mvhd::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![trex],
        }),
        trak: vec![Trak {
            tkhd,
            mdia: Mdia { mdhd, hdlr, minf },
            ..Trak::default()
        }],
        ..Moov::default()
    };
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: vec![FourCC::new(b"iso6"), FourCC::new(b"cmfc")],
    };
    let mut out = BytesMut::new();
    ftyp.encode(&mut out)
        .and_then(|()| moov.encode(&mut out))
        .map_err(|e| InitError::Config(e.to_string()))?;
    Ok(out.freeze())
}

/// A part's chunk: `moof`, then `mdat` with the frames' own bytes.
pub(super) fn chunk(part: &Part) -> Chain {
    let Some(header) = part.runs.first().map(|r| r.group().header()) else {
        return Chain::default();
    };
    let frames: Vec<Frame> = part.runs.iter().flat_map(super::Run::frames).collect();
    let video = header.config.codec().is_video();
    let ends = frames.iter().skip(1).map(|f| f.dts).chain([part.end]);
    let entry = |(frame, end): (&Frame, i64)| TrunEntry {
        duration: Some(u32::try_from(end - frame.dts).unwrap_or(0)),
        size: Some(u32::try_from(frame.data.len()).unwrap_or(0)),
        flags: video.then_some(if frame.keyframe { SYNC } else { NON_SYNC }),
        cts: video.then_some(frame.cts.into()),
    };
    let entries: Vec<TrunEntry> = frames.iter().zip(ends).map(entry).collect();
    let payload: usize = frames.iter().map(|f| f.data.len()).sum();
    let mut out = BytesMut::new();
    let zero = ticks(EPOCH_ZERO, part.timescale);
    let mut moof = Moof {
        mfhd: Mfhd {
            // Rises with every part; wraps where 32 bits end.
            #[allow(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
            sequence_number: (part.segment << 8).wrapping_add(part.number.into()) as u32,
        },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: TRACK,
                default_base_is_moof: true,
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt {
                base_media_decode_time: u64::try_from(part.start + zero).unwrap_or(0),
            }),
            trun: vec![Trun {
                data_offset: Some(0),
                samples: entries.into(),
            }],
            ..Traf::default()
        }],
    };
    // The boxes are of fixed layout and in memory: encoding fails only where a size exceeds 32 bits, which a group's
    // 8 MiB cannot.
    if moof.encode(&mut out).is_err() {
        return Chain::default();
    }
    if let Some(trun) = moof.traf.first_mut().and_then(|t| t.trun.first_mut()) {
        trun.data_offset = i32::try_from(out.len() + 8).ok();
    }
    out.clear();
    if moof.encode(&mut out).is_err() {
        return Chain::default();
    }
    out.put_u32(u32::try_from(payload + 8).unwrap_or(u32::MAX));
    out.put_slice(b"mdat");
    let mut buffers = Vec::with_capacity(frames.len() + 1);
    for frame in frames {
        if frame.data.len() < COPY_BELOW {
            out.put_slice(&frame.data);
            continue;
        }
        if !out.is_empty() {
            buffers.push(out.split().freeze());
        }
        buffers.push(frame.data);
    }
    if !out.is_empty() {
        buffers.push(out.freeze());
    }
    Chain::new(buffers)
}
