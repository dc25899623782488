//! Messages and frames on QUIC streams.
use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream};

use super::wire::{self, FrameHead, Message, WireError};
use crate::live::Frame;

/// Why a stream gave nothing more.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// It ended, was reset or its connection was lost.
    #[error("the stream ended early")]
    Gone,
    /// What came is not this protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
}

async fn exact(recv: &mut RecvStream, buf: &mut [u8]) -> Result<(), StreamError> {
    recv.read_exact(buf).await.map_err(|_| StreamError::Gone)
}

/// The next message. Not cancel-safe.
pub(super) async fn read_message<M: Message>(recv: &mut RecvStream) -> Result<M, StreamError> {
    let mut length = [0; 4];
    exact(recv, &mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > wire::MAX_MESSAGE {
        return Err(WireError::Limit.into());
    }
    let bytes = read_bytes(recv, length).await?;
    Ok(M::parse(&bytes)?)
}

/// `length` bytes in memory of their own, which grows as they come: a claimed length alone costs nothing.
async fn read_bytes(recv: &mut RecvStream, length: usize) -> Result<Bytes, StreamError> {
    let mut bytes = BytesMut::with_capacity(length.min(64 << 10));
    while bytes.len() < length {
        let chunk = recv
            .read_chunk(length - bytes.len(), true)
            .await
            .map_err(|_| StreamError::Gone)?
            .ok_or(StreamError::Gone)?;
        bytes.extend_from_slice(&chunk.bytes);
    }
    Ok(bytes.freeze())
}

/// The next frame; `None` at the group's end. Not cancel-safe.
pub(super) async fn read_frame(recv: &mut RecvStream) -> Result<Option<Frame>, StreamError> {
    let mut length = [0];
    exact(recv, &mut length).await?;
    let length = usize::from(length[0]);
    if length == 0 {
        return Ok(None);
    }
    if length > wire::MAX_FRAME_HEAD {
        return Err(WireError::Limit.into());
    }
    let mut head = [0; wire::MAX_FRAME_HEAD];
    exact(recv, &mut head[..length]).await?;
    let head = FrameHead::parse(&head[..length])?;
    let data = read_bytes(recv, usize::try_from(head.len).unwrap_or(usize::MAX)).await?;
    Ok(Some(Frame {
        dts: head.dts,
        cts: head.cts,
        keyframe: head.keyframe,
        cut: head.cut,
        data,
    }))
}

/// Sends a message.
pub(super) async fn write_message(
    send: &mut SendStream,
    message: &impl Message,
) -> Result<(), StreamError> {
    let bytes = wire::with_length(message);
    send.write_all(&bytes).await.map_err(|_| StreamError::Gone)
}

/// Sends a frame: head and bytes in one go, the bytes shared with everybody else who sends them.
pub(super) async fn write_frame(send: &mut SendStream, frame: &Frame) -> Result<(), StreamError> {
    let mut chunks = [Bytes::from(wire::frame_head(frame)), frame.data.clone()];
    send.write_all_chunks(&mut chunks)
        .await
        .map_err(|_| StreamError::Gone)
}

/// Says that the group has all its frames.
pub(super) async fn write_group_end(send: &mut SendStream) -> Result<(), StreamError> {
    send.write_all(wire::GROUP_END)
        .await
        .map_err(|_| StreamError::Gone)
}
