//! The one directory of a node: keys, the mesh it belongs to, the store.
//!
//! | file | what | mode |
//! | --- | --- | --- |
//! | `lock` | held exclusively while a process uses the directory | 0600 |
//! | `node.key`, `root.key`, `cluster.key`, `epoch.key`, `tenants/ID.key` | 32 bytes each, in base32 | 0600 |
//! | `mesh.id`, `cluster.id` | which mesh and cluster this node is of | 0600 |
//! | `mesh.redb` | the records | 0600 |
//!
//! Files are replaced whole: written beside, flushed, renamed, and the directory flushed, so that a crash leaves the
//! old or the new content and never a part.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use data_encoding::BASE32_NOPAD;
use routing::model::{ClusterId, MeshId, TenantId};
use zeroize::Zeroizing;

use super::keys::{ClusterKey, EpochSecret, NodeKey, RootKey, TenantKey};

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process holds it.
    #[error(
        "another shoal process uses {path}: one directory serves one node; stop that process, or give this one a directory of its own"
    )]
    Held {
        /// The directory.
        path: PathBuf,
    },
    /// It, or a key in it, can be read by others.
    #[error(
        "{path} can be read by others (mode {mode:o}): it holds keys; run `chmod {want:o} {path}`, and if others may have read it, found or join anew"
    )]
    Permissions {
        /// The directory or file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they must be.
        want: u32,
    },
    /// The path is there but is no directory.
    #[error("{path} is not a directory: choose another data directory, or move that file away")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// No permission to write.
    #[error(
        "cannot write to {path}: this user may not; give the directory to the user that runs shoal, or choose another"
    )]
    Unwritable {
        /// The directory or file.
        path: PathBuf,
    },
    /// The disk is full, or the user's quota is.
    #[error(
        "cannot write {path}: the disk is full; free some space and start again, nothing is lost"
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A file in it is not what it should be.
    #[error(
        "{path} is damaged ({what}): put back a copy of it, or move the directory away and join anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Anything else that the system said.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DataDirError {
    /// Sorts what the system said about `path`.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Unwritable { path }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }
}

/// An open data directory. Clones share the lock, which the last one to go releases.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Arc<File>,
}

impl DataDir {
    /// Opens `path`, creating it with mode 0700 where it is not there, and locks it.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be written, when others may read it, or when another process holds it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataDirError> {
        let path = path.as_ref();
        if !path.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|e| DataDirError::io(path, e))?;
        }
        let meta = fs::metadata(path).map_err(|e| DataDirError::io(path, e))?;
        if !meta.is_dir() {
            return Err(DataDirError::NotADirectory {
                path: path.to_owned(),
            });
        }
        check_mode(path, meta.permissions().mode(), 0o700)?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|e| DataDirError::io(path, e))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DataDirError::Held {
                    path: path.to_owned(),
                });
            }
            Err(e) => return Err(DataDirError::io(&lock_path, e.into())),
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: Arc::new(lock),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the store's file is.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.path.join("mesh.redb")
    }

    /// The mesh that this node belongs to; none before it founded or joined one.
    ///
    /// # Errors
    /// [`DataDirError`] when the file cannot be read or is damaged.
    pub fn mesh(&self) -> Result<Option<MeshId>, DataDirError> {
        self.read_text("mesh.id", "not the id of a mesh")
    }

    /// Notes the mesh that this node belongs to.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be written.
    pub fn set_mesh(&self, mesh: MeshId) -> Result<(), DataDirError> {
        self.write("mesh.id", format!("{mesh}\n").as_bytes())
    }

    /// The cluster that this node belongs to; none before it founded or joined a mesh.
    ///
    /// # Errors
    /// [`DataDirError`] when the file cannot be read or is damaged.
    pub fn cluster(&self) -> Result<Option<ClusterId>, DataDirError> {
        self.read_text("cluster.id", "not the id of a cluster")
    }

    /// Notes the cluster that this node belongs to.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be written.
    pub fn set_cluster(&self, cluster: ClusterId) -> Result<(), DataDirError> {
        self.write("cluster.id", format!("{cluster}\n").as_bytes())
    }

    /// The node's key, if it has one.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be read, is damaged or may be read by others.
    pub fn node_key(&self) -> Result<Option<NodeKey>, DataDirError> {
        Ok(self.read_seed("node.key")?.map(|s| NodeKey::from_seed(*s)))
    }

    /// Keeps the node's key.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be written.
    pub fn set_node_key(&self, key: &NodeKey) -> Result<(), DataDirError> {
        self.write_seed("node.key", &key.seed())
    }

    /// The root key, where this machine holds it.
    ///
    /// # Errors
    /// As [`DataDir::node_key`].
    pub fn root_key(&self) -> Result<Option<RootKey>, DataDirError> {
        Ok(self.read_seed("root.key")?.map(|s| RootKey::from_seed(*s)))
    }

    /// Keeps the root key.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be written.
    pub fn set_root_key(&self, key: &RootKey) -> Result<(), DataDirError> {
        self.write_seed("root.key", &key.seed())
    }

    /// The cluster's issuing key, where this machine holds it.
    ///
    /// # Errors
    /// As [`DataDir::node_key`].
    pub fn cluster_key(&self) -> Result<Option<ClusterKey>, DataDirError> {
        Ok(self
            .read_seed("cluster.key")?
            .map(|s| ClusterKey::from_seed(*s)))
    }

    /// Keeps the cluster's issuing key.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be written.
    pub fn set_cluster_key(&self, key: &ClusterKey) -> Result<(), DataDirError> {
        self.write_seed("cluster.key", &key.seed())
    }

    /// The cluster's epoch secret, where this node is a gateway.
    ///
    /// # Errors
    /// As [`DataDir::node_key`].
    pub fn epoch_secret(&self) -> Result<Option<EpochSecret>, DataDirError> {
        Ok(self
            .read_seed("epoch.key")?
            .map(|s| EpochSecret::from_bytes(*s)))
    }

    /// Keeps the cluster's epoch secret.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be written.
    pub fn set_epoch_secret(&self, secret: &EpochSecret) -> Result<(), DataDirError> {
        self.write_seed("epoch.key", secret.bytes())
    }

    /// A tenant's key, where this machine holds it.
    ///
    /// # Errors
    /// As [`DataDir::node_key`].
    pub fn tenant_key(&self, tenant: TenantId) -> Result<Option<TenantKey>, DataDirError> {
        Ok(self
            .read_seed(&format!("tenants/{tenant}.key"))?
            .map(|s| TenantKey::from_seed(*s)))
    }

    /// Keeps a tenant's key.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be written.
    pub fn set_tenant_key(&self, tenant: TenantId, key: &TenantKey) -> Result<(), DataDirError> {
        let dir = self.path.join("tenants");
        if !dir.exists() {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&dir)
                .map_err(|e| DataDirError::io(&dir, e))?;
        }
        self.write_seed(&format!("tenants/{tenant}.key"), &key.seed())
    }

    /// Reads a file of this directory that others of this crate keep there; none when it is not there.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be read, is longer than 1 MiB or may be read by others.
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, DataDirError> {
        let path = self.path.join(name);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(DataDirError::io(&path, e)),
        };
        let meta = file.metadata().map_err(|e| DataDirError::io(&path, e))?;
        check_mode(&path, meta.permissions().mode(), 0o600)?;
        if meta.len() > 1 << 20 {
            return Err(DataDirError::Damaged {
                path,
                what: "longer than 1 MiB",
            });
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.read_to_end(&mut bytes)
            .map_err(|e| DataDirError::io(&path, e))?;
        Ok(Some(bytes))
    }

    /// Replaces a file of this directory, whole or not at all, with mode 0600.
    ///
    /// # Errors
    /// [`DataDirError`] when it cannot be written; the old content stays.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), DataDirError> {
        let path = self.path.join(name);
        let beside = self.path.join(format!("{name}.part"));
        let attempt = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(path.parent().unwrap_or(&self.path))?.sync_all()
        };
        attempt().map_err(|e| {
            // What cannot be removed either is overwritten by the next attempt.
            let _ = fs::remove_file(&beside);
            DataDirError::io(&path, e)
        })
    }

    fn read_seed(&self, name: &str) -> Result<Option<Zeroizing<[u8; 32]>>, DataDirError> {
        let Some(text) = self.read(name)? else {
            return Ok(None);
        };
        let damaged = || DataDirError::Damaged {
            path: self.path.join(name),
            what: "not a key: 52 characters of base32",
        };
        let upper = Zeroizing::new(text.trim_ascii().to_ascii_uppercase());
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(&upper).map_err(|_| damaged())?);
        let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| damaged())?;
        Ok(Some(Zeroizing::new(seed)))
    }

    fn write_seed(&self, name: &str, seed: &[u8; 32]) -> Result<(), DataDirError> {
        let text = Zeroizing::new(BASE32_NOPAD.encode(seed).to_ascii_lowercase() + "\n");
        self.write(name, text.as_bytes())
    }

    fn read_text<T: std::str::FromStr>(
        &self,
        name: &str,
        what: &'static str,
    ) -> Result<Option<T>, DataDirError> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        std::str::from_utf8(bytes.trim_ascii())
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| DataDirError::Damaged {
                path: self.path.join(name),
                what,
            })
    }
}

fn check_mode(path: &Path, mode: u32, want: u32) -> Result<(), DataDirError> {
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(DataDirError::Permissions {
            path: path.to_owned(),
            mode: mode & 0o777,
            want,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        (temp, path)
    }

    #[test]
    fn keys_read_back_and_only_their_owner_may_read_them() {
        let (_temp, path) = fresh();
        let dir = DataDir::open(&path).unwrap();
        assert!(dir.node_key().unwrap().is_none());
        let key = NodeKey::from_seed([9; 32]);
        dir.set_node_key(&key).unwrap();
        let tenant = TenantId::from_bytes([1; 16]);
        dir.set_tenant_key(tenant, &TenantKey::from_seed([8; 32]))
            .unwrap();
        dir.set_mesh(RootKey::from_seed([1; 32]).mesh()).unwrap();
        drop(dir);
        let dir = DataDir::open(&path).unwrap();
        assert_eq!(dir.node_key().unwrap().unwrap().id(), key.id());
        assert_eq!(
            dir.tenant_key(tenant).unwrap().unwrap().seed(),
            Zeroizing::new([8; 32])
        );
        assert_eq!(
            dir.mesh().unwrap(),
            Some(RootKey::from_seed([1; 32]).mesh())
        );
        for name in ["node.key", "mesh.id", "lock"] {
            let mode = fs::metadata(path.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn a_second_holder_is_refused_and_the_lock_goes_with_the_last_clone() {
        let (_temp, path) = fresh();
        let first = DataDir::open(&path).unwrap();
        let clone = first.clone();
        drop(first);
        assert!(matches!(
            DataDir::open(&path),
            Err(DataDirError::Held { .. })
        ));
        drop(clone);
        assert!(DataDir::open(&path).is_ok());
    }

    #[test]
    fn what_others_may_read_is_refused() {
        let (_temp, path) = fresh();
        let dir = DataDir::open(&path).unwrap();
        dir.set_node_key(&NodeKey::from_seed([9; 32])).unwrap();
        fs::set_permissions(path.join("node.key"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            dir.node_key(),
            Err(DataDirError::Permissions {
                mode: 0o644,
                want: 0o600,
                ..
            })
        ));
        drop(dir);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            DataDir::open(&path),
            Err(DataDirError::Permissions {
                mode: 0o755,
                want: 0o700,
                ..
            })
        ));
    }

    #[test]
    fn a_damaged_key_and_a_file_in_the_way_are_named() {
        let (_temp, path) = fresh();
        let dir = DataDir::open(&path).unwrap();
        dir.write("node.key", b"half a ke").unwrap();
        let error = dir.node_key().unwrap_err();
        assert!(error.to_string().contains("node.key is damaged"), "{error}");
        assert!(matches!(
            DataDir::open(path.join("node.key")),
            Err(DataDirError::NotADirectory { .. })
        ));
    }

    #[test]
    fn a_full_disk_is_called_by_its_name_and_the_old_content_stays() {
        assert!(matches!(
            DataDirError::io(Path::new("x"), io::ErrorKind::StorageFull.into()),
            DataDirError::Full { .. }
        ));
        // A write that cannot happen: the name beside is taken by a directory.
        let (_temp, path) = fresh();
        let dir = DataDir::open(&path).unwrap();
        dir.write("mesh.id", b"old").unwrap();
        fs::create_dir(path.join("mesh.id.part")).unwrap();
        assert!(dir.write("mesh.id", b"new").is_err());
        assert_eq!(dir.read("mesh.id").unwrap().unwrap().as_slice(), b"old");
    }
}
