//! From a publisher's tags to playlists and segments, all of it: what one publisher can send is what every viewer gets.
use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use fuzz_kit::{Input, join};
use routing::model::{BroadcastId, Hlc, NodeId, TrackKind, UnixMillis};
use tokio::sync::watch;

use super::codecs::{ASC, picture, tag, video_config};
use crate::{
    flv::{Tag, TagKind},
    hls::{BadAsk, Container, Deriver, Position, Reload, View, media},
    live::{Broadcast, Broadcasts, Limits},
    origin::{Feed, Origin, Writer},
    pack,
    ports::{Claim, Holders, Holding, Source},
};

fuzz_kit::targets! {
    ingest: ingest, ingest_seeds;
}

/// Nobody else holds anything.
struct Alone;

impl Holders for Alone {
    fn sources(&self, _: BroadcastId) -> Vec<Source> {
        Vec::new()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
    fn advertise(&self, _: Holding) {}
    fn withdraw(&self, _: BroadcastId) {}
}

/// A broadcast's tags as the input says them: a kind, how far the time moves, a body.
fn tags(bytes: &[u8]) -> impl Iterator<Item = Tag> {
    let (mut input, mut time) = (Input::new(bytes), 0_u32);
    std::iter::from_fn(move || {
        if input.is_empty() {
            return None;
        }
        let what = input.byte();
        time = match what >> 2 & 3 {
            0 => time.wrapping_add(u32::from(input.byte())),
            1 => time.wrapping_add(u32::from(input.short())),
            2 => time.wrapping_sub(u32::from(input.short())),
            _ => input.word(),
        };
        let kind = match what & 3 {
            0 => TagKind::Audio,
            1 => TagKind::Data,
            _ => TagKind::Video,
        };
        // A few bodies by a number alone: then their times are what there is to change.
        let body = match what >> 4 {
            1 => Bytes::from(picture(true, 0)),
            2 => Bytes::from(picture(false, 80)),
            3 => Bytes::from_static(&[0xaf, 1, 0x21, 0x10, 4]),
            _ => Bytes::copy_from_slice(input.block()),
        };
        Some(tag(kind, time, body))
    })
}

/// Feeds tags to an origin, and calls `look` after every few.
fn publish(tags: impl Iterator<Item = Tag>, mut look: impl FnMut(&Broadcast)) -> Arc<Broadcast> {
    let (id, node) = (
        BroadcastId::from_bytes([1; 16]),
        NodeId::from_bytes([2; 32]),
    );
    let broadcasts = Arc::new(Broadcasts::new(Limits {
        bytes: 1 << 20,
        ..Limits::default()
    }));
    let broadcast = broadcasts.get_or_create(id);
    let claim = Claim {
        stamp: Hlc(1),
        node,
    };
    let mut writer = Writer::new(broadcasts, Arc::new(Alone), id, node, claim);
    let (mut feed, mut origin) = (Feed::new(), Origin::new());
    origin.set_live(true);
    let start = UnixMillis(1_760_000_000_000);
    for (tag, n) in tags.zip(0..) {
        let now = UnixMillis(start.0 + 10 * n);
        let fed = feed.tag(&mut origin, now, &tag);
        while let Some(output) = origin.poll() {
            writer
                .write(now, output)
                .expect("the model takes what the origin decides");
        }
        if n % 16 == 15 {
            look(&broadcast);
        }
        if fed.is_err() {
            break;
        }
    }
    writer.end();
    look(&broadcast);
    broadcast
}

/// All that a viewer can be given, by name.
pub(crate) fn files(view: &View) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for container in [Container::Cmaf, Container::Ts] {
        let name = format!("{container:?}/index.m3u8");
        all.insert(name, view.multivariant(container).to_vec());
    }
    all.values().for_each(|playlist| check(playlist));
    for rendition in &view.renditions {
        let name = &rendition.name;
        for skip in [false, true] {
            let playlist = media(rendition, skip).into_bytes();
            check(&playlist);
            all.insert(format!("{name}.m3u8?skip={skip}"), playlist);
        }
        let edge = rendition.last().unwrap_or(0);
        for segment in [0, edge, edge.saturating_add(1), u64::MAX] {
            for part in [None, Some(0), Some(u32::MAX)] {
                let reload = rendition.reload(Position { segment, part });
                assert!(segment > edge || reload != Reload::Refuse(BadAsk::TooFar));
            }
        }
        let mut last: Option<u64> = None;
        for segment in rendition
            .segments
            .iter()
            .map(|s| &**s)
            .chain(&rendition.open)
        {
            let number = segment.number;
            assert!(
                last.is_none_or(|last| last + 1 == number),
                "segment numbers have no holes"
            );
            last = Some(number);
            let at = format!("{name}/{}/{number}", segment.epoch.id);
            for part in &segment.parts {
                let bytes = part.body().buffers().concat();
                all.insert(format!("{at}.{}", part.number), bytes);
            }
            let body = segment.body().buffers().concat();
            if rendition.container == Container::Ts {
                assert_eq!(body.len() % 188, 0);
            }
            all.insert(at, body);
            let track = segment.epoch.track(segment.track);
            if let Some(track) = track
                && let Ok(init) = pack::init(track, &segment.config)
            {
                let number = segment.config.number;
                let named = view.config(segment.epoch.id, name, number);
                assert!(named.is_some() || segment.is_gap());
                all.insert(
                    format!("{name}/{}/init-{number}", segment.epoch.id),
                    init.to_vec(),
                );
            }
        }
    }
    all
}

/// A playlist has lines of its own, and names of ours.
fn check(playlist: &[u8]) {
    let text = std::str::from_utf8(playlist).expect("a playlist is UTF-8");
    assert!(text.starts_with("#EXTM3U\n") && text.ends_with('\n'));
    for line in text.lines() {
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-');
        let ours = line.starts_with("#EXT") || !line.is_empty() && line.bytes().all(name);
        assert!(ours && line.matches('"').count() % 2 == 0, "{line}");
    }
}

/// Checks that two views give the same files, and names the first that is another. `all`: those of MPEG-TS as well,
/// which were decided on when sound had been waited for long enough, and stay what they were when more of it comes.
pub(crate) fn same(one: &View, other: &View, all: bool) {
    let files = |view| {
        let mut files = files(view);
        files.retain(|name, _| all || !name.starts_with("ts"));
        files
    };
    let (one, other) = (files(one), files(other));
    for (name, bytes) in &one {
        let theirs = other.get(name).map(|b| String::from_utf8_lossy(b));
        let ours = String::from_utf8_lossy(bytes);
        assert!(
            theirs.as_ref() == Some(&ours),
            "{name} is another: {ours} and {theirs:?}"
        );
    }
    assert_eq!(
        one.len(),
        other.len(),
        "one has files that the other has not"
    );
}

fn ingest(bytes: &[u8]) {
    let (mut deriver, mut view) = (Deriver::default(), None);
    let broadcast = publish(tags(bytes), |broadcast| {
        if let Some(new) = deriver.update(broadcast) {
            files(&new);
            view = Some(new);
        }
    });
    let whole = Deriver::default().update(&broadcast);
    if let (Some(remembered), Some(whole)) = (&view, &whole) {
        same(remembered, whole, true);
    }
    assert_eq!(view.is_some(), whole.is_some());
    for line in broadcast.epochs() {
        for track in &line.epoch().tracks {
            assert_ne!(track.kind, TrackKind::Data);
            pack::init(track, &track.config).expect("an epoch opens with tracks that can be shown");
        }
    }
}

/// One tag in the form that [`tags`] reads.
fn one(kind: u8, delta: u8, body: &[u8]) -> Vec<u8> {
    [vec![kind, delta], join([body])].concat()
}

/// A broadcast of some seconds: both configurations, metadata, a picture every 40 ms with sound between.
pub(crate) fn broadcast() -> Vec<u8> {
    let mut all = one(2, 0, &video_config());
    all.extend(one(0, 0, &[&[0xaf, 0][..], ASC].concat()));
    for n in 0..150_u8 {
        let what = if n % 50 == 0 { 0x12 } else { 0x22 };
        all.extend([what, 20]);
        all.extend([0x30, 20]);
    }
    all
}

fn ingest_seeds() -> Vec<Vec<u8>> {
    use crate::rtmp::amf::{Value, encode};
    let meta = Value::Object(vec![
        ("audiocodecid".into(), Value::Number(10.0)),
        ("framerate".into(), Value::Number(25.0)),
    ]);
    let mut sound = one(1, 0, &encode(&[Value::text("onMetaData"), meta]));
    sound.extend(one(0, 0, &[&[0xaf, 0][..], ASC].concat()));
    sound.extend([0x30, 21].repeat(200));
    // A jump forward, one back, another configuration, a hole.
    let mut jumps = broadcast();
    jumps.extend([0x16, 0x40, 0, 0x30, 10, 0x1a, 0x30, 0, 0x30, 5]);
    jumps.extend(one(2, 0, &video_config()));
    jumps.extend([
        0x12, 40, 0x22, 40, 0x16, 0x14, 0, 0x1e, 0xff, 0xff, 0xff, 0xf0, 0x22, 40,
    ]);
    vec![broadcast(), sound, jumps]
}

/// What a relay would carry of [`broadcast`].
pub(crate) fn published() -> Arc<Broadcast> {
    publish(tags(&broadcast()), |_| {})
}
