//! One redb file: a table of records, keyed so that each author's are together and in order, and one of verdicts.
//!
//! redb closes itself after a failed write; the next commit opens the file anew, so that a disk that was full is
//! used again when there is space. Its commits are durable when they return, and a file that was left open by a
//! killed process opens at its last commit.
use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use routing::model::{NodeId, TenantId};

use super::{Item, Store, StoreError};
use crate::records::Scope;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records 1");
const VERDICTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("verdicts 1");

/// A store in one file.
#[derive(Debug)]
pub struct DiskStore {
    path: PathBuf,
    db: Mutex<Option<Database>>,
}

impl DiskStore {
    /// Opens the file, creating it with mode 0600 where it is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let db = Self::database(&path)?;
        Ok(Self {
            path,
            db: Mutex::new(Some(db)),
        })
    }

    fn database(path: &Path) -> Result<Database, StoreError> {
        // Created here so that it is never readable by others, not even for a moment.
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| from_io(path, &e))?;
        let db = Database::builder()
            .set_cache_size(8 << 20)
            .create(path)
            .map_err(|e| from_redb(path, e))?;
        // Both tables exist from the start, so that reading an empty store is no special case.
        let tables = || -> Result<(), redb::Error> {
            let write = db.begin_write()?;
            write.open_table(RECORDS)?;
            write.open_table(VERDICTS)?;
            Ok(write.commit()?)
        };
        tables().map_err(|e| from_redb(path, e))?;
        Ok(db)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Database>> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            what: what.to_owned(),
        }
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut slot = self.lock();
        let db = match slot.take() {
            Some(db) => db,
            None => Self::database(&self.path)?,
        };
        let done = work(&db);
        // After an error the database is dropped: the next call opens the file at its last commit.
        if done.is_ok() {
            *slot = Some(db);
        }
        done.map_err(|e| from_redb(&self.path, e))
    }
}

impl Store for DiskStore {
    fn load(&self) -> Result<Vec<Item>, StoreError> {
        let (records, verdicts) = self.with(|db| {
            let read = db.begin_read()?;
            let mut records = Vec::new();
            for row in read.open_table(RECORDS)?.iter()? {
                let (key, raw) = row?;
                records.push((key.value().to_vec(), Bytes::copy_from_slice(raw.value())));
            }
            let mut verdicts = Vec::new();
            for row in read.open_table(VERDICTS)?.iter()? {
                let (id, raw) = row?;
                let raw = Bytes::copy_from_slice(raw.value());
                verdicts.push(Item::Verdict {
                    id: *id.value(),
                    raw,
                });
            }
            Ok((records, verdicts))
        })?;
        let mut items = verdicts;
        for (key, raw) in records {
            let (scope, author, number) =
                from_key(&key).ok_or_else(|| self.damaged("a record under a strange key"))?;
            items.push(Item::Record {
                scope,
                author,
                number,
                raw,
            });
        }
        Ok(items)
    }

    fn commit(&self, items: &[Item]) -> Result<(), StoreError> {
        self.with(|db| {
            let write = db.begin_write()?;
            {
                let mut records = write.open_table(RECORDS)?;
                let mut verdicts = write.open_table(VERDICTS)?;
                for item in items {
                    match item {
                        Item::Record {
                            scope,
                            author,
                            number,
                            raw,
                        } => {
                            let key = to_key(*scope, author, *number);
                            records.insert(key.as_slice(), raw.as_ref())?;
                        }
                        Item::Verdict { id, raw } => {
                            verdicts.insert(id, raw.as_ref())?;
                        }
                    }
                }
            }
            Ok(write.commit()?)
        })
    }
}

/// Scope, author, number: 0 or 1 and the tenant, 32 bytes, 8 bytes big-endian.
pub(super) fn to_key(scope: Scope, author: &NodeId, number: u64) -> Vec<u8> {
    let mut key = match scope {
        Scope::Mesh => vec![0],
        Scope::Tenant(t) => [&[1][..], t.as_bytes()].concat(),
    };
    key.extend_from_slice(author.as_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn from_key(key: &[u8]) -> Option<(Scope, NodeId, u64)> {
    let (scope, rest) = match key.split_first()? {
        (0, rest) => (Scope::Mesh, rest),
        (1, rest) => {
            let (tenant, rest) = rest.split_first_chunk::<16>()?;
            (Scope::Tenant(TenantId::from_bytes(*tenant)), rest)
        }
        _ => return None,
    };
    let (author, number) = rest.split_first_chunk::<32>()?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    Some((scope, NodeId::from_bytes(*author), number))
}

fn from_io(path: &Path, e: &io::Error) -> StoreError {
    let path = path.to_owned();
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full { path }
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::Unwritable { path }
        }
        _ => StoreError::Io {
            path,
            what: e.to_string(),
        },
    }
}

fn from_redb(path: &Path, e: impl Into<redb::Error>) -> StoreError {
    match e.into() {
        redb::Error::Io(e) => from_io(path, &e),
        redb::Error::DatabaseAlreadyOpen => StoreError::Held {
            path: path.to_owned(),
        },
        redb::Error::Corrupted(what) => StoreError::Damaged {
            path: path.to_owned(),
            what,
        },
        other => StoreError::Io {
            path: path.to_owned(),
            what: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn item(number: u64) -> Item {
        Item::Record {
            scope: Scope::Tenant(TenantId::from_bytes([3; 16])),
            author: NodeId::from_bytes([4; 32]),
            number,
            raw: Bytes::from(number.to_string()),
        }
    }

    #[test]
    fn what_was_committed_is_there_after_a_kill() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("mesh.redb");
        let store = DiskStore::open(&path).unwrap();
        let verdict = Item::Verdict {
            id: [7; 32],
            raw: Bytes::from_static(b"v"),
        };
        store.commit(&[item(2), item(1), verdict.clone()]).unwrap();
        store.commit(&[item(300)]).unwrap();
        // A killed process closes nothing: take the file as it is on the disk now.
        let copy = temp.path().join("copy.redb");
        std::fs::copy(&path, &copy).unwrap();
        let expected = vec![verdict, item(1), item(2), item(300)];
        let opened = DiskStore::open(&copy).unwrap();
        assert_eq!(opened.load().unwrap(), expected);
        drop(store);
        assert_eq!(DiskStore::open(&path).unwrap().load().unwrap(), expected);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn keys_read_back() {
        for scope in [Scope::Mesh, Scope::Tenant(TenantId::from_bytes([9; 16]))] {
            let author = NodeId::from_bytes([1; 32]);
            let key = to_key(scope, &author, 77);
            assert_eq!(from_key(&key), Some((scope, author, 77)));
            assert_eq!(from_key(&key[..key.len() - 1]), None);
        }
    }

    #[test]
    fn errors_are_called_by_their_names() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("mesh.redb");
        std::fs::write(
            &path,
            b"this is no database, but it is long enough to look at",
        )
        .unwrap();
        assert!(DiskStore::open(&path).is_err());
        assert!(matches!(
            from_redb(&path, redb::Error::Io(io::ErrorKind::StorageFull.into())),
            StoreError::Full { .. }
        ));
    }
}
