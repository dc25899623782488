//! One control link: the hello both ways, then frames both ways until one side ends.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use routing::model::{Clock, NodeId};
use tokio::sync::{mpsc, oneshot};

use super::{
    driver::{Input, Offer},
    hello::{Answer, First, Hello, Refusal, admit},
    peers::{self, Peer, tag},
};
use crate::{
    gate::Admitted,
    link::{ConnectionId, Stream, frame},
    records::Records,
};

/// How long the hello may take.
pub(crate) const HELLO: Duration = Duration::from_secs(5);
/// Bytes after which no further frame joins a write: a longer one would keep membership waiting behind records.
const TOGETHER: usize = 16 << 10;
/// Frames that one peer may send in a second before its link is read more slowly.
const FRAMES_PER_SECOND: u32 = 4_000;

/// What a link needs of its node.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) records: Records,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) input: mpsc::Sender<Input>,
    pub(crate) own: Arc<dyn Fn() -> Hello + Send + Sync>,
    pub(crate) id: NodeId,
}

impl Line {
    /// The side that dialled.
    pub(crate) async fn dialed(self, stream: Stream, connection: ConnectionId, peer: NodeId) {
        let why = match self.greet(stream, peer).await {
            Ok((stream, hello, admitted)) => {
                self.run(stream, connection, peer, &hello, admitted, true)
                    .await
            }
            Err(why) => Some(why),
        };
        self.ended(connection, peer, why).await;
    }

    async fn greet(
        &self,
        mut stream: Stream,
        peer: NodeId,
    ) -> Result<(Stream, Hello, Admitted), String> {
        let talk = async {
            frame::write_value(&mut stream, &First::Link((self.own)())).await?;
            frame::read_value::<_, Answer>(&mut stream, frame::LINK).await
        };
        let answer = tokio::time::timeout(HELLO, talk)
            .await
            .map_err(|_| "it did not answer the hello in 5 s".to_owned())?
            .map_err(|e| format!("it ended the hello: {e}"))?;
        match answer {
            Answer::Refused(why) => Err(format!("it refused this node: {why}")),
            Answer::Welcome(hello) => {
                let admitted = self.judge(&hello, peer).map_err(|e| e.to_string())?;
                Ok((stream, hello, admitted))
            }
        }
    }

    /// The side that was dialled, with the hello that came.
    pub(crate) async fn answered(
        self,
        mut stream: Stream,
        connection: ConnectionId,
        peer: NodeId,
        hello: Hello,
    ) {
        let judged = self.judge(&hello, peer);
        let answer = match &judged {
            Ok(_) => Answer::Welcome((self.own)()),
            Err(why) => Answer::Refused(why.to_string()),
        };
        let sent = tokio::time::timeout(HELLO, frame::write_value(&mut stream, &answer)).await;
        let why = match (judged, sent) {
            (Ok(admitted), Ok(Ok(()))) => {
                self.run(stream, connection, peer, &hello, admitted, false)
                    .await
            }
            (Err(why), _) => {
                // Waits for the other side to read why, and to end the stream.
                let _ =
                    tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0; 1])).await;
                Some(why.to_string())
            }
            _ => None,
        };
        self.ended(connection, peer, why).await;
    }

    fn judge(&self, hello: &Hello, peer: NodeId) -> Result<Admitted, Refusal> {
        admit(hello, peer, &self.records.config(), self.clock.unix())
    }

    async fn ended(&self, connection: ConnectionId, peer: NodeId, why: Option<String>) {
        let ended = Input::Ended {
            connection,
            peer,
            why,
        };
        drop(self.input.send(ended).await);
    }

    /// Offers the link to the node, and carries frames while it is the one that the node keeps.
    async fn run(
        &self,
        stream: Stream,
        connection: ConnectionId,
        peer: NodeId,
        hello: &Hello,
        admitted: Admitted,
        dialed: bool,
    ) -> Option<String> {
        let (urgent, urgent_rx) = mpsc::channel(peers::URGENT);
        let (bulk, bulk_rx) = mpsc::channel(peers::BULK);
        let (taken, is_taken) = oneshot::channel();
        let offer = Offer {
            node: peer,
            admitted,
            link: Peer {
                connection,
                incarnation: hello.incarnation,
                preferred: dialed == (self.id < peer),
                urgent: urgent.clone(),
                bulk,
            },
            taken,
        };
        self.input.send(Input::Offer(Box::new(offer))).await.ok()?;
        is_taken.await.ok()?;
        let (reader, writer) = stream.split();
        let writing = write(writer, urgent_rx, bulk_rx);
        let reading = self.read(reader, peer, urgent);
        let ended = tokio::select! {
            ended = writing => ended,
            ended = reading => ended,
        };
        ended.err().map(|e| e.to_string())
    }

    async fn read<R: futures::AsyncRead + Unpin>(
        &self,
        mut reader: R,
        peer: NodeId,
        urgent: mpsc::Sender<Bytes>,
    ) -> std::io::Result<()> {
        let mut second = (self.clock.uptime(), 0u32);
        loop {
            let bytes = frame::read(&mut reader, frame::LINK).await?;
            let now = self.clock.uptime();
            if now.since(second.0) >= Duration::from_secs(1) {
                second = (now, 0);
            }
            second.1 += 1;
            if second.1 > FRAMES_PER_SECOND {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let Some((tag, _)) = bytes.split_first() else {
                continue;
            };
            let body = bytes.slice(1..);
            match *tag {
                tag::RECORD => self.records.receive(peer, body).await,
                tag::MEMBER => {
                    let said = Input::Said { peer, body };
                    if self.input.send(said).await.is_err() {
                        return Ok(());
                    }
                }
                tag::PING => {
                    let now = self.clock.unix().0.to_be_bytes();
                    let pong = [&[tag::PONG][..], &body[..body.len().min(8)], &now].concat();
                    // A queue that is full delays more than an unanswered ping tells.
                    drop(urgent.try_send(pong.into()));
                }
                tag::PONG => {
                    let (Some(sent), Some(theirs)) = (stamp(&body, 0), stamp(&body, 8)) else {
                        continue;
                    };
                    let pong = Input::Pong { peer, sent, theirs };
                    drop(self.input.send(pong).await);
                }
                _ => {}
            }
        }
    }
}

fn stamp(body: &[u8], at: usize) -> Option<u64> {
    let bytes = body.get(at..at + 8)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// Writes what waits: membership before records. What waits together is written together, since it then shares its
/// datagrams and their acknowledgements. Ends when the node let the link go.
async fn write<W: futures::AsyncWrite + Unpin>(
    mut writer: W,
    mut urgent: mpsc::Receiver<Bytes>,
    mut bulk: mpsc::Receiver<Bytes>,
) -> std::io::Result<()> {
    let mut wire = Vec::new();
    loop {
        let first = tokio::select! {
            biased;
            first = urgent.recv() => first,
            Some(first) = bulk.recv() => Some(first),
        };
        let Some(first) = first else {
            return writer.close().await;
        };
        wire.clear();
        frame::append(&mut wire, &first)?;
        while wire.len() < TOGETHER {
            let Ok(next) = urgent.try_recv().or_else(|_| bulk.try_recv()) else {
                break;
            };
            frame::append(&mut wire, &next)?;
        }
        writer.write_all(&wire).await?;
        if urgent.is_empty() && bulk.is_empty() {
            writer.flush().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        pin::Pin,
        sync::{Mutex, PoisonError},
        task::{Context, Poll},
    };

    use super::*;

    /// Keeps each write by itself.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

    impl futures::AsyncWrite for Writes {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_waits_together_is_written_together_membership_first() {
        let (urgent, urgent_rx) = mpsc::channel(8);
        let (bulk, bulk_rx) = mpsc::channel(8);
        let long = Bytes::from(vec![b'x'; TOGETHER]);
        for (queue, frame) in [
            (&bulk, Bytes::from_static(b"record")),
            (&bulk, long.clone()),
            (&bulk, Bytes::from_static(b"later")),
            (&urgent, Bytes::from_static(b"beat")),
            (&urgent, Bytes::from_static(b"digest")),
        ] {
            queue.try_send(frame).unwrap();
        }
        drop((urgent, bulk));
        let writes = Writes::default();
        write(writes.clone(), urgent_rx, bulk_rx).await.unwrap();
        let framed = |frames: &[&[u8]]| {
            let mut wire = Vec::new();
            for frame in frames {
                frame::append(&mut wire, frame).unwrap();
            }
            wire
        };
        let together = [&b"beat"[..], b"digest", b"record", &long];
        assert_eq!(
            *writes.0.lock().unwrap(),
            [framed(&together)],
            "one write, and no more after its end"
        );
    }
}
