//! Small helpers for what this crate encodes as CBOR (RFC 8949).

/// `Bytes` as a CBOR byte string, for `#[cbor(with = "crate::wire::bytes")]`.
pub(crate) mod bytes {
    use ::bytes::Bytes;
    use minicbor::{Decoder, Encoder, decode::Error};

    pub(crate) fn encode<C, W: minicbor::encode::Write>(
        bytes: &Bytes,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(bytes)?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Bytes, Error> {
        d.bytes().map(Bytes::copy_from_slice)
    }
}

/// `Arc<T>` as `T`, for `#[cbor(with = "crate::wire::shared")]`.
pub(crate) mod shared {
    use std::sync::Arc;

    use minicbor::{Decode, Decoder, Encode, Encoder, decode::Error};

    pub(crate) fn encode<C, T: Encode<C>, W: minicbor::encode::Write>(
        value: &Arc<T>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        T::encode(value, e, ctx)
    }

    pub(crate) fn decode<'b, C, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Arc<T>, Error> {
        T::decode(d, ctx).map(Arc::new)
    }
}
