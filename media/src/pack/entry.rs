//! Sample entries: what each codec says of itself in an initialisation segment (ISO/IEC 14496-12 8.5.2 and the codecs'
//! own bindings).
use bytes::BufMut;
use mp4_atom::{
    Ac3, Atom, Audio, Av01, Avc1, Avcc, Codec as Entry, Eac3, Esds, Flac, Hvc1, Mp4a, Opus, Visual,
    Vp08, Vp09,
    esds::{DecoderConfig, DecoderSpecific, EsDescriptor},
};
use routing::model::{Codec, TrackDetail};

use super::cmaf::{InitError, TRACK};
use crate::{codec::opus, live::TrackConfig};

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn broken(why: impl ToString) -> InitError {
    InitError::Config(why.to_string())
}

/// The sample entry of a track with this configuration, and with pictures of this size.
pub(super) fn sample_entry(
    config: &TrackConfig,
    (width, height): (u16, u16),
) -> Result<Entry, InitError> {
    let visual = Visual {
        data_reference_index: 1,
        width,
        height,
        ..Visual::default()
    };
    let data = &config.data[..];
    let audio = || match config.detail() {
        TrackDetail::Audio {
            sample_rate,
            channels,
        } => Ok(Audio {
            data_reference_index: 1,
            channel_count: (*channels).into(),
            sample_size: 16,
            // 16 bits; higher rates are told by the codec's own configuration.
            sample_rate: u16::try_from(*sample_rate).unwrap_or(0).into(),
        }),
        _ => Err(broken("codec and kind do not match")),
    };
    // Boxes with a version and flags before their contents.
    let full = |version: u8, body: &[u8]| [&[version, 0, 0, 0], body].concat();
    Ok(match config.codec() {
        Codec::H264 => {
            let mut avcc: Avcc = body(data)?;
            // What the live model holds, whatever the publisher's record said.
            avcc.length_size = 4;
            Entry::Avc1(Avc1 {
                visual,
                avcc,
                ..Avc1::default()
            })
        }
        Codec::Hevc => Entry::Hvc1(Hvc1 {
            visual,
            hvcc: body(data)?,
            ..Hvc1::default()
        }),
        Codec::Av1 => Entry::Av01(Av01 {
            visual,
            av1c: body(data)?,
            ..Av01::default()
        }),
        Codec::Vp8 => Entry::Vp08(Vp08 {
            visual,
            vpcc: body(&full(1, data))?,
            ..Vp08::default()
        }),
        Codec::Vp9 => Entry::Vp09(Vp09 {
            visual,
            vpcc: body(&full(1, data))?,
            ..Vp09::default()
        }),
        Codec::Aac | Codec::Mp2 | Codec::Mp3 => Entry::Mp4a(mp4a(config, audio()?)),
        Codec::Opus => Entry::Opus(Opus {
            audio: audio()?,
            dops: body(&opus_specific(config)?)?,
            btrt: None,
        }),
        Codec::Ac3 => Entry::Ac3(Ac3 {
            audio: audio()?,
            dac3: body(data)?,
        }),
        Codec::Eac3 => Entry::Eac3(Eac3 {
            audio: audio()?,
            dec3: body(data)?,
        }),
        Codec::Flac => {
            // STREAMINFO, the last of one block.
            let block = [&[0x80, 0, 0, 34], data].concat();
            Entry::Flac(Flac {
                audio: audio()?,
                dfla: body(&full(0, &block))?,
            })
        }
        other => return Err(broken(format!("{} is not packaged in CMAF", other.name()))),
    })
}

/// A box by its contents.
fn body<T: Atom>(mut bytes: &[u8]) -> Result<T, InitError> {
    T::decode_body(&mut bytes).map_err(broken)
}

/// The contents of `dOps` ("Encapsulation of Opus in ISO Base Media File Format" 4.3.2): the identification header, its
/// numbers the other way round.
fn opus_specific(config: &TrackConfig) -> Result<Vec<u8>, InitError> {
    let head = opus::AudioConfig::read(&config.data).map_err(broken)?;
    let mut out = vec![0, head.channels];
    out.put_u16(head.pre_skip);
    out.put_u32(head.input_rate);
    out.put_i16(head.gain);
    out.put_u8(head.mapping.0);
    out.put_slice(&head.mapping.1);
    Ok(out)
}

/// MPEG audio: AAC with its configuration, layers II and III without.
fn mp4a(config: &TrackConfig, audio: Audio) -> Mp4a {
    let bitrate = u32::try_from(config.summary.bitrate.0).unwrap_or(0);
    let aac = config.codec() == Codec::Aac;
    let low_rate =
        matches!(config.detail(), TrackDetail::Audio { sample_rate, .. } if *sample_rate < 32_000);
    Mp4a {
        audio,
        esds: Esds {
            es_desc: EsDescriptor {
                es_id: u16::try_from(TRACK).unwrap_or(1),
                dec_config: DecoderConfig {
                    // ISO/IEC 14496-1 table 5: AAC, MPEG-1 audio, MPEG-2 audio.
                    object_type_indication: match (aac, low_rate) {
                        (true, _) => 0x40,
                        (_, false) => 0x6b,
                        (_, true) => 0x69,
                    },
                    stream_type: 5,
                    max_bitrate: bitrate,
                    avg_bitrate: bitrate,
                    dec_specific: aac.then(|| DecoderSpecific {
                        raw: config.data.to_vec(),
                        ..DecoderSpecific::default()
                    }),
                    ..DecoderConfig::default()
                },
                ..EsDescriptor::default()
            },
        },
        btrt: None,
        taic: None,
    }
}
