//! Taking an input apart.

/// Reads an input from its front. Past its end everything is zero or empty, so that every input means something.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of an input.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut all = [0; N];
        let (head, tail) = self.0.split_at(N.min(self.0.len()));
        all[..head.len()].copy_from_slice(head);
        self.0 = tail;
        all
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// The next two bytes as a number.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// The next four bytes as a number.
    pub fn word(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// The next eight bytes as a number.
    pub fn long(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// What [`join`] put there: a length in two bytes, and as many bytes as there are of it.
    pub fn block(&mut self) -> &'a [u8] {
        let len = usize::from(self.short()).min(self.0.len());
        let (head, tail) = self.0.split_at(len);
        self.0 = tail;
        head
    }

    /// What is left.
    #[must_use]
    pub const fn rest(self) -> &'a [u8] {
        self.0
    }

    /// What is left, cut into pieces whose lengths `seed` decides: many of one byte, some longer.
    pub fn pieces(self, seed: u16) -> impl Iterator<Item = &'a [u8]> {
        let (mut rest, mut state) = (self.0, u32::from(seed) | 1 << 16);
        std::iter::from_fn(move || {
            // A linear congruential generator (Numerical Recipes); its high bits are good enough to cut by.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let len = 1_usize << (state >> 28) >> (state >> 24 & 3);
            let (head, tail) = rest.split_at(len.max(1).min(rest.len()));
            rest = tail;
            (!head.is_empty()).then_some(head)
        })
    }
}

/// Blocks one after the other, for [`Input::block`] to read. One is cut to 65,535 bytes.
#[must_use]
pub fn join<T: AsRef<[u8]>>(blocks: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut out = Vec::new();
    for block in blocks {
        let block = block.as_ref();
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.extend(len.to_be_bytes());
        out.extend(&block[..usize::from(len)]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_joined_is_read_and_past_the_end_there_is_nothing() {
        let bytes = join([&b"one"[..], b"", b"three"]);
        let mut input = Input::new(&bytes);
        assert_eq!(
            (input.block(), input.block(), input.block()),
            (&b"one"[..], &b""[..], &b"three"[..])
        );
        assert!(input.is_empty());
        assert_eq!((input.long(), input.block()), (0, &b""[..]));
    }

    #[test]
    fn pieces_are_the_whole_however_they_are_cut() {
        let bytes: Vec<u8> = (0..=255).cycle().take(9_000).collect();
        for seed in [0, 1, 77, u16::MAX] {
            let pieces: Vec<_> = Input::new(&bytes).pieces(seed).collect();
            assert!(pieces.len() > 3, "{} pieces", pieces.len());
            assert_eq!(pieces.concat(), bytes);
        }
    }
}
