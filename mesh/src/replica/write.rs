//! Writing: a record is prepared, kept on the disk by whoever drives the replica, and only then taken.
use std::time::Duration;

use super::{Fit, Now, Replica};
use crate::{
    records::{Change, Record, Scope, Slot, WriteError},
    state::Verdict,
};

/// How far this node's clock may be off its peers' median for it to write.
pub const MAX_CLOCK_OFF: Duration = Duration::from_secs(10);

impl Replica {
    /// Makes and signs the next record of this node in a scope. It takes effect with [`Replica::commit_prepared`],
    /// together with all that were prepared before it, or never ([`Replica::abandon_prepared`]).
    ///
    /// # Errors
    /// [`WriteError`]: nothing was prepared.
    pub fn prepare(
        &mut self,
        scope: Scope,
        changes: Vec<Change>,
        clock_off: Duration,
        now: Now,
    ) -> Result<Record, WriteError> {
        if clock_off > MAX_CLOCK_OFF {
            return Err(WriteError::ClockOff { off: clock_off });
        }
        if changes.is_empty() {
            return Err(WriteError::NotAllowed {
                why: "there is nothing to write",
            });
        }
        for change in &changes {
            change.check(scope)?;
            if let Some(name) = self.taken(change) {
                return Err(WriteError::NameTaken { name });
            }
        }
        let verdicts = self.state.verdicts();
        if verdicts.is_revoked(self.me) {
            return Err(WriteError::NotAllowed {
                why: "it was revoked; join anew under a new key",
            });
        }
        if verdicts.fork(scope, self.me).is_some() {
            return Err(WriteError::Stopped);
        }
        let mine = self.prepared.iter().rfind(|r| r.scope() == scope);
        let last = mine.or_else(|| self.logs.last((scope, self.me)));
        let newest = self.prepared.last().map_or(self.seen, |r| r.at());
        let slot = Slot {
            scope,
            number: last.map_or(0, Record::number) + 1,
            prev: last.map_or([0; 32], |r| *r.hash()),
            at: newest.max(self.seen).tick(now.unix),
        };
        let record = Record::sign(&self.key, self.mesh, slot, changes)?;
        self.state
            .may_say(&record)
            .map_err(|why| WriteError::NotAllowed { why })?;
        self.prepared.push(record.clone());
        Ok(record)
    }

    fn taken(&self, change: &Change) -> Option<String> {
        let name = match change {
            Change::Cluster(g) => g.slug.to_string(),
            Change::Tenant(g) => g.label.to_string(),
            _ => return None,
        };
        let claimed = |c: &Change| match (c, change) {
            (Change::Cluster(a), Change::Cluster(b)) => a.slug == b.slug && a.cluster != b.cluster,
            (Change::Tenant(a), Change::Tenant(b)) => a.label == b.label && a.tenant != b.tenant,
            _ => false,
        };
        let waiting = self.prepared.iter().flat_map(Record::changes).any(claimed);
        (waiting || !self.state.is_free(change)).then_some(name)
    }

    /// What was prepared is on the disk: it takes effect and goes to the peers.
    pub fn commit_prepared(&mut self, now: Now) {
        let prepared = std::mem::take(&mut self.prepared);
        for record in &prepared {
            for change in record.changes() {
                if let Change::Revoked(r) = change {
                    self.judge(&Verdict::Revoked(r.clone()), None);
                }
            }
            // A twin that came from elsewhere meanwhile makes evidence against this very node.
            if self.logs.fit(record) == Fit::Next {
                self.take(record.clone(), now);
            } else {
                self.offer(record.clone(), now);
            }
        }
        self.settle(now);
        for record in &prepared {
            self.push_to_all((record.scope(), self.me), now);
        }
    }

    /// What was prepared could not be kept: it never was.
    pub fn abandon_prepared(&mut self) {
        self.prepared.clear();
    }
}
