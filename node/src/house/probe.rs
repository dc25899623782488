//! Whether another node's port answers, and is that node's: what this node attests to the mesh.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt};
use mesh::{probe::Probe, view::Service};
use routing::model::NodeId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use super::House;

/// A port that does not answer by then does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Dials services. Where a service can show its node's key it must: relay by its certificate, HTTP by its
/// `/.well-known/shoal` document, which names the node; the others are dialled for an answer in their own protocol.
#[derive(Clone, Debug)]
pub struct Prober(pub Arc<House>);

impl Probe for Prober {
    fn probe(&self, node: NodeId, service: Service, addr: SocketAddr) -> BoxFuture<'static, bool> {
        let house = Arc::clone(&self.0);
        async move {
            let attempt = async {
                match service {
                    Service::Http => http(node, addr).await,
                    Service::Media => match house.engine.get() {
                        Some(engine) => engine.relay.shows(node, addr).await,
                        None => false,
                    },
                    Service::Dns => dns(addr).await,
                    Service::Rtmp => rtmp(addr).await,
                    Service::Srt => srt(addr).await,
                    _ => TcpStream::connect(addr).await.is_ok(),
                }
            };
            tokio::time::timeout(PATIENCE, attempt)
                .await
                .unwrap_or(false)
        }
        .boxed()
    }
}

async fn http(node: NodeId, addr: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(addr).await?;
        let request =
            format!("GET /.well-known/shoal HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let Ok(answer) = ask.await else { return false };
    String::from_utf8_lossy(&answer).contains(&node.to_string())
}

/// A DNS server answers any well-formed question, if only with REFUSED (RFC 1035 section 4.1.1).
async fn dns(addr: SocketAddr) -> bool {
    // Id 0x5348, one question: `.` SOA IN.
    let question = [0x53, 0x48, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1];
    let answer = ask_udp(addr, &question).await.unwrap_or_default();
    answer.len() >= 12 && answer[..2] == [0x53, 0x48] && answer[2] & 0x80 != 0
}

/// An SRT listener answers anybody's first packet with a cookie.
async fn srt(addr: SocketAddr) -> bool {
    let answer = ask_udp(addr, &media::srt::greeting()).await;
    answer.is_ok_and(|answer| media::srt::is_greeted(&answer))
}

/// One datagram there, and the one that comes back, of which 512 bytes are enough.
async fn ask_udp(addr: SocketAddr, datagram: &[u8]) -> std::io::Result<Vec<u8>> {
    let local: SocketAddr = if addr.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(addr).await?;
    socket.send(datagram).await?;
    let mut answer = vec![0; 512];
    let len = socket.recv(&mut answer).await?;
    answer.truncate(len);
    Ok(answer)
}

/// An RTMP server answers C0 and C1 with S0, version 3 (Adobe RTMP specification 5.2).
async fn rtmp(addr: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(addr).await?;
        let mut hello = vec![0; 1537];
        hello[0] = 3;
        stream.write_all(&hello).await?;
        Ok::<_, std::io::Error>(stream.read_u8().await? == 3)
    };
    ask.await.unwrap_or(false)
}
