//! The port's TCP side: connections that carry datagrams, each after its length (RFC 6544, RFC 4571).
use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    door::{Arrived, Door},
    peer::Remote,
};

/// Connections at once; a further one is closed at once.
const CONNECTIONS: usize = 1_000;
/// One that names no session by then is closed.
const FIRST: Duration = Duration::from_secs(10);
/// One that is silent for so long is closed: the other side asks for consent every few seconds (RFC 7675).
const IDLE: Duration = Duration::from_secs(30);
/// One that takes nothing for so long is closed.
const STUCK: Duration = Duration::from_secs(10);
/// The longest datagram that is read: no WebRTC peer sends longer ones than a path's MTU.
const LONGEST: usize = 2_048;
/// Datagrams that wait to be sent: half a second of 10 Mbit/s.
const QUEUE: usize = 512;

/// Takes connections until `stop`.
pub(super) async fn serve(door: Arc<Door>, listener: TcpListener, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((io, _)) = accepted else {
            // Out of descriptors, most likely.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            continue;
        };
        let (door, stop) = (Arc::clone(&door), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = stop.cancelled() => {}
                ended = connection(&door, io) => {
                    if let Err(error) = ended {
                        tracing::trace!(%error, "a connection of WebRTC ended");
                    }
                }
            }
        });
    }
}

async fn connection(door: &Door, io: TcpStream) -> std::io::Result<()> {
    io.set_nodelay(true)?;
    let peer = io.peer_addr()?;
    let source = Remote {
        addr: (peer.ip().to_canonical(), peer.port()).into(),
        tcp: true,
    };
    let local = io.local_addr()?.ip().to_canonical();
    let (read, write) = io.into_split();
    let (back, queue) = mpsc::channel(QUEUE);
    tokio::select! {
        ended = receive(door, BufReader::new(read), (source, local), back) => ended,
        ended = send(BufWriter::new(write), queue) => ended,
    }
}

async fn receive(
    door: &Door,
    mut io: BufReader<OwnedReadHalf>,
    (source, local): (Remote, IpAddr),
    back: mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    let mut patience = FIRST;
    loop {
        let next = async {
            let length = usize::from(io.read_u16().await?);
            let mut bytes = vec![0; length.min(LONGEST)];
            io.read_exact(&mut bytes).await?;
            std::io::Result::Ok((length, bytes))
        };
        let (length, bytes) = timeout(patience, next).await??;
        let known = length <= LONGEST
            && door.hand_on(Arrived {
                source,
                back: Some(back.clone()),
                local: Some(local),
                bytes: bytes.into(),
            });
        if !known {
            return Ok(());
        }
        patience = IDLE;
    }
}

async fn send(
    mut io: BufWriter<OwnedWriteHalf>,
    mut queue: mpsc::Receiver<Bytes>,
) -> std::io::Result<()> {
    while let Some(first) = queue.recv().await {
        let mut next = Some(first);
        let write = async {
            while let Some(bytes) = next.take() {
                io.write_u16(u16::try_from(bytes.len()).unwrap_or(0))
                    .await?;
                io.write_all(&bytes).await?;
                next = queue.try_recv().ok();
            }
            io.flush().await
        };
        timeout(STUCK, write).await??;
    }
    Ok(())
}
