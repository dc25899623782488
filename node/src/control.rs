//! The thread that the mesh lives on: control links, membership, records.
//!
//! It has a runtime of one worker. On the one that everything else shares, each of the mesh's many small wake-ups (a
//! datagram, a frame, a timer) also wakes a second worker to look for work that is not there, and parts of what belongs
//! into one datagram are sent by two workers as two; of an idle node that was most of what it took. And beats go out in
//! time whatever the other workers are busy with.
use anyhow::Context as _;
use mesh::{Mesh, MeshOptions};
use tokio::runtime::{Builder, Runtime};

/// The runtime. Dropped, it lets its tasks go without waiting for them.
#[derive(Debug)]
pub(crate) struct Control(Option<Runtime>);

impl Control {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("shoal-control")
            .enable_all()
            .build()
            .context("no thread can be started for the links between nodes")?;
        Ok(Self(Some(runtime)))
    }

    /// Starts a mesh on it.
    ///
    /// # Errors
    /// As [`Mesh::start`].
    pub(crate) async fn mesh(&self, options: MeshOptions) -> anyhow::Result<Mesh> {
        let runtime = self
            .0
            .as_ref()
            .context("the thread of the mesh has ended")?;
        Ok(runtime.spawn(Mesh::start(options)).await??)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // A runtime that is waited for inside another one panics.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
