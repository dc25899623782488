//! The demo's nodes: real processes of this very program, which end when the demo does, however it ends.
use std::{path::Path, process::Stdio, time::Duration};

use anyhow::Context;
use tokio::process::{Child, ChildStdin, Command};

/// How long a node may take to stop by itself.
const STOP: Duration = Duration::from_secs(4);

/// A running node. It holds the other end of its standard input: when the demo's process is gone, even by SIGKILL, the
/// node reads the end of it and stops.
#[derive(Debug)]
pub(super) struct Node {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Node {
    /// Starts `shoal run` on a configuration; the log goes to `log`.
    ///
    /// # Errors
    /// Where this program's file or the log cannot be opened.
    pub(super) fn start(config: &Path, log: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own file cannot be found")?;
        let log = std::fs::File::create(log)
            .with_context(|| format!("{} cannot be written", log.display()))?;
        let mut child = Command::new(program)
            .arg("run")
            .arg("--stop-with-stdin")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C at the terminal is for the demo, which then stops its nodes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("a node could not be started")?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin })
    }

    /// Its process id, for whoever wants to kill it.
    #[must_use]
    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// What it ended with, where it has ended.
    #[must_use]
    pub(super) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it has ended.
    pub(super) async fn wait(&mut self) -> Option<std::process::ExitStatus> {
        self.child.wait().await.ok()
    }

    /// Asks it to stop.
    pub(super) fn close(&mut self) {
        drop(self.stdin.take());
    }

    /// Stops it: by the end of its input, and where that takes too long, by SIGKILL.
    pub(super) async fn stop(mut self) {
        self.close();
        if tokio::time::timeout(STOP, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}
