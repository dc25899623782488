//! MPEG-TS under any bytes: nothing panics, little is held, and cutting the bytes into other pieces changes nothing.
use fuzz_kit::Input;
use routing::model::UnixMillis;

use super::{Demuxer, Event, Feed, MAX_HELD};
use crate::origin::{Origin, Output};

fuzz_kit::targets! {
    ts_demux: demux, seeds;
    ts_feed: feed, seeds;
}

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut demuxer, mut all) = (Demuxer::new(), Vec::new());
    for piece in pieces {
        demuxer.push(piece);
        all.extend(std::iter::from_fn(|| demuxer.poll()));
    }
    demuxer.end();
    all.extend(std::iter::from_fn(|| demuxer.poll()));
    all
}

fn demux(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let seed = input.short();
    let all = events([input.rest()].into_iter());
    let data = all.iter().map(|event| match event {
        Event::Pes(pes) => pes.data.len(),
        Event::Streams(_) => 0,
    });
    assert!(data.sum::<usize>() <= input.rest().len().min(MAX_HELD));
    assert_eq!(all, events(input.pieces(seed)));
}

fn feed(bytes: &[u8]) {
    let (mut feed, mut origin) = (Feed::new(), Origin::new());
    origin.set_live(true);
    for piece in bytes.chunks(1316) {
        feed.push(&mut origin, UnixMillis(0), piece);
    }
    feed.end(&mut origin, UnixMillis(0));
    while let Some(output) = origin.poll() {
        if let Output::Frame(_, frame) = output {
            assert!(frame.dts >= 0 && !frame.data.is_empty());
        }
    }
}

/// What our own multiplexer writes of a broadcast of some seconds.
fn seeds() -> Vec<Vec<u8>> {
    let broadcast = crate::fuzz::ingest::published();
    let view = crate::hls::Deriver::default().update(&broadcast);
    let files = crate::fuzz::ingest::files(&view.expect("something was published"));
    let segments = files
        .into_iter()
        .filter(|(name, _)| name.starts_with("ts/"));
    segments
        .map(|(_, bytes)| [vec![0, 7], bytes].concat())
        .filter(|bytes| bytes.len() > 2)
        .collect()
}
