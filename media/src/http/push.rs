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
/// And for so long, where another publisher of the stream waits at this node: an encoder that lost its connection comes
/// back on a new one.
const GIVE_WAY: Duration = Duration::from_secs(5);
/// An MPEG-TS packet's bytes: two of them in a row tell it from anything else.
const PACKET: usize = 188;

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
    #[error("Nothing came for 30 s, or for 5 s while another publisher of the stream waits.")]
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
    let mut silent = Duration::ZERO;
    loop {
        let frame = tokio::select! {
            frame = timeout(GIVE_WAY, body.frame()) => match frame {
                Ok(frame) => frame,
                Err(_) => {
                    silent += GIVE_WAY;
                    if silent >= IDLE || publication.others_wait() {
                        return Err(PushError::Idle);
                    }
                    continue;
                }
            },
            live = publication.standing() => {
                publication.set_live(live).await?;
                continue;
            }
            () = stop.cancelled() => return Err(PushError::Ended),
        };
        silent = Duration::ZERO;
        let Some(frame) = frame else { break };
        let Ok(bytes) = frame.map_err(|_| PushError::Broken)?.into_data() else {
            continue;
        };
        let now = publication.now();
        let bytes = match &form {
            Some(_) => bytes,
            None => {
                first.extend_from_slice(&bytes);
                form = told(&first)?;
                if form.is_none() {
                    continue;
                }
                Bytes::from(std::mem::take(&mut first))
            }
        };
        if let Some(form) = &mut form {
            form.take(publication, now, &bytes)?;
        }
        publication.write()?;
    }
    match &mut form {
        Some(Form::Flv(..)) => Ok(()),
        Some(Form::Ts(feed)) => {
            let now = publication.now();
            feed.end(publication.origin(), now);
            Ok(publication.write()?)
        }
        None => Err(PushError::Form),
    }
}

/// The form by its first bytes, once there are enough: the mark of FLV, or the sync byte of MPEG-TS at a packet's
/// distance.
fn told(first: &[u8]) -> Result<Option<Form>, PushError> {
    const SYNC: u8 = 0x47;
    const MARK: &[u8] = b"FLV";
    if first.starts_with(MARK) {
        let form = Form::Flv(flv::Reader::new(), origin::Feed::new());
        return Ok(Some(form));
    }
    if first.len() < 2 * PACKET {
        return Ok(None);
    }
    let in_step = |(a, b): (&u8, &u8)| *a == SYNC && *b == SYNC;
    let mut pairs = first.iter().zip(&first[PACKET..]).take(PACKET);
    let form = pairs.any(in_step).then(|| Form::Ts(ts::Feed::new()));
    form.map(Some).ok_or(PushError::Form)
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
