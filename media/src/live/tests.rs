use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use routing::model::{
    BitsPerSecond, BroadcastId, Codec, EpochId, Hlc, NodeId, TrackDetail, TrackKind, TrackSummary,
    UnixMillis,
};

use super::*;

fn config() -> Arc<TrackConfig> {
    let detail = TrackDetail::Video {
        width: 640,
        height: 360,
        rate: (30, 1),
    };
    let summary = TrackSummary {
        kind: TrackKind::Video,
        codec: Codec::H264,
        codec_string: "avc1.42c01e".into(),
        bitrate: BitsPerSecond(0),
        detail,
    };
    Arc::new(TrackConfig {
        number: 0,
        since: 0,
        data: Bytes::from_static(&[1]),
        summary,
    })
}

fn epoch(n: u64) -> Arc<Epoch> {
    let track = Track {
        id: TrackId(0),
        kind: TrackKind::Video,
        timescale: 90_000,
        frames_per_part: 6,
        part_target: 18_000,
        first_segment: 0,
        config: config(),
    };
    Arc::new(Epoch {
        id: EpochId::from_u64(n),
        broadcast: BroadcastId::from_bytes([1; 16]),
        origin: NodeId::from_bytes([2; 32]),
        claim: Hlc(0),
        programme_time: UnixMillis(0),
        discontinuity: 0,
        follows: None,
        tracks: vec![track],
    })
}

fn header(epoch: &Epoch, seq: u64, dts: i64) -> GroupHeader {
    let stamp = Stamp {
        segment: seq,
        part: 0,
        discontinuity: 0,
        base_decode_time: dts,
    };
    GroupHeader {
        epoch: epoch.id,
        track: TrackId(0),
        seq: GroupSeq(seq),
        independent: true,
        stamp,
        config: config(),
    }
}

fn frame(dts: i64, cut: Cut) -> Frame {
    Frame {
        dts,
        cts: 0,
        keyframe: cut == Cut::Segment,
        cut,
        data: Bytes::from_static(&[0; 100]),
    }
}

#[tokio::test]
async fn a_late_reader_starts_at_the_latest_keyframe_and_follows() {
    let broadcast = Broadcast::new(BroadcastId::from_bytes([1; 16]), Limits::default());
    let line = broadcast.open(epoch(1));
    for seq in 0..3 {
        let dts = i64::try_from(seq).unwrap() * 180_000;
        let mut writer = broadcast.begin(header(line.epoch(), seq, dts)).unwrap();
        writer.push(frame(dts, Cut::Segment)).unwrap();
        writer.finish();
    }
    let start = line.latest_independent(TrackId(0)).unwrap();
    assert_eq!(start.header().seq, GroupSeq(2));
    let mut reader = broadcast.reader(line.epoch().id, TrackId(0), start.header().seq);
    assert_eq!(
        reader.next().await.unwrap().next().await.unwrap().dts,
        360_000
    );

    let mut writer = broadcast.begin(header(line.epoch(), 3, 540_000)).unwrap();
    let mut group = reader.next().await.unwrap();
    writer.push(frame(540_000, Cut::Segment)).unwrap();
    assert_eq!(group.next().await.unwrap().dts, 540_000);
    drop(writer);
    assert!(group.next().await.is_none());
    assert_eq!(group.group().phase(), Phase::Broken);
    broadcast.end(line.epoch().id);
    assert!(reader.next().await.is_none());
}

#[test]
fn the_window_is_bounded_in_time_and_the_last_numbers_survive_it() {
    let limits = Limits {
        window: Duration::from_secs(4),
        ..Limits::default()
    };
    let broadcast = Broadcast::new(BroadcastId::from_bytes([1; 16]), limits);
    let line = broadcast.open(epoch(1));
    for seq in 0..10 {
        let dts = i64::try_from(seq).unwrap() * 180_000;
        let mut writer = broadcast.begin(header(line.epoch(), seq, dts)).unwrap();
        writer.push(frame(dts, Cut::Segment)).unwrap();
        writer.finish();
    }
    let kept: Vec<_> = line
        .groups(TrackId(0))
        .iter()
        .map(|g| g.header().seq.0)
        .collect();
    assert_eq!(kept, [7, 8, 9]);
    assert_eq!(
        broadcast.begin(header(line.epoch(), 2, 0)).err(),
        Some(ModelError::Present)
    );
    assert_eq!(
        line.follows().last,
        [Last {
            segment: 9,
            dts: 9 * 180_000,
            start: 9 * 180_000,
            group: GroupSeq(9),
        }]
    );
}

#[test]
fn the_window_is_bounded_in_bytes_but_keeps_the_newest_group() {
    let limits = Limits {
        bytes: 250,
        ..Limits::default()
    };
    let broadcast = Broadcast::new(BroadcastId::from_bytes([1; 16]), limits);
    let line = broadcast.open(epoch(1));
    for seq in 0..5 {
        let dts = i64::try_from(seq).unwrap() * 180_000;
        let mut writer = broadcast.begin(header(line.epoch(), seq, dts)).unwrap();
        writer.push(frame(dts, Cut::Segment)).unwrap();
        writer.finish();
    }
    assert_eq!(
        line.groups(TrackId(0)).len(),
        3,
        "two full ones and the one that was begun last"
    );
}

#[test]
fn a_broken_group_can_be_written_again_but_a_finished_one_cannot() {
    let broadcast = Broadcast::new(BroadcastId::from_bytes([1; 16]), Limits::default());
    let line = broadcast.open(epoch(1));
    drop(broadcast.begin(header(line.epoch(), 0, 0)).unwrap());
    assert!(line.groups(TrackId(0)).is_empty());
    let mut writer = broadcast.begin(header(line.epoch(), 0, 0)).unwrap();
    writer.push(frame(0, Cut::Segment)).unwrap();
    assert_eq!(
        writer.push(frame(0, Cut::None)),
        Err(ModelError::DecodeTime)
    );
    assert_eq!(
        writer.push(frame(1, Cut::Segment)),
        Err(ModelError::SegmentInMidGroup)
    );
    writer.finish();
    assert_eq!(
        broadcast.begin(header(line.epoch(), 0, 0)).err(),
        Some(ModelError::Present)
    );
}

#[test]
fn headers_survive_the_wire() {
    let epoch = epoch(7);
    let bytes = minicbor::to_vec(&*epoch).unwrap();
    assert_eq!(minicbor::decode::<Epoch>(&bytes).unwrap(), *epoch);
    let header = header(&epoch, 3, 99);
    assert_eq!(
        minicbor::decode::<GroupHeader>(&minicbor::to_vec(&header).unwrap()).unwrap(),
        header
    );
}

#[test]
fn the_epoch_that_runs_is_current_and_what_a_track_lacks_is_known() {
    let broadcast = Broadcast::new(BroadcastId::from_bytes([1; 16]), Limits::default());
    let older = broadcast.open(epoch(1));
    broadcast.open(epoch(2));
    assert_eq!(broadcast.current().unwrap().epoch().id.as_u64(), 2);
    broadcast.end(EpochId::from_u64(2));
    assert_eq!(broadcast.current().unwrap().epoch().id.as_u64(), 1);

    let _open = broadcast.begin(header(older.epoch(), 2, 0)).unwrap();
    let lacks = |limit| older.missing(TrackId(0), GroupSeq(1), GroupSeq(5), limit);
    assert_eq!(lacks(9), [GroupSeq(1), GroupSeq(3), GroupSeq(4)]);
    assert_eq!(lacks(1), [GroupSeq(1)]);
    let next = older.next_group(TrackId(0), GroupSeq(0)).unwrap();
    assert_eq!(next.header().seq, GroupSeq(2));
    assert!(older.next_group(TrackId(0), GroupSeq(3)).is_none());
}

#[test]
fn a_change_of_backfilled_wakes_once() {
    let broadcast = Broadcast::new(BroadcastId::from_bytes([1; 16]), Limits::default());
    assert!(broadcast.backfilled());
    let mut changes = broadcast.changes();
    broadcast.set_backfilled(true);
    assert!(!changes.has_changed().unwrap());
    broadcast.set_backfilled(false);
    assert!(changes.has_changed().unwrap() && !broadcast.backfilled());
    changes.borrow_and_update();
    broadcast.set_backfilled(true);
    assert!(changes.has_changed().unwrap() && broadcast.backfilled());
}
