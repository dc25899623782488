//! Weighted rendezvous hashing in integers.
use std::net::IpAddr;

use crate::model::{NodeId, Prefix};

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit changes each output bit about half the time.
const fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A node's part of the hash.
pub(super) fn seed(node: &NodeId) -> u64 {
    node.as_bytes().chunks_exact(8).fold(0, |hash, chunk| {
        let word = chunk
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
        mix(hash ^ word)
    })
}

/// A prefix's part of the hash.
pub(super) fn hash(prefix: &Prefix) -> u64 {
    let (family, bits) = match prefix.base() {
        IpAddr::V4(a) => (4, u128::from(a.to_bits())),
        IpAddr::V6(a) => (6, a.to_bits()),
    };
    let [high, low] = [(bits >> 64) as u64, bits as u64];
    mix(mix(mix(family << 8 | u64::from(prefix.len())) ^ high) ^ low)
}

/// What a node of this weight draws: `-log2(hash / 2^64)`, exponentially distributed, over its weight. Lowest wins, so a
/// node wins in proportion to its weight, and others' draws do not depend on who else is there.
pub(super) fn draw(prefix: u64, node: u64, weight: u32) -> u64 {
    let drawn = u128::from(neg_log2(mix(prefix ^ node)));
    // Below 2^62: the logarithm is at most 64 in units of 2^-24.
    (drawn << 32)
        .checked_div(u128::from(weight))
        .and_then(|q| u64::try_from(q).ok())
        .unwrap_or(u64::MAX)
}

/// `64 - log2(h)` in units of 2^-24, rounded up, bit by bit: squaring a number in [1, 2) doubles its logarithm.
fn neg_log2(h: u64) -> u64 {
    let h = h.max(1);
    let zeros = h.leading_zeros();
    // 1.63 fixed point.
    let mut m = h << zeros;
    let mut log = u64::from(63 - zeros);
    for _ in 0..24 {
        let square = (u128::from(m) * u128::from(m)) >> 63;
        let carry = square >> 64 != 0;
        log = log << 1 | u64::from(carry);
        m = if carry { square >> 1 } else { square } as u64;
    }
    (64 << 24) - log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_to_its_last_bit() {
        for h in [
            1,
            2,
            3,
            1 << 20,
            0x1234_5678_9abc_def0,
            u64::MAX / 2,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let exact = (64.0 - (h as f64).log2()) * f64::from(1 << 24);
            assert!(
                (neg_log2(h) as f64 - exact).abs() <= 1.5,
                "{h}: {} {exact}",
                neg_log2(h)
            );
        }
    }

    #[test]
    fn draws_are_the_same_everywhere() {
        // Fixed for good: nodes of different builds must agree. The figures are from a second implementation, in Python.
        let hash = hash(&"192.0.2.0/24".parse().unwrap());
        let seed = seed(&NodeId::from_bytes([7; 32]));
        assert_eq!(
            draw(hash, seed, 1) / 1000,
            draw(hash, seed, 1000),
            "a thousandfold weight divides the draw"
        );
        assert_eq!((hash, seed), (2557697295414078378, 6365087732256694149));
        let exact = 0.476602596 * f64::from(1 << 24);
        assert!(((draw(hash, seed, 1) >> 32) as f64 - exact).abs() <= 1.5);
    }
}
