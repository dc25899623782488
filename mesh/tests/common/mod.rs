//! Nodes on the loopback, each in a runtime of its own, so that one can be killed without a word.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mesh::{
    Mesh, MeshOptions,
    identity::DataDir,
    join::{self, FoundOptions, JoinError, JoinOptions, JoinToken, Joined, TokenOptions},
    view::View,
};
use routing::model::{Clock, NodeId, Role, Roles, UnixMillis, Uptime};
use tokio::runtime::Runtime;

/// The system's clock, moved by some milliseconds.
pub(crate) struct Time {
    start: Instant,
    ahead: i64,
}

impl Time {
    #[expect(clippy::disallowed_methods, reason = "real sockets need the real time")]
    pub(crate) fn new(ahead: i64) -> Arc<Self> {
        let start = Instant::now();
        Arc::new(Self { start, ahead })
    }
}

impl Clock for Time {
    fn uptime(&self) -> Uptime {
        Uptime(self.start.elapsed())
    }
    #[expect(clippy::disallowed_methods, reason = "real sockets need the real time")]
    fn unix(&self) -> UnixMillis {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis();
        let now = u64::try_from(now).unwrap();
        UnixMillis(now.saturating_add_signed(self.ahead))
    }
}

pub(crate) fn all_roles() -> Roles {
    Role::ALL.iter().copied().collect()
}

/// A data directory in `temp`, under a directory nobody else reads.
pub(crate) fn dir(temp: &Path, name: &str) -> PathBuf {
    temp.join(name)
}

fn entropy(name: &str, round: u8) -> [u8; 32] {
    let mut bytes = [round; 32];
    for (b, n) in bytes.iter_mut().zip(name.bytes()) {
        *b ^= n;
    }
    bytes
}

pub(crate) async fn found(path: &Path) -> DataDir {
    let dir = DataDir::open(path).unwrap();
    let options = FoundOptions {
        base: "mesh.test".into(),
        suffix: "cdn".into(),
        slug: "first".parse().unwrap(),
        cluster_name: "First".into(),
        cluster_roles: all_roles(),
        node_name: "a".parse().unwrap(),
        node_roles: all_roles(),
    };
    let name = path.to_string_lossy().into_owned();
    let random = entropy(name.rsplit('/').next().unwrap(), 1);
    join::found(&dir, options, Time::new(0), random)
        .await
        .unwrap();
    dir
}

pub(crate) async fn join(path: &Path, token: &JoinToken, ahead: i64) -> Result<Joined, JoinError> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let dir = DataDir::open(path).unwrap();
    let options = JoinOptions {
        name: name.parse().unwrap(),
        roles: None,
    };
    join::join(&dir, token, options, Time::new(ahead), entropy(&name, 2)).await
}

pub(crate) fn token(mesh: &Mesh, roles: Roles) -> JoinToken {
    let options = TokenOptions {
        roles,
        lasts: Duration::from_secs(600),
        addrs: Vec::new(),
    };
    let text = mesh.create_token(options).unwrap().text();
    text.expose().parse().unwrap()
}

pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    runtime: Runtime,
    path: PathBuf,
}

impl Node {
    /// Starts the node of a directory, once nobody else holds it.
    pub(crate) fn start(path: &Path, listen: &str, seeds: &[SocketAddr]) -> Self {
        Self::start_at(path, listen, seeds, 0)
    }

    /// Starts it with its clock so many milliseconds ahead.
    pub(crate) fn start_at(path: &Path, listen: &str, seeds: &[SocketAddr], ahead: i64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let listen: SocketAddr = listen.parse().unwrap();
        let start = async {
            loop {
                let dir = match DataDir::open(path) {
                    Ok(dir) => dir,
                    Err(mesh::identity::DataDirError::Held { .. }) => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Err(other) => panic!("{other}"),
                };
                let started = Mesh::start(MeshOptions {
                    dir,
                    clock: Time::new(ahead),
                    entropy: entropy(&name, 3),
                    listen,
                    announce: Vec::new(),
                    seeds: seeds.to_vec(),
                });
                match started.await {
                    Ok(mesh) => return mesh,
                    // A killed node's runtime lets go of its directory and of its store one after the other.
                    Err(mesh::live::StartError::Store(mesh::store::StoreError::Held {
                        ..
                    })) => {
                        tokio::task::yield_now().await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let mesh = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), start)
                .await
                .unwrap()
        });
        Self {
            mesh,
            runtime,
            path: path.to_owned(),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.mesh.id()
    }

    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Ends it as SIGKILL would: nothing is said to anybody.
    pub(crate) fn kill(self) -> PathBuf {
        self.runtime.shutdown_background();
        self.path
    }

    pub(crate) fn stop(self) -> PathBuf {
        self.runtime.block_on(self.mesh.stop());
        self.runtime.shutdown_background();
        self.path
    }

    /// Waits until the view is as asked, and says how long that took.
    pub(crate) fn until(
        &self,
        what: &str,
        within: Duration,
        is: impl Fn(&View) -> bool,
    ) -> Duration {
        let mut view = self.mesh.view();
        let clock = Time::new(0);
        let waited = self.run(async {
            tokio::time::timeout(within, view.wait_for(|v| is(v)))
                .await
                .map(drop)
        });
        assert!(
            waited.is_ok(),
            "{what}: not within {within:?}; the view is {:#?}",
            self.mesh.view().borrow()
        );
        clock.uptime().0
    }
}

pub(crate) fn sees(view: &View, of: NodeId, alive: bool) -> bool {
    view.members.get(&of).is_some_and(|m| m.alive == alive)
}
