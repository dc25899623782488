//! Requests to a node by the name of a protocol, for whatever the other crates have to say to each other.
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use minicbor::{Decode, Encode};
use routing::model::NodeId;
use tokio::sync::Semaphore;

use crate::{
    link::{Stream, frame},
    live::hello::First,
};

/// How long a request may take, from opening the stream to the last byte of the answer.
pub const REQUEST: Duration = Duration::from_secs(10);
/// How long a handler may take; then the stream is dropped.
const HANDLE: Duration = Duration::from_secs(20);
/// Requests that are handled at once. Further ones are answered [`CarryError::Busy`].
const AT_ONCE: usize = 256;

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CarryError {
    /// There is no admitted link to that node.
    #[error("node {node} is not linked to this one now: ask another, or try again in a moment")]
    NotLinked {
        /// The node.
        node: NodeId,
    },
    /// The link ended in the middle.
    #[error("the link to node {node} ended before the answer: it may have done what was asked")]
    Lost {
        /// The node.
        node: NodeId,
    },
    /// Too slow.
    #[error("node {node} did not answer in {} s: it may yet do what was asked", REQUEST.as_secs())]
    Timeout {
        /// The node.
        node: NodeId,
    },
    /// It handles as many as it takes.
    #[error(
        "node {node} handles as many requests as it takes: ask another, or try again in a moment"
    )]
    Busy {
        /// The node.
        node: NodeId,
    },
    /// It does not know the protocol.
    #[error("node {node} does not serve {protocol}: it may run another version, or lack the role")]
    Unknown {
        /// The node.
        node: NodeId,
        /// The protocol.
        protocol: String,
    },
    /// Its handler refused.
    #[error("node {node} refused: {why}")]
    Refused {
        /// The node.
        node: NodeId,
        /// What it said.
        why: String,
    },
    /// The request is too long.
    #[error("a request has at most {} bytes", frame::CALL)]
    TooLong,
}

/// Why a handler refuses, in words for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HandleError(pub String);

/// Answers requests of one protocol. The asker was admitted; what it may beyond that is the handler's to check.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped unfinished when the asker goes or after 20 seconds.
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, HandleError>>;
}

#[derive(Debug, Encode, Decode)]
pub(crate) enum Status {
    #[n(0)]
    Done,
    #[n(1)]
    Busy,
    #[n(2)]
    Unknown,
    #[n(3)]
    Refused(#[n(0)] String),
}

/// The handlers by protocol.
#[derive(Clone)]
pub(crate) struct Handlers {
    by_name: Arc<RwLock<BTreeMap<String, Arc<dyn Handler>>>>,
    slots: Arc<Semaphore>,
}

impl Default for Handlers {
    fn default() -> Self {
        Self {
            by_name: Arc::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Handlers {
    pub(crate) fn set(&self, protocol: &str, handler: Arc<dyn Handler>) {
        let mut all = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(protocol.to_owned(), handler);
    }

    /// Answers one request on its stream.
    pub(crate) async fn answer(&self, mut stream: Stream, from: NodeId, protocol: String) {
        let work = async {
            let body = frame::read(&mut stream, frame::CALL).await?;
            let handler = {
                let all = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
                all.get(&protocol).cloned()
            };
            let (status, answer) = match (handler, self.slots.try_acquire()) {
                (None, _) => (Status::Unknown, Bytes::new()),
                (Some(_), Err(_)) => (Status::Busy, Bytes::new()),
                (Some(handler), Ok(_slot)) => match handler.handle(from, body).await {
                    Ok(answer) if answer.len() <= frame::CALL => (Status::Done, answer),
                    Ok(_) => (
                        Status::Refused("the answer is too long".into()),
                        Bytes::new(),
                    ),
                    Err(HandleError(why)) => (Status::Refused(why), Bytes::new()),
                },
            };
            frame::write_value(&mut stream, &status).await?;
            frame::write(&mut stream, &answer).await?;
            futures::AsyncWriteExt::close(&mut stream).await
        };
        match tokio::time::timeout(HANDLE, work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%from, protocol, %error, "request not answered"),
            Err(_) => tracing::warn!(%from, protocol, "a handler took longer than 20 s"),
        }
    }
}

/// Asks on a fresh stream.
pub(crate) async fn ask(
    mut stream: Stream,
    node: NodeId,
    protocol: &str,
    body: Bytes,
) -> Result<Bytes, CarryError> {
    let talk = async {
        frame::write_value(&mut stream, &First::Call(protocol.to_owned())).await?;
        frame::write(&mut stream, &body).await?;
        futures::AsyncWriteExt::close(&mut stream).await?;
        let status = frame::read_value::<_, Status>(&mut stream, frame::LINK).await?;
        let answer = frame::read(&mut stream, frame::CALL).await?;
        Ok::<_, std::io::Error>((status, answer))
    };
    match talk.await {
        Ok((Status::Done, answer)) => Ok(answer),
        Ok((Status::Busy, _)) => Err(CarryError::Busy { node }),
        Ok((Status::Unknown, _)) => Err(CarryError::Unknown {
            node,
            protocol: protocol.to_owned(),
        }),
        Ok((Status::Refused(why), _)) => Err(CarryError::Refused { node, why }),
        Err(_) => Err(CarryError::Lost { node }),
    }
}
