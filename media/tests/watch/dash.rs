//! DASH: what is described, and that it is what is served.
use std::{collections::BTreeSet, process::Stdio, time::Duration};

use tokio::process::Command;

use super::{
    house::{House, ID, RealClock, clip, uris},
    mpd::{Element, Listed, broken, broken_update, segments},
};

async fn mpd(house: &House) -> Element {
    // What derives views has its turn.
    tokio::task::yield_now().await;
    let got = house.get(&format!("/play/{ID}/cmaf/index.mpd")).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(got.header("content-type"), "application/dash+xml");
    Element::read(got.text())
}

/// The first fragment's decode time and its first sample's composition offset, and the sum of all durations.
fn times(segment: &[u8]) -> (i64, i64) {
    use mp4_atom::{Any, ReadFrom};
    let mut at = segment;
    let (mut first, mut sum) = (None, 0);
    while !at.is_empty() {
        if let Any::Moof(moof) = Any::read_from(&mut at).unwrap() {
            let traf = &moof.traf[0];
            let samples = &traf.trun[0].samples;
            let base = traf
                .tfdt
                .as_ref()
                .unwrap()
                .base_media_decode_time
                .cast_signed();
            first.get_or_insert(base + samples.get(0).unwrap().cts.unwrap_or(0));
            sum += samples
                .iter()
                .map(|s| i64::from(s.duration.unwrap()))
                .sum::<i64>();
        }
    }
    (first.unwrap(), sum)
}

/// Every segment that is listed is served, begins when it is said to, and lasts as long.
async fn is_served(house: &House, listed: &[Listed]) {
    for s in listed.iter().filter(|s| !s.gap) {
        let init = house.get(&format!("/play/{ID}/cmaf/{}", s.init)).await;
        assert_eq!(init.status, 200, "{}", s.init);
        let got = house.get(&format!("/play/{ID}/cmaf/{}", s.url)).await;
        assert_eq!(got.status, 200, "{}", s.url);
        let (start, length) = times(&got.body);
        assert_eq!(start, s.time, "{}", s.url);
        // In presentation as in decoding, but for pictures that are out of order.
        let off = (length - s.duration).abs();
        assert!(off * 4 <= s.timescale, "{}: {length} {}", s.url, s.duration);
    }
}

#[tokio::test]
async fn every_description_keeps_the_rules_and_lists_what_the_playlists_list() {
    let mut house = House::open(RealClock::start());
    let mut before: Option<Element> = None;
    let (mut early, mut next) = (0, 4_000);
    for tag in clip("25", 24, "expr:gte(t,n_forced*2)").await {
        let time = tag.timestamp;
        house.push(&tag);
        if time < next {
            continue;
        }
        next = time + 700;
        let now = mpd(&house).await;
        assert_eq!(broken(&now), <[&str; 0]>::default());
        if let Some(before) = &before {
            assert_eq!(broken_update(before, &now), <[&str; 0]>::default());
        }
        let listed = segments(&now);
        early += usize::from(listed.iter().any(|s| s.offset > 0.0));
        for name in ["v0", "a0"] {
            let playlist = house.get(&format!("/play/{ID}/cmaf/{name}.m3u8")).await;
            let of: Vec<&str> = listed
                .iter()
                .filter(|s| s.representation == name)
                .map(|s| &*s.url)
                .collect();
            let closed = uris(playlist.text(), "");
            assert_eq!(of[..closed.len()], closed[..], "the same names");
            assert!(of.len() - closed.len() <= 2, "the open one and the next");
        }
        before = Some(now);
    }
    assert!(early > 15, "{early} descriptions had the edge");
    house.end();
    let now = mpd(&house).await;
    assert_eq!(broken(&now), <[&str; 0]>::default());
    is_served(&house, &segments(&now)).await;
}

#[tokio::test]
async fn an_encoder_that_comes_back_and_one_that_changes_its_picture_make_periods() {
    let mut house = House::open(RealClock::start());
    let tags = clip("25", 8, "expr:gte(t,n_forced*1)").await;
    for tag in &tags {
        house.push(tag);
    }
    let one = mpd(&house).await;
    house.end();
    house.come_back();
    for tag in &tags {
        house.push(tag);
    }
    let two = mpd(&house).await;
    for mpd in [&one, &two] {
        assert_eq!(broken(mpd), <[&str; 0]>::default());
    }
    assert_eq!(broken_update(&one, &two), <[&str; 0]>::default());
    // Other parameter sets, from the next keyframe on.
    for mut tag in clip("50", 4, "expr:gte(t,n_forced*1)").await {
        tag.timestamp += 8_000;
        house.push(&tag);
    }
    let three = mpd(&house).await;
    assert_eq!(broken(&three), <[&str; 0]>::default());
    assert_eq!(broken_update(&two, &three), <[&str; 0]>::default());
    let ids = |m: &Element| -> Vec<String> {
        m.all("Period")
            .map(|p| p.get("id").unwrap().into())
            .collect()
    };
    assert_eq!((ids(&one).len(), ids(&two).len()), (1, 2));
    assert_eq!(ids(&three)[..2], ids(&two));
    assert_eq!(ids(&three)[2], format!("{}-1", ids(&two)[1]));
    assert_eq!(ids(&one)[0], ids(&two)[0]);
    house.end();
    is_served(&house, &segments(&mpd(&house).await)).await;
}

#[tokio::test]
async fn the_segment_at_the_edge_comes_part_by_part_and_is_the_whole_one() {
    let mut house = House::open(RealClock::start());
    let tags = clip("25", 16, "expr:gte(t,n_forced*2)").await;
    let (past, later) = tags.split_at(tags.partition_point(|t| t.timestamp < 11_000));
    for tag in past {
        house.push(tag);
    }
    let listed = segments(&mpd(&house).await);
    let edge = |name: &str| {
        let mut of = listed.iter().filter(|s| s.representation == name).rev();
        (of.nth(1).unwrap().clone(), of.next().unwrap().clone())
    };
    let (open, closed) = edge("v0");
    assert!(closed.at < open.at);
    let path = format!("/play/{ID}/cmaf/{}", open.url);
    let mut body = house.body(&path).await;
    let mut got = body.chunk().await.unwrap();
    while got.len() < 1_000 {
        got.extend(body.chunk().await.unwrap());
    }
    let first = got.len();
    for tag in later {
        house.push(tag);
    }
    while let Some(more) = body.chunk().await {
        got.extend(more);
    }
    let whole = house.get(&path).await;
    assert!(first < whole.body.len());
    assert_eq!(got, whole.body);
    assert_eq!(times(&whole.body).0, open.time);
    // It lasts as long as was foreseen.
    let again = segments(&mpd(&house).await);
    let then = again.iter().find(|s| s.url == open.url).unwrap();
    assert_eq!(then.duration, open.duration);
}

#[tokio::test]
async fn the_origins_time_is_that_of_its_media() {
    let mut house = House::open(RealClock::start());
    for tag in clip("25", 8, "expr:gte(t,n_forced*2)").await {
        house.push(&tag);
    }
    let first = segments(&mpd(&house).await).remove(0);
    let time = house.get(&format!("/play/{ID}/time")).await;
    assert_eq!(
        (time.status, time.header("cache-control")),
        (200, "no-store")
    );
    // All of it arrived at once, so the origin's time is where its media is, not what any clock says.
    let parse = |text: &str| -> f64 {
        let (_, clock) = text.split_once('T').unwrap();
        let parts: Vec<f64> = clock
            .trim_end_matches('Z')
            .split(':')
            .map(|p| p.parse().unwrap())
            .collect();
        parts[0] * 3600.0 + parts[1] * 60.0 + parts[2]
    };
    let ahead = (parse(time.text()) - first.at.rem_euclid(86_400.0)).rem_euclid(86_400.0);
    assert!((7.5..9.0).contains(&ahead), "{} {first:?}", time.text());
}

#[tokio::test]
async fn the_rules_read_ffmpegs_descriptions_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("live.mpd");
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-hide_banner", "-v", "error", "-nostdin"])
        .args([
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=320x180:r=25",
            "-f",
            "lavfi",
            "-i",
            "sine=r=48000",
        ])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "50",
            "-c:a",
            "aac",
            "-t",
            "600",
        ])
        .args([
            "-f",
            "dash",
            "-window_size",
            "6",
            "-seg_duration",
            "2",
            "-use_timeline",
            "1",
        ])
        .args(["-utc_timing_url", "https://time.example/"])
        .arg(&path)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let read = loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.contains("</MPD>")
            && text.contains("dynamic")
            && segments(&Element::read(&text)).len() > 8
        {
            break Element::read(&text);
        }
        assert!(ffmpeg.try_wait().unwrap().is_none(), "ffmpeg ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    ffmpeg.kill().await.unwrap();
    // ffmpeg lists no content type for what its muxer knows by mimeType alone, and no rule more is broken.
    assert_eq!(broken(&read), <[&str; 0]>::default());
    let known: BTreeSet<String> = segments(&read)
        .into_iter()
        .map(|s| s.representation)
        .collect();
    assert_eq!(known.len(), 2);
}
