//! What HTTP says, rule by rule.
use std::{sync::atomic::Ordering, time::Duration};

use axum::{body::Body, http::Request};

use super::house::{CLOSED, CROWDED, House, ID, RealClock, SILENT, ask, clip, uris};

/// Six seconds of a stream that goes on.
async fn playing() -> (House, Vec<media::flv::Tag>) {
    let mut house = House::open(RealClock::start());
    let mut tags = clip("25", 10, "expr:gte(t,n_forced*1)").await;
    let later = tags.split_off(tags.partition_point(|t| t.timestamp < 6_500));
    for tag in &tags {
        house.push(tag);
    }
    (house, later)
}

fn cmaf(name: &str) -> String {
    format!("/play/{ID}/cmaf/{name}")
}

#[tokio::test]
async fn files_under_their_own_names_are_immutable_and_have_ranges() {
    let (house, _) = playing().await;
    let playlist = house.get(&cmaf("v0.m3u8")).await;
    assert_eq!(
        playlist.header("content-type"),
        "application/vnd.apple.mpegurl"
    );
    assert_eq!(playlist.header("cache-control"), "no-cache");
    assert_eq!(playlist.header("access-control-allow-origin"), "*");
    let segment = uris(playlist.text(), "")[0];
    let whole = house.get(&cmaf(segment)).await;
    assert_eq!(whole.header("content-type"), "video/mp4");
    assert_eq!(
        whole.header("cache-control"),
        "public, max-age=31536000, immutable"
    );
    let parts = uris(playlist.text(), "#EXT-X-PART:");
    let mut joined = Vec::new();
    for part in parts
        .iter()
        .filter(|p| p.starts_with(segment.trim_end_matches("m4s")))
    {
        let got = house.get(&cmaf(part)).await;
        assert_eq!(got.status, 200);
        // The same bytes as that range of the segment.
        let range = format!(
            "bytes={}-{}",
            joined.len(),
            joined.len() + got.body.len() - 1
        );
        let request = Request::get(cmaf(segment)).header("range", &range);
        let ranged = house.ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(ranged.status, 206);
        assert_eq!(ranged.body, got.body);
        let total = whole.body.len();
        let expected = format!("bytes {}/{total}", &range[6..]);
        assert_eq!(ranged.header("content-range"), expected);
        joined.extend_from_slice(&got.body);
    }
    assert_eq!(joined, whole.body);
    let head = Request::head(cmaf(segment)).body(Body::empty()).unwrap();
    let head = house.ask(head).await;
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), whole.body.len().to_string());
    let options = Request::options(cmaf(segment)).body(Body::empty()).unwrap();
    let options = house.ask(options).await;
    assert_eq!(options.status, 204);
    assert_eq!(
        options.header("access-control-allow-methods"),
        "GET, HEAD, OPTIONS"
    );
    let post = Request::post(cmaf(segment)).body(Body::empty()).unwrap();
    assert_eq!(house.ask(post).await.status, 405);
}

#[tokio::test]
async fn bad_directives_are_400_and_unknown_ones_ignored() {
    let (house, _) = playing().await;
    let text = house.get(&cmaf("v0.m3u8")).await;
    let text = text.text();
    let first: u64 = text
        .lines()
        .find_map(|l| l.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")?.parse().ok())
        .unwrap();
    for (query, status) in [
        ("_HLS_part=1", 400),
        ("_HLS_msn=x", 400),
        (&format!("_HLS_msn={}", first + 100), 400),
        (&format!("_HLS_msn={first}"), 200),
        (&format!("_HLS_msn={first}&_HLS_part=1"), 200),
        (&format!("_HLS_msn={first}&_HLS_part=1000"), 200),
        ("_HLS_something=9&other=1", 200),
        ("_HLS_skip=YES", 200),
    ] {
        let got = house.get(&cmaf(&format!("v0.m3u8?{query}"))).await;
        assert_eq!(got.status, status, "{query}");
        if status == 400 {
            assert_eq!(got.json()["code"], "BAD_DIRECTIVE");
        }
    }
    let blocked = house.get(&cmaf(&format!("v0.m3u8?_HLS_msn={first}"))).await;
    assert_eq!(blocked.header("cache-control"), "public, max-age=24");
}

#[tokio::test]
async fn what_is_ahead_is_held_until_it_is_there() {
    let (mut house, later) = playing().await;
    let playlist = house.get(&cmaf("v0.m3u8")).await;
    let hint = uris(playlist.text(), "#EXT-X-PRELOAD-HINT")[0].to_owned();
    let name = hint.rsplit('/').next().unwrap();
    let mut numbers = name.split('.').map(|n| n.parse::<u64>());
    let (msn, part) = (
        numbers.next().unwrap().unwrap(),
        numbers.next().unwrap().unwrap(),
    );
    let http = house.http.clone();
    let get = |path: String| {
        let http = http.clone();
        let request = Request::get(path).body(Body::empty()).unwrap();
        tokio::spawn(async move { ask(&http, request).await })
    };
    let held = get(cmaf(&hint));
    let edge = get(cmaf(&format!("v0.m3u8?_HLS_msn={msn}&_HLS_part={part}")));
    let past = get(cmaf(&format!("v0.m3u8?_HLS_msn={msn}&_HLS_part=900")));
    let segment = get(format!(
        "/play/{ID}/hls/{}/{msn}.ts",
        hint.split('/').next().unwrap()
    ));
    let all = [&held, &edge, &past, &segment];
    tokio::task::yield_now().await;
    assert!(all.iter().all(|t| !t.is_finished()));
    for tag in &later {
        house.push(tag);
    }
    let (held, edge, past) = (
        held.await.unwrap(),
        edge.await.unwrap(),
        past.await.unwrap(),
    );
    assert_eq!((held.status, edge.status, past.status), (200, 200, 200));
    assert!(edge.text().contains(&format!("URI=\"{hint}\"")));
    assert!(past.text().contains(&format!("/{}.0.m4s\"", msn + 1)));
    assert_eq!(segment.await.unwrap().status, 200);
}

#[tokio::test]
async fn what_does_not_come_is_503_after_three_target_durations() {
    let (house, _) = playing().await;
    let playlist = house.get(&cmaf("v0.m3u8")).await;
    let hint = uris(playlist.text(), "#EXT-X-PRELOAD-HINT")[0].to_owned();
    let got = house.get(&cmaf(&hint)).await;
    assert_eq!(got.status, 503);
    assert_eq!(got.header("retry-after"), "1");
}

#[tokio::test]
async fn refusals_say_what_happened() {
    let (house, _) = playing().await;
    for (path, status, code) in [
        ("/play", 400, "MISSING_VIEW_KEY"),
        ("/play/short/cmaf/index.m3u8", 400, "INVALID_VIEW_KEY"),
        (
            "/play/unknown000000000/cmaf/index.m3u8",
            404,
            "VIEW_KEY_NOT_FOUND",
        ),
        (
            &format!("/play/{CLOSED}/cmaf/index.m3u8"),
            403,
            "PLAYBACK_ACCESS_DENIED",
        ),
        (
            &format!("/play/{SILENT}/cmaf/index.m3u8"),
            404,
            "STREAM_NOT_LIVE",
        ),
        (&format!("/play/{ID}/smooth"), 404, "PROTOCOL_NOT_AVAILABLE"),
        (&format!("/play/{ID}.webm"), 406, "PROTOCOL_NOT_AVAILABLE"),
        (&format!("/play/{ID}/what"), 404, "NOT_FOUND"),
        (&cmaf("v7.m3u8"), 404, "NOT_FOUND"),
        (&cmaf("0000000000000001/v0/1.m4s"), 404, "NOT_FOUND"),
    ] {
        let got = house.get(path).await;
        assert_eq!(
            (got.status, got.json()["code"].as_str()),
            (status, Some(code)),
            "{path}"
        );
        assert_eq!(got.header("access-control-allow-origin"), "*");
    }
    let silent = house.get(&format!("/play/{SILENT}/hls/index.m3u8")).await;
    assert_eq!(silent.header("retry-after"), "2");
}

#[tokio::test]
async fn a_full_node_sends_on_once() {
    let (house, _) = playing().await;
    let path = format!("/play/{CROWDED}/cmaf/index.m3u8");
    let first = house.get(&path).await;
    assert_eq!(first.status, 307);
    let to = first.header("location");
    assert!(to.starts_with(&format!(
        "https://n-other.acme.cdn.example{path}?shoal_from=n-"
    )));
    let query = to.split_once('?').unwrap().1;
    assert_eq!(house.get(&format!("{path}?{query}")).await.status, 503);
}

#[tokio::test]
async fn aliases_steering_and_resolution() {
    let (house, _) = playing().await;
    let alias = house.get(&format!("/play/{ID}/llhls?x=1")).await;
    assert_eq!(alias.status, 307);
    assert_eq!(
        alias.header("location"),
        format!("/play/{ID}/cmaf/index.m3u8?x=1")
    );
    let steering = house
        .get(&format!("/play/{ID}/steering?_HLS_pathway=base"))
        .await;
    let manifest = steering.json();
    assert_eq!(manifest["VERSION"], 1);
    assert_eq!(manifest["PATHWAY-PRIORITY"][0], "base");
    assert_eq!(manifest["PATHWAY-PRIORITY"][1], "n-other");
    let clone = &manifest["PATHWAY-CLONES"][0];
    assert_eq!(
        (&clone["BASE-ID"], &clone["ID"]),
        (&"base".into(), &"n-other".into())
    );
    assert_eq!(
        clone["URI-REPLACEMENT"]["HOST"],
        "n-other.acme.cdn.example:443"
    );
    let page = Request::get(format!("/play/{ID}")).header("accept", "text/html,*/*;q=0.8");
    let page = house.ask(page.body(Body::empty()).unwrap()).await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    let script = page.text().split('"').find(|s| s.ends_with("player.js"));
    assert_eq!(house.get(script.unwrap()).await.status, 200);
    for path in [format!("/play/{ID}"), format!("/resolve/{ID}")] {
        assert_eq!(house.get(&path).await.json()["id"], ID);
    }
}

#[tokio::test]
async fn viewers_are_counted_and_what_nobody_asks_for_is_let_go() {
    use std::sync::{Arc, Mutex};

    use routing::model::{Clock, UnixMillis, Uptime};

    #[derive(Default)]
    struct Hand(Mutex<Duration>);
    impl Clock for Hand {
        fn uptime(&self) -> Uptime {
            Uptime(*self.0.lock().unwrap())
        }
        fn unix(&self) -> UnixMillis {
            UnixMillis(1_795_383_723_000)
        }
    }
    let clock = Arc::new(Hand::default());
    let mut house = House::open(Arc::clone(&clock) as Arc<dyn Clock>);
    for tag in clip("25", 3, "expr:gte(t,n_forced*1)").await {
        house.push(&tag);
    }
    for agent in ["one", "two", "one"] {
        let request = Request::get(cmaf("v0.m3u8")).header("user-agent", agent);
        let got = house.ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(got.status, 200);
    }
    assert_eq!(house.http.sessions(), [(super::house::BROADCAST, 2)]);
    assert_eq!(house.leases.load(Ordering::SeqCst), 1);
    *clock.0.lock().unwrap() = Duration::from_secs(11);
    assert!(house.http.sessions().is_empty());
    // The packaging task looks once a second.
    while house.leases.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
