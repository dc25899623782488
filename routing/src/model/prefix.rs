//! A block of addresses: what is kept of a viewer's address, and what a place is looked up by.
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Why a text is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a prefix is an address, a slash and a length, as 192.0.2.0/24 or 2001:db8::/32")]
pub struct PrefixError;

/// An address block with its host bits cleared. Viewers are known by at most [`Prefix::of_viewer`]'s length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    base: IpAddr,
    len: u8,
}

impl Prefix {
    /// The block of `addr` with `len` leading bits; a longer length than the family has is cut to it.
    #[must_use]
    pub fn new(addr: IpAddr, len: u8) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(v4) => {
                let len = len.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                Self {
                    base: IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask)),
                    len,
                }
            }
            IpAddr::V6(v6) => {
                let len = len.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                Self {
                    base: IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)),
                    len,
                }
            }
        }
    }

    /// What may be kept of a viewer's address: /24 of IPv4, /56 of IPv6 (RFC 7871 section 11.1).
    #[must_use]
    pub fn of_viewer(addr: IpAddr) -> Self {
        let addr = addr.to_canonical();
        Self::new(addr, if addr.is_ipv4() { 24 } else { 56 })
    }

    /// Its first address.
    #[must_use]
    pub const fn base(&self) -> IpAddr {
        self.base
    }

    /// Its length in bits.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "a length in bits, not of a collection"
    )]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// Whether `addr` is in it.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        addr.is_ipv4() == self.base.is_ipv4() && Self::new(addr, self.len).base == self.base
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({self})")
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (addr, len) = match text.split_once('/') {
            Some((addr, len)) => (addr, Some(len.parse::<u8>().map_err(|_| PrefixError)?)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| PrefixError)?;
        let bits = if addr.is_ipv4() { 32 } else { 128 };
        let len = len.unwrap_or(bits);
        if len <= bits {
            Ok(Self::new(addr, len))
        } else {
            Err(PrefixError)
        }
    }
}

impl serde::Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(
            "192.0.2.77/24".parse::<Prefix>().unwrap().to_string(),
            "192.0.2.0/24"
        );
        assert_eq!(
            Prefix::new("10.1.2.3".parse().unwrap(), 0).to_string(),
            "0.0.0.0/0"
        );
        assert_eq!(
            Prefix::of_viewer("2001:db8:1:2ff::1".parse().unwrap()).to_string(),
            "2001:db8:1:200::/56"
        );
        assert_eq!(
            Prefix::of_viewer("::ffff:192.0.2.9".parse().unwrap()).to_string(),
            "192.0.2.0/24"
        );
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "192.0.2.0/33",
            "192.0.2/24",
            "2001:db8::/129",
            "192.0.2.0/-1",
        ] {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError), "{text}");
        }
    }
}
