//! A reader of media presentation descriptions, and what ISO/IEC 23009-1 and the DASH-IF guidelines ask of them, rule
//! by rule. What it checks it does not take from our writer: it reads ffmpeg's descriptions as well.
use std::collections::{BTreeMap, BTreeSet};

use quick_xml::{Reader, events::Event};

/// An element.
#[derive(Clone, Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) children: Vec<Element>,
    pub(crate) text: String,
}

impl Element {
    /// The root of a document.
    pub(crate) fn read(text: &str) -> Self {
        let mut reader = Reader::from_str(text);
        let mut open = vec![Self::default()];
        let element = |start: &quick_xml::events::BytesStart<'_>| Self {
            name: start.name().as_ref().to_owned(),
            attributes: start
                .attributes()
                .map(|a| {
                    let a = a.unwrap();
                    (a.key.as_ref().to_owned(), a.value.into_owned())
                })
                .collect(),
            ..Self::default()
        };
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) => open.push(element(&start)),
                Event::Empty(start) => open.last_mut().unwrap().children.push(element(&start)),
                Event::End(_) => {
                    let done = open.pop().unwrap();
                    open.last_mut().unwrap().children.push(done);
                }
                Event::Text(text) => {
                    open.last_mut().unwrap().text.push_str(text.trim());
                }
                Event::Eof => break,
                _ => {}
            }
        }
        open.pop().unwrap().children.pop().unwrap()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a Self> {
        self.children.iter().filter(move |c| c.name == name)
    }

    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|c| c.name == name)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.get(name).map(|v| v.parse().unwrap())
    }
}

/// An xs:duration without days, in seconds.
fn seconds(text: &str) -> f64 {
    let mut rest = text.strip_prefix("PT").unwrap();
    let mut sum = 0.0;
    for (unit, of) in [('H', 3600.0), ('M', 60.0), ('S', 1.0)] {
        if let Some((number, later)) = rest.split_once(unit) {
            sum += number.parse::<f64>().unwrap() * of;
            rest = later;
        }
    }
    assert_eq!(rest, "", "{text}");
    sum
}

/// A segment as a description lists it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) period: String,
    pub(crate) representation: String,
    pub(crate) number: i64,
    /// Ticks of `timescale`, as the media counts.
    pub(crate) time: i64,
    pub(crate) duration: i64,
    pub(crate) timescale: i64,
    pub(crate) init: String,
    pub(crate) url: String,
    /// On the presentation's timeline, in seconds.
    pub(crate) at: f64,
    /// Seconds before its end at which it may be asked for.
    pub(crate) offset: f64,
    /// In `FailoverContent`.
    pub(crate) gap: bool,
}

fn template(set: &Element, representation: &Element) -> Element {
    let mut merged = set.child("SegmentTemplate").cloned().unwrap_or_default();
    if let Some(own) = representation.child("SegmentTemplate") {
        merged.attributes.extend(own.attributes.clone());
        merged.children.extend(own.children.clone());
    }
    merged
}

/// What a description lists, in its order.
pub(crate) fn segments(mpd: &Element) -> Vec<Listed> {
    let mut all = Vec::new();
    for period in mpd.all("Period") {
        let start = period.get("start").map_or(0.0, seconds);
        for set in period.all("AdaptationSet") {
            for representation in set.all("Representation") {
                let t = template(set, representation);
                let id = representation.get("id").unwrap();
                let timescale = t.number("timescale").unwrap_or(1);
                let zero = t.number("presentationTimeOffset").unwrap_or(0);
                let mut number = t.number("startNumber").unwrap_or(1);
                let gaps: Vec<i64> = t
                    .child("FailoverContent")
                    .iter()
                    .flat_map(|f| f.all("FCS"))
                    .filter_map(|f| f.number("t"))
                    .collect();
                let mut time = 0;
                for s in t.child("SegmentTimeline").iter().flat_map(|l| l.all("S")) {
                    time = s.number("t").unwrap_or(time);
                    let duration = s.number("d").unwrap();
                    for _ in 0..=s.number("r").unwrap_or(0) {
                        let fill = |text: &str| {
                            text.replace("$RepresentationID$", id)
                                .replace("$Number$", &number.to_string())
                                .replace("$Number%05d$", &format!("{number:05}"))
                                .replace("$Number%09d$", &format!("{number:09}"))
                                .replace("$Time$", &time.to_string())
                        };
                        all.push(Listed {
                            period: period.get("id").unwrap_or_default().into(),
                            representation: id.into(),
                            number,
                            time,
                            duration,
                            timescale,
                            init: fill(t.get("initialization").unwrap()),
                            url: fill(t.get("media").unwrap()),
                            at: start + (time - zero) as f64 / timescale as f64,
                            offset: t
                                .get("availabilityTimeOffset")
                                .map_or(0.0, |o| o.parse().unwrap()),
                            gap: gaps.contains(&time),
                        });
                        time += duration;
                        number += 1;
                    }
                }
            }
        }
    }
    all
}

type Rule = (&'static str, fn(&Element) -> bool);

fn ordered(of: &Element, order: &[&str]) -> bool {
    let places: Vec<usize> = of
        .children
        .iter()
        .filter_map(|c| order.iter().position(|o| *o == c.name))
        .collect();
    places.is_sorted()
}

fn each(mpd: &Element, holds: impl Fn(&Element, &Element, &Element) -> bool) -> bool {
    mpd.all("Period").all(|p| {
        p.all("AdaptationSet")
            .all(|s| s.all("Representation").all(|r| holds(p, s, r)))
    })
}

fn unique<'a>(ids: impl Iterator<Item = Option<&'a str>>) -> bool {
    let mut seen = BTreeSet::new();
    ids.into_iter()
        .all(|id| id.is_some_and(|id| seen.insert(id)))
}

fn dynamic(mpd: &Element) -> bool {
    mpd.get("type") == Some("dynamic")
}

fn low_latency(mpd: &Element) -> bool {
    !each(mpd, |_, s, r| {
        template(s, r).get("availabilityTimeComplete") != Some("false")
    })
}

/// Rules by name: the clause, and whether a description keeps it.
const RULES: &[Rule] = &[
    (
        "ISO 23009-1 5.3.1.2 the root is MPD, with profiles and minBufferTime",
        |m| m.name == "MPD" && m.get("profiles").is_some() && m.get("minBufferTime").is_some(),
    ),
    (
        "ISO 23009-1 5.3.1.2 dynamic: availabilityStartTime and publishTime",
        |m| {
            !dynamic(m)
                || m.get("availabilityStartTime").is_some() && m.get("publishTime").is_some()
        },
    ),
    (
        "ISO 23009-1 5.3.1.2 without an end: minimumUpdatePeriod",
        |m| m.get("mediaPresentationDuration").is_some() || m.get("minimumUpdatePeriod").is_some(),
    ),
    ("ISO 23009-1 5.3.1.3 the order of MPD's elements", |m| {
        let order = [
            "ProgramInformation",
            "BaseURL",
            "Location",
            "ContentSteering",
            "ServiceDescription",
            "Period",
            "UTCTiming",
        ];
        // The schema has ContentSteering and ServiceDescription before Period, UTCTiming after it.
        ordered(m, &order)
    }),
    (
        "ISO 23009-1 5.3.2.2 dynamic: Periods have ids of their own",
        |m| !dynamic(m) || unique(m.all("Period").map(|p| p.get("id"))),
    ),
    (
        "ISO 23009-1 5.3.2.1 a Period begins no earlier than the one before ends",
        |m| {
            let mut before = 0.0;
            m.all("Period").all(|p| {
                let start = p.get("start").map_or(before, seconds);
                let fits = start >= before - 1e-6;
                before = start + p.get("duration").map_or(0.0, seconds);
                fits
            })
        },
    ),
    (
        "ISO 23009-1 5.3.3.2 sets have ids of their own in their Period",
        |m| {
            m.all("Period")
                .all(|p| unique(p.all("AdaptationSet").map(|s| s.get("id"))))
        },
    ),
    (
        "ISO 23009-1 5.3.5.2 representations have ids of their own in their Period, and a bandwidth",
        |m| {
            m.all("Period").all(|p| {
                let all = || p.all("AdaptationSet").flat_map(|s| s.all("Representation"));
                unique(all().map(|r| r.get("id"))) && all().all(|r| r.number("bandwidth") > Some(0))
            })
        },
    ),
    ("ISO 23009-1 5.3.7.2 mimeType and codecs", |m| {
        each(m, |_, s, r| {
            let has = |name| s.get(name).or(r.get(name)).is_some();
            has("mimeType") && has("codecs")
        })
    }),
    (
        "ISO 23009-1 5.3.3.1 a set has one content type and one codec",
        |m| {
            m.all("Period")
                .flat_map(|p| p.all("AdaptationSet"))
                .all(|s| {
                    let codec = |r: &Element| {
                        r.get("codecs")
                            .unwrap()
                            .split('.')
                            .next()
                            .unwrap()
                            .to_owned()
                    };
                    s.all("Representation")
                        .map(codec)
                        .collect::<BTreeSet<_>>()
                        .len()
                        == 1
                })
        },
    ),
    (
        "ISO 23009-1 5.3.9.6 segments of a timeline follow each other and last",
        |m| {
            let mut ends: BTreeMap<(String, String), i64> = BTreeMap::new();
            segments(m).iter().all(|s| {
                let key = (s.period.clone(), s.representation.clone());
                let before = ends.insert(key, s.time + s.duration);
                s.duration > 0 && before.is_none_or(|b| s.time >= b)
            })
        },
    ),
    (
        "ISO 23009-1 5.3.1.2 no segment is longer than maxSegmentDuration",
        |m| {
            let most = m.get("maxSegmentDuration").map_or(f64::MAX, seconds);
            // ffmpeg says whole tenths.
            segments(m)
                .iter()
                .all(|s| s.duration as f64 / s.timescale as f64 <= most + 0.1)
        },
    ),
    (
        "ISO 23009-1 5.3.9.4.4 media names differ by number or time, the initialisation has neither",
        |m| {
            each(m, |_, s, r| {
                let t = template(s, r);
                let (media, init) = (t.get("media").unwrap(), t.get("initialization").unwrap());
                (media.contains("$Number") || media.contains("$Time"))
                    && !init.contains("$Number")
                    && !init.contains("$Time")
            })
        },
    ),
    ("ISO 23009-1 5.3.9.2 order of a template's elements", |m| {
        each(m, |_, s, r| {
            ordered(&template(s, r), &["FailoverContent", "SegmentTimeline"])
        })
    }),
    (
        "DASH-IF IOP 4.3 3.2.4 video: width, height; audio: sampling rate, channels",
        |m| {
            each(m, |_, s, r| {
                let has = |name| s.get(name).or(r.get(name)).is_some();
                match s.get("contentType") {
                    Some("video") => has("width") && has("height"),
                    Some("audio") => {
                        has("audioSamplingRate") && r.child("AudioChannelConfiguration").is_some()
                    }
                    _ => false,
                }
            })
        },
    ),
    ("DASH-IF IOP 4.3 3.2.3 segments are aligned in a set", |m| {
        m.all("Period")
            .flat_map(|p| p.all("AdaptationSet"))
            .all(|s| s.get("segmentAlignment") == Some("true"))
    }),
    ("DASH-IF IOP 4.3 4.7.2 dynamic: UTCTiming", |m| {
        !dynamic(m)
            || m.child("UTCTiming")
                .is_some_and(|u| u.get("schemeIdUri").is_some())
    }),
    (
        "DASH-IF IOP 4.3 4.3.4 the suggested delay is within the time-shift buffer",
        |m| {
            let of = |name| m.get(name).map(seconds);
            of("suggestedPresentationDelay")
                .is_none_or(|d| of("timeShiftBufferDepth").is_none_or(|t| d <= t))
        },
    ),
    (
        "DASH-IF Low Latency 9.X.4.2 incomplete segments have an offset shorter than they are",
        |m| {
            each(m, |_, s, r| {
                let t = template(s, r);
                let offset = t
                    .get("availabilityTimeOffset")
                    .map(|o| o.parse::<f64>().unwrap());
                t.get("availabilityTimeComplete") != Some("false") || offset > Some(0.0)
            }) && segments(m)
                .iter()
                .rev()
                .take(1)
                .all(|s| s.offset < s.duration as f64 / s.timescale as f64)
        },
    ),
    (
        "DASH-IF Low Latency 9.X.4.3 a latency is aimed at, and each set says when it was produced",
        |m| {
            !low_latency(m)
                || m.child("ServiceDescription").is_some_and(|s| {
                    s.child("Latency")
                        .is_some_and(|l| l.get("target").is_some())
                }) && m
                    .all("Period")
                    .flat_map(|p| p.all("AdaptationSet"))
                    .all(|s| s.child("ProducerReferenceTime").is_some())
        },
    ),
];

/// The rules that a description breaks.
pub(crate) fn broken(mpd: &Element) -> Vec<&'static str> {
    let rules = RULES.iter();
    rules
        .filter(|(_, holds)| !holds(mpd))
        .map(|(name, _)| *name)
        .collect()
}

/// The rules of updates that a later description breaks (ISO 23009-1 5.4.1).
pub(crate) fn broken_update(before: &Element, after: &Element) -> Vec<&'static str> {
    let mut broken = Vec::new();
    let mut rule = |name, holds: bool| {
        if !holds {
            broken.push(name);
        }
    };
    rule(
        "availabilityStartTime stays",
        before.get("availabilityStartTime") == after.get("availabilityStartTime"),
    );
    rule(
        "publishTime does not fall",
        before.get("publishTime") <= after.get("publishTime"),
    );
    let starts: BTreeMap<_, _> = before
        .all("Period")
        .map(|p| (p.get("id"), p.get("start")))
        .collect();
    rule(
        "a Period keeps its start",
        after.all("Period").all(|p| {
            starts
                .get(&p.get("id"))
                .is_none_or(|s| *s == p.get("start"))
        }),
    );
    let key = |s: &Listed| (s.representation.clone(), s.url.clone());
    // What is foreseen may come otherwise: the last two of each that may be asked for before they are whole.
    let mut listed = segments(before);
    for name in ["v0", "a0"] {
        let ahead = |s: &Listed| s.representation == name && s.offset > 0.0;
        for _ in 0..2 {
            if let Some(last) = listed.iter().rposition(ahead) {
                listed.remove(last);
            }
        }
    }
    let then: BTreeMap<_, _> = listed.into_iter().map(|s| (key(&s), s)).collect();
    rule(
        "a segment keeps its time, its period and its number",
        segments(after).iter().all(|now| {
            then.get(&key(now)).is_none_or(|then| {
                (&then.period, then.number, then.time) == (&now.period, now.number, now.time)
            })
        }),
    );
    broken
}
