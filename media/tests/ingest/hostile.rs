//! Peers that send garbage, half handshakes, or nothing; and too many of them.
use media::{
    flv::{Tag, TagKind},
    rtmp::{Limits, PublishError, Publisher, Target},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use routing::model::StreamKey;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::house::{House, KEY};

async fn publish(house: &House) -> Result<Publisher<TcpStream>, PublishError> {
    let target = Target {
        host: house.address.to_string(),
        app: "live".into(),
        key: StreamKey::new(KEY),
    };
    Publisher::connect(&target, 3).await
}

/// Reads until the server closes.
async fn until_closed(io: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while io.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_closed_and_others_are_served() {
    let seed = 20_261_122;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let house = House::open(Limits::default()).await;
    for round in 0..60 {
        let mut io = TcpStream::connect(house.address).await.unwrap();
        let mut bytes = vec![0u8; 8000];
        rng.fill(&mut bytes[..]);
        match round % 3 {
            0 => bytes[0] = b'G',
            1 => bytes[0] = 3,
            // A whole handshake, then garbage for chunks.
            _ => {
                bytes[0] = 3;
                bytes[3073] = 0xff;
            }
        }
        // The server may close before all is written.
        let _ = io.write_all(&bytes).await;
        let _ = io.shutdown().await;
        until_closed(&mut io).await;
    }
    publish(&house).await.unwrap().finish().await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_connections_are_limited_and_publishers_do_not_count() {
    let house = House::open(Limits {
        connections: 8,
        pending: 2,
    })
    .await;
    let publisher = publish(&house).await.unwrap();
    let mut half = Vec::new();
    for _ in 0..2 {
        let mut io = TcpStream::connect(house.address).await.unwrap();
        // Half a handshake: version and the whole of C1; the server's answer shows that it counts.
        io.write_all(&[3]).await.unwrap();
        io.write_all(&[0; 1536]).await.unwrap();
        let mut answer = [0; 3073];
        io.read_exact(&mut answer).await.unwrap();
        half.push(io);
    }
    let mut third = TcpStream::connect(house.address).await.unwrap();
    assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0);
    drop(half);
    // The places come free when the server has seen them go.
    loop {
        match publish(&house).await {
            Ok(second) => break second.finish().await.unwrap(),
            Err(PublishError::Io(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    publisher.finish().await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codec_that_is_not_taken_is_named_to_the_encoder() {
    let house = House::open(Limits::default()).await;
    let mut publisher = publish(&house).await.unwrap();
    let tag = Tag {
        kind: TagKind::Video,
        timestamp: 0,
        body: bytes::Bytes::from_static(b"\x90vvc1 and so on"),
    };
    let refused = loop {
        match publisher.send(&tag).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(refused) => break refused,
        }
    };
    assert!(
        refused
            .to_string()
            .contains("\"vvc1\" is not taken. Publish H.264, HEVC, AV1"),
        "{refused}"
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_told_to_publishers_and_waits_for_none() {
    let house = House::open(Limits::default()).await;
    let _publisher = publish(&house).await.unwrap();
    let _idle = TcpStream::connect(house.address).await.unwrap();
    house.close().await;
}
