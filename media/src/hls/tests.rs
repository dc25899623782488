//! Playlists over time, at several nodes.
use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use rand::RngExt;

use super::*;
use crate::{
    live::{Follows, Last},
    pack::tests::{Feed, Made, broadcast, cut, epoch, frames, random, rng},
};

/// What was seen under a name: playlists by edge, segments and parts by URL.
#[derive(Default)]
struct Seen(HashMap<String, Bytes>);

impl Seen {
    /// Notes all that a view gives; asserts that nothing under a name changes. Counts what was compared with `other`.
    fn note(&mut self, view: &View, other: Option<&Seen>, what: &str) -> usize {
        let mut compared = 0;
        let cmaf = || {
            view.renditions
                .iter()
                .filter(|r| r.container == Container::Cmaf)
        };
        if cmaf().all(|r| r.full) && cmaf().count() > 1 {
            let edges: Vec<_> = cmaf()
                .map(|r| {
                    (
                        r.last(),
                        r.segments.last().map(|s| s.number),
                        r.open.as_ref().map(|o| o.number),
                    )
                })
                .collect();
            let name = format!("mpd {edges:?}");
            let (text, there) = (view.mpd(), other.and_then(|o| o.0.get(&name)));
            if let Some(before) = self.0.get(&name).or(there) {
                assert_eq!(before, &text, "{what}: {name} differs");
                compared += usize::from(there.is_some());
            }
            self.0.insert(name, text);
        }
        for r in &view.renditions {
            let mut put = |name: String, bytes: &dyn Fn() -> Bytes, again: bool| {
                if self.0.contains_key(&name) && !again {
                    return;
                }
                let bytes = bytes();
                if let Some(before) = self.0.get(&name) {
                    assert_eq!(before, &bytes, "{what}: {name} changed");
                }
                if let Some(other) = other {
                    let there = other.0.get(&name);
                    let there = there.unwrap_or_else(|| panic!("{what}: only here: {name}"));
                    assert_eq!(there, &bytes, "{what}: {name} differs");
                    compared += 1;
                }
                self.0.insert(name, bytes);
            };
            let segments = r.segments.iter().map(|s| &**s);
            for s in segments.clone().filter(|s| !s.is_gap()) {
                let name = format!("{}/{}/{}", s.epoch.id, r.name, s.number);
                put(name, &|| s.body().to_bytes(), false);
            }
            for p in segments.chain(&r.open).flat_map(|s| &s.parts) {
                let name = format!("{}/{}.{}", r.name, p.segment, p.number);
                put(name, &|| p.body().to_bytes(), false);
            }
            if r.full && r.last().is_some() {
                let open = r.open.as_ref().map(|o| (o.number, o.parts.len()));
                let last = r.segments.last().map(|s| s.number);
                let edge = format!("{} {last:?} {open:?} {:?}", r.name, r.hint);
                put(format!("{edge} skip"), &|| r.playlist(true), true);
                put(edge, &|| r.playlist(false), true);
            }
        }
        compared
    }
}

fn run(
    made: &Made,
    seed: u64,
    from: f64,
    delay: [f64; 2],
    spread: f64,
    seen: &mut Seen,
    other: Option<&Seen>,
) -> usize {
    let broadcast = broadcast();
    let mut feed = Feed::new(made, Arc::clone(&broadcast));
    let mut deriver = Deriver::default();
    let mut compared = 0;
    for arrival in made.arrivals(&mut rng(seed), from, &delay, spread) {
        feed.take(arrival);
        if let Some(view) = deriver.update(&broadcast) {
            compared += seen.note(&view, other, &format!("seed {seed}"));
        }
    }
    compared
}

#[test]
fn any_join_point_and_any_arrival_order_give_the_same_bytes_or_none() {
    let mut compared = 0;
    for seed in 0..4 {
        let made = random(&mut rng(seed), 1, 44.0);
        let mut origin = Seen::default();
        run(&made, seed, f64::MIN, [0.0, 0.0], 0.0, &mut origin, None);
        for node in 0..2 {
            let mut random = rng(seed * 10 + node);
            let from = if node == 0 {
                f64::MIN
            } else {
                random.random_range(0.0..7.0)
            };
            let delay = [random.random_range(0.0..0.5), random.random_range(0.0..0.5)];
            let mut seen = Seen::default();
            compared += run(&made, seed, from, delay, 0.5, &mut seen, Some(&origin));
        }
    }
    assert!(compared > 2_000, "{compared}");
}

/// The last view of a broadcast.
fn last_view(broadcast: &crate::live::Broadcast) -> View {
    Deriver::default().update(broadcast).unwrap()
}

fn check(playlist: &str) {
    let value = |tag: &str| -> f64 {
        let at = playlist
            .find(tag)
            .unwrap_or_else(|| panic!("no {tag} in {playlist}"));
        let rest = &playlist[at + tag.len()..];
        let end = rest.find([',', '\n']).unwrap();
        rest[..end].parse().unwrap()
    };
    assert!(playlist.starts_with("#EXTM3U\n#EXT-X-VERSION:9\n"));
    assert!(playlist.contains("\n#EXT-X-DISCONTINUITY-SEQUENCE:"));
    assert!(playlist.contains("CAN-BLOCK-RELOAD=YES"));
    let (target, part) = (value("TARGETDURATION:"), value("PART-TARGET="));
    assert!(value("PART-HOLD-BACK=") >= 3.0 * part - 1e-9);
    assert!(value(",HOLD-BACK=") >= 3.0 * target);
    assert!(value("CAN-SKIP-UNTIL=") >= 6.0 * target);
    let mut parts: Vec<(f64, bool)> = Vec::new();
    for line in playlist.lines() {
        if let Some(rest) = line.strip_prefix("#EXT-X-PART:DURATION=") {
            let (length, _) = rest.split_once(',').unwrap();
            parts.push((length.parse().unwrap(), false));
        }
        if let Some(length) = line.strip_prefix("#EXTINF:") {
            let length: f64 = length.trim_end_matches(',').parse().unwrap();
            assert!(length.round() <= target, "{line}");
            if let Some(last) = parts.last_mut() {
                last.1 = true;
            }
        }
    }
    assert!(!parts.is_empty());
    for (length, ends_segment) in parts {
        assert!(length <= part, "{length} of {part}");
        assert!(ends_segment || length >= 0.85 * part, "{length} of {part}");
    }
}

#[test]
fn playlists_keep_the_rules_that_are_commonly_missed() {
    for seed in 0..20 {
        let made = random(&mut rng(seed), 1, 42.0);
        let broadcast = broadcast();
        let mut feed = Feed::new(&made, Arc::clone(&broadcast));
        let mut deriver = Deriver::default();
        let mut view = None;
        for arrival in made.arrivals(&mut rng(seed), f64::MIN, &[0.0, 0.1], 0.0) {
            feed.take(arrival);
            view = deriver.update(&broadcast).or(view);
        }
        let view = view.unwrap();
        for name in ["v0", "a0"] {
            let r = view.rendition(name).unwrap();
            let text = String::from_utf8(r.playlist(false).to_vec()).unwrap();
            check(&text);
            let independent = text.contains("#EXT-X-INDEPENDENT-SEGMENTS");
            let listed = &r.segments[r.first..];
            let open = r.open.iter().filter(|o| !o.parts.is_empty());
            let all = listed
                .iter()
                .map(|s| &**s)
                .chain(open)
                .all(|s| s.independent);
            assert_eq!(independent, all, "seed {seed}");
            let other = if name == "v0" { "a0" } else { "v0" };
            assert!(text.contains(&format!("RENDITION-REPORT:URI=\"{other}.m3u8\",LAST-MSN=")));
            assert!(text.contains("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\""));
            let window: f64 = text
                .lines()
                .filter_map(|l| {
                    l.strip_prefix("#EXTINF:")?
                        .strip_suffix(',')?
                        .parse::<f64>()
                        .ok()
                })
                .sum();
            assert!((32.0..36.5).contains(&window), "{window}");
        }
    }
}

/// A playlist's segments, each with the lines that belong to it.
fn segments(playlist: &str) -> Vec<Vec<&str>> {
    let begins = |l: &&str| l.starts_with("#EXT-X-MAP") || l.starts_with("#EXT-X-PROGRAM");
    let mut all = vec![Vec::new()];
    for line in playlist.lines().skip_while(|l| !begins(l)) {
        all.last_mut().unwrap().push(line);
        if !line.starts_with('#') {
            all.push(Vec::new());
        }
    }
    all
}

#[test]
fn a_delta_update_leaves_out_what_is_older_than_its_boundary_and_nothing_else() {
    for seed in 0..8 {
        let made = random(&mut rng(seed), 1, 42.0);
        let broadcast = broadcast();
        let mut feed = Feed::new(&made, Arc::clone(&broadcast));
        for arrival in made.arrivals(&mut rng(seed), f64::MIN, &[0.0, 0.0], 0.0) {
            feed.take(arrival);
        }
        let view = last_view(&broadcast);
        for name in ["v0", "a0"] {
            let r = view.rendition(name).unwrap();
            let [full, delta] =
                [false, true].map(|skip| String::from_utf8(r.playlist(skip).to_vec()).unwrap());
            let skip = delta.split("SKIPPED-SEGMENTS=").nth(1).unwrap();
            let skip: usize = skip.lines().next().unwrap().parse().unwrap();
            let (full, delta) = (segments(&full), segments(&delta));
            let whole = |list: &[Vec<&str>]| -> Vec<Vec<String>> {
                // The map is said again where the one before it was left out.
                let own = |l: &&&str| !l.starts_with("#EXT-X-MAP");
                list.iter()
                    .map(|s| s.iter().filter(own).map(|l| (*l).to_owned()).collect())
                    .collect()
            };
            assert_eq!(whole(&full[skip..]), whole(&delta), "seed {seed} {name}");
            assert!(delta[0][0].starts_with("#EXT-X-MAP"));
            let length = |s: &Vec<&str>| {
                let line = s.iter().find_map(|l| l.strip_prefix("#EXTINF:"));
                line.map_or(0.0, |l| l.trim_end_matches(',').parse::<f64>().unwrap())
            };
            let behind: f64 = full[skip + 1..].iter().map(length).sum();
            let open = r
                .open
                .as_ref()
                .map_or(0.0, |o| crate::hls::view::duration(o).as_secs_f64());
            assert!(skip > 0 && behind + length(&full[skip]) + open > 24.0);
            assert!(behind + open <= 24.0, "more could be left out: {behind}");
        }
    }
}

#[test]
fn a_request_is_held_until_its_edge_and_a_part_past_the_end_is_part_0_of_the_next() {
    let made = random(&mut rng(2), 1, 20.0);
    let broadcast = broadcast();
    let mut feed = Feed::new(&made, Arc::clone(&broadcast));
    let mut deriver = Deriver::default();
    let at = |segment, part| Position { segment, part };
    let (mut past_end, mut next_begun) = (None, None);
    for (i, arrival) in made
        .arrivals(&mut rng(2), f64::MIN, &[0.0, 0.0], 0.0)
        .into_iter()
        .enumerate()
    {
        feed.take(arrival);
        let Some(view) = deriver.update(&broadcast) else {
            continue;
        };
        let r = view.rendition("v0").unwrap();
        let Some(last) = r.last() else { continue };
        assert_eq!(r.reload(at(last + 3, None)), Reload::Refuse(BadAsk::TooFar));
        assert_ne!(r.reload(at(last + 2, None)), Reload::Refuse(BadAsk::TooFar));
        if let Some(open) = r.open.as_ref().filter(|o| !o.parts.is_empty()) {
            let parts = u32::try_from(open.parts.len()).unwrap();
            assert_eq!(r.reload(at(open.number, Some(parts - 1))), Reload::Now);
            assert_eq!(r.reload(at(open.number, Some(parts))), Reload::Hold);
            assert_eq!(r.reload(at(open.number, None)), Reload::Hold);
            assert_eq!(r.reload(at(open.number - 1, Some(500))), Reload::Now);
        }
        // What was asked of segment 1002 past its end is there exactly when part 0 of 1003 is.
        if r.reload(at(1002, Some(500))) == Reload::Now {
            past_end.get_or_insert(i);
        }
        if r.any(1003).is_some_and(|s| !s.parts.is_empty()) {
            next_begun.get_or_insert(i);
        }
    }
    assert!(past_end.is_some());
    assert_eq!(past_end, next_begun);
}

#[test]
fn a_replica_gives_no_playlist_before_it_has_the_window_or_all_that_can_be_had() {
    let made = random(&mut rng(8), 1, 48.0);
    let broadcast = broadcast();
    broadcast.set_backfilled(false);
    let mut feed = Feed::new(&made, Arc::clone(&broadcast));
    let mut deriver = Deriver::default();
    let mut held = 0;
    for arrival in made.arrivals(&mut rng(8), 10.0, &[0.0, 0.0], 0.0) {
        feed.take(arrival);
        let Some(view) = deriver.update(&broadcast) else {
            continue;
        };
        let r = view.rendition("v0").unwrap();
        let listed: i64 = r.segments.iter().map(|s| s.end - s.start).sum();
        assert_eq!(view.ready("v0", false), listed >= 32 * 90_000);
        if !r.segments.is_empty() && !view.ready("v0", false) {
            held += 1;
            assert!(view.ready("v0", true));
        }
    }
    assert!(held > 20, "{held}");
    let made = random(&mut rng(9), 2, 12.0);
    let mut feed = Feed::new(&made, Arc::clone(&broadcast));
    for arrival in made.arrivals(&mut rng(9), 1.0, &[0.0, 0.0], 0.0) {
        feed.take(arrival);
    }
    broadcast.set_backfilled(true);
    let view = deriver.update(&broadcast).unwrap();
    assert_eq!(
        view.ready("v0", false),
        !view.rendition("v0").unwrap().segments.is_empty()
    );
}

#[test]
fn an_epoch_that_follows_continues_the_numbers_behind_one_discontinuity() {
    let mut random_ = rng(4);
    let first = random(&mut random_, 1, 9.0);
    let broadcast = broadcast();
    let mut feed = Feed::new(&first, Arc::clone(&broadcast));
    for arrival in first.arrivals(&mut rng(0), f64::MIN, &[0.0, 0.0], 0.0) {
        feed.take(arrival);
    }
    broadcast.end(first.epoch.id);
    drop(feed);
    let last: Vec<Last> = first
        .groups
        .iter()
        .map(|g| {
            let (header, frames) = g.last().unwrap();
            Last {
                segment: header.stamp.segment,
                dts: frames.last().unwrap().dts,
                start: header.stamp.base_decode_time,
                group: header.seq,
            }
        })
        .collect();
    let mut tracks = first.epoch.tracks.clone();
    for (track, last) in tracks.iter_mut().zip(&last) {
        track.first_segment = last.segment + 1;
    }
    let follows = Follows {
        epoch: first.epoch.id,
        last,
        broken: false,
    };
    for (n, follows) in [(2, Some(follows)), (3, None)] {
        let continues = follows.is_some();
        let epoch = epoch(n, tracks.clone(), follows);
        let groups = epoch
            .tracks
            .iter()
            .map(|t| cut(&epoch, t, &frames(&mut random_, t, 6.0, 0)))
            .collect();
        let made = Made { epoch, groups };
        let before = last_view(&broadcast);
        let mut feed = Feed::new(&made, Arc::clone(&broadcast));
        // An epoch without frames changes nothing in what is listed.
        let opened = last_view(&broadcast);
        if continues {
            let count = |v: &View| v.rendition("v0").unwrap().segments.len();
            assert_eq!(count(&before), count(&opened));
        }
        for arrival in made.arrivals(&mut rng(0), f64::MIN, &[0.0, 0.0], 0.0) {
            feed.take(arrival);
        }
        let view = last_view(&broadcast);
        for name in ["v0", "a0", "ts"] {
            let r = view.rendition(name).unwrap();
            let numbers: Vec<u64> = r.segments.iter().map(|s| s.number).collect();
            assert!(numbers.windows(2).all(|w| w[0] + 1 == w[1]), "{numbers:?}");
            let text = String::from_utf8(r.playlist(false).to_vec()).unwrap();
            let jumps = text
                .lines()
                .filter(|l| *l == "#EXT-X-DISCONTINUITY")
                .count();
            assert_eq!(jumps, usize::from(continues), "{text}");
            let maps = text.matches("#EXT-X-MAP").count();
            let expected = if name == "ts" {
                0
            } else {
                1 + usize::from(continues)
            };
            assert_eq!(maps, expected);
            assert_eq!(text.contains(&first.epoch.id.to_string()), continues);
            assert!(!text.contains("GAP"));
        }
    }
}

#[test]
fn an_epoch_that_broke_off_ends_in_the_same_gaps_at_every_node() {
    for seed in 0..8 {
        let mut random_ = rng(seed);
        let first = random(&mut random_, 1, 16.0);
        // Two nodes, which the last frames reached or did not; the third was there all the time, and has more.
        let nodes: Vec<_> = [10.0, 13.0, f64::MAX]
            .map(|until| {
                let broadcast = broadcast();
                let mut feed = Feed::new(&first, Arc::clone(&broadcast));
                let arrivals = first.arrivals(&mut rng(0), f64::MIN, &[0.0, 0.0], 0.0);
                for arrival in arrivals.into_iter().filter(|a| a.at < until) {
                    feed.take(arrival);
                }
                (broadcast, feed)
            })
            .into_iter()
            .collect();
        let known = Arc::clone(&nodes[1].0);
        let past = crate::origin::Past::of(&known.current().unwrap());
        let next: Vec<u64> = past.next_numbers().iter().map(|(_, n)| *n).collect();
        let mut tracks = first.epoch.tracks.clone();
        for (track, next) in tracks.iter_mut().zip(&next) {
            track.first_segment = *next;
        }
        let epoch = epoch(2, tracks, Some(past.follows()));
        let groups = epoch
            .tracks
            .iter()
            .map(|t| cut(&epoch, t, &frames(&mut random_, t, 6.0, 0)))
            .collect();
        let second = Made { epoch, groups };
        let mut lists: Vec<Vec<String>> = Vec::new();
        for (n, (broadcast, feed)) in nodes.into_iter().enumerate() {
            broadcast.end(first.epoch.id);
            drop(feed);
            if n == 0 {
                // What another node has whole is fetched.
                let line = known.current().unwrap();
                for track in &first.epoch.tracks {
                    for group in line.groups(track.id) {
                        let frames = group.with_frames(|f, phase| {
                            (phase == crate::live::Phase::Finished).then(|| f.to_vec())
                        });
                        let Some(frames) = frames else { continue };
                        if let Ok(mut writer) = broadcast.begin(group.header().clone()) {
                            frames.into_iter().for_each(|f| writer.push(f).unwrap());
                            writer.finish();
                        }
                    }
                }
            }
            let mut feed = Feed::new(&second, Arc::clone(&broadcast));
            for arrival in second.arrivals(&mut rng(0), f64::MIN, &[0.0, 0.0], 0.0) {
                feed.take(arrival);
            }
            let view = last_view(&broadcast);
            let text = |name| {
                let list = view.rendition(name).unwrap().playlist(false);
                String::from_utf8(list.to_vec()).unwrap()
            };
            for (name, first) in ["v0", "a0"].iter().zip(&next) {
                let r = view.rendition(name).unwrap();
                let numbers: Vec<u64> = r.segments.iter().map(|s| s.number).collect();
                assert!(numbers.windows(2).all(|w| w[0] + 1 == w[1]), "{numbers:?}");
                for gap in [first - 2, first - 1] {
                    assert!(r.segment(gap).unwrap().is_gap(), "{name}: {gap}");
                }
                assert!(!r.segment(first - 3).unwrap().is_gap());
                assert!(!r.segment(*first).unwrap().is_gap());
                assert_eq!(text(name).matches("#EXT-X-DISCONTINUITY\n").count(), 1);
            }
            lists.push(["v0", "a0", "ts"].map(text).to_vec());
        }
        for (who, list) in [("who had less", &lists[0]), ("who had more", &lists[2])] {
            for (theirs, known) in list.iter().zip(&lists[1]) {
                let lines = || theirs.lines().zip(known.lines()).enumerate();
                let differs = lines().find(|(_, (a, b))| a != b);
                assert_eq!(differs, None, "seed {seed}: {who}");
                assert_eq!(theirs.len(), known.len(), "seed {seed}: {who}");
            }
        }
    }
}

#[test]
fn multivariant_playlists_are_as_written_here() {
    let made = random(&mut rng(0), 1, 0.5);
    let mut epoch = (*made.epoch).clone();
    epoch.tracks = vec![
        crate::pack::tests::track(0, routing::model::TrackKind::Video, (30_000, 1001), &[]),
        crate::pack::tests::track(1, routing::model::TrackKind::Audio, (48_000, 1), &[]),
    ];
    assert_eq!(
        multivariant(&epoch, Container::Cmaf),
        "#EXTM3U\n\
         #EXT-X-VERSION:9\n\
         #EXT-X-CONTENT-STEERING:SERVER-URI=\"../steering\",PATHWAY-ID=\"base\"\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a0\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"a0.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=295040,CODECS=\"avc1.42c00d,mp4a.40.2\",RESOLUTION=320x180,FRAME-RATE=29.970,AUDIO=\"a\",PATHWAY-ID=\"base\"\n\
         v0.m3u8\n"
    );
    assert_eq!(
        multivariant(&epoch, Container::Ts),
        "#EXTM3U\n\
         #EXT-X-VERSION:6\n\
         #EXT-X-CONTENT-STEERING:SERVER-URI=\"../steering\",PATHWAY-ID=\"base\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=295040,CODECS=\"avc1.42c00d,mp4a.40.2\",RESOLUTION=320x180,FRAME-RATE=29.970,PATHWAY-ID=\"base\"\n\
         ts.m3u8\n"
    );
}
