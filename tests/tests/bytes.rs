//! What nodes serve under the same name is the same bytes.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{collections::BTreeMap, time::Duration};

use shoal_tests::{
    lab::until,
    say,
    stage::{Node, Stage},
    wire::Link,
};

const S: Duration = Duration::from_secs(1);
/// The renditions of a stream with pictures and sound.
const RENDITIONS: [(&str, &str); 3] = [("cmaf", "v0"), ("cmaf", "a0"), ("hls", "ts")];
fn text(node: &Node, path: &str) -> Option<String> {
    let (status, body) = node.get(path).ok()?;
    (status == 200).then(|| String::from_utf8(body).ok())?
}

/// What a playlist names: parts and segments and init segments, as paths.
fn names(base: &str, playlist: &str) -> Vec<String> {
    let quoted = |line: &str| {
        let (_, rest) = line.split_once("URI=\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let lines = playlist.lines();
    let found = lines.filter_map(|line| match line {
        l if l.starts_with("#EXT-X-PART:") || l.starts_with("#EXT-X-MAP:") => quoted(l),
        l if l.starts_with('#') || l.is_empty() => None,
        l => Some(l.to_owned()),
    });
    found.map(|name| format!("{base}/{name}")).collect()
}

/// The playlist's last place: number of the last segment or part, as its last media line says it.
fn edge(playlist: &str) -> Option<String> {
    let lines = playlist.lines().rev();
    let mut media = lines.filter(|l| l.starts_with("#EXT-X-PART:") || !l.starts_with('#'));
    media.find(|l| !l.is_empty()).map(str::to_owned)
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
    let _encoder = stage.publish_hard(&stream).unwrap();
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

    let (mut compared, mut same) = (BTreeMap::new(), 0);
    for (container, name) in RENDITIONS {
        let folder = format!("{base}/{container}");
        let path = format!("{folder}/{name}.m3u8");
        // Playlists of the same edge: both nodes are asked at once, until they stand at the same place.
        let [one, three] = until("two playlists of one edge", 60 * S, || {
            let lists = std::thread::scope(|s| {
                let asked = [a, c].map(|node| s.spawn(|| text(node, &path)));
                asked.map(|t| t.join().ok().flatten())
            });
            let [Some(one), Some(three)] = lists else {
                return None;
            };
            (edge(&one) == edge(&three)).then_some([one, three])
        })
        .unwrap();
        assert_eq!(one, three, "{path}: a and c");
        assert!(!one.contains("#EXT-X-GAP"), "{one}");
        // Behind the bad link a segment may be a gap; what is served under a name is the same, or nothing is.
        let behind = text(b, &path).unwrap();
        let names = names(&folder, &one);
        for file in &names {
            let [one, three] = [a, c].map(|node| node.get(file).unwrap());
            assert_eq!(one.0, 200, "{file}");
            assert!(one == three, "{file}: a and c differ");
            let short = file.strip_prefix(&format!("{folder}/")).unwrap();
            if behind.contains(short) {
                let two = b.get(file).unwrap();
                assert!(two.0 != 200 || two == one, "{file}: a and b differ");
                same += usize::from(two.0 == 200);
            }
            compared.insert(file.clone(), one.1.len());
        }
        assert!(names.len() > 4, "{path} names {names:?}");
    }
    let bytes: usize = compared.values().sum();
    say(&format!(
        "{} files of {bytes} bytes are the same at two nodes, {same} of them at the third",
        compared.len()
    ));
    assert!(same > 20, "only {same} files behind the bad link");
}
