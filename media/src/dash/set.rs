//! Sets, their representations, and the segments of those.
use std::fmt::Display;

use routing::model::{TrackDetail, TrackKind};

use super::{
    foresight::Ahead,
    mpd::{micros, utc_timing},
    periods::{Period, Run},
    xml::Xml,
};
use crate::{
    hls::{DateTime, bandwidth},
    live::{Track, TrackConfig},
    pack::{EPOCH_ZERO, rescale, ticks},
};

/// The largest power of ten in 31 bits.
const LOW: u64 = 1_000_000_000;

/// A run and what is listed of it.
pub(super) struct Line<'a> {
    pub(super) run: &'a Run<'a>,
    /// What is foreseen.
    pub(super) ahead: Vec<Ahead>,
    /// Where each segment begins and ends, those foreseen included, in ticks from the epoch's zero.
    pub(super) times: Vec<(i64, i64)>,
}

/// Writes a set of representations of one kind.
pub(super) fn adaptation_set(xml: &mut Xml, period: &Period<'_>, id: usize, lines: &[Line<'_>]) {
    let Some(Line { run: first, .. }) = lines.first() else {
        return;
    };
    let kind = match first.rendition.track.kind {
        TrackKind::Video => "video",
        _ => "audio",
    };
    let mime = format!("{kind}/mp4");
    let mut attributes: Vec<(&str, &dyn Display)> = vec![
        ("id", &id),
        ("contentType", &kind),
        ("mimeType", &mime),
        ("segmentAlignment", &"true"),
    ];
    let all = lines.iter().flat_map(|line| &line.run.segments);
    if all.into_iter().all(|s| s.independent) {
        attributes.push(("startWithSAP", &"1"));
    }
    xml.within("AdaptationSet", &attributes, |xml| {
        let timescale = first.first().timescale();
        let time = period
            .epoch
            .programme_time
            .0
            .saturating_add_signed(period.from / 1000);
        xml.within(
            "ProducerReferenceTime",
            &[
                ("id", &0),
                ("type", &"captured"),
                ("wallClockTime", &DateTime(time)),
                ("presentationTime", &offset(period, timescale)),
            ],
            utc_timing,
        );
        for line in lines {
            representation(xml, period, line);
        }
    });
}

/// What the media's times show at the Period's start, in ticks.
fn offset(period: &Period<'_>, timescale: u32) -> i64 {
    ticks(EPOCH_ZERO, timescale) + rescale(period.from, 1_000_000, timescale)
}

fn representation(xml: &mut Xml, period: &Period<'_>, line: &Line<'_>) {
    let run = line.run;
    let Some(track) = run.track() else { return };
    // A gap tells only of the track's first configuration.
    let config: &TrackConfig = run
        .segments
        .iter()
        .find(|s| !s.is_gap())
        .map_or(&track.config, |s| &s.config);
    let (name, bandwidth) = (&run.rendition.name, bandwidth(config));
    let mut attributes: Vec<(&str, &dyn Display)> = vec![
        ("id", name),
        ("codecs", &config.summary.codec_string),
        ("bandwidth", &bandwidth),
    ];
    let (rate, channel_count);
    match config.detail() {
        TrackDetail::Video {
            width,
            height,
            rate: (n, d),
        } => {
            attributes.extend([("width", width as &dyn Display), ("height", height)]);
            rate = if *d == 1 {
                n.to_string()
            } else {
                format!("{n}/{d}")
            };
            if *n > 0 && *d > 0 {
                attributes.push(("frameRate", &rate));
            }
            channel_count = None;
        }
        TrackDetail::Audio {
            sample_rate,
            channels,
        } => {
            attributes.push(("audioSamplingRate", sample_rate));
            channel_count = Some(channels);
        }
        TrackDetail::Data {} => channel_count = None,
    }
    xml.within("Representation", &attributes, |xml| {
        if let Some(channels) = channel_count {
            xml.empty(
                "AudioChannelConfiguration",
                &[
                    (
                        "schemeIdUri",
                        &"urn:mpeg:dash:23003:3:audio_channel_configuration:2011",
                    ),
                    ("value", channels),
                ],
            );
        }
        template(xml, period, line, track, config.number);
    });
}

fn template(xml: &mut Xml, period: &Period<'_>, line: &Line<'_>, track: &Track, config: u32) {
    let (run, timescale) = (line.run, track.timescale);
    let (epoch, name, number) = (period.epoch.id, &run.rendition.name, run.first().number);
    let initialization = format!("{epoch}/{name}/init-{config}.mp4");
    // In two pieces: ffmpeg counts with 32 bits. A segment whose number has other high digits than the first listed one,
    // as some have for half a minute once in years, is not found.
    let (high, number) = (number / LOW, number % LOW);
    let media = match high {
        0 => format!("{epoch}/{name}/$Number$.m4s"),
        _ => format!("{epoch}/{name}/{high}$Number%09d$.m4s"),
    };
    let offset = offset(period, timescale);
    let mut attributes: Vec<(&str, &dyn Display)> = vec![
        ("timescale", &timescale),
        ("presentationTimeOffset", &offset),
        ("startNumber", &number),
        ("initialization", &initialization),
        ("media", &media),
    ];
    // What is at the edge can be asked for once its first part is there.
    let early = line.ahead.first().map(|a| {
        let part = i64::try_from(track.part_target).unwrap_or(0);
        micros((a.end - a.start - part).max(0), timescale) / 1000
    });
    let early = early.map(|ms| format!("{}.{:03}", ms / 1000, ms % 1000));
    if let Some(early) = &early {
        attributes.push(("availabilityTimeOffset", early));
        attributes.push(("availabilityTimeComplete", &"false"));
    }
    let zero = ticks(EPOCH_ZERO, timescale);
    let entries = line
        .times
        .iter()
        .map(|(start, end)| (start + zero, end - start));
    xml.within("SegmentTemplate", &attributes, |xml| {
        let gaps = run.segments.iter().zip(entries.clone());
        let mut gaps = gaps.filter(|(s, _)| s.is_gap()).peekable();
        if gaps.peek().is_some() {
            xml.within("FailoverContent", &[("valid", &"false")], |xml| {
                for (_, (t, d)) in gaps {
                    xml.empty("FCS", &[("t", &t), ("d", &d)]);
                }
            });
        }
        xml.within("SegmentTimeline", &[], |xml| {
            let mut first = true;
            let mut entries = entries.peekable();
            while let Some((t, d)) = entries.next() {
                let repeat = std::iter::from_fn(|| entries.next_if(|(_, next)| *next == d)).count();
                let mut attributes: Vec<(&str, &dyn Display)> = Vec::new();
                if std::mem::take(&mut first) {
                    attributes.push(("t", &t));
                }
                attributes.push(("d", &d));
                if repeat > 0 {
                    attributes.push(("r", &repeat));
                }
                xml.empty("S", &attributes);
            }
        });
    });
}
