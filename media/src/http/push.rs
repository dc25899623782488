//! Streams that come as the body of a request: `POST` or `PUT` to `/ingest/KEY`, FLV or MPEG-TS, for as long as the body
//! lasts.
use std::{net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Method, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use routing::model::{StreamKey, UnixMillis};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answer};
use crate::{
    flv,
    ingest::{Publication, Publishers},
    live::ModelError,
    origin::{self, FeedError},
    ports::{Protocol, Refusal},
    ts,
};

/// A body that brings nothing for so long is ended.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes that tell one form from the other.
const TELLING: usize = 3;

/// What the body is made of.
enum Form {
    Flv(flv::Reader, origin::Feed),
    Ts(ts::Feed),
}

/// Why a body is not read on.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("The body is neither FLV nor MPEG-TS.")]
    Form,
    #[error("The stream cannot be read: {0}.")]
    Feed(#[from] FeedError),
    #[error("This server could not keep the stream's frames. Send it again.")]
    Model(#[from] ModelError),
    #[error("Nothing came for 30 s.")]
    Idle,
    #[error("This server ends the stream. Send it again.")]
    Ended,
    #[error("The body broke off.")]
    Broken,
}

/// Whether a request brings a stream, and no WebRTC offer.
pub(super) fn is_stream(parts: &Parts) -> bool {
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media = kind.starts_with("video/") || kind.starts_with("application/octet-stream");
    parts.method == Method::PUT || parts.method == Method::POST && (media || kind.is_empty())
}

/// Takes the stream in until the body ends.
pub(super) async fn answer(
    publishers: &Publishers,
    key: &StreamKey,
    parts: &Parts,
    body: Body,
) -> Result<Answer, Answer> {
    let unknown = ([0, 0, 0, 0], 0).into();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(unknown, |ConnectInfo(addr)| *addr);
    let stop = CancellationToken::new();
    let admitted = publishers.admit(key, Protocol::Progressive, peer, stop.clone());
    let mut publication = admitted.await.map_err(|why| refused(&why))?;
    match read(&mut publication, body, &stop).await {
        Ok(()) => Ok(answer::status(StatusCode::NO_CONTENT)),
        Err(why) => {
            tracing::info!(broadcast = %publication.publish().broadcast, %why, "a pushed body ends");
            let status = match why {
                PushError::Form => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                PushError::Feed(_) => StatusCode::UNPROCESSABLE_ENTITY,
                PushError::Idle | PushError::Broken => StatusCode::REQUEST_TIMEOUT,
                PushError::Model(_) | PushError::Ended => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(answer::error(
                status,
                "STREAM_ENDED",
                &why.to_string(),
                None,
            ))
        }
    }
}

async fn read(
    publication: &mut Publication,
    mut body: Body,
    stop: &CancellationToken,
) -> Result<(), PushError> {
    let mut form = None;
    let mut first = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = timeout(IDLE, body.frame()) => frame.map_err(|_| PushError::Idle)?,
            live = publication.standing() => {
                publication.set_live(live).await?;
                continue;
            }
            () = stop.cancelled() => return Err(PushError::Ended),
        };
        let Some(frame) = frame else { break };
        let Ok(bytes) = frame.map_err(|_| PushError::Broken)?.into_data() else {
            continue;
        };
        let now = publication.now();
        let bytes = match &form {
            Some(_) => bytes,
            None => {
                first.extend_from_slice(&bytes);
                if first.len() < TELLING {
                    continue;
                }
                form = Some(told(&first)?);
                Bytes::from(std::mem::take(&mut first))
            }
        };
        if let Some(form) = &mut form {
            form.take(publication, now, &bytes)?;
        }
        publication.write()?;
    }
    if let Some(Form::Ts(feed)) = &mut form {
        let now = publication.now();
        feed.end(publication.origin(), now);
        publication.write()?;
    }
    Ok(())
}

/// The form by its first bytes: the mark of FLV, or the sync byte of MPEG-TS somewhere in its first packet's length.
fn told(first: &[u8]) -> Result<Form, PushError> {
    const SYNC: u8 = 0x47;
    if first.starts_with(b"FLV") {
        return Ok(Form::Flv(flv::Reader::new(), origin::Feed::new()));
    }
    if first.iter().take(188).any(|byte| *byte == SYNC) {
        return Ok(Form::Ts(ts::Feed::new()));
    }
    Err(PushError::Form)
}

impl Form {
    fn take(
        &mut self,
        publication: &mut Publication,
        now: UnixMillis,
        bytes: &[u8],
    ) -> Result<(), FeedError> {
        match self {
            Self::Flv(reader, feed) => {
                reader.receive(bytes);
                while let Some(tag) = reader.poll()? {
                    feed.tag(publication.origin(), now, &tag)?;
                }
            }
            Self::Ts(feed) => feed.push(publication.origin(), now, bytes),
        }
        Ok(())
    }
}

fn refused(why: &Refusal) -> Answer {
    let (status, word) = match why {
        Refusal::Unknown(_) => (StatusCode::NOT_FOUND, "STREAM_KEY_NOT_FOUND"),
        Refusal::Forbidden(_) => (StatusCode::FORBIDDEN, "PUBLISHING_DENIED"),
        Refusal::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    };
    answer::error(status, word, &why.to_string(), None)
}
