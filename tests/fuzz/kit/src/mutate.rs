//! Changing seeds.

/// Values at which parsers decide.
const EDGES: [u64; 10] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX,
];

/// Draws mutations, the same ones for the same name.
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(name: &str) -> Self {
        // FNV-1a, so that targets with like seeds get other mutations.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self(hash)
    }

    /// SplitMix64 (Steele, Lea, Flood, 2014).
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `limit`; 0 where that is 0.
    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.draw() % limit).unwrap_or(0)
    }

    /// One of the seeds with one to eight changes.
    pub(crate) fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input, seeds);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let len = 1 << self.below(6) >> self.below(3);
        let end = (at + len).min(input.len());
        match self.below(8) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.draw().to_be_bytes()[0],
            2 => {
                // A number of one, two, four or eight bytes at the edge of something.
                let edge = EDGES[self.below(EDGES.len())].wrapping_sub(self.draw() & 1);
                let width = 1 << self.below(4);
                let bytes = &edge.to_be_bytes()[8 - width..];
                let fits = bytes.len().min(input.len() - at);
                input[at..at + fits].copy_from_slice(&bytes[..fits]);
            }
            3 => drop(input.drain(at..end)),
            4 => {
                let bytes = self.draw().to_be_bytes();
                input.splice(at..at, bytes.into_iter().cycle().take(len));
            }
            5 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            6 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend(&other[from..]);
            }
            7 if self.below(4) == 0 => input.truncate(at),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_repeat_by_name_and_rarely_leave_a_seed_as_it_was() {
        let seeds = [vec![1; 40], (0..90).collect(), Vec::new()];
        let all = |name| {
            let mut mutator = Mutator::new(name);
            (0..500).map(|_| mutator.next(&seeds)).collect::<Vec<_>>()
        };
        assert_eq!(all("a"), all("a"));
        assert_ne!(all("a"), all("b"));
        let same = all("a").iter().filter(|m| seeds.contains(m)).count();
        assert!(same < 100, "{same} of 500 are seeds");
    }
}
