//! What a viewer sees, in any order of arrival.
use std::{sync::Arc, time::Duration};

use routing::model::TrackKind;

use super::*;
use crate::{
    live::{Broadcast, TrackId},
    pack::tests::{Feed, Made, broadcast, cut, epoch, frames, random, rng, track},
};

/// All that there is for this viewer now.
fn see(cursor: &mut Cursor, broadcast: &Broadcast) -> Vec<Event> {
    std::iter::from_fn(|| cursor.poll(broadcast)).collect()
}

fn shown(events: &[Event]) -> Vec<Shown> {
    let frames = events.iter().filter_map(|e| match e {
        Event::Frame(frame) => Some(frame.clone()),
        Event::Lines(_) => None,
    });
    frames.collect()
}

/// Rising in each track, from a keyframe on.
fn sound(frames: &[Shown]) {
    for line in 0..2 {
        let of: Vec<&Shown> = frames.iter().filter(|f| f.line == line).collect();
        assert!(of[0].keyframe);
        assert!(of.windows(2).all(|w| w[0].dts < w[1].dts), "line {line}");
    }
}

#[test]
fn a_viewer_begins_at_the_newest_keyframe_and_misses_nothing_from_there() {
    for seed in 0..20 {
        let made = random(&mut rng(seed), 1, 20.0);
        let broadcast = broadcast();
        let mut feed = Feed::new(&made, Arc::clone(&broadcast));
        let all = made.arrivals(&mut rng(seed), f64::MIN, &[0.0, 0.1], 0.0);
        let (past, later) = all.split_at(all.len() / 2);
        for arrival in past {
            feed.take(*arrival);
        }
        let line = broadcast.current().unwrap();
        let newest = line.latest_independent(TrackId(0)).unwrap();
        let start = newest.header().stamp.base_decode_time;
        let mut cursor = Cursor::new(|_| true);
        let mut events = see(&mut cursor, &broadcast);
        assert!(
            matches!(&events[0], Event::Lines(l) if l.len() == 2 && l[0].kind == TrackKind::Video)
        );
        assert_eq!(shown(&events)[0].dts, Duration::ZERO);
        assert_eq!(shown(&events)[0].data, newest.frames()[0].data);
        for arrival in later {
            feed.take(*arrival);
            events.extend(see(&mut cursor, &broadcast));
        }
        broadcast.end(made.epoch.id);
        assert!(see(&mut cursor, &broadcast).is_empty());
        let frames = shown(&events);
        sound(&frames);
        for (line, groups) in made.groups.iter().enumerate() {
            let scale = i64::from(made.epoch.tracks[line].timescale);
            let from = |dts: i64| i128::from(dts) * 90_000 >= i128::from(start) * i128::from(scale);
            let there = groups.iter().flat_map(|(_, f)| f).filter(|f| from(f.dts));
            let seen = frames.iter().filter(|f| f.line == line);
            assert!(
                there.map(|f| &f.data).eq(seen.map(|f| &f.data)),
                "seed {seed} line {line}"
            );
        }
    }
}

#[test]
fn one_who_is_too_slow_goes_on_at_the_newest_keyframe() {
    let made = random(&mut rng(3), 1, 40.0);
    let broadcast = broadcast();
    let mut feed = Feed::new(&made, Arc::clone(&broadcast));
    let mut cursor = Cursor::new(|_| true);
    let (mut events, mut most) = (Vec::new(), Duration::ZERO);
    for arrival in made.arrivals(&mut rng(3), f64::MIN, &[0.0, 0.0], 0.0) {
        feed.take(arrival);
        // It takes a third of what comes.
        if events.len() as f64 <= arrival.at * 27.0 {
            events.extend(cursor.poll(&broadcast));
            if let Some(Event::Frame(frame)) = events.last() {
                most = most.max(Duration::from_secs_f64(arrival.at).saturating_sub(frame.dts));
            }
        }
    }
    let frames = shown(&events);
    sound(&frames);
    let pictures: Vec<&Shown> = frames.iter().filter(|f| f.line == 0).collect();
    let jumps: Vec<_> = pictures
        .windows(2)
        .filter(|w| w[1].dts - w[0].dts > Duration::from_secs(1))
        .collect();
    assert!(
        jumps.len() >= 2 && jumps.iter().all(|w| w[1].keyframe),
        "{}",
        jumps.len()
    );
    // As far as is borne, a group until that is looked at, and as long as that takes at this pace.
    assert!(most < 4 * BEHIND, "{most:?}");
}

#[test]
fn an_epoch_goes_on_where_the_one_before_ended() {
    let broadcast = broadcast();
    let mut cursor = Cursor::new(|_| true);
    let mut events = Vec::new();
    let mut count = 0;
    for id in [7, 9] {
        let made = random(&mut rng(id), id, 6.0);
        let mut feed = Feed::new(&made, Arc::clone(&broadcast));
        for arrival in made.arrivals(&mut rng(0), 0.0, &[0.0, 0.0], 0.0) {
            feed.take(arrival);
            events.extend(see(&mut cursor, &broadcast));
        }
        broadcast.end(made.epoch.id);
        events.extend(see(&mut cursor, &broadcast));
        let before = std::mem::replace(&mut count, shown(&events).len());
        assert!(count > before + 200, "{count}");
    }
    let lines = events.iter().filter(|e| matches!(e, Event::Lines(_)));
    assert_eq!(lines.count(), 2);
    let frames = shown(&events);
    sound(&frames);
    let last = frames.last().unwrap();
    assert!((11.0..14.0).contains(&last.dts.as_secs_f64()), "{last:?}");
}

#[test]
fn after_a_hole_pictures_go_on_at_a_keyframe_and_sound_goes_on() {
    let tracks = vec![
        track(0, TrackKind::Video, (25, 1), &[1]),
        track(1, TrackKind::Audio, (48_000, 1), &[0x11, 0x90]),
    ];
    let epoch = epoch(1, tracks, None);
    let mut rng = rng(5);
    let groups = epoch
        .tracks
        .iter()
        .map(|t| cut(&epoch, t, &frames(&mut rng, t, 20.0, 0)));
    let made = Made {
        groups: groups.collect(),
        epoch: Arc::clone(&epoch),
    };
    let broadcast = broadcast();
    let mut feed = Feed::new(&made, Arc::clone(&broadcast));
    let mut cursor = Cursor::new(|_| true);
    let mut events = Vec::new();
    for arrival in made.arrivals(&mut rng, f64::MIN, &[0.0, 0.0], 0.0) {
        if (arrival.track, arrival.group) == (0, 2) {
            continue;
        }
        feed.take(arrival);
        events.extend(see(&mut cursor, &broadcast));
    }
    let frames = shown(&events);
    sound(&frames);
    let all = |line: usize| {
        made.groups[line]
            .iter()
            .map(|(_, f)| f.len())
            .sum::<usize>()
    };
    let seen = |line: usize| frames.iter().filter(|f| f.line == line).count();
    let pictures: Vec<&Shown> = frames.iter().filter(|f| f.line == 0).collect();
    assert!(seen(0) < all(0) && seen(0) > all(0) / 2);
    assert!(
        pictures
            .windows(2)
            .all(|w| w[1].keyframe || w[1].dts - w[0].dts < Duration::from_millis(50))
    );
    assert_eq!(seen(1), all(1));
}

#[test]
fn tracks_that_are_not_taken_are_left_out() {
    let made = random(&mut rng(1), 1, 4.0);
    let whole = crate::pack::tests::whole(&made);
    let mut cursor = Cursor::new(|codec| !codec.is_video());
    let events = see(&mut cursor, &whole);
    assert!(matches!(&events[0], Event::Lines(l) if l.len() == 1 && l[0].kind == TrackKind::Audio));
    assert!(Cursor::new(|_| false).poll(&whole).is_none());
}
