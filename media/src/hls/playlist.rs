//! Playlists as text, after RFC 8216bis.
use std::{
    fmt::{self, Display, Write as _},
    time::Duration,
};

use routing::model::{TrackDetail, TrackKind};

use super::view::{Container, Hint, Rendition, duration, micros, named};
use crate::{
    live::{Epoch, Track, TrackConfig},
    pack::{Segment, multiplexed},
};

/// The pathway that the multivariant playlist itself gives; the nodes are its clones.
pub(crate) const BASE_PATHWAY: &str = "base";

/// Seconds with as many digits as they need, at most six.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:06}", self.0 % 1_000_000);
        write!(f, "{}", self.0 / 1_000_000)?;
        match fraction.trim_end_matches('0') {
            "" => Ok(()),
            digits => write!(f, ".{digits}"),
        }
    }
}

/// The multivariant playlist of an epoch: the same at every node, from the epoch's header alone. BANDWIDTH is what the
/// publisher announced and a tenth; where it announced nothing, a tenth of a bit for every pixel of every frame, and
/// 128 kbit/s of sound.
#[must_use]
pub fn multivariant(epoch: &Epoch, container: Container) -> String {
    let mut out = String::from("#EXTM3U\n");
    let version = if container == Container::Cmaf { 9 } else { 6 };
    line(&mut out, format_args!("#EXT-X-VERSION:{version}"));
    line(
        &mut out,
        format_args!(
            "#EXT-X-CONTENT-STEERING:SERVER-URI=\"../steering\",PATHWAY-ID=\"{BASE_PATHWAY}\""
        ),
    );
    let tracks: Vec<(String, &Track)> = named(epoch)
        .into_iter()
        .filter_map(|(name, id)| Some((name, epoch.track(id)?)))
        .collect();
    let of = |kind| tracks.iter().filter(move |(_, t)| t.kind == kind);
    let sound: Vec<_> = of(TrackKind::Audio).collect();
    let pictures: Vec<_> = of(TrackKind::Video).collect();
    let multiplex = multiplexed(epoch).filter(|_| container == Container::Ts);
    let lead = if container == Container::Ts {
        let lead = multiplex.map(|(lead, _)| ("ts", lead));
        lead.into_iter().collect()
    } else if pictures.is_empty() {
        let first = sound.first().map(|(n, t)| (n.as_str(), *t));
        first.into_iter().collect::<Vec<_>>()
    } else {
        pictures.iter().map(|(n, t)| (n.as_str(), *t)).collect()
    };
    let grouped = container == Container::Cmaf && !pictures.is_empty() && !sound.is_empty();
    if grouped {
        for (i, (name, track)) in sound.iter().enumerate() {
            let default = if i == 0 { "YES" } else { "NO" };
            let channels = match track.config.detail() {
                TrackDetail::Audio { channels, .. } => format!(",CHANNELS=\"{channels}\""),
                _ => String::new(),
            };
            line(
                &mut out,
                format_args!(
                    "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"{name}\",DEFAULT={default},AUTOSELECT=YES{channels},URI=\"{name}.m3u8\""
                ),
            );
        }
    }
    for (name, track) in lead {
        let with = match multiplex {
            Some((_, sound)) => sound,
            None if track.kind == TrackKind::Video => sound.first().map(|(_, t)| *t),
            None => None,
        };
        variant(&mut out, name, track, with, grouped);
    }
    out
}

fn variant(out: &mut String, name: &str, track: &Track, sound: Option<&Track>, grouped: bool) {
    let tracks = || [Some(track), sound].into_iter().flatten();
    let bandwidth = tracks()
        .map(|t| bandwidth(&t.config))
        .fold(0, u64::saturating_add);
    let codecs: Vec<&str> = tracks()
        .map(|t| t.config.summary.codec_string.as_str())
        .collect();
    let _ = write!(
        out,
        "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"{}\"",
        codecs.join(",")
    );
    if let TrackDetail::Video {
        width,
        height,
        rate: (n, d),
    } = *track.config.detail()
    {
        let _ = write!(out, ",RESOLUTION={width}x{height}");
        if n > 0 && d > 0 {
            let milli = (u64::from(n) * 1000 + u64::from(d) / 2) / u64::from(d);
            let _ = write!(out, ",FRAME-RATE={}.{:03}", milli / 1000, milli % 1000);
        }
    }
    if grouped {
        out.push_str(",AUDIO=\"a\"");
    }
    line(
        out,
        format_args!(",PATHWAY-ID=\"{BASE_PATHWAY}\"\n{name}.m3u8"),
    );
}

/// What a configuration's track needs, in bits a second.
pub(crate) fn bandwidth(config: &TrackConfig) -> u64 {
    let summary = &config.summary;
    if summary.bitrate.0 > 0 {
        return summary.bitrate.0.saturating_add(summary.bitrate.0 / 10);
    }
    match summary.detail {
        TrackDetail::Video {
            width,
            height,
            rate: (n, d),
        } => {
            let rate = if n > 0 && d > 0 { n / d } else { 30 };
            let pixels = u64::from(width) * u64::from(height);
            (pixels.saturating_mul(rate.into()) / 10).max(100_000)
        }
        _ => 128_000,
    }
}

/// A rendition's media playlist at its edge. `skip`: as a delta update, where there is something to skip.
#[must_use]
pub fn media(rendition: &Rendition, skip: bool) -> String {
    let cmaf = rendition.container == Container::Cmaf;
    let track = &rendition.track;
    let listed = rendition.segments.get(rendition.first..).unwrap_or(&[]);
    let open = rendition.open.as_ref();
    let first = listed.first().map(|s| &**s).or(open);
    let target = Epoch::SEGMENT_MAX.as_secs();
    let mut out = String::with_capacity(256 + listed.len() * 128 + 96 * 80);
    let version = if cmaf { 9 } else { 6 };
    line(
        &mut out,
        format_args!("#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target}"),
    );
    let part_target = micros(
        i64::try_from(track.part_target).unwrap_or(0),
        track.timescale,
    );
    if cmaf {
        line(
            &mut out,
            format_args!(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={},PART-HOLD-BACK={},HOLD-BACK={}\n#EXT-X-PART-INF:PART-TARGET={}",
                6 * target,
                Seconds(3 * part_target),
                3 * target,
                Seconds(part_target)
            ),
        );
    } else {
        line(
            &mut out,
            format_args!(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK={}",
                3 * target
            ),
        );
    }
    let number = first.map_or(track.first_segment, |s| s.number);
    let discontinuity = first.map_or(0, |s| s.discontinuity);
    line(
        &mut out,
        format_args!(
            "#EXT-X-MEDIA-SEQUENCE:{number}\n#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity}"
        ),
    );
    let with_parts = open.filter(|o| !o.parts.is_empty());
    if listed
        .iter()
        .map(|s| &**s)
        .chain(with_parts)
        .all(|s| s.independent)
    {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    // How much of the playlist comes after each segment.
    let edge = open.map_or(Duration::ZERO, duration);
    let mut behind: Vec<Duration> = listed
        .iter()
        .rev()
        .scan(edge, |sum, s| {
            let after = *sum;
            *sum += duration(s);
            Some(after)
        })
        .collect();
    behind.reverse();
    let boundary = Duration::from_secs(6 * target);
    let skipped = if skip && cmaf {
        behind.iter().take_while(|after| **after > boundary).count()
    } else {
        0
    };
    if skipped > 0 {
        line(
            &mut out,
            format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"),
        );
    }
    let mut before: Option<&Segment> = None;
    for (i, (segment, after)) in listed.iter().zip(&behind).enumerate() {
        if i >= skipped {
            head(
                &mut out,
                rendition,
                segment,
                before.filter(|_| i > skipped || skipped == 0),
                before,
            );
            if *after < Duration::from_secs(3 * target) {
                parts(&mut out, rendition, segment);
            }
            let length = micros(segment.end - segment.start, segment.timescale());
            if segment.is_gap() {
                out.push_str("#EXT-X-GAP\n");
            }
            line(&mut out, format_args!("#EXTINF:{},", Seconds(length)));
            let id = segment.epoch.id;
            if cmaf {
                line(
                    &mut out,
                    format_args!("{id}/{}/{}.m4s", rendition.name, segment.number),
                );
            } else {
                line(&mut out, format_args!("{id}/{}.ts", segment.number));
            }
        }
        before = Some(segment);
    }
    if let Some(open) = with_parts {
        head(&mut out, rendition, open, before, before);
        parts(&mut out, rendition, open);
    }
    if let (
        Some(Hint {
            epoch,
            segment,
            part,
        }),
        true,
    ) = (rendition.hint, cmaf)
    {
        line(
            &mut out,
            format_args!(
                "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{epoch}/{}/{segment}.{part}.m4s\"",
                rendition.name
            ),
        );
    }
    for report in &rendition.reports {
        line(
            &mut out,
            format_args!(
                "#EXT-X-RENDITION-REPORT:URI=\"{}.m3u8\",LAST-MSN={},LAST-PART={}",
                report.name, report.segment, report.part
            ),
        );
    }
    out
}

/// What stands before a segment's parts and its name: a discontinuity, another map, the time. `mapped` is the segment
/// whose map still holds.
fn head(
    out: &mut String,
    rendition: &Rendition,
    segment: &Segment,
    mapped: Option<&Segment>,
    before: Option<&Segment>,
) {
    let jump = before.map_or(0, |b| segment.discontinuity.saturating_sub(b.discontinuity));
    for _ in 0..jump.min(8) {
        out.push_str("#EXT-X-DISCONTINUITY\n");
    }
    let map = |s: &Segment| (s.epoch.id, s.config.number);
    if rendition.container == Container::Cmaf && mapped.map(map) != Some(map(segment)) {
        let (epoch, number) = map(segment);
        line(
            out,
            format_args!(
                "#EXT-X-MAP:URI=\"{epoch}/{}/init-{number}.mp4\"",
                rendition.name
            ),
        );
    }
    let ticks = i128::from(segment.pts) * 1000;
    let into = ticks.div_euclid(i128::from(segment.timescale().max(1)));
    let at = i128::from(segment.epoch.programme_time.0) + into;
    line(
        out,
        format_args!(
            "#EXT-X-PROGRAM-DATE-TIME:{}",
            DateTime(u64::try_from(at).unwrap_or(0))
        ),
    );
}

fn parts(out: &mut String, rendition: &Rendition, segment: &Segment) {
    for part in &segment.parts {
        let length = micros(part.end - part.start, part.timescale);
        let _ = write!(
            out,
            "#EXT-X-PART:DURATION={},URI=\"{}/{}/{}.{}.m4s\"",
            Seconds(length),
            segment.epoch.id,
            rendition.name,
            segment.number,
            part.number
        );
        out.push_str(if part.independent {
            ",INDEPENDENT=YES\n"
        } else {
            "\n"
        });
    }
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{text}");
}

/// Milliseconds since 1970 as an ISO 8601 date and time in UTC.
pub(crate) struct DateTime(pub(crate) u64);

impl Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Days to a date of the proleptic Gregorian calendar, counted in eras of 400 years that begin on 1 March.
        let day = days + 719_468;
        let (era, of_era) = (day / 146_097, day % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let d = of_year - (153 * month + 2) / 5 + 1;
        let m = if month < 10 { month + 3 } else { month - 9 };
        let y = year + era * 400 + u64::from(m <= 2);
        let (h, min, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(
            f,
            "{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}.{:03}Z",
            ms % 1000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_rate_that_cannot_be_is_the_highest_that_can_be_said() {
        use crate::pack::tests::{epoch, track};
        let mut tracks = vec![
            track(0, TrackKind::Video, (30, 1), &[]),
            track(1, TrackKind::Audio, (48_000, 1), &[]),
        ];
        let summary = |track: &mut Track| {
            let config = std::sync::Arc::make_mut(&mut track.config);
            config.summary.bitrate.0 = u64::MAX;
            config.summary.clone()
        };
        let mut large = summary(&mut tracks[0]);
        summary(&mut tracks[1]);
        let said = |tracks| multivariant(&epoch(1, tracks, None), Container::Cmaf);
        assert!(said(tracks.clone()).contains("BANDWIDTH=18446744073709551615,"));
        large.bitrate.0 = 0;
        large.detail = TrackDetail::Video {
            width: u32::MAX,
            height: u32::MAX,
            rate: (u32::MAX, 1),
        };
        std::sync::Arc::make_mut(&mut tracks[0].config).summary = large;
        assert!(said(tracks).contains("BANDWIDTH=18446744073709551615,"));
    }

    #[test]
    fn times_are_those_of_a_calendar() {
        let text = |ms| DateTime(ms).to_string();
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(text(1_795_383_723_001), "2026-11-22T21:42:03.001Z");
    }
}
