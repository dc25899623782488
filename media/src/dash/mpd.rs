//! The description as text.
use std::fmt::Display;

use routing::model::{TrackKind, UnixMillis};

use super::{
    DELAY, LOW_DELAY, UPDATE,
    foresight::{Ahead, Foresight},
    periods::{Period, Run, periods, renditions},
    set::{Line, adaptation_set},
    xml::{Attributes, Span, Xml},
};
use crate::{
    hls::{BASE_PATHWAY, DateTime, Rendition, View},
    pack::Segment,
};

/// Ticks as microseconds, rounded down.
pub(super) fn micros(ticks: i64, timescale: u32) -> i64 {
    crate::pack::rescale(ticks, timescale, 1_000_000)
}

/// The media presentation description of a view: the same text at every node that has the same segments.
#[must_use]
pub fn mpd(view: &View) -> String {
    let mut xml = Xml::new();
    let foresight = Foresight::of(view);
    let published = published(view);
    let latency = if foresight.is_empty() {
        DELAY
    } else {
        LOW_DELAY
    };
    let head: Attributes<'_> = &[
        ("xmlns", &"urn:mpeg:dash:schema:mpd:2011"),
        ("type", &"dynamic"),
        (
            "profiles",
            &"urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019,http://www.dashif.org/guidelines/low-latency-live-v5",
        ),
        ("availabilityStartTime", &DateTime(0)),
        ("publishTime", &DateTime(published)),
        ("minimumUpdatePeriod", &Span::from(UPDATE)),
        ("minBufferTime", &Span::from(UPDATE)),
        ("timeShiftBufferDepth", &Span::from(Rendition::WINDOW)),
        ("suggestedPresentationDelay", &Span::from(DELAY)),
        (
            "maxSegmentDuration",
            // Sound may be a quarter of a second longer.
            &Span::from(crate::live::Epoch::SEGMENT_MAX + UPDATE / 2),
        ),
    ];
    xml.within("MPD", head, |xml| {
        // No ContentSteering: the description is the same at every node and so without a host, and dash.js (5.2) takes a
        // steering address without one for the page's.
        xml.text("BaseURL", &[("serviceLocation", &BASE_PATHWAY)], "./");
        xml.within("ServiceDescription", &[("id", &0)], |xml| {
            let millis = latency.as_millis();
            let (min, max) = (millis / 2, millis * 3);
            xml.empty(
                "Latency",
                &[
                    ("referenceId", &0),
                    ("target", &millis),
                    ("max", &max),
                    ("min", &min),
                ],
            );
            xml.empty("PlaybackRate", &[("max", &"1.04"), ("min", &"0.96")]);
        });
        let all = periods(view);
        for (i, period) in all.iter().enumerate() {
            let next = all.get(i + 1).map(Period::start);
            let current = next.is_none() && period.epoch.id == view.epoch.id;
            let ahead = |rendition: &Rendition| {
                if current {
                    foresight.ahead(view, rendition)
                } else {
                    Vec::new()
                }
            };
            write_period(xml, period, next, ahead);
        }
        utc_timing(xml);
    });
    xml.done()
}

/// Where players learn the origin's time.
pub(super) fn utc_timing(xml: &mut Xml) {
    xml.empty(
        "UTCTiming",
        &[
            ("schemeIdUri", &"urn:mpeg:dash:utc:http-iso:2014"),
            ("value", &"../time"),
        ],
    );
}

/// The mean of where the renditions' closed segments end.
fn published(view: &View) -> u64 {
    let end = |rendition: &Rendition| {
        rendition.segments.last().map_or_else(
            || view.epoch.programme_time.0,
            |s| at(s.epoch.programme_time, micros(s.end, s.timescale())),
        )
    };
    let ends: Vec<u64> = renditions(view).map(end).collect();
    let count = u64::try_from(ends.len()).unwrap_or(1).max(1);
    ends.iter()
        .fold(0, |sum: u64, end| sum.saturating_add(*end))
        / count
}

/// So many microseconds after a time, in milliseconds.
fn at(time: UnixMillis, micros: i64) -> u64 {
    time.0.saturating_add_signed(micros / 1000)
}

/// A segment's times as the timeline has them: presentation times, each up to the next segment's.
fn timeline(run: &Run<'_>, ahead: &[Ahead], open: Option<&Segment>) -> Vec<(i64, i64)> {
    let mut line: Vec<(i64, i64)> = Vec::new();
    for (i, segment) in run.segments.iter().enumerate() {
        let next = run.segments.get(i + 1).copied().or(open);
        // Where none follows, it is as long in presentation as in decoding.
        let end = next.map_or(segment.pts + segment.end - segment.start, |n| n.pts);
        line.push((segment.pts, end.max(segment.pts + 1)));
    }
    line.extend(ahead.iter().map(|a| (a.start, a.end)));
    line
}

fn write_period(
    xml: &mut Xml,
    period: &Period<'_>,
    next: Option<i64>,
    ahead: impl Fn(&Rendition) -> Vec<Ahead>,
) {
    let (id, number) = (period.epoch.id, period.key.1);
    let id = if number == 0 {
        id.to_string()
    } else {
        format!("{id}-{number}")
    };
    let start = Span(period.start());
    let lines: Vec<Line<'_>> = period
        .runs
        .iter()
        .map(|run| {
            let ahead = ahead(run.rendition);
            let open = run.rendition.open.as_ref();
            let open = open.filter(|o| next.is_none() && o.epoch.id == period.epoch.id);
            let line = timeline(run, &ahead, open);
            Line {
                run,
                ahead,
                times: line,
            }
        })
        .collect();
    let mut attributes: Vec<(&str, &dyn Display)> = vec![("id", &id), ("start", &start)];
    // One that is over ends with its media: the next may begin later. It begins earlier where an encoder sent faster
    // than time goes, and then ends this one.
    let end = lines.iter().filter_map(|line| {
        let (_, end) = line.times.last()?;
        Some(micros(*end, line.run.first().timescale()))
    });
    let duration = end.max().unwrap_or(0).saturating_sub(period.from);
    let duration = next.map(|next| Span(duration.min(next - period.start())));
    if let Some(duration) = &duration {
        attributes.push(("duration", duration));
    }
    xml.within("Period", &attributes, |xml| {
        // Pictures of one codec are choices of one set; each sound is one of its own.
        let sets = lines.chunk_by(|a, b| {
            let what = |line: &Line<'_>| {
                (
                    line.run.rendition.track.kind,
                    line.run.first().config.codec(),
                )
            };
            what(a).0 == TrackKind::Video && what(a) == what(b)
        });
        for (id, set) in sets.enumerate() {
            adaptation_set(xml, period, id, set);
        }
    });
}
