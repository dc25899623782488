//! How often callers from one address are listened to.
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use routing::model::Uptime;

/// Handshakes that an address may bring at once.
const BURST: u32 = 50;
/// And one more each time this has passed.
const EVERY: Duration = Duration::from_millis(50);
/// Addresses that are remembered; while so many are busy, no other one is listened to.
const ADDRESSES: usize = 4096;

/// Counts handshakes by address, of IPv6 by its first 64 bits.
#[derive(Debug, Default)]
pub(super) struct Limiter(HashMap<IpAddr, (u32, Uptime)>);

impl Limiter {
    /// Whether one more from this address is listened to.
    pub(super) fn admit(&mut self, now: Uptime, from: IpAddr) -> bool {
        let block = match from.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        };
        if self.0.len() >= ADDRESSES && !self.0.contains_key(&block) {
            self.0
                .retain(|_, (used, at)| refill(*used, now.since(*at)).0 > 0);
            if self.0.len() >= ADDRESSES {
                return false;
            }
        }
        let (used, at) = self.0.entry(block).or_insert((0, now));
        let (left, rest) = refill(*used, now.since(*at));
        // What did not come to a whole handshake counts on.
        *at = if left == 0 {
            now
        } else {
            Uptime(now.0.saturating_sub(rest))
        };
        *used = left;
        if left >= BURST {
            return false;
        }
        *used += 1;
        true
    }
}

/// How many of these count still after a time, and what of the time is over.
fn refill(used: u32, passed: Duration) -> (u32, Duration) {
    let back = u32::try_from(passed.as_millis() / EVERY.as_millis()).unwrap_or(u32::MAX);
    let over = passed.saturating_sub(EVERY.saturating_mul(back));
    (used.saturating_sub(back), over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_burst_and_then_a_rate_and_others_are_not_affected() {
        let mut limiter = Limiter::default();
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut admitted = 0;
        for ms in 0..2_000 {
            admitted += u32::from(limiter.admit(Uptime::from_millis(ms), ip(1)));
        }
        assert_eq!(admitted, BURST + 1_999 / 50);
        assert!(limiter.admit(Uptime::from_millis(2_000), ip(2)));
    }

    #[test]
    fn addresses_without_end_are_not_remembered() {
        let mut limiter = Limiter::default();
        for n in 0..20_000u32 {
            limiter.admit(Uptime::ZERO, IpAddr::from(n.to_be_bytes()));
        }
        assert!(limiter.0.len() <= ADDRESSES);
        let later = Uptime::from_millis(5_000);
        assert!(limiter.admit(later, IpAddr::from([9, 9, 9, 9])));
    }
}
