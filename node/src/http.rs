//! HTTP/1.1 and HTTP/2, plain and over TLS, on listeners that are already bound.
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use media::ports::{OverTls, ReachedAt};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// Connections at once on one port; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16_384;
/// A client that has not sent its request's head, or finished its TLS handshake, by then is let go.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams at once on one HTTP/2 connection: a player asks for a handful.
const MAX_STREAMS: u32 = 128;
/// The first byte of an RTMP connection; no method of HTTP begins with it.
const RTMP_VERSION: u8 = 3;
/// How long open requests may take to finish once the node stops.
const GRACE: Duration = Duration::from_secs(2);

/// The certificates that a TLS port shows; exchanged as a whole when names or certificates change.
pub type SharedTls = Arc<ArcSwap<ServerConfig>>;

/// What a TLS port has beside the plain one.
#[derive(Clone)]
pub struct Secure {
    /// Its certificates.
    pub tls: SharedTls,
    /// Who takes connections that speak RTMP once they are secure: 443 is the port of `rtmps` addresses without one.
    pub rtmp: media::rtmp::Server,
}

/// Answers connections with `router` until `stop`; then lets open requests finish for a moment.
///
/// Every byte that is sent is added to `sent`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    secure: Option<Secure>,
    sent: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let tracker = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: wait for some to be given back instead of spinning.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (router, secure, stop) = (router.clone(), secure.clone(), stop.clone());
        let stream = Counted {
            stream,
            sent: Arc::clone(&sent),
        };
        tracker.spawn(async move {
            let _permit = permit;
            if let Err(error) = connection(stream, peer, router, secure, stop).await {
                tracing::trace!(%error, "connection ended");
            }
        });
    }
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::debug!(
            connections = tracker.len(),
            "closing connections that did not finish"
        );
    }
}

/// A connection that counts what it sends.
struct Counted {
    stream: TcpStream,
    sent: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Counted {
    fn count(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = sent {
            self.sent.fetch_add(n as u64, Ordering::Relaxed);
        }
        sent
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn connection(
    stream: Counted,
    peer: SocketAddr,
    router: Router,
    secure: Option<Secure>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // Without it a small reply waits for the client's delayed acknowledgement: 40 ms.
    stream.stream.set_nodelay(true)?;
    let ends = (peer, ReachedAt(stream.stream.local_addr()?));
    let Some(Secure { tls, rtmp }) = secure else {
        return requests(stream, ends, router, false, stop).await;
    };
    let acceptor = TlsAcceptor::from(tls.load_full());
    let mut stream = tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await??;
    if stream.get_ref().1.alpn_protocol().is_some() {
        return requests(stream, ends, router, true, stop).await;
    }
    let mut first = [0];
    tokio::time::timeout(HEAD_TIMEOUT, stream.read_exact(&mut first)).await??;
    let (read, write) = tokio::io::split(stream);
    let stream = tokio::io::join(std::io::Cursor::new(first).chain(read), write);
    if first == [RTMP_VERSION] {
        rtmp.serve_stream(stream, peer, stop.child_token()).await;
        return Ok(());
    }
    requests(stream, ends, router, true, stop).await
}

async fn requests<S>(
    stream: S,
    (peer, reached): (SocketAddr, ReachedAt),
    router: Router,
    secure: bool,
    stop: CancellationToken,
) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(reached);
            if secure {
                request.extensions_mut().insert(OverTls);
            }
            match router.oneshot(request).await {
                Ok(response) => Ok::<_, Infallible>(response),
                Err(never) => match never {},
            }
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(GRACE * 10);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(|e| anyhow::anyhow!(e)),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(|e| anyhow::anyhow!(e))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_request_is_answered_and_a_stop_is_prompt() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let sent = Arc::<AtomicU64>::default();
        let router = Router::new().route(
            "/who",
            get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }),
        );
        let server = tokio::spawn(serve(
            listener,
            router,
            None,
            Arc::clone(&sent),
            stop.clone(),
        ));
        let mut client = TcpStream::connect(addr).await.unwrap();
        client
            .write_all(b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"),
            "{answer}"
        );
        assert_eq!(sent.load(Ordering::Relaxed), answer.len() as u64);
        let _idle = TcpStream::connect(addr).await.unwrap();
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), server)
            .await
            .unwrap()
            .unwrap();
    }
}
