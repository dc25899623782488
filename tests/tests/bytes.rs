//! What nodes serve under the same name is the same bytes, and playlists of one edge are the same text.
//!
//! The streams are hard on packaging: B-frames, keyframes 0.5 to 5 s apart as the seed says, and, where our own client
//! publishes, sound that arrives 400 ms before or after the pictures of its time.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{collections::BTreeMap, thread::Scope, time::Duration};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_tests::{
    film::Film,
    full,
    harvest::{Harvest, RENDITIONS, edge, last_segment, names},
    lab::{timed, until},
    say,
    stage::{Node, Stage, Stream},
    wire::Link,
};

const S: Duration = Duration::from_secs(1);
/// The film's length in seconds: no run takes longer.
const FILM: u32 = 150;
/// The pictures of a stream.
const PICTURES: (&str, &str) = RENDITIONS[0];

fn text(node: &Node, path: &str) -> Option<String> {
    let (status, body) = node.get(path).ok()?;
    (status == 200).then(|| String::from_utf8(body).ok())?
}

#[test]
fn segments_parts_and_playlists_are_the_same_bytes_wherever_they_are_served() {
    let Some(stage) = Stage::or_skip(51) else {
        return;
    };
    let (a, b, c) = (stage.a(), stage.b(), stage.c());
    let bad = Link {
        loss: 0.02,
        jitter: Duration::from_millis(50),
        ..Link::default()
    };
    for other in ["a", "c"] {
        stage.lab().wire().set("b", other, bad);
    }
    let stream = stage.create(a, "Kelp").unwrap();
    let film = Film::hard(stage.home(), FILM, 51).unwrap();
    let _encoder = stage.publish_film(&stream, &film).unwrap();
    let base = format!("/play/{}", stream.playback);
    // From the beginning over the bad link; the third joins later.
    stage.playable(b, &stream).unwrap();
    let before = text(b, &format!("{base}/cmaf/v0.m3u8")).unwrap();
    until("some segments at b", 60 * S, || {
        let now = text(b, &format!("{base}/cmaf/v0.m3u8"))?;
        (now.matches("#EXTINF").count() >= before.matches("#EXTINF").count() + 4).then_some(())
    })
    .unwrap();
    stage.playable(c, &stream).unwrap();

    let mut compared = BTreeMap::new();
    for (container, name) in RENDITIONS {
        let folder = format!("{base}/{container}");
        let path = format!("{folder}/{name}.m3u8");
        // Playlists of the same edge: all nodes are asked at once, until they stand at the same place.
        let lists = until("three playlists of one edge", 60 * S, || {
            let lists = std::thread::scope(|s| {
                let asked = [a, b, c].map(|node| s.spawn(|| text(node, &path)));
                asked.map(|t| t.join().ok().flatten())
            });
            let [Some(one), Some(two), Some(three)] = lists else {
                return None;
            };
            // Behind the bad link too nothing is missing for longer than it takes to ask again.
            assert!(!two.contains("#EXT-X-GAP"), "{two}");
            let edges = [&one, &two, &three].map(|list| edge(list));
            (edges[0] == edges[1] && edges[0] == edges[2]).then_some([one, two, three])
        })
        .unwrap();
        assert_eq!(lists[0], lists[1], "{path}: a and b");
        assert_eq!(lists[0], lists[2], "{path}: a and c");
        let names = names(&lists[0]);
        for short in &names {
            let file = format!("{folder}/{short}");
            let [one, two, three] = [a, b, c].map(|node| node.get(&file).unwrap());
            assert_eq!(one.0, 200, "{file}");
            assert!(one == two, "{file}: a and b differ");
            assert!(one == three, "{file}: a and c differ");
            compared.insert(file, one.1.len());
        }
        assert!(names.len() > 4, "{path} names {names:?}");
    }
    let bytes: usize = compared.values().sum();
    say(&format!(
        "{} files of {bytes} bytes are the same at three nodes",
        compared.len()
    ));
}

/// Follows all renditions at a node from now on.
fn follow<'scope>(scope: &'scope Scope<'scope, '_>, harvest: &'scope Harvest, node: &'scope Node) {
    for rendition in RENDITIONS {
        scope.spawn(move || harvest.gather(node, rendition));
    }
}

/// Waits until a node lists so many more segments of pictures than it does now.
fn segments_more(harvest: &Harvest, node: &Node, more: u64) {
    let was = harvest.last(node, PICTURES);
    let what = format!("{} to list {more} segments after {was:?}", node.name());
    until(&what, 60 * S, || {
        let last = harvest.last(node, PICTURES)?;
        (last >= was.map_or(0, |was| was + more)).then_some(())
    })
    .unwrap();
}

/// Waits for a part of the segment after the next one: the moment in its middle that the seed says. Gives the number of
/// the segment that is open then.
fn at_random(node: &Node, stream: &Stream, rng: &mut ChaCha8Rng) -> u64 {
    let list = format!("/play/{}/cmaf/v0.m3u8", stream.playback);
    let now = until("a playlist", 20 * S, || text(node, &list)).unwrap();
    let segment = last_segment(&now).unwrap() + 2;
    let part = rng.random_range(1..9);
    let path = format!("{list}?_HLS_msn={segment}&_HLS_part={part}");
    text(node, &path).unwrap();
    say(&format!("at segment {segment}, part {part}"));
    segment
}

/// Looks through what was gathered: no fault, and enough that all of `nodes` served.
fn judge(harvest: &Harvest, nodes: &[&Node], what: &str) {
    let faults = harvest.faults();
    let (count, some) = (faults.len(), faults[..faults.len().min(5)].join("\n"));
    assert!(count == 0, "{what}: {count} faults:\n{some}");
    for rendition in RENDITIONS {
        let count = harvest.alike(nodes, rendition);
        say(&format!(
            "{what}: {}: {count:?} at {} nodes",
            rendition.1,
            nodes.len()
        ));
        assert!(
            count.files >= 5 && count.lists >= 2,
            "{what}: {rendition:?}: {count:?}"
        );
    }
}

/// A node asks for the stream at a random moment, another machine enrols and does so, a third is killed and starts again:
/// afterwards all serve the same.
fn nodes_come_and_go(seed: u64, lead: i64) {
    let Some(mut stage) = Stage::or_skip(seed) else {
        return;
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let what = format!("seed {seed}, sound {lead} ms ahead");
    let d = stage.machine("d", 84).unwrap();
    let stream = stage.create(stage.a(), "Kelp").unwrap();
    let film = Film::hard(stage.home(), FILM, seed).unwrap();
    let feed = stage.publish_arriving(&stream, &film, lead).unwrap();
    let (a, b, c, d) = (stage.a(), stage.b(), stage.c(), &d);
    for node in [a, b] {
        stage.playable(node, &stream).unwrap();
    }
    let harvest = Harvest::new(format!("/play/{}", stream.playback));
    std::thread::scope(|scope| {
        let _ending = harvest.ending();
        for node in [a, b] {
            follow(scope, &harvest, node);
        }
        at_random(a, &stream, &mut rng);
        stage.enrol(a, d).unwrap();
        follow(scope, &harvest, c);
        follow(scope, &harvest, d);
        let killed = at_random(b, &stream, &mut rng);
        b.kill().unwrap();
        b.start().unwrap();
        segments_more(&harvest, d, 2);
        segments_more(&harvest, b, 3);
        // What was under way when it was killed, it serves now like the others.
        for rendition in RENDITIONS {
            until(
                &format!("{rendition:?} {killed} everywhere"),
                20 * S,
                || (harvest.served(rendition, killed).len() == 4).then_some(()),
            )
            .unwrap();
        }
    });
    judge(&harvest, &[a, b, c, d], &what);
    feed.end().unwrap();
}

#[test]
fn nodes_that_join_or_start_again_serve_the_same_bytes() {
    nodes_come_and_go(55, 400);
    if full() {
        for seed in 0..4 {
            nodes_come_and_go(550 + seed, if seed % 2 == 0 { -400 } else { 400 });
        }
    }
}

/// How the source of a replica goes away.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Cut,
}

/// Whom a node has its frames from: the first of these whose wire to it carries what a stream does, and links at rest do
/// not.
fn source<'a>(stage: &Stage, of: &Node, others: [&'a Node; 2]) -> &'a Node {
    let sent = |from: &Node| stage.lab().wire().counts(from.name(), of.name()).arrived;
    let was = others.map(sent);
    until("frames to come to it", 10 * S, || {
        let mut now = others.iter().zip(was);
        now.find_map(|(node, was)| (sent(node) >= was + 150).then_some(*node))
    })
    .unwrap()
}

/// `b` has the stream from `c`, which goes away in the middle of a group; `b` goes on from `a`.
fn the_source_goes(seed: u64, lead: i64, fault: Fault) {
    let Some(stage) = Stage::or_skip(seed) else {
        return;
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let what = format!("seed {seed}, sound {lead} ms ahead, {fault:?}");
    let (a, b, c) = (stage.a(), stage.b(), stage.c());
    let stream = stage.create(a, "Kelp").unwrap();
    let film = Film::hard(stage.home(), FILM, seed).unwrap();
    let feed = stage.publish_arriving(&stream, &film, lead).unwrap();
    for node in [a, c] {
        stage.playable(node, &stream).unwrap();
    }
    let wire = stage.lab().wire();
    wire.cut("a", "b");
    stage.playable(b, &stream).unwrap();
    wire.heal("a", "b");
    let harvest = Harvest::new(format!("/play/{}", stream.playback));
    std::thread::scope(|scope| {
        let _ending = harvest.ending();
        for node in [a, b, c] {
            follow(scope, &harvest, node);
        }
        segments_more(&harvest, b, 1);
        stage.settled(&[a, b, c]).unwrap();
        assert_eq!(source(&stage, b, [a, c]).name(), "c", "{what}");

        let open = at_random(b, &stream, &mut rng);
        match fault {
            Fault::Killed => c.kill().unwrap(),
            Fault::Cut => wire.cut("b", "c"),
        }
        let ((), took) = timed(|| {
            let list = format!("/play/{}/cmaf/v0.m3u8?_HLS_msn={open}", stream.playback);
            until("the open segment at b", 20 * S, || text(b, &list).map(drop)).unwrap();
        });
        say(&format!("{what}: the segment was whole {took:?} after"));
        assert_eq!(source(&stage, b, [c, a]).name(), "a", "{what}");
        match fault {
            Fault::Killed => c.start().unwrap(),
            Fault::Cut => wire.heal("b", "c"),
        }
        segments_more(&harvest, b, 2);
        for rendition in RENDITIONS {
            until(&format!("{rendition:?} {open} everywhere"), 30 * S, || {
                (harvest.served(rendition, open).len() == 3).then_some(())
            })
            .unwrap();
        }
        segments_more(&harvest, c, 2);
    });
    judge(&harvest, &[a, b, c], &what);
    feed.end().unwrap();
}

#[test]
fn a_replica_goes_on_with_the_same_bytes_when_its_source_is_killed() {
    the_source_goes(56, -400, Fault::Killed);
    if full() {
        (0..4).for_each(|seed| the_source_goes(560 + seed, 400, Fault::Killed));
    }
}

#[test]
fn a_replica_goes_on_with_the_same_bytes_when_its_source_is_cut_off() {
    the_source_goes(57, 400, Fault::Cut);
    if full() {
        (0..4).for_each(|seed| the_source_goes(570 + seed, -400, Fault::Cut));
    }
}
