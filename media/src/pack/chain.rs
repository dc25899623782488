//! Bytes in pieces: small buffers of our own between slices of frames.
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

/// A body made of buffers that others share. Cloning it copies no payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    buffers: Arc<[Bytes]>,
    len: u64,
}

impl Chain {
    /// The chain of these buffers.
    #[must_use]
    pub fn new(buffers: Vec<Bytes>) -> Self {
        let len = buffers.iter().map(|b| b.len() as u64).sum();
        Self {
            buffers: buffers.into(),
            len,
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its buffers, in order.
    #[must_use]
    pub fn buffers(&self) -> &[Bytes] {
        &self.buffers
    }

    /// Bytes `from..to` of it, sharing the buffers; bounds beyond its end are cut to it.
    #[must_use]
    pub fn slice(&self, from: u64, to: u64) -> Self {
        let mut at = 0;
        let mut buffers = Vec::new();
        for buffer in &*self.buffers {
            let end = at + buffer.len() as u64;
            let (a, b) = (from.max(at), to.min(end));
            if a < b {
                let index = |x: u64| usize::try_from(x - at).unwrap_or(usize::MAX);
                buffers.push(buffer.slice(index(a)..index(b)));
            }
            at = end;
        }
        Self::new(buffers)
    }

    /// All of it in one buffer, copied: for tests and small things.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut all = BytesMut::new();
        for buffer in &*self.buffers {
            all.extend_from_slice(buffer);
        }
        all.freeze()
    }

    /// As a body of known length.
    #[must_use]
    pub const fn into_body(self) -> ChainBody {
        ChainBody {
            chain: self,
            next: 0,
            sent: 0,
        }
    }
}

/// A [`Chain`] on its way out, a buffer at a time.
#[derive(Debug)]
pub struct ChainBody {
    chain: Chain,
    next: usize,
    sent: u64,
}

impl Body for ChainBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(buffer) = self.chain.buffers.get(self.next).cloned() else {
            return Poll::Ready(None);
        };
        self.next += 1;
        self.sent += buffer.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(buffer))))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.chain.buffers.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chain.len - self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_what_a_slice_of_the_whole_would_be() {
        let parts = ["shoal", "", "of", "fish"].map(|text| Bytes::from_static(text.as_bytes()));
        let chain = Chain::new(parts.to_vec());
        let whole = chain.to_bytes();
        for from in 0..=whole.len() {
            for to in from..=whole.len() + 1 {
                let slice = chain.slice(from as u64, to as u64).to_bytes();
                assert_eq!(slice, whole[from..to.min(whole.len())]);
            }
        }
    }
}
