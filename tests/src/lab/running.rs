//! A program that runs, and what it prints.
use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::{shout, until};

/// A line that a program printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted over both outputs from 0.
    pub number: usize,
    /// Whether it came by standard error.
    pub stderr: bool,
    /// Without its line end; what is not UTF-8 replaced.
    pub text: String,
}

/// Lines kept at most; the oldest go.
const LINES_MAX: usize = 50_000;
/// Bytes of a line kept at most; a longer one becomes several.
const LINE_MAX: u64 = 1 << 20;

#[derive(Default)]
struct Log {
    lines: VecDeque<Line>,
    count: usize,
    /// Outputs still open.
    open: usize,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    grew: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, stderr: bool, output: impl Read + Send + 'static) {
        self.lock().open += 1;
        let shared = Arc::clone(self);
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut bytes = Vec::new();
            loop {
                bytes.clear();
                let end = !matches!(
                    output.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes),
                    Ok(1..)
                );
                let mut log = shared.lock();
                if end {
                    log.open -= 1;
                } else {
                    let text = String::from_utf8_lossy(&bytes)
                        .trim_end_matches(['\n', '\r'])
                        .to_owned();
                    let number = log.count;
                    log.count += 1;
                    log.lines.push_back(Line {
                        number,
                        stderr,
                        text,
                    });
                    if log.lines.len() > LINES_MAX {
                        log.lines.pop_front();
                    }
                }
                shared.grew.notify_all();
                if end {
                    return;
                }
            }
        });
    }
}

/// A program that runs. Dropped, it is killed; and if the test fails, its last lines are printed.
pub struct Running {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    shared: Arc<Shared>,
}

impl Running {
    /// Starts a program and listens to what it prints; `name` is for messages.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn spawn(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let shared = Arc::new(Shared::default());
        shared.listen(false, child.stdout.take().context("no standard output")?);
        shared.listen(true, child.stderr.take().context("no standard error")?);
        Ok(Self {
            name: format!(
                "{} {}",
                name,
                command
                    .get_args()
                    .skip(3)
                    .map(|a| a.to_string_lossy())
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
            pid: Pid::from_child(&child),
            child: Mutex::new(child),
            shared,
        })
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Sends it a signal. One that has ended is left alone.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let mut child = self.child();
        // Its number may belong to another once it has been waited for, so the lock is kept.
        if child
            .try_wait()
            .context("cannot ask for its state")?
            .is_none()
        {
            kill_process(self.pid, signal)
                .with_context(|| format!("cannot signal {}", self.name))?;
        }
        Ok(())
    }

    /// SIGKILL, and waits for its end.
    ///
    /// # Errors
    /// As [`Running::signal`] and [`Running::wait`].
    pub fn kill(&self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(10)).map(drop)
    }

    /// SIGSTOP: it holds its sockets and answers nothing.
    ///
    /// # Errors
    /// As [`Running::signal`].
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// As [`Running::signal`].
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// As [`Running::signal`] and [`Running::wait`].
    pub fn terminate(&self, within: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(within)
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it runs on.
    pub fn wait(&self, within: Duration) -> anyhow::Result<ExitStatus> {
        until(&format!("the end of {}", self.name), within, || {
            self.ended()
        })
    }

    /// What it has printed so far, the oldest beyond 50,000 lines left out.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.shared.lock().lines.iter().cloned().collect()
    }

    /// The first line that fits, now or to come.
    ///
    /// # Errors
    /// When none comes in time, or the program closes its outputs first, with its last lines.
    pub fn wait_line(&self, within: Duration, fits: impl Fn(&str) -> bool) -> anyhow::Result<Line> {
        self.wait_line_from(0, within, fits)
    }

    /// The first line from number `from` on that fits, now or to come: ask again with `line.number + 1` for the next.
    ///
    /// # Errors
    /// As [`Running::wait_line`].
    pub fn wait_line_from(
        &self,
        from: usize,
        within: Duration,
        fits: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Line> {
        let (mut seen, mut found) = (from, None);
        let log = self.shared.lock();
        let look = |log: &mut Log| {
            let new = log.lines.iter().skip_while(|l| l.number < seen);
            found = new.clone().find(|l| fits(&l.text)).cloned();
            seen = log.count.max(from);
            found.is_none() && log.open > 0
        };
        let waited = self.shared.grew.wait_timeout_while(log, within, look);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        found.with_context(|| {
            format!(
                "{} did not print the line in {within:?}; its last:\n{}",
                self.name,
                self.tail(20)
            )
        })
    }

    /// The last `n` lines as one text.
    #[must_use]
    pub fn tail(&self, n: usize) -> String {
        let log = self.shared.lock();
        let lines = log.lines.iter().skip(log.lines.len().saturating_sub(n));
        lines.map(|l| format!("    {}\n", l.text)).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(child.kill());
        drop(child.wait());
        if std::thread::panicking() {
            shout(&format!("{}: last lines:\n{}", self.name, self.tail(40)));
        }
    }
}
