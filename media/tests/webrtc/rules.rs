//! What the RFC and the draft ask of answers.
use axum::http::{Method, StatusCode};
use media::webrtc::Limits;
use str0m::{Event, media::Direction};

use super::{
    client::Client,
    house::{House, ID, KEY, Reply},
};

const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

fn code(reply: &Reply) -> String {
    let json: serde_json::Value = serde_json::from_str(&reply.text).unwrap();
    json["code"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_is_made_changed_and_ended_as_rfc_9725_says() {
    let house = House::open(Limits::default(), false);
    let (mut client, offer) = Client::new(house.address, Direction::SendOnly).await;
    let made = house.offer(&format!("/webrtc/{KEY}"), &offer).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.header("content-type"), "application/sdp");
    assert_eq!(made.header("accept-patch"), FRAGMENT);
    assert_eq!(
        made.header("link"),
        "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"all\"; credential=\"secret\"; \
         credential-type=\"password\""
    );
    assert_eq!(made.header("access-control-allow-origin"), "*");
    let exposed = made.header("access-control-expose-headers");
    assert!(exposed.contains("Location") && exposed.contains("Link") && exposed.contains("ETag"));
    // Every candidate is there at once: the announced address, and the one that the request came to.
    let port = house.address.port();
    for ip in ["192.0.2.7", "127.0.0.1"] {
        assert!(
            made.text.contains(&format!(" {ip} {port} typ host")),
            "{}",
            made.text
        );
    }
    assert!(made.text.contains("a=ice-lite") && made.text.contains("a=recvonly"));
    let session = made.header("location").to_owned();
    assert!(session.starts_with("/webrtc/session/") && !session.contains(KEY));
    let tag = "\"0\"";
    assert_eq!(made.header("etag"), tag);

    client.accept(&made.text);
    client.until(|e| matches!(e, Event::Connected)).await;
    assert_eq!(house.publishers.sessions().len(), 1);

    let patch = |tag: Option<&'static str>, body: &'static str| {
        let mut headers = vec![("content-type", FRAGMENT)];
        headers.extend(tag.map(|tag| ("if-match", tag)));
        let (house, session) = (&house, &session);
        async move { house.ask(Method::PATCH, session, &headers, body).await }
    };
    let candidate =
        "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n";
    assert_eq!(
        patch(Some(tag), candidate).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        patch(None, candidate).await.status,
        StatusCode::PRECONDITION_REQUIRED
    );
    assert_eq!(
        patch(Some("\"other\""), candidate).await.status,
        StatusCode::PRECONDITION_FAILED
    );
    assert_eq!(
        patch(Some(tag), "a=mid:0").await.status,
        StatusCode::BAD_REQUEST
    );
    let again = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
    let restarted = patch(Some("*"), again).await;
    assert_eq!(restarted.status, StatusCode::OK);
    assert_eq!(restarted.header("content-type"), FRAGMENT);
    assert_ne!(restarted.header("etag"), tag);
    assert!(restarted.text.contains("a=ice-pwd:") && restarted.text.contains("a=candidate:"));
    assert_eq!(
        patch(Some(tag), candidate).await.status,
        StatusCode::PRECONDITION_FAILED
    );
    let wrong = house
        .ask(Method::PATCH, &session, &[("if-match", "*")], again)
        .await;
    assert_eq!(wrong.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);

    let end = || house.ask(Method::DELETE, &session, &[], "");
    assert_eq!(end().await.status, StatusCode::OK);
    assert_eq!(end().await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        patch(Some("*"), candidate).await.status,
        StatusCode::NOT_FOUND
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_an_offer_is_refused_in_words() {
    let house = House::open(Limits::default(), false);
    let (_, offer) = Client::new(house.address, Direction::SendOnly).await;
    let unknown = house.offer("/webrtc/sk_other", &offer).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(code(&unknown), "STREAM_KEY_NOT_FOUND");
    let none = house.offer("/webrtc", &offer).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    let bearer = [
        ("content-type", "application/sdp"),
        ("authorization", "Bearer sk_test"),
    ];
    let token = house
        .ask(Method::POST, "/webrtc", &bearer, offer.clone())
        .await;
    assert_eq!(token.status, StatusCode::CREATED);

    let path = format!("/webrtc/{KEY}");
    let plain = house.ask(Method::POST, &path, &[], offer.clone()).await;
    assert_eq!(plain.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for bad in [
        "",
        "v=0",
        "hello",
        "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
    ] {
        let reply = house.offer(&path, bad).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(code(&reply), "INVALID_OFFER");
    }
    let long = offer.clone() + &"a=x\r\n".repeat(20_000);
    assert_eq!(
        house.offer(&path, &long).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );

    let asked = house.ask(Method::OPTIONS, &path, &[], "").await;
    assert_eq!(asked.status, StatusCode::NO_CONTENT);
    assert_eq!(asked.header("accept-post"), "application/sdp");
    assert_eq!(
        asked.header("access-control-allow-methods"),
        "POST, OPTIONS"
    );
    assert!(
        asked
            .header("access-control-allow-headers")
            .contains("If-Match")
    );
    let got = house.ask(Method::GET, &path, &[], "").await;
    assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(got.header("allow"), "POST, OPTIONS");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_is_answered_at_all_names_and_told_what_is_missing() {
    let mut house = House::open(Limits::default(), false);
    let (mut client, offer) = Client::new(house.address, Direction::RecvOnly).await;
    let path = format!("/play/{ID}/webrtc");
    let before = house.offer(&path, &offer).await;
    assert_eq!(before.status, StatusCode::NOT_FOUND);
    house.air();
    let unknown = house.offer("/play/aaaaaaaaaaaaaaaa/webrtc", &offer).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    for name in ["/whep", "/WebRTC", ".whep"] {
        let made = house.offer(&format!("/play/{ID}{name}"), &offer).await;
        assert_eq!(made.status, StatusCode::CREATED, "{name}");
        let ended = house
            .ask(Method::DELETE, made.header("location"), &[], "")
            .await;
        assert_eq!(ended.status, StatusCode::OK);
    }
    let made = house.offer(&path, &offer).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert!(made.header("shoal-lacks").contains("no sound"));
    let (sound, pictures) = made.text.split_once("m=video").unwrap();
    assert!(sound.contains("a=inactive") && pictures.contains("a=sendonly"));
    assert!(made.header("location").starts_with(&format!("{path}/")));
    client.accept(&made.text);
    client.until(|e| matches!(e, Event::MediaData(_))).await;
    assert!(house.webrtc.viewers().iter().any(|(_, n)| *n > 0));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_nothing_but_tcp_watches() {
    let mut house = House::open(Limits::default(), false);
    house.air();
    let (mut client, offer) = Client::by_tcp(house.address, Direction::RecvOnly).await;
    let made = house.offer(&format!("/play/{ID}/webrtc"), &offer).await;
    assert!(made.text.contains("tcptype passive"), "{}", made.text);
    client.accept(&made.text);
    client.until(|e| matches!(e, Event::MediaData(_))).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamer_is_sent_to_the_better_node_once() {
    let house = House::open(Limits::default(), true);
    let (_, offer) = Client::new(house.address, Direction::SendOnly).await;
    let sent = house.offer(&format!("/ingest/{KEY}"), &offer).await;
    assert_eq!(sent.status, StatusCode::TEMPORARY_REDIRECT);
    let to = sent.header("location");
    assert!(to.starts_with(&format!("https://n-other.example/webrtc/{KEY}?shoal_from=")));
    let again = house
        .offer(&format!("/ingest/{KEY}?shoal_from=n-x"), &offer)
        .await;
    assert_eq!(again.status, StatusCode::CREATED);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_as_a_body_is_taken_until_it_ends_and_what_is_none_is_refused() {
    let house = House::open(Limits::default(), false);
    let flv = [("content-type", "video/x-flv")];
    let clip = include_bytes!("../../../node/assets/demo.flv");
    let path = format!("/ingest/{KEY}");
    for method in [Method::POST, Method::PUT] {
        let taken = house.ask(method, &path, &flv, clip.to_vec()).await;
        assert_eq!(taken.status, StatusCode::NO_CONTENT, "{}", taken.text);
        house.published();
    }
    assert!(house.publishers.sessions().is_empty());
    for none in ["", "GIF89a, say", &"G".repeat(150), &"GIF".repeat(1_000)] {
        let none = house.ask(Method::POST, &path, &flv, none.to_owned()).await;
        assert_eq!(none.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(code(&none), "STREAM_ENDED");
    }
    let broken = [&clip[..13], &[9, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]].concat();
    let broken = house.ask(Method::POST, &path, &flv, broken).await;
    assert_eq!(broken.status, StatusCode::UNPROCESSABLE_ENTITY);
    let stranger = house.ask(Method::POST, "/ingest/sk_other", &flv, clip.to_vec());
    let stranger = stranger.await;
    assert_eq!(stranger.status, StatusCode::NOT_FOUND, "{}", stranger.text);
    assert_eq!(code(&stranger), "STREAM_KEY_NOT_FOUND");
}
