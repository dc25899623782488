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

/// Every file of one track has this id for it.
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
    let brands = [b"iso6", b"cmfc"].map(FourCC::new);
    movie(&brands, vec![trak(TRACK, track.timescale, config)?])
}

/// `ftyp` of these brands, the first the major one, and `moov` of these tracks, whose ids rise.
///
/// # Errors
/// [`InitError`] where a box cannot be written.
pub(crate) fn movie(brands: &[FourCC], trak: Vec<Trak>) -> Result<Bytes, InitError> {
    let trex = |trak: &Trak| Trex {
        track_id: trak.tkhd.track_id,
        default_sample_description_index: 1,
        default_sample_flags: SYNC,
        ..Trex::default()
    };
    let moov = Moov {
        mvhd: Mvhd {
            timescale: trak.first().map_or(1, |t| t.mdia.mdhd.timescale),
            next_track_id: trak.last().map_or(0, |t| t.tkhd.track_id) + 1,
            rate: 1.into(),
            volume: 1.into(),
            ..Mvhd::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: trak.iter().map(trex).collect(),
        }),
        trak,
        ..Moov::default()
    };
    let ftyp = Ftyp {
        major_brand: brands.first().copied().unwrap_or(FourCC::new(b"iso6")),
        minor_version: 0,
        compatible_brands: brands.to_vec(),
    };
    let mut out = BytesMut::new();
    ftyp.encode(&mut out)
        .and_then(|()| moov.encode(&mut out))
        .map_err(|e| InitError::Config(e.to_string()))?;
    Ok(out.freeze())
}

/// A track's description.
///
/// # Errors
/// [`InitError::Config`] where `config.data` is not what its codec says.
pub(crate) fn trak(id: u32, timescale: u32, config: &TrackConfig) -> Result<Trak, InitError> {
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
        timescale,
        language: "und".into(),
        ..Mdhd::default()
    };
    let tkhd = Tkhd {
        track_id: id,
        enabled: true,
        in_movie: true,
        volume: FixedPoint::from(u8::from(!video)),
        width: width.into(),
        height: height.into(),
        ..Tkhd::default()
    };
    Ok(Trak {
        tkhd,
        mdia: Mdia { mdhd, hdlr, minf },
        ..Trak::default()
    })
}

/// A part's chunk: `moof`, then `mdat` with the frames' own bytes.
pub(super) fn chunk(part: &Part) -> Chain {
    let Some(header) = part.runs.first().map(|r| r.group().header()) else {
        return Chain::default();
    };
    let frames: Vec<Frame> = part.runs.iter().flat_map(super::Run::frames).collect();
    let video = header.config.codec().is_video();
    let ends = frames.iter().skip(1).map(|f| f.dts).chain([part.end]);
    let entry = |(frame, end): (&Frame, i64)| sample(frame, video, end - frame.dts);
    let entries: Vec<TrunEntry> = frames.iter().zip(ends).map(entry).collect();
    let payload: usize = frames.iter().map(|f| f.data.len()).sum();
    let zero = ticks(EPOCH_ZERO, part.timescale);
    // Rises with every part; wraps where 32 bits end.
    #[allow(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
    let sequence = (part.segment << 8).wrapping_add(part.number.into()) as u32;
    let start = u64::try_from(part.start + zero).unwrap_or(0);
    let Some(mut out) = head(TRACK, sequence, start, entries, payload) else {
        return Chain::default();
    };
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

/// A sample's entry.
pub(crate) fn sample(frame: &Frame, video: bool, lasts: i64) -> TrunEntry {
    TrunEntry {
        duration: Some(u32::try_from(lasts).unwrap_or(0)),
        size: Some(u32::try_from(frame.data.len()).unwrap_or(0)),
        flags: video.then_some(if frame.keyframe { SYNC } else { NON_SYNC }),
        cts: video.then_some(frame.cts.into()),
    }
}

/// A fragment up to its payload of `payload` bytes: `moof`, and the head of `mdat`.
pub(crate) fn head(
    track: u32,
    sequence: u32,
    start: u64,
    entries: Vec<TrunEntry>,
    payload: usize,
) -> Option<BytesMut> {
    let mut moof = Moof {
        mfhd: Mfhd {
            sequence_number: sequence,
        },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: track,
                default_base_is_moof: true,
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt {
                base_media_decode_time: start,
            }),
            trun: vec![Trun {
                data_offset: Some(0),
                samples: entries.into(),
            }],
            ..Traf::default()
        }],
    };
    let mut out = BytesMut::new();
    // The boxes are of fixed layout and in memory: encoding fails only where a size exceeds 32 bits, which a group's
    // 8 MiB cannot.
    moof.encode(&mut out).ok()?;
    if let Some(trun) = moof.traf.first_mut().and_then(|t| t.trun.first_mut()) {
        trun.data_offset = i32::try_from(out.len() + 8).ok();
    }
    out.clear();
    moof.encode(&mut out).ok()?;
    out.put_u32(u32::try_from(payload + 8).unwrap_or(u32::MAX));
    out.put_slice(b"mdat");
    Some(out)
}
