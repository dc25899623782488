//! Rates, delays, jitter and wrap in one epoch.
use proptest::prelude::*;

use super::{super::*, world::*};
use crate::live::Cut;

fn one_epoch(encoder: &Encoder) -> Result {
    let mut origin = origin(encoder);
    feed(&mut origin, encoder.packets());
    let mut epochs = collect(&mut origin);
    assert_eq!(epochs.len(), 1, "one epoch for {encoder:?}");
    epochs.remove(0)
}

#[test]
fn parts_are_near_their_target_at_every_usual_rate() {
    for rate in [
        (24_000, 1001),
        (24, 1),
        (25, 1),
        (30_000, 1001),
        (30, 1),
        (50, 1),
        (60_000, 1001),
        (60, 1),
    ] {
        for audio in [
            (44_100, 1024),
            (48_000, 1024),
            (48_000, 960),
            (22_050, 1024),
        ] {
            let encoder = Encoder {
                rate,
                audio,
                millis: 60_000,
                b_frames: 2,
                ..Encoder::default()
            };
            let epoch = one_epoch(&encoder);
            check_parts(epoch.video());
            check_parts(epoch.audio());
            check_steps(&epoch, 0);
            let video = epoch.video();
            let (num, den) = (i64::from(rate.0), i64::from(rate.1));
            for (k, frame) in video.frames.iter().enumerate() {
                let k = i64::try_from(k).unwrap();
                assert_eq!(
                    frame.dts,
                    super::super::clock::div_round(k * 90_000 * den, num)
                );
            }
            assert_eq!(video.frames.len() as i64, (60 * num + den - 1) / den);
            for w in epoch.audio().frames.windows(2) {
                assert_eq!(w[1].dts - w[0].dts, i64::from(audio.1));
            }
        }
    }
}

#[test]
fn jitter_and_a_wrong_announced_rate_keep_parts_near_their_target() {
    for (rate, announced, jitter) in [
        ((30, 1), (30, 1), 3),
        ((25, 1), (25, 1), 3),
        ((60, 1), (30, 1), 0),
        ((25, 1), (30, 1), 0),
    ] {
        for seed in 0..20 {
            let encoder = Encoder {
                rate,
                jitter,
                seed,
                ..Encoder::default()
            };
            let mut origin = origin(&encoder);
            origin.announce(Announced {
                video: 1,
                audio: 1,
                rate: Some(announced),
            });
            feed(&mut origin, encoder.packets());
            let epochs = collect(&mut origin);
            check_parts(epochs[0].video());
        }
    }
}

#[test]
fn a_rate_that_nobody_tells_is_measured() {
    let encoder = Encoder {
        rate: (30_000, 1001),
        ..Encoder::default()
    };
    let mut origin = Origin::new();
    origin.set_live(true);
    origin.configure(Input::VIDEO, video(0, (0, 1)));
    origin.configure(Input::AUDIO, audio(encoder.audio));
    feed(&mut origin, encoder.packets());
    let epochs = collect(&mut origin);
    let video = epochs[0].video();
    assert_eq!(video.track.frames_per_part, 6);
    assert_eq!(video.frames[0].dts, 0);
    assert_eq!(video.frames[500].dts, 500 * 3003);
    check_parts(video);
}

#[test]
fn without_keyframes_segments_are_cut_at_4_s_and_say_so() {
    let encoder = Encoder {
        keyframes: (30_000, 30_000),
        millis: 29_000,
        ..Encoder::default()
    };
    let epoch = one_epoch(&encoder);
    let video = epoch.video();
    let starts: Vec<_> = video.segments().iter().map(|f| f.dts / 90_000).collect();
    assert_eq!(starts, [0, 4, 8, 12, 16, 20, 24, 28]);
    assert!(video.groups[0].independent);
    assert!(video.groups[1..].iter().all(|g| !g.independent));
    check_steps(&epoch, 0);
}

#[test]
fn keyframes_every_2_and_every_4_s_give_segments_of_that_length() {
    for every in [2_000, 4_000] {
        for rate in [(24_000, 1001), (25, 1), (30_000, 1001), (50, 1)] {
            let epoch = one_epoch(&Encoder {
                rate,
                keyframes: (every - 5, every - 5),
                ..Encoder::default()
            });
            let video = epoch.video();
            assert!(video.segments().iter().all(|f| f.keyframe), "{rate:?}");
            let starts = video.segments();
            for w in starts.windows(2) {
                let long = video.millis(w[1].dts - w[0].dts);
                assert!((long - every as i64).abs() <= 45, "{long} of {every}");
            }
            check_steps(&epoch, 0);
        }
    }
}

#[test]
fn a_wrap_of_the_clock_is_not_seen() {
    let plain = one_epoch(&Encoder::default());
    let wrapped = one_epoch(&Encoder {
        start: u32::MAX - 7_000,
        ..Encoder::default()
    });
    assert_eq!(plain.video().frames, wrapped.video().frames);
    assert_eq!(plain.audio().frames, wrapped.audio().frames);
}

#[test]
fn audio_groups_last_a_second_and_sound_alone_is_cut_every_2_s() {
    let encoder = Encoder::default();
    let mut origin = Origin::new();
    origin.set_live(true);
    origin.configure(Input::AUDIO, audio(encoder.audio));
    feed(
        &mut origin,
        encoder
            .packets()
            .into_iter()
            .filter(|m| m.packet.input == Input::AUDIO),
    );
    let epochs = collect(&mut origin);
    assert_eq!(epochs.len(), 1);
    let line = epochs[0].audio();
    assert_eq!(line.track.id, TrackId(0));
    assert_eq!(line.frames[0].dts, 0);
    check_parts(line);
    let starts: Vec<_> = line.segments().iter().map(|f| line.millis(f.dts)).collect();
    assert!(
        (480..=520).contains(&starts[1]),
        "the first is short: {starts:?}"
    );
    for w in starts[1..].windows(2) {
        assert!((1_980..=2_030).contains(&(w[1] - w[0])), "{starts:?}");
    }
    assert_eq!(line.groups.len(), 2 * starts.len() - 1);
}

#[test]
fn a_tight_group_of_pictures_is_one_group_each_and_parts_run_on() {
    let epoch = one_epoch(&Encoder {
        keyframes: (480, 480),
        ..Encoder::default()
    });
    let video = epoch.video();
    check_parts(video);
    let inside = video
        .groups
        .iter()
        .filter(|g| g.part > 0 && g.independent)
        .count();
    assert!(inside > 10, "keyframes within segments");
    let runs_on = video
        .frames
        .iter()
        .any(|f| f.keyframe && f.cut == Cut::None);
    assert!(runs_on, "a part is not cut by a keyframe");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_keyframe_distance_b_frames_and_delay_of_sound(
        seed: u64,
        b_frames in 0u32..4,
        later in prop::sample::select(vec![-400i64, -100, 0, 100, 400]),
        rate in prop::sample::select(vec![(24_000u32, 1001u32), (25, 1), (30_000, 1001), (50, 1)]),
        start: u32,
    ) {
        let encoder = Encoder {
            rate,
            millis: 40_000,
            keyframes: (500, 5_000),
            b_frames,
            sound_later: later,
            start,
            seed,
            ..Encoder::default()
        };
        let epoch = one_epoch(&encoder);
        check_parts(epoch.video());
        check_parts(epoch.audio());
        check_steps(&epoch, (-later).max(0));
        // Sound and pictures as the encoder timed them.
        let video = epoch.video();
        for (i, w) in video.segments().windows(2).enumerate() {
            let least = if i == 0 { 45_000 } else { 2 * 90_000 };
            let long = w[1].dts - w[0].dts;
            prop_assert!(long >= least - 3_000, "segment {}: {}", i, long);
        }
        let audio = epoch.audio();
        prop_assert!(audio.frames[0].dts < 48 * 450);
        let last = audio.millis(audio.frames.last().unwrap().dts);
        prop_assert!((39_900..=40_000).contains(&last), "{}", last);
    }
}
