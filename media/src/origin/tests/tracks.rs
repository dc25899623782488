//! Several tracks of a kind: renditions of one picture, sounds in several languages.
use super::{super::*, world::*};

/// An encoder with two renditions and two sounds; the second rendition's keyframes are `off` ms after the first's.
fn packets(off: u64) -> Vec<Made> {
    let encoder = Encoder::default();
    let mut all = encoder.packets();
    let second = Encoder {
        rate: (15, 1),
        audio: (44_100, 1024),
        sound_later: 120,
        ..Encoder::default()
    };
    all.extend(second.packets().into_iter().map(|mut made| {
        made.packet.input.number = 1;
        if made.packet.input.kind == TrackKind::Video {
            made.packet.keyframe = (made.at + 2_000 - off) % 2_000 < 66;
        }
        made
    }));
    all.sort_by_key(|made| made.at);
    all
}

fn several() -> Origin {
    let mut origin = Origin::new();
    origin.set_live(true);
    origin.configure(Input::of(TrackKind::Audio, 1), audio((44_100, 1024)));
    origin.configure(Input::of(TrackKind::Video, 1), video(1, (15, 1)));
    origin.configure(Input::AUDIO, audio((48_000, 1024)));
    origin.configure(Input::VIDEO, video(0, (30, 1)));
    origin
}

#[test]
fn every_track_goes_in_step_with_the_first_picture() {
    for off in [0, 200] {
        let mut origin = several();
        feed(&mut origin, packets(off));
        let found = collect(&mut origin);
        let [epoch] = &found[..] else {
            panic!("{} epochs", found.len());
        };
        let scales: Vec<u32> = epoch.lines.iter().map(|l| l.track.timescale).collect();
        assert_eq!(scales, [90_000, 90_000, 48_000, 44_100]);
        let starts = |line: &Line| -> Vec<i64> {
            let first = line.segments().into_iter();
            first.map(|f| line.millis(f.pts())).collect()
        };
        let lead = starts(&epoch.lines[0]);
        assert!(lead.len() > 8);
        for (line, most) in epoch.lines.iter().zip([0, off + 67, 22, 24]) {
            let own = starts(line);
            assert!(own.len() + 1 >= lead.len(), "{} segments", own.len());
            for (lead, own) in lead.iter().zip(own) {
                let most = i64::try_from(most).unwrap();
                assert!((*lead - 34..=lead + most).contains(&own), "{lead} {own}");
            }
        }
        let second = &epoch.lines[1];
        assert!(second.segments().iter().all(|f| f.keyframe));
        assert!(second.frames[0].keyframe);
    }
}

#[test]
fn a_sound_more_or_less_opens_an_epoch_at_a_keyframe() {
    let second = Input::of(TrackKind::Audio, 1);
    let mut origin = several();
    let all = packets(0).into_iter();
    feed(
        &mut origin,
        all.filter(|m| m.packet.input != second || m.at < 5_000),
    );
    let found = collect(&mut origin);
    let tracks: Vec<usize> = found.iter().map(|e| e.lines.len()).collect();
    assert_eq!(tracks, [4, 3]);
    assert!(found[1].video().frames[0].keyframe);
}

#[test]
fn what_was_announced_is_waited_for() {
    let mut origin = Origin::new();
    origin.set_live(true);
    origin.configure(Input::VIDEO, video(0, (30, 1)));
    origin.configure(Input::AUDIO, audio((48_000, 1024)));
    origin.announce(Announced {
        video: 1,
        audio: 2,
        rate: None,
    });
    let second = Input::of(TrackKind::Audio, 1);
    for made in packets(0) {
        if made.packet.input == second && made.at > 200 {
            origin.configure(second, audio((44_100, 1024)));
        }
        origin.push(UnixMillis(made.at), made.packet);
    }
    let found = collect(&mut origin);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].lines.len(), 3);
}
