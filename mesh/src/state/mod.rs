//! From records to [`Config`]: a pure function of the set of records and verdicts, computed step by step.
//!
//! Shape: `verdicts` says which records of an author count at all; `State` gathers the statements
//! ([`Facts`]) that they carry, then applies what else they say where the author could say it at the record's stamp;
//! `things` has the winners, thing by thing. When statements or verdicts change, all is judged anew: that is
//! rare, and it is what makes the order of arrival irrelevant.
mod things;
mod verdicts;

use std::{collections::HashSet, sync::Arc};

use routing::model::{ClusterId, Hlc, Label, MeshId, NodeId, TenantId, UnixMillis};

use crate::{
    authority::{ClusterGrant, Facts, TenantGrant},
    config::{Cluster, Config, Node, Tenant},
    records::{Change, Record, Scope},
};
use things::{Claims, Things};
pub use verdicts::{Evidence, Verdict, Verdicts};

/// See the module.
#[derive(Debug)]
pub(crate) struct State {
    node: NodeId,
    facts: Facts,
    verdicts: Verdicts,
    /// Statements that no known key signed so far.
    waiting: Vec<Change>,
    /// Mesh records whose statements are in `facts`, by hash.
    gathered: HashSet<[u8; 32]>,
    /// Some statement or verdict is new: `config` is behind until [`State::settle`].
    stale: bool,
    /// Some verdict is new: what void records carried must go, so all statements are gathered anew.
    regather: bool,
    /// Some name has another holder: the lists of clusters and tenants are behind.
    relist: bool,
    slugs: Claims<Label, ClusterId>,
    labels: Claims<Label, TenantId>,
    things: Things,
    config: Config,
}

impl State {
    pub(crate) fn new(mesh: MeshId, node: NodeId) -> Self {
        Self {
            node,
            facts: Facts::new(mesh),
            verdicts: Verdicts::default(),
            waiting: Vec::new(),
            gathered: HashSet::new(),
            stale: false,
            regather: false,
            relist: false,
            slugs: Claims::default(),
            labels: Claims::default(),
            things: Things::default(),
            config: Config::empty(mesh),
        }
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// Whether the author could write at all at the record's stamp, the record's own statements counted.
    pub(crate) fn admits(&self, record: &Record) -> bool {
        let at = record.at().millis();
        if self.facts.standing(record.author(), at).is_some() {
            return true;
        }
        if record.scope() != Scope::Mesh
            || !record
                .changes()
                .iter()
                .any(|c| matches!(c, Change::Node(g) if g.node == record.author()))
        {
            return false;
        }
        let mut trial = self.facts.clone();
        let mut waiting = record.changes().to_vec();
        gather(&mut trial, &mut waiting);
        trial.standing(record.author(), at).is_some()
    }

    /// Whether this node may write this record: it has standing, its statements are signed by those who must, and it
    /// may write what it says of tenants. The error says what it lacks.
    pub(crate) fn may_say(&self, record: &Record) -> Result<(), &'static str> {
        let at = record.at().millis();
        let mut trial = std::borrow::Cow::Borrowed(&self.facts);
        if record.changes().iter().any(is_statement) {
            let mut waiting = record.changes().to_vec();
            waiting.retain(is_statement);
            gather(trial.to_mut(), &mut waiting);
            if !waiting.is_empty() {
                return Err("a statement in it is not signed by those who must sign it");
            }
        }
        if trial.standing(record.author(), at).is_none() {
            return Err(
                "its grant is not in force: let it reach a gateway of its cluster for a new one, or check its clock",
            );
        }
        for change in record.changes() {
            match change {
                Change::Revoked(r) => Facts::check_revocation(trial.mesh(), r)
                    .map_err(|_| "the revocation is not signed by those who must sign it")?,
                _ => match tenant_of(record.scope(), change) {
                    Some(tenant) if !trial.may_write(record.author(), tenant, at) => {
                        return Err(
                            "it is no gateway of a cluster that may write this tenant's configuration; send it to one that is",
                        );
                    }
                    _ => {}
                },
            }
        }
        Ok(())
    }

    /// Whether [`State::settle`] has something to do.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// All is to be judged anew.
    pub(crate) fn stale(&mut self) {
        self.stale = true;
    }

    /// Takes a verdict. True when it is news.
    pub(crate) fn judge(&mut self, verdict: Verdict) -> bool {
        let news = self.verdicts.add(verdict);
        if news {
            self.regather = true;
            self.stale = true;
        }
        news
    }

    /// Applies a record that came into a log. [`State::settle`] must follow before the configuration is read.
    pub(crate) fn apply(&mut self, record: &Record) {
        if record.scope() == Scope::Mesh && self.verdicts.counts(record) {
            self.stale |= self.gather_from(record);
        }
        if !self.stale {
            self.content(record);
        }
    }

    /// Brings the configuration up to date. `all` gives every record of every log, in any order.
    pub(crate) fn settle<I: Iterator<Item = Record>>(&mut self, all: impl Fn() -> I) {
        if !self.stale {
            if std::mem::take(&mut self.relist) {
                self.refresh_authority();
            }
            return;
        }
        if std::mem::take(&mut self.regather) {
            self.facts = Facts::new(self.facts.mesh());
            self.waiting.clear();
            self.gathered.clear();
        }
        let extra = self.verdicts.records();
        loop {
            let mut progress = false;
            for record in all().chain(extra.iter().cloned()) {
                if record.scope() == Scope::Mesh
                    && !self.gathered.contains(record.hash())
                    && self.verdicts.counts(&record)
                    && self.admits(&record)
                {
                    progress |= self.gather_from(&record);
                }
            }
            if !progress {
                break;
            }
        }
        self.things = Things::default();
        self.slugs = Claims::default();
        self.labels = Claims::default();
        self.config.clear_things();
        for record in all().chain(extra.iter().cloned()) {
            self.content(&record);
        }
        self.stale = false;
        self.relist = false;
        self.refresh_authority();
    }

    fn gather_from(&mut self, record: &Record) -> bool {
        if !self.gathered.insert(*record.hash()) {
            return false;
        }
        let before = self.waiting.len();
        self.waiting
            .extend(record.changes().iter().filter(|c| is_statement(c)).cloned());
        before != self.waiting.len() && gather(&mut self.facts, &mut self.waiting)
    }

    fn content(&mut self, record: &Record) {
        let at = record.at();
        if !self.verdicts.counts(record)
            || self.facts.standing(record.author(), at.millis()).is_none()
        {
            return;
        }
        let stamp = (at, record.author());
        for change in record.changes() {
            match change {
                Change::Cluster(g) if self.facts.has_cluster(g) => {
                    self.relist |= self.slugs.claim(g.slug.clone(), stamp, g.cluster);
                }
                Change::Tenant(g) if self.facts.has_tenant(g) => {
                    self.relist |= self.labels.claim(g.label.clone(), stamp, g.tenant);
                }
                _ => {}
            }
            let Some(tenant) = tenant_of(record.scope(), change) else {
                continue;
            };
            if self.facts.may_write(record.author(), tenant, at.millis()) {
                self.things.apply(&mut self.config, tenant, stamp, change);
            }
        }
    }

    /// Lists clusters, nodes and tenants anew from the statements.
    fn refresh_authority(&mut self) {
        let facts = Arc::new(self.facts.clone());
        let revoked: std::collections::BTreeSet<NodeId> = self.verdicts.revoked().collect();
        let holds = |g: &ClusterGrant| self.slugs.holder(&g.slug) == Some(&g.cluster);
        let clusters = facts.clusters().map(|g| Cluster {
            id: g.cluster,
            kind: g.kind,
            slug: holds(g).then(|| g.slug.clone()),
            name: g.name.clone(),
            roles: g.roles,
            key: g.key,
        });
        self.config.clusters = Arc::new(clusters.map(|c| (c.id, c)).collect());
        let nodes = facts
            .nodes()
            .filter(|g| !revoked.contains(&g.node))
            .map(|g| {
                let may = facts
                    .cluster(g.cluster)
                    .map(|c| c.roles)
                    .unwrap_or_default();
                Node {
                    id: g.node,
                    cluster: g.cluster,
                    name: g.name.clone(),
                    roles: g.roles.and(may),
                    expires: g.expires,
                    grant: g.clone(),
                }
            });
        self.config.nodes = Arc::new(nodes.map(|n| (n.id, n)).collect());
        let holds = |g: &TenantGrant| self.labels.holder(&g.label) == Some(&g.tenant);
        let tenants = facts.tenants().map(|g| Tenant {
            id: g.tenant,
            label: holds(g).then(|| g.label.clone()),
            name: self
                .things
                .tenant_name(g.tenant)
                .map_or_else(|| g.label.to_string(), str::to_owned),
            branded: g.branded,
        });
        self.config.tenants = Arc::new(tenants.map(|t| (t.id, t)).collect());
        let held = self.config.clusters.values();
        let held = held.filter_map(|c| Some((c.slug.clone()?, c.id))).collect();
        self.config.slugs = Arc::new(held);
        let held = self.config.tenants.values();
        let held = held
            .filter_map(|t| Some((t.label.clone()?, t.id)))
            .collect();
        self.config.labels = Arc::new(held);
        self.config.revoked = Arc::new(revoked);
        self.config.own = facts.node(self.node).map(|g| g.cluster);
        self.config.facts = facts;
    }

    /// A snapshot, judged at `now`.
    pub(crate) fn config(&mut self, now: UnixMillis) -> Config {
        debug_assert!(!self.stale, "settle comes first");
        self.config.version += 1;
        self.config.as_of = now;
        self.config.clone()
    }

    /// Whether a label or slug could be claimed by somebody new.
    pub(crate) fn is_free(&self, change: &Change) -> bool {
        match change {
            Change::Cluster(g) => self.slugs.holder(&g.slug).is_none_or(|h| *h == g.cluster),
            Change::Tenant(g) => self.labels.holder(&g.label).is_none_or(|h| *h == g.tenant),
            _ => true,
        }
    }
}

/// The tenant whose configuration a change is part of, and who must therefore be written for.
fn tenant_of(scope: Scope, change: &Change) -> Option<TenantId> {
    match (scope, change) {
        (Scope::Tenant(tenant), _) => Some(tenant),
        (
            Scope::Mesh,
            Change::TenantNamed { tenant, .. }
            | Change::TokenCreated { tenant, .. }
            | Change::TokenRevoked { tenant, .. },
        ) => Some(*tenant),
        _ => None,
    }
}

fn is_statement(change: &Change) -> bool {
    matches!(
        change,
        Change::Mesh(_)
            | Change::Cluster(_)
            | Change::Node(_)
            | Change::Tenant(_)
            | Change::Entitled(_)
    )
}

/// Moves from `waiting` into `facts` what a known key signed, until nothing moves. True when something did.
fn gather(facts: &mut Facts, waiting: &mut Vec<Change>) -> bool {
    let mut any = false;
    loop {
        let before = waiting.len();
        waiting.retain(|change| {
            let added = match change {
                Change::Mesh(s) => facts.add_mesh(s),
                Change::Cluster(s) => facts.add_cluster(s),
                Change::Node(s) => facts.add_node(s),
                Change::Tenant(s) => facts.add_tenant(s),
                Change::Entitled(s) => facts.add_entitlement(s),
                _ => Ok(false),
            };
            any |= added == Ok(true);
            added.is_err()
        });
        if waiting.len() == before || waiting.is_empty() {
            return any;
        }
    }
}

/// A stamp and who gave it: what two changes of one thing are ordered by.
pub(crate) type Stamp = (Hlc, NodeId);
