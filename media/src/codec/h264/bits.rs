//! A parameter set's bits, without the bytes that prevent start codes (ISO/IEC 14496-10 7.4.1).
use super::H264Error;

/// Reads bits from the highest on.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Emulation prevention bytes are skipped: how many zero bytes came before.
    zeros: u8,
    byte: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            zeros: 0,
            byte: 0,
            left: 0,
        }
    }

    pub(super) fn bit(&mut self) -> Result<u32, H264Error> {
        if self.left == 0 {
            let mut byte = *self.bytes.get(self.at).ok_or(H264Error::Sps)?;
            self.at += 1;
            if self.zeros >= 2 && byte == 3 {
                self.zeros = 0;
                byte = *self.bytes.get(self.at).ok_or(H264Error::Sps)?;
                self.at += 1;
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

    pub(super) fn read(&mut self, n: u32) -> Result<u32, H264Error> {
        (0..n).try_fold(0, |value, _| Ok(value << 1 | self.bit()?))
    }

    pub(super) fn flag(&mut self) -> Result<bool, H264Error> {
        Ok(self.bit()? == 1)
    }

    /// An Exp-Golomb code of at most 32 bits (9.1).
    pub(super) fn ue(&mut self) -> Result<u32, H264Error> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return Err(H264Error::Sps);
            }
        }
        let tail = u64::from(self.read(zeros)?);
        u32::try_from((1u64 << zeros) - 1 + tail).map_err(|_| H264Error::Sps)
    }

    /// A signed Exp-Golomb code, whose value is not needed.
    pub(super) fn skip_se(&mut self) -> Result<i64, H264Error> {
        let code = i64::from(self.ue()?);
        Ok(if code % 2 == 1 {
            (code + 1) / 2
        } else {
            -code / 2
        })
    }

    pub(super) fn skip_scaling_list(&mut self, size: usize) -> Result<(), H264Error> {
        let (mut last, mut next) = (8, 8);
        for _ in 0..size {
            if next != 0 {
                next = (last + self.skip_se()?).rem_euclid(256);
            }
            if next != 0 {
                last = next;
            }
        }
        Ok(())
    }
}
