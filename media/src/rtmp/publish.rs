//! The publishing client's async shell.
use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use routing::model::{Clock, StreamKey};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    ProtocolError,
    client::{Client, Event},
};
use crate::flv::Tag;

/// How long a server may take to let a publisher in.
const SETUP: Duration = Duration::from_secs(10);

/// Why a publication did not begin or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The server refuses the stream, or ends it.
    #[error("the server refuses the stream ({code}): {text}")]
    Refused {
        /// Such as `NetStream.Publish.BadName`.
        code: String,
        /// Its words.
        text: String,
    },
    /// The server's bytes were not understood.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The connection failed.
    #[error("the connection to the RTMP server failed: {0}")]
    Io(#[from] std::io::Error),
    /// The server said nothing for 10 s.
    #[error("the RTMP server does not answer")]
    Silent,
}

/// Where to publish: `rtmp://HOST/live/KEY`.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host and port.
    pub host: String,
    /// The application, `live`.
    pub app: String,
    /// The stream key.
    pub key: StreamKey,
}

/// A publication that the server took.
#[derive(Debug)]
pub struct Publisher<S> {
    io: S,
    client: Client,
    buffer: Vec<u8>,
}

impl Publisher<TcpStream> {
    /// Connects over TCP and publishes.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn connect(target: &Target, seed: u64) -> Result<Self, PublishError> {
        let io = timeout(SETUP, TcpStream::connect(&target.host))
            .await
            .map_err(|_| PublishError::Silent)??;
        io.set_nodelay(true)?;
        Self::over(io, target, seed).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Publisher<S> {
    /// Publishes over a connection that is there, plain or TLS. `seed` varies the handshake's filling.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn over(io: S, target: &Target, seed: u64) -> Result<Self, PublishError> {
        let mut this = Self {
            io,
            client: Client::new(&target.host, &target.app, target.key.expose(), seed),
            buffer: vec![0; 8 << 10],
        };
        timeout(SETUP, this.begin())
            .await
            .map_err(|_| PublishError::Silent)??;
        Ok(this)
    }

    async fn begin(&mut self) -> Result<(), PublishError> {
        loop {
            let event = self.client.poll()?;
            self.flush().await?;
            match event {
                Some(Event::Ready) => return Ok(()),
                Some(Event::Refused { code, text }) => {
                    return Err(PublishError::Refused { code, text });
                }
                None => {}
            }
            let n = self.io.read(&mut self.buffer).await?;
            self.take(n)?;
        }
    }

    fn take(&mut self, n: usize) -> Result<(), PublishError> {
        if n == 0 {
            return Err(PublishError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        self.client.receive(&self.buffer[..n]);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), PublishError> {
        let output = self.client.take_output();
        self.io.write_all(&output).await?;
        Ok(())
    }

    /// Sends a tag; waits while the connection is full.
    ///
    /// # Errors
    /// [`PublishError`], [`PublishError::Refused`] too when the server has ended the stream meanwhile.
    pub async fn send(&mut self, tag: &Tag) -> Result<(), PublishError> {
        // What the server has said meanwhile, without waiting for it.
        while let Some(read) = self.io.read(&mut self.buffer).now_or_never() {
            self.take(read?)?;
            while let Some(event) = self.client.poll()? {
                if let Event::Refused { code, text } = event {
                    return Err(PublishError::Refused { code, text });
                }
            }
        }
        self.client.send(tag);
        self.flush().await
    }

    /// Sends tags when they are due, counted from the first call, until there are none left or `stop`.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn send_paced(
        &mut self,
        tags: impl IntoIterator<Item = (Duration, Tag)>,
        clock: &Arc<dyn Clock>,
        stop: &CancellationToken,
    ) -> Result<(), PublishError> {
        let start = clock.uptime();
        for (due, tag) in tags {
            let wait = (start + due).since(clock.uptime());
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(wait), if !wait.is_zero() => {}
                () = std::future::ready(()), if wait.is_zero() => {}
            }
            self.send(&tag).await?;
        }
        Ok(())
    }

    /// Ends the publication and waits, for 2 s at most, until the server has closed.
    ///
    /// # Errors
    /// [`PublishError::Io`] when the server was gone before.
    pub async fn finish(mut self) -> Result<(), PublishError> {
        self.client.finish();
        self.flush().await?;
        self.io.shutdown().await?;
        let drain = async { while self.io.read(&mut self.buffer).await.is_ok_and(|n| n > 0) {} };
        // Whether or not it closed in time: the publication was ended.
        let _ = timeout(Duration::from_secs(2), drain).await;
        Ok(())
    }
}
