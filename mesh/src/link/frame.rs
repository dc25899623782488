//! Frames of a stream: a length in four bytes, big-endian, and that many bytes.
use std::io;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

/// The longest frame of a link.
pub(crate) const LINK: usize = 256 << 10;
/// The longest body of a call, either way.
pub(crate) const CALL: usize = 4 << 20;

/// Reads a frame of at most `max` bytes. Memory grows with what arrives, not with what was announced.
pub(crate) async fn read<R: AsyncRead + Unpin>(stream: &mut R, max: usize) -> io::Result<Bytes> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let len = u64::from(u32::from_be_bytes(len));
    if len > max as u64 {
        let text = format!("a frame of {len} bytes, above the {max} allowed here");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut body = Vec::new();
    stream.take(len).read_to_end(&mut body).await?;
    if (body.len() as u64) < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body.into())
}

/// Writes a frame; the caller flushes.
pub(crate) async fn write<W: AsyncWrite + Unpin>(stream: &mut W, body: &[u8]) -> io::Result<()> {
    // Wiped, since answers to joiners have keys in them.
    let mut wire = Zeroizing::new(Vec::with_capacity(body.len() + 4));
    append(&mut wire, body)?;
    stream.write_all(&wire).await
}

/// Adds a frame to what is to be written. Length and body go out in one write: each write of a few bytes may become a
/// datagram of its own, with an acknowledgement of its own.
pub(crate) fn append(wire: &mut Vec<u8>, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    wire.extend_from_slice(&len.to_be_bytes());
    wire.extend_from_slice(body);
    Ok(())
}

/// Reads a frame with one CBOR value.
pub(crate) async fn read_value<R, T>(stream: &mut R, max: usize) -> io::Result<T>
where
    R: AsyncRead + Unpin,
    T: for<'b> Decode<'b, ()>,
{
    let bytes = read(stream, max).await?;
    minicbor::decode(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
}

/// Writes a frame with one CBOR value and flushes.
pub(crate) async fn write_value<W, T>(stream: &mut W, value: &T) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
    T: Encode<()>,
{
    let bytes = minicbor::to_vec(value).map_err(|e| io::Error::other(e.to_string()))?;
    write(stream, &Zeroizing::new(bytes)).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_reads_back_and_a_long_or_short_one_is_refused() {
        let mut wire = Vec::new();
        block_on(write(&mut wire, b"abc")).unwrap();
        assert_eq!(block_on(read(&mut &wire[..], 3)).unwrap(), "abc");
        let long = block_on(read(&mut &wire[..], 2)).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::InvalidData);
        let short = block_on(read(&mut &wire[..6], 3)).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = block_on(read(&mut &bytes[..], 32));
            let _ = block_on(read_value::<_, Vec<u64>>(&mut &bytes[..], 32));
        }
    }
}
