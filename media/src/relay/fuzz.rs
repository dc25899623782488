//! What another node's relay can send: messages, and all that follows from them at a replica and its viewers.
use std::sync::Arc;

use bytes::Bytes;
use fuzz_kit::{Input, join};
use libp2p_identity::Keypair;
use routing::model::{
    BroadcastId, EpochId, NodeId, TrackDetail, TrackKind, TrackSummary, UnixMillis, Uptime,
};

use super::{
    announce::{predecessors, spans, starts},
    intake::{Feed, Intake, position},
    tls,
    wire::{
        Accepted, Announce, End, Fetch, FrameHead, GroupHead, Message, Path, Probe, Reason,
        Refused, Reply, Request, Resume, Subscribe,
    },
};
use crate::{
    fuzz::ingest::{files, published, same},
    hls::Deriver,
    live::{Broadcast, Epoch, Frame, GroupHeader, GroupSeq, Limits, Track, TrackId},
    origin::Past,
};

fuzz_kit::targets! {
    relay_request: parse::<Request>, request_seeds;
    relay_reply: parse::<Reply>, reply_seeds;
    relay_group_head: parse::<GroupHead>, group_seeds;
    relay_frame_head: parse::<FrameHead>, frame_seeds;
    relay_replica: replica, replica_seeds;
    relay_certificate: certificate, certificate_seeds;
}

fn written(message: &impl Message) -> Vec<u8> {
    minicbor::to_vec(message).expect("a Vec takes all bytes")
}

/// What was read is written and read again as the same, within the same limits.
fn parse<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = M::parse(bytes) {
        assert!(message.within_limits());
        assert_eq!(M::parse(&written(&message)), Ok(message));
    }
}

const BROADCAST: BroadcastId = BroadcastId::from_bytes([1; 16]);

fn nodes(n: u8) -> Vec<NodeId> {
    (0..n).map(|n| NodeId::from_bytes([n; 32])).collect()
}

fn request_seeds() -> Vec<Vec<u8>> {
    let resume = Resume {
        epoch: EpochId::from_u64(5),
        next: vec![GroupSeq(1), GroupSeq(1 << 40)],
    };
    [
        Request::Subscribe(Subscribe {
            broadcast: BROADCAST,
            number: 77,
            resume: Some(resume),
        }),
        Request::Fetch(Fetch {
            broadcast: BROADCAST,
            epoch: EpochId::from_u64(5),
            track: TrackId(1),
            from: GroupSeq(3),
            to: GroupSeq(9),
        }),
        Request::Probe(Probe {
            broadcast: BROADCAST,
        }),
        Request::Past(Probe {
            broadcast: BROADCAST,
        }),
    ]
    .iter()
    .map(written)
    .collect()
}

/// An epoch's announcement and its end, as its holder would say them.
fn said(broadcast: &Broadcast) -> Vec<Reply> {
    let mut all = Vec::new();
    for line in broadcast.epochs() {
        let epoch = Arc::clone(line.epoch());
        let (id, spans) = (epoch.id, spans(&line, None, true, false));
        let next = spans.iter().map(|span| span.live.next()).collect();
        all.push(Reply::Epoch(Announce {
            epoch,
            spans,
            current: true,
        }));
        all.push(Reply::End(End { epoch: id, next }));
    }
    all
}

fn reply_seeds() -> Vec<Vec<u8>> {
    let broadcast = published();
    let mut all = said(&broadcast);
    all.extend([
        Reply::Accepted(Accepted { path: nodes(3) }),
        Reply::Path(Path { path: nodes(2) }),
        Reply::Refused(Refused {
            reason: Reason::Full,
            instead: nodes(4),
        }),
    ]);
    all.extend(position(&broadcast, nodes(2)).map(Reply::Position));
    let past = broadcast.current().map(|line| Past::of(&line));
    all.extend(past.map(Reply::Past));
    all.iter().map(written).collect()
}

/// The groups of a broadcast's tracks, with their frames.
fn groups(broadcast: &Broadcast) -> Vec<(GroupHead, Vec<Frame>)> {
    let mut all = Vec::new();
    for line in broadcast.epochs() {
        for track in &line.epoch().tracks {
            for group in line.groups(track.id) {
                let header = group.header().clone();
                all.push((GroupHead { number: 1, header }, group.frames()));
            }
        }
    }
    all
}

fn group_seeds() -> Vec<Vec<u8>> {
    let all = groups(&published());
    all.iter().take(3).map(|(head, _)| written(head)).collect()
}

fn frame_seeds() -> Vec<Vec<u8>> {
    let all = groups(&published());
    let frames = all.iter().flat_map(|(_, frames)| frames);
    frames
        .take(3)
        .map(|f| written(&FrameHead::from(f)))
        .collect()
}

/// A source that says whatever it likes: the replica and those who watch there bear it.
fn replica(bytes: &[u8]) {
    let broadcast = Broadcast::new(
        BROADCAST,
        Limits {
            bytes: 1 << 20,
            ..Limits::default()
        },
    );
    let intake = Intake::new(Arc::clone(&broadcast));
    let (mut feeds, mut deriver) = (Vec::<Feed>::new(), Deriver::default());
    let mut input = Input::new(bytes);
    while !input.is_empty() {
        let what = input.byte();
        let which = usize::from(what >> 4);
        match what & 7 {
            0 => match Reply::parse(input.block()) {
                Ok(Reply::Epoch(announce)) => {
                    intake.announce(&announce);
                    if announce.current {
                        intake.supersede(announce.epoch.id);
                    }
                }
                Ok(Reply::End(end)) => intake.end(&end),
                Ok(Reply::Position(theirs)) => {
                    let ours = position(&broadcast, Vec::new());
                    let _ = ours.is_some_and(|ours| theirs.is_ahead_of(&ours));
                }
                _ => {}
            },
            1 => {
                if let Ok(head) = GroupHead::parse(input.block())
                    && let Ok(feed) = intake.feed(head.header)
                    && feeds.len() < 16
                {
                    feeds.push(feed);
                }
            }
            2 => {
                let (head, data) = (FrameHead::parse(input.block()), input.block());
                if let (Ok(head), Some(feed)) = (head, feeds.get_mut(which)) {
                    let frame = Frame {
                        dts: head.dts,
                        cts: head.cts,
                        keyframe: head.keyframe,
                        cut: head.cut,
                        data: Bytes::copy_from_slice(data),
                    };
                    // A frame that does not belong there is not taken.
                    let _ = feed.offer(frame, Uptime::ZERO);
                }
            }
            3 if which < feeds.len() => {
                let _ = feeds.swap_remove(which).finish();
            }
            4 if which < feeds.len() => drop(feeds.swap_remove(which)),
            5 => intake.settle(|_| which > 0),
            6 => {
                if let Some(view) = deriver.update(&broadcast) {
                    files(&view);
                }
            }
            _ => pass_on(&intake),
        }
    }
    let remembered = deriver.update(&broadcast);
    let whole = Deriver::default().update(&broadcast);
    if let (Some(remembered), Some(whole)) = (remembered, whole) {
        same(&remembered, &whole, false);
    }
}

/// What this node says to others of what it was told.
fn pass_on(intake: &Intake) {
    let broadcast = intake.broadcast();
    let resume = intake.resume();
    intake.missing();
    intake.heard();
    if let Some(position) = position(broadcast, Vec::new()) {
        parse::<Reply>(&written(&Reply::Position(position)));
    }
    let Some(current) = broadcast.current() else {
        return;
    };
    starts(&current);
    for line in predecessors(broadcast, &current)
        .into_iter()
        .chain([current])
    {
        for resume in [None, resume.as_ref()] {
            let spans = spans(&line, resume, true, false);
            let epoch = Arc::clone(line.epoch());
            let announce = Announce {
                epoch,
                spans,
                current: true,
            };
            parse::<Reply>(&written(&Reply::Epoch(announce)));
        }
    }
}

/// A broadcast as its holder would send it, with another epoch's header, and with every group changed.
fn sent(epoch: impl Fn(&mut Epoch), change: impl Fn(&mut GroupHeader, &mut Frame)) -> Vec<u8> {
    let broadcast = published();
    let op = |what: u8, blocks: &[&[u8]]| [vec![what], join(blocks)].concat();
    let mut all = Vec::new();
    let mut said = said(&broadcast);
    if let Some(Reply::Epoch(announce)) = said.first_mut() {
        epoch(Arc::make_mut(&mut announce.epoch));
    }
    for reply in &said[..1] {
        all.extend(op(0, &[&written(reply)]));
    }
    for (mut head, mut frames) in groups(&broadcast) {
        for frame in &mut frames {
            change(&mut head.header, frame);
        }
        all.extend(op(1, &[&written(&head)]));
        for frame in frames.iter().take(12) {
            all.extend(op(2, &[&written(&FrameHead::from(frame)), &frame.data]));
        }
        all.extend([3, 6, 7]);
    }
    for reply in &said[1..] {
        all.extend(op(0, &[&written(reply)]));
    }
    all.extend([0x15, 6, 7]);
    all
}

fn replica_seeds() -> Vec<Vec<u8>> {
    // The largest that is taken.
    const FAR: i64 = (1 << 60) - 1;
    const MOST: u64 = FAR.unsigned_abs();
    let header = |_: &mut Epoch| {};
    let plain = |_: &mut GroupHeader, _: &mut Frame| {};
    let config = |track: &mut Track, change: &dyn Fn(&mut TrackSummary)| {
        change(&mut Arc::make_mut(&mut track.config).summary);
    };
    vec![
        sent(header, plain),
        sent(header, |group, frame| {
            group.stamp.segment = MOST;
            group.stamp.discontinuity = MOST;
            group.stamp.part = u32::MAX;
            frame.cts = i32::MAX;
        }),
        sent(header, |group, frame| {
            group.stamp.base_decode_time = FAR - 10_000_000;
            frame.dts += FAR - 10_000_000;
        }),
        sent(header, |group, frame| {
            group.stamp.base_decode_time = -FAR;
            frame.dts -= FAR;
            frame.cts = i32::MIN;
        }),
        sent(
            |epoch| {
                epoch.discontinuity = MOST;
                epoch.programme_time = UnixMillis((1 << 48) - 1);
                for track in &mut epoch.tracks {
                    track.timescale = u32::MAX;
                    track.frames_per_part = u32::MAX;
                    track.part_target = 4 * u64::from(u32::MAX);
                    track.first_segment = MOST;
                    config(track, &|summary| {
                        summary.bitrate.0 = u64::MAX;
                        summary.codec_string = "a".repeat(64);
                        if let TrackDetail::Video {
                            width,
                            height,
                            rate,
                        } = &mut summary.detail
                        {
                            (*width, *height, *rate) = (u32::MAX, u32::MAX, (u32::MAX, 1));
                        }
                    });
                }
            },
            plain,
        ),
        // The smallest, and tracks whose kind is not that of their codec.
        sent(
            |epoch| {
                epoch.programme_time = UnixMillis(0);
                for track in &mut epoch.tracks {
                    track.timescale = 1;
                    track.frames_per_part = 1;
                    track.part_target = 0;
                    track.first_segment = 0;
                    track.kind = TrackKind::Data;
                    config(track, &|summary| summary.detail = TrackDetail::Data {});
                }
            },
            |_, frame| frame.data = Bytes::new(),
        ),
    ]
}

fn certificate(bytes: &[u8]) {
    // Whoever is named can be spoken of; that it holds the key is for the handshake to show.
    if let Some(node) = tls::named(bytes) {
        assert_eq!(node.to_string().parse(), Ok(node));
    }
}

fn certificate_seeds() -> Vec<Vec<u8>> {
    let pair = Keypair::ed25519_from_bytes([7; 32]).expect("any 32 bytes are a seed");
    let made = libp2p_tls::certificate::generate(&pair).expect("a key can certify itself");
    vec![made.0.to_vec()]
}
