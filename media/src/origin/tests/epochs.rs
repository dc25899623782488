//! What opens an epoch, and what does not.
use super::{
    super::{clock::MILLI, *},
    world::*,
};

/// Two pieces of one encoder's packets, the second with its times moved.
fn moved(encoder: &Encoder, at: i64, by: i64) -> Vec<Made> {
    let mut all = encoder.packets();
    for made in &mut all {
        if made.packet.time - i64::from(encoder.start) * MILLI >= at * MILLI {
            made.packet.time += by * MILLI;
        }
    }
    all
}

#[test]
fn a_jump_opens_one_epoch_and_a_small_one_none() {
    for (by, later, epochs) in [
        (11_000, 0, 2),
        (3_600_000, 200, 2),
        (-5_000, 200, 2),
        (-5_000, -200, 2),
        (-7_990, 0, 2),
        (-500_000_000, 0, 2),
        (700, 0, 1),
        (-700, 0, 1),
    ] {
        let encoder = Encoder {
            sound_later: later,
            millis: 24_000,
            start: 1_000_000_000,
            ..Encoder::default()
        };
        let mut origin = origin(&encoder);
        feed(&mut origin, moved(&encoder, 8_000, by));
        let found = collect(&mut origin);
        assert_eq!(found.len(), epochs, "moved by {by}, sound {later} later");
        if let [before, after] = &found[..] {
            assert!(before.ended && !after.ended);
            assert!(after.video().frames[0].keyframe);
            assert_eq!(after.video().frames[0].dts, 0);
            assert!(after.video().frames.len() > 30 * 12);
            assert!(after.audio().frames.len() > 47 * 12);
            check_steps(after, later.abs());
        }
    }
}

#[test]
fn a_hole_of_more_than_4_s_opens_an_epoch() {
    let encoder = Encoder {
        millis: 30_000,
        ..Encoder::default()
    };
    let hole = |kind: Option<TrackKind>| {
        let mut origin = origin(&encoder);
        let packets = encoder.packets().into_iter();
        feed(
            &mut origin,
            packets.filter(|m| {
                !(10_000..14_500).contains(&m.at) || kind.is_some_and(|k| k != m.packet.input.kind)
            }),
        );
        collect(&mut origin)
    };
    for kind in [None, Some(TrackKind::Video), Some(TrackKind::Audio)] {
        let epochs = hole(kind);
        assert_eq!(epochs.len(), 2, "{kind:?}");
        assert_eq!(epochs[1].opening.tracks.len(), 2);
    }
}

#[test]
fn a_track_that_falls_silent_is_left_out_and_taken_in_again() {
    for kind in [TrackKind::Audio, TrackKind::Video] {
        let encoder = Encoder {
            millis: 60_000,
            ..Encoder::default()
        };
        let mut origin = origin(&encoder);
        let packets = encoder.packets().into_iter();
        feed(
            &mut origin,
            packets.filter(|m| m.packet.input.kind != kind || !(10_000..30_000).contains(&m.at)),
        );
        let epochs = collect(&mut origin);
        let tracks: Vec<_> = epochs.iter().map(|e| e.opening.tracks.len()).collect();
        assert_eq!(tracks, [2, 1, 2], "{kind:?}");
        assert!(epochs[1].lines.iter().all(|l| l.track.kind != kind));
    }
}

#[test]
fn a_track_without_metadata_is_waited_for_500_ms_and_taken_in_later() {
    let encoder = Encoder {
        millis: 20_000,
        ..Encoder::default()
    };
    let mut origin = Origin::new();
    origin.set_live(true);
    origin.configure(Input::VIDEO, video(0, encoder.rate));
    let packets = encoder.packets();
    let (early, late) = packets.split_at(packets.iter().position(|m| m.at > 5_000).unwrap());
    feed(
        &mut origin,
        early.iter().take_while(|m| m.at < 490).cloned(),
    );
    assert!(collect(&mut origin).is_empty(), "it waits");
    feed(
        &mut origin,
        early.iter().skip_while(|m| m.at < 490).cloned(),
    );
    let one = collect(&mut origin);
    assert_eq!(one[0].opening.tracks.len(), 1);
    assert_eq!(one[0].video().frames[0].dts, 0, "nothing was lost");
    assert_eq!(one[0].opening.programme_time, UnixMillis(1_000_000));
    origin.configure(Input::AUDIO, audio(encoder.audio));
    feed(&mut origin, late.iter().cloned());
    assert_eq!(
        origin.poll().map(|o| matches!(o, Output::Frame(..))),
        Some(true)
    );
    let mut opened = None;
    while let Some(output) = origin.poll() {
        if let Output::Open(opening) = output {
            opened = Some(opening.tracks.len());
        }
    }
    assert_eq!(opened, Some(2));
}

#[test]
fn pictures_that_metadata_tells_of_are_waited_for_5_s() {
    let encoder = Encoder::default();
    let mut origin = Origin::new();
    origin.set_live(true);
    origin.configure(Input::AUDIO, audio(encoder.audio));
    origin.announce(Announced {
        video: 1,
        audio: 1,
        rate: None,
    });
    let packets = encoder.packets().into_iter();
    let mut sound = packets
        .filter(|m| m.packet.input == Input::AUDIO)
        .peekable();
    feed(
        &mut origin,
        std::iter::from_fn(|| sound.next_if(|m| m.at < 4_900)),
    );
    assert_eq!(origin.poll(), None);
    feed(&mut origin, sound);
    let epochs = collect(&mut origin);
    assert_eq!(epochs[0].opening.tracks.len(), 1);
}

#[test]
fn metadata_without_sound_is_believed_at_once() {
    let encoder = Encoder::default();
    let mut origin = Origin::new();
    origin.set_live(true);
    origin.configure(Input::VIDEO, video(0, encoder.rate));
    origin.announce(Announced {
        video: 1,
        audio: 0,
        rate: Some((30, 1)),
    });
    feed(&mut origin, encoder.packets().into_iter().take(1));
    assert_eq!(collect(&mut origin).len(), 1);
}

#[test]
fn another_video_configuration_opens_a_segment_at_the_next_keyframe() {
    let encoder = Encoder {
        keyframes: (1_000, 1_000),
        ..Encoder::default()
    };
    let mut origin = origin(&encoder);
    let packets = encoder.packets();
    let (first, second) = packets.split_at(packets.iter().position(|m| m.at > 8_500).unwrap());
    feed(&mut origin, first.iter().cloned());
    origin.configure(Input::VIDEO, video(1, encoder.rate));
    origin.configure(Input::VIDEO, video(1, encoder.rate));
    feed(&mut origin, second.iter().cloned());
    let epochs = collect(&mut origin);
    assert_eq!(epochs.len(), 1);
    let video = epochs[0].video();
    let new = video.groups.iter().find(|g| g.config.number == 1).unwrap();
    assert_eq!(new.base_decode_time, 9 * 90_000);
    assert_eq!((new.part, new.independent), (0, true));
    assert!(video.groups.iter().all(|g| g.config.number <= 1));
    check_steps(&epochs[0], 0);
}

#[test]
fn another_audio_configuration_opens_an_epoch() {
    let encoder = Encoder::default();
    let mut origin = origin(&encoder);
    let packets = encoder.packets();
    let (first, second) = packets.split_at(packets.len() / 2);
    feed(&mut origin, first.iter().cloned());
    let mut told = audio(encoder.audio);
    told.summary.bitrate = routing::model::BitsPerSecond(128_000);
    origin.configure(Input::AUDIO, told);
    assert!(!collect(&mut origin)[0].ended, "the same in other words");
    let mut changed = audio((44_100, 1024));
    changed.data = bytes::Bytes::from_static(&[0x12, 0x08]);
    origin.configure(Input::AUDIO, changed);
    feed(&mut origin, second.iter().cloned());
    assert_eq!(origin.poll(), Some(Output::End));
    let epochs = collect(&mut origin);
    assert_eq!(epochs.len(), 1);
    assert_eq!(epochs[0].audio().track.timescale, 44_100);
}

#[test]
fn standing_by_ends_the_epoch_and_going_live_opens_one_at_a_keyframe() {
    let encoder = Encoder::default();
    let mut origin = origin(&encoder);
    let packets = encoder.packets();
    let third = packets.len() / 3;
    feed(&mut origin, packets[..third].iter().cloned());
    origin.set_live(false);
    feed(&mut origin, packets[third..2 * third].iter().cloned());
    let epochs = collect(&mut origin);
    assert!(matches!(&epochs[..], [one] if one.ended));
    origin.set_live(true);
    feed(&mut origin, packets[2 * third..].iter().cloned());
    let epochs = collect(&mut origin);
    assert!(matches!(&epochs[..], [one] if one.video().frames[0].keyframe));
}

#[test]
fn any_packets_are_borne() {
    use rand::{RngExt as _, SeedableRng as _};
    for seed in 0..40 {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut origin = origin(&Encoder::default());
        let (mut clock, mut time) = (Unwrap::new(32), 0u32);
        for _ in 0..3_000 {
            time = if rng.random_range(0..50) == 0 {
                rng.random()
            } else {
                time.wrapping_add(rng.random_range(0..60))
            };
            let packet = Packet {
                input: if rng.random() {
                    Input::VIDEO
                } else {
                    Input::AUDIO
                },
                time: clock.time(u64::from(time)) * MILLI,
                composition: rng.random_range(-0x80_0000..0x80_0000) * 90,
                keyframe: rng.random_range(0..10) == 0,
                data: bytes::Bytes::from_static(&[0; 8]),
            };
            origin.push(UnixMillis(u64::from(time)), packet);
        }
        // The rules on every frame are checked while collecting; segments of such times have no length to check.
        while origin.poll().is_some() {}
    }
}
