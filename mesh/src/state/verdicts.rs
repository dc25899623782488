//! Verdicts: what makes records of an author void, whoever carries the news. They spread on their own, beside the
//! logs, and prove themselves.
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use minicbor::{Decode, Encode};
use routing::model::{MeshId, NodeId, UnixMillis};
use sha2::{Digest as _, Sha256};

use crate::{
    authority::{Facts, Revocation, Signed},
    records::{Record, Scope},
};

/// Two different records with one number: their author signed both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    a: Record,
    b: Record,
}

impl Evidence {
    /// The evidence that two records make; none when they agree, or are not of one place.
    #[must_use]
    pub fn of(a: &Record, b: &Record) -> Option<Self> {
        let same_place = (a.scope(), a.author(), a.number()) == (b.scope(), b.author(), b.number());
        (same_place && a.hash() != b.hash()).then(|| {
            let (a, b) = if a.hash() < b.hash() { (a, b) } else { (b, a) };
            Self {
                a: a.clone(),
                b: b.clone(),
            }
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn author(&self) -> NodeId {
        self.a.author()
    }

    /// In which scope.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.a.scope()
    }

    /// The number that both bear.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.a.number()
    }

    /// Both records.
    #[must_use]
    pub fn records(&self) -> [&Record; 2] {
        [&self.a, &self.b]
    }
}

/// One verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A node was revoked by its cluster.
    Revoked(Signed<Revocation>),
    /// An author signed two records with one number.
    Forked(Evidence),
}

#[derive(Encode, Decode)]
enum Wire {
    #[n(0)]
    Revoked(#[n(0)] Signed<Revocation>),
    #[n(1)]
    Forked(
        #[cbor(n(0), with = "minicbor::bytes")] Vec<u8>,
        #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>,
    ),
}

impl Verdict {
    /// As it travels and rests.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let wire = match self {
            Self::Revoked(r) => Wire::Revoked(r.clone()),
            Self::Forked(e) => Wire::Forked(e.a.raw().to_vec(), e.b.raw().to_vec()),
        };
        let mut out = Vec::new();
        let written = minicbor::encode(wire, &mut out);
        debug_assert!(written.is_ok(), "a Vec takes every byte");
        out
    }

    /// Reads a verdict and checks its proof to the root. None when it proves nothing; never panics.
    #[must_use]
    pub fn read(mesh: MeshId, bytes: &[u8]) -> Option<Self> {
        match minicbor::decode(bytes).ok()? {
            Wire::Revoked(r) => {
                Facts::check_revocation(mesh, &r).ok()?;
                Some(Self::Revoked(r))
            }
            Wire::Forked(a, b) => {
                let a = Record::read(mesh, Bytes::from(a)).ok()?;
                let b = Record::read(mesh, Bytes::from(b)).ok()?;
                Evidence::of(&a, &b).map(Self::Forked)
            }
        }
    }

    /// Whether its proof holds. Of [`Verdict::Forked`] it does: it is made of checked records.
    pub(crate) fn holds(&self, mesh: MeshId) -> bool {
        match self {
            Self::Revoked(r) => Facts::check_revocation(mesh, r).is_ok(),
            Self::Forked(_) => true,
        }
    }

    /// What it is told apart by.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }
}

/// All verdicts, kept in one form whatever order they came in.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    revoked: BTreeMap<[u8; 32], Signed<Revocation>>,
    nodes: HashMap<NodeId, Vec<[u8; 32]>>,
    forks: BTreeMap<(Scope, NodeId), Evidence>,
    ids: HashSet<[u8; 32]>,
}

impl Verdicts {
    /// Takes one. True when it changes anything. Of several forks of one log the lowest number is kept, and of several
    /// records with that number the two with the lowest hashes.
    pub(crate) fn add(&mut self, verdict: Verdict) -> bool {
        let news = match verdict {
            Verdict::Revoked(r) => {
                let id = r.hash();
                let news = !self.revoked.contains_key(&id);
                if news {
                    self.nodes.entry(r.node()).or_default().push(id);
                    self.revoked.insert(id, r);
                }
                news
            }
            Verdict::Forked(new) => {
                let at = (new.scope(), new.author());
                let kept = match self.forks.get(&at) {
                    Some(old) if old.number() < new.number() => old.clone(),
                    Some(old) if old.number() == new.number() => {
                        let mut all: Vec<_> = [&old.a, &old.b, &new.a, &new.b].into();
                        all.sort_by_key(|r| *r.hash());
                        all.dedup();
                        match all.as_slice() {
                            [a, b, ..] => Evidence::of(a, b).unwrap_or(new),
                            _ => new,
                        }
                    }
                    _ => new,
                };
                self.forks.insert(at, kept.clone()).as_ref() != Some(&kept)
            }
        };
        if news {
            self.ids = self.all().map(|v| v.id()).collect();
        }
        news
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = Verdict> {
        let revoked = self.revoked.values().cloned().map(Verdict::Revoked);
        revoked.chain(self.forks.values().cloned().map(Verdict::Forked))
    }

    /// The ids of all of them.
    pub(crate) fn ids(&self) -> &HashSet<[u8; 32]> {
        &self.ids
    }

    /// The evidence against an author in a scope.
    #[must_use]
    pub fn fork(&self, scope: Scope, author: NodeId) -> Option<&Evidence> {
        self.forks.get(&(scope, author))
    }

    /// All evidence.
    pub fn forks(&self) -> impl Iterator<Item = &Evidence> {
        self.forks.values()
    }

    /// Nodes that were revoked.
    pub fn revoked(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.keys().copied()
    }

    /// Whether a node was revoked.
    pub(crate) fn is_revoked(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Records that count although a log may have their twin in their place.
    pub(crate) fn records(&self) -> Vec<Record> {
        let both = self.forks.values().flat_map(Evidence::records);
        both.cloned().collect()
    }

    /// The highest number of an author's log that is worth having; none when there is no end.
    pub(crate) fn last(&self, scope: Scope, author: NodeId) -> Option<u64> {
        let fork = self.fork(scope, author).map(Evidence::number);
        let listed = |id: &[u8; 32]| {
            let last = self.revoked.get(id)?.last.iter();
            last.filter(|(s, _)| *s == scope).map(|(_, n)| *n).min()
        };
        let revoked = self.nodes.get(&author).into_iter().flatten();
        revoked.filter_map(listed).chain(fork).min()
    }

    /// Whether a record counts: no verdict makes it void.
    pub(crate) fn counts(&self, record: &Record) -> bool {
        let (scope, author) = (record.scope(), record.author());
        if self
            .last(scope, author)
            .is_some_and(|n| record.number() > n)
        {
            return false;
        }
        let late = |id: &[u8; 32]| {
            self.revoked.get(id).is_some_and(|r| {
                let listed = r.last.iter().any(|(s, _)| *s == scope);
                !listed && record.at().millis() > UnixMillis(r.at.0)
            })
        };
        !self.nodes.get(&author).into_iter().flatten().any(late)
    }
}
