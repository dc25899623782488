//! Too many sessions, and a port under fire.
use axum::http::StatusCode;
use media::webrtc::Limits;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use str0m::{Event, media::Direction};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, UdpSocket},
};

use super::{
    client::Client,
    house::{House, ID},
};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_bounded_and_those_that_connect_make_room() {
    let limits = Limits {
        sessions: 3,
        pending: 1,
    };
    let mut house = House::open(limits, false);
    house.air();
    let path = format!("/play/{ID}/webrtc");
    for _ in 0..3 {
        let (mut client, offer) = Client::new(house.address, Direction::RecvOnly).await;
        let made = house.offer(&path, &offer).await;
        assert_eq!(made.status, StatusCode::CREATED);
        let (_, other) = Client::new(house.address, Direction::RecvOnly).await;
        let refused = house.offer(&path, &other).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.header("retry-after"), "2");
        client.accept(&made.text);
        client.until(|e| matches!(e, Event::MediaData(_))).await;
    }
    let (_, offer) = Client::new(house.address, Direction::RecvOnly).await;
    let refused = house.offer(&path, &offer).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_what_nobody_knows_end_nothing() {
    let seed = 20_261_127;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut house = House::open(Limits::default(), false);
    house.air();
    let (mut client, offer) = Client::new(house.address, Direction::RecvOnly).await;
    let made = house.offer(&format!("/play/{ID}/webrtc"), &offer).await;
    let line = made
        .text
        .lines()
        .find_map(|l| l.strip_prefix("a=ice-ufrag:"));
    let ours = line.unwrap().to_owned();
    client.accept(&made.text);

    let fire = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for round in 0..20_000 {
        let mut bytes = vec![0u8; rng.random_range(0..200)];
        rng.fill(&mut bytes[..]);
        let start: &[u8] = match round % 5 {
            // DTLS, RTP, RTCP.
            0 => &[22, 0xfe, 0xfd],
            1 => &[0x80, 96],
            2 => &[0x80, 200],
            3 => &[0, 1, 0, 50, 0x21, 0x12, 0xa4, 0x42],
            _ => &[],
        };
        bytes.splice(..start.len().min(bytes.len()), start.iter().copied());
        if round % 10 == 3 {
            // The name of a session, and no password.
            bytes.truncate(20);
            bytes.resize(20, 0);
            let name = format!("{ours}:someone");
            let length = u16::try_from(name.len()).unwrap();
            bytes.extend([0, 6]);
            bytes.extend(length.to_be_bytes());
            bytes.extend(name.into_bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let _ = fire.send_to(&bytes, house.address).await;
    }
    // Connections that say nothing, or nonsense, are closed or wait for nothing.
    let mut silent = Vec::new();
    for round in 0..40 {
        let mut io = TcpStream::connect(house.address).await.unwrap();
        if round % 2 == 0 {
            io.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            io.write_all(&[0; 30_000]).await.unwrap_or_default();
        }
        silent.push(io);
    }
    client.until(|e| matches!(e, Event::MediaData(_))).await;
    house.close().await;
}
