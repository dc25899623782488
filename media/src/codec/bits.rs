//! Reading bits, the highest first.

/// The bytes end before what is read, or what is read cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bits end early")]
pub(crate) struct NoBits;

/// Reads bits from the highest on.
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether bytes that prevent start codes are skipped.
    escaped: bool,
    /// How many zero bytes came before.
    zeros: u8,
    byte: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    /// The bits as they are.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            escaped: false,
            zeros: 0,
            byte: 0,
            left: 0,
        }
    }

    /// A NAL unit's bits, without the bytes that prevent start codes (ISO/IEC 14496-10 7.4.1).
    pub(crate) const fn of_nal(bytes: &'a [u8]) -> Self {
        let mut this = Self::new(bytes);
        this.escaped = true;
        this
    }

    fn byte(&mut self) -> Result<u8, NoBits> {
        let byte = *self.bytes.get(self.at).ok_or(NoBits)?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn bit(&mut self) -> Result<u32, NoBits> {
        if self.left == 0 {
            let mut byte = self.byte()?;
            if self.escaped && self.zeros >= 2 && byte == 3 {
                self.zeros = 0;
                byte = self.byte()?;
            }
            self.zeros = if byte == 0 {
                self.zeros.saturating_add(1)
            } else {
                0
            };
            (self.byte, self.left) = (byte, 8);
        }
        self.left -= 1;
        Ok(u32::from(self.byte >> self.left & 1))
    }

    /// At most 32 bits.
    pub(crate) fn read(&mut self, n: u32) -> Result<u32, NoBits> {
        (0..n).try_fold(0, |value, _| Ok(value << 1 | self.bit()?))
    }

    /// At most 8 bits.
    pub(crate) fn small(&mut self, n: u32) -> Result<u8, NoBits> {
        u8::try_from(self.read(n)?).map_err(|_| NoBits)
    }

    pub(crate) fn skip(&mut self, n: u32) -> Result<(), NoBits> {
        (0..n).try_for_each(|_| self.bit().map(drop))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, NoBits> {
        Ok(self.bit()? == 1)
    }

    /// An Exp-Golomb code of at most 32 bits (ISO/IEC 14496-10 9.1).
    pub(crate) fn ue(&mut self) -> Result<u32, NoBits> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return Err(NoBits);
            }
        }
        let tail = u64::from(self.read(zeros)?);
        u32::try_from((1u64 << zeros) - 1 + tail).map_err(|_| NoBits)
    }

    /// A signed Exp-Golomb code.
    pub(crate) fn se(&mut self) -> Result<i64, NoBits> {
        let code = i64::from(self.ue()?);
        Ok(if code % 2 == 1 {
            (code + 1) / 2
        } else {
            -code / 2
        })
    }
}
