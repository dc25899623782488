//! Where an address is: longest-prefix match, and for how wide a block the result holds.
//!
//! A lookup gives a [`Located`]: the place, and the **scope**: the shortest prefix length around the address that has no
//! finer entry inside. Every address of that block is at the same place, so whoever caches an answer may keep it for the
//! whole block (RFC 7871 section 7.2.1). An address that no entry covers has a scope too: the widest block around it that
//! has no entry at all.
//!
//! ```
//! use routing::model::{Place, Region};
//! use routing::place::{PlaceTable, Places};
//! let eu = Place::new(50.1, 8.7, Region::new("eu").unwrap());
//! let us = Place::new(40.7, -74.0, Region::new("us").unwrap());
//! let table = PlaceTable::new([
//!     ("192.0.0.0/8".parse().unwrap(), eu.clone()),
//!     ("192.0.2.0/24".parse().unwrap(), us.clone()),
//! ]).unwrap();
//! let inner = table.locate("192.0.2.77".parse().unwrap());
//! assert_eq!((inner.place, inner.scope), (Some(us), 24));
//! // The /24 lies in 192.0.0.0/16: an answer for 192.1.0.1 holds in 192.1.0.0/16, and in no wider block.
//! let outer = table.locate("192.1.0.1".parse().unwrap());
//! assert_eq!((outer.place, outer.scope), (Some(eu), 16));
//! ```
use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use crate::model::{Place, Prefix};

/// What a lookup found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// Where the address is, if anybody knows.
    pub place: Option<Place>,
    /// Leading bits of the address that the result depends on, 0 to 32 or 128: the result holds for all of that block.
    pub scope: u8,
}

/// Whoever knows where addresses are: a table of prefixes, a database file, several of these in order.
pub trait Places: Send + Sync + fmt::Debug + 'static {
    /// Where `addr` is. An IPv4 address mapped into IPv6 counts as IPv4.
    fn locate(&self, addr: IpAddr) -> Located;
}

/// Why a table cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// More than [`PlaceTable::MAX`] entries.
    #[error(
        "a place table has at most {} prefixes; give a MaxMind-format file for more",
        PlaceTable::MAX
    )]
    TooMany,
    /// One prefix twice, with two places.
    #[error("the prefix {0} is listed with two different places; keep one of the lines")]
    Twice(Prefix),
}

/// Prefixes of both families with their places, as a binary tree over address bits.
#[derive(Clone, Default)]
pub struct PlaceTable {
    v4: Tree,
    v6: Tree,
    places: Vec<Place>,
    len: usize,
}

impl PlaceTable {
    /// The most entries that a table takes: configuration is read by people. At worst 128 tree nodes of 12 bytes each.
    pub const MAX: usize = 65_536;

    /// The table of these pairs, in any order.
    ///
    /// # Errors
    /// [`TableError`] when there are too many, or one prefix has two places.
    pub fn new(entries: impl IntoIterator<Item = (Prefix, Place)>) -> Result<Self, TableError> {
        let mut unique = BTreeMap::new();
        for (prefix, place) in entries {
            if unique.len() >= Self::MAX {
                return Err(TableError::TooMany);
            }
            if unique
                .insert(prefix, place.clone())
                .is_some_and(|old| old != place)
            {
                return Err(TableError::Twice(prefix));
            }
        }
        let mut table = Self {
            len: unique.len(),
            ..Self::default()
        };
        for (prefix, place) in unique {
            let index = u32::try_from(table.places.len()).unwrap_or(NONE);
            let (bits, tree) = match prefix.base() {
                IpAddr::V4(a) => (u128::from(a.to_bits()) << 96, &mut table.v4),
                IpAddr::V6(a) => (a.to_bits(), &mut table.v6),
            };
            tree.insert(bits, prefix.len(), index);
            table.places.push(place);
        }
        Ok(table)
    }

    /// How many prefixes it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Places for PlaceTable {
    fn locate(&self, addr: IpAddr) -> Located {
        let (bits, tree) = match addr.to_canonical() {
            IpAddr::V4(a) => (u128::from(a.to_bits()) << 96, &self.v4),
            IpAddr::V6(a) => (a.to_bits(), &self.v6),
        };
        let (index, scope) = tree.find(bits);
        Located {
            place: self.places.get(index as usize).cloned(),
            scope,
        }
    }
}

impl fmt::Debug for PlaceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlaceTable({} prefixes)", self.len)
    }
}

/// Several sources, asked in order until one knows the place. What an earlier one did not know counts for the scope.
#[derive(Clone, Debug, Default)]
pub struct Layers(pub Vec<Arc<dyn Places>>);

impl Places for Layers {
    fn locate(&self, addr: IpAddr) -> Located {
        let mut scope = 0;
        for layer in &self.0 {
            let found = layer.locate(addr);
            scope = scope.max(found.scope);
            if found.place.is_some() {
                return Located {
                    place: found.place,
                    scope,
                };
            }
        }
        Located { place: None, scope }
    }
}

/// No child, or no place.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Branch {
    children: [u32; 2],
    place: u32,
}

const BARE: Branch = Branch {
    children: [NONE; 2],
    place: NONE,
};

/// Branches in one array; the first is the root.
#[derive(Clone)]
struct Tree(Vec<Branch>);

impl Default for Tree {
    fn default() -> Self {
        Self(vec![BARE])
    }
}

impl Tree {
    fn insert(&mut self, bits: u128, len: u8, place: u32) {
        let mut at = 0;
        for depth in 0..len {
            let side = side(bits, depth);
            if self.0[at].children[side] == NONE {
                self.0[at].children[side] = u32::try_from(self.0.len()).unwrap_or(NONE);
                self.0.push(BARE);
            }
            at = self.0[at].children[side] as usize;
        }
        self.0[at].place = place;
    }

    /// The place of the longest match, and the depth of the first branch on the way that has nothing finer below it.
    fn find(&self, bits: u128) -> (u32, u8) {
        let (mut at, mut depth, mut place) = (&self.0[0], 0, self.0[0].place);
        loop {
            if at.children == [NONE; 2] {
                return (place, depth);
            }
            let next = at.children[side(bits, depth)];
            depth += 1;
            match self.0.get(next as usize) {
                Some(branch) => at = branch,
                None => return (place, depth),
            }
            if at.place != NONE {
                place = at.place;
            }
        }
    }
}

const fn side(bits: u128, depth: u8) -> usize {
    (bits >> (127 - depth) & 1) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Region;

    fn place(n: u8) -> Place {
        Place::new(f64::from(n) / 3.0, f64::from(n), Region::new("x").unwrap())
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn an_empty_table_knows_nothing_about_everything() {
        let found = PlaceTable::default().locate("2001:db8::1".parse().unwrap());
        assert_eq!(
            found,
            Located {
                place: None,
                scope: 0
            }
        );
    }

    #[test]
    fn families_are_apart_and_mapped_addresses_are_ipv4() {
        let table = PlaceTable::new([
            (prefix("0.0.0.0/0"), place(4)),
            (prefix("2001:db8::/32"), place(6)),
        ])
        .unwrap();
        let at = |text: &str| table.locate(text.parse().unwrap());
        assert_eq!(
            at("203.0.113.1"),
            Located {
                place: Some(place(4)),
                scope: 0
            }
        );
        assert_eq!(at("::ffff:203.0.113.1"), at("203.0.113.1"));
        assert_eq!(
            at("2001:db8::1"),
            Located {
                place: Some(place(6)),
                scope: 32
            }
        );
        assert_eq!(
            at("3001::1"),
            Located {
                place: None,
                scope: 4
            },
            "0010 and 0011 differ in the fourth bit"
        );
    }

    #[test]
    fn what_is_listed_twice_must_agree() {
        let twice = |second| {
            PlaceTable::new([
                (prefix("10.0.0.0/8"), place(1)),
                (prefix("10.9.9.9/8"), second),
            ])
        };
        assert_eq!(twice(place(1)).unwrap().len(), 1);
        assert_eq!(
            twice(place(2)).unwrap_err(),
            TableError::Twice(prefix("10.0.0.0/8"))
        );
    }

    #[test]
    fn layers_ask_on_and_keep_the_narrower_scope() {
        let fine = PlaceTable::new([(prefix("10.1.0.0/16"), place(1))]).unwrap();
        let coarse = PlaceTable::new([(prefix("10.0.0.0/8"), place(2))]).unwrap();
        let both = Layers(vec![Arc::new(fine), Arc::new(coarse)]);
        assert_eq!(
            both.locate("10.1.2.3".parse().unwrap()),
            Located {
                place: Some(place(1)),
                scope: 16
            }
        );
        assert_eq!(
            both.locate("10.2.2.3".parse().unwrap()),
            Located {
                place: Some(place(2)),
                scope: 15
            }
        );
    }

    fn arb_entry() -> impl Strategy<Value = (Prefix, Place)> {
        // Few distinct leading bytes, so that entries nest.
        (
            prop_oneof![Just(10u8), Just(11), any::<u8>()],
            any::<[u8; 3]>(),
            0u8..=32,
            any::<u8>(),
        )
            .prop_map(|(a, [b, c, d], len, n)| {
                (
                    Prefix::new(IpAddr::from([a, b & 3, c & 1, d]), len),
                    place(n),
                )
            })
    }

    proptest! {
        /// Against the definition, entry by entry.
        #[test]
        fn longest_match_and_scope_are_as_defined(entries in prop::collection::vec(arb_entry(), 0..24), addr in arb_entry()) {
            let entries: BTreeMap<_, _> = entries.into_iter().collect();
            let table = PlaceTable::new(entries.clone()).unwrap();
            let addr = addr.0.base();
            let found = table.locate(addr);
            let best = entries.iter().filter(|(p, _)| p.contains(addr)).max_by_key(|(p, _)| p.len());
            prop_assert_eq!(found.place, best.map(|(_, place)| place.clone()));
            let clean = |len: u8| {
                let block = Prefix::new(addr, len);
                !entries.keys().any(|p| p.len() > len && block.contains(p.base()))
            };
            prop_assert_eq!(Some(found.scope), (0..=32).find(|len| clean(*len)));
        }
    }
}
