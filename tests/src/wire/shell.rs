//! The thread that owns the devices and drives the switch.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use routing::model::Uptime;
use tokio::sync::{Notify, mpsc};
use tun_rs::{AsyncDevice, SyncDevice};

use super::{
    Link,
    core::{Counts, Port, Switch},
};

/// A running switch. Ends with its last handle dropped.
pub struct Wire {
    shared: Arc<Shared>,
    devices: mpsc::Sender<(Port, SyncDevice)>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// The switch has something new to do, or shall end.
    changed: Notify,
}

struct State {
    switch: Switch,
    names: BTreeMap<String, Port>,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    /// Starts a switch without ports.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(seed: u64) -> anyhow::Result<Self> {
        let state = State {
            switch: Switch::new(seed),
            names: BTreeMap::new(),
            ended: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
        });
        let (devices, incoming) = mpsc::channel(16);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the wire's runtime")?;
        let driver = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("wire".into())
            .spawn(move || runtime.block_on(drive(&driver, incoming)))
            .context("cannot start the wire's thread")?;
        Ok(Self {
            shared,
            devices,
            thread: Some(thread),
        })
    }

    /// Joins a TAP device under a name.
    ///
    /// # Errors
    /// Where the name is taken, or the wire's thread ended.
    pub fn join(&self, name: &str, device: SyncDevice) -> anyhow::Result<()> {
        let port = {
            let mut state = self.shared.lock();
            anyhow::ensure!(
                !state.names.contains_key(name),
                "the wire already has a port named {name}"
            );
            let port = state.switch.add_port();
            state.names.insert(name.into(), port);
            port
        };
        self.devices
            .try_send((port, device))
            .map_err(|e| anyhow::anyhow!("the wire takes no more devices: {e}"))
    }

    fn each(&self, from: &str, to: &str, change: impl Fn(&mut Link)) {
        let mut state = self.shared.lock();
        let port = |name: &str| {
            *state.names.get(name).unwrap_or_else(|| {
                panic!(
                    "the wire has no port named {name}, only {:?}",
                    state.names.keys()
                )
            })
        };
        let (from, to) = (port(from), port(to));
        let mut link = state.switch.link(from, to);
        change(&mut link);
        state.switch.set_link(from, to, link);
    }

    /// Sets one way's condition.
    ///
    /// # Panics
    /// On a name that is not a port, as all methods that take one: the test is wrong.
    pub fn set_one_way(&self, from: &str, to: &str, link: Link) {
        self.each(from, to, |l| *l = link);
    }

    /// Sets both ways' condition.
    pub fn set(&self, a: &str, b: &str, link: Link) {
        self.set_one_way(a, b, link);
        self.set_one_way(b, a, link);
    }

    /// Sets the condition of all ways.
    pub fn set_all(&self, link: Link) {
        let names: Vec<String> = self.shared.lock().names.keys().cloned().collect();
        for a in &names {
            names
                .iter()
                .filter(|b| *b != a)
                .for_each(|b| self.set_one_way(a, b, link));
        }
    }

    /// Cuts one way, in silence.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.each(from, to, |l| l.cut = true);
    }

    /// Cuts both ways, in silence.
    pub fn cut(&self, a: &str, b: &str) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Undoes cuts both ways; the other conditions stay.
    pub fn heal(&self, a: &str, b: &str) {
        self.each(a, b, |l| l.cut = false);
        self.each(b, a, |l| l.cut = false);
    }

    fn others(&self, name: &str) -> Vec<String> {
        let state = self.shared.lock();
        state.names.keys().filter(|n| *n != name).cloned().collect()
    }

    /// Cuts a port from all others.
    pub fn isolate(&self, name: &str) {
        self.others(name).iter().for_each(|o| self.cut(name, o));
    }

    /// Undoes a port's cuts.
    pub fn rejoin(&self, name: &str) {
        self.others(name).iter().for_each(|o| self.heal(name, o));
    }

    /// Cuts every port of `side` from every port that is not in it.
    pub fn partition(&self, side: &[&str]) {
        for a in side {
            let others = self.others(a);
            others
                .iter()
                .filter(|o| !side.contains(&o.as_str()))
                .for_each(|o| self.cut(a, o));
        }
    }

    /// Undoes all cuts.
    pub fn heal_all(&self) {
        let names: Vec<String> = self.shared.lock().names.keys().cloned().collect();
        names.iter().for_each(|n| self.rejoin(n));
    }

    /// What one way did so far.
    #[must_use]
    pub fn counts(&self, from: &str, to: &str) -> Counts {
        let state = self.shared.lock();
        match (state.names.get(from), state.names.get(to)) {
            (Some(f), Some(t)) => state.switch.counts(*f, *t),
            _ => Counts::default(),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // Its panic was already printed.
            let _ = thread.join();
        }
    }
}

/// A frame of a TAP: header and at most this MTU; offloads are off.
const FRAME_MAX: usize = 2048;
/// Frames waiting to enter a device at most; more are lost, as in a full network card.
const DEVICE_QUEUE: usize = 4096;

#[expect(
    clippy::disallowed_methods,
    reason = "the outermost edge: real devices need the real time"
)]
fn start_of_time() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

async fn drive(shared: &Arc<Shared>, mut incoming: mpsc::Receiver<(Port, SyncDevice)>) {
    let start = start_of_time();
    let mut out: BTreeMap<Port, mpsc::Sender<Bytes>> = BTreeMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let now = Uptime(start.elapsed());
        let wake = {
            let mut state = shared.lock();
            if state.ended {
                return;
            }
            while let Some((port, frame)) = state.switch.pop(now) {
                if let Some(queue) = out.get(&port) {
                    let _ = queue.try_send(frame);
                }
            }
            state.switch.wake()
        };
        let sleep =
            tokio::time::sleep_until(start + wake.map_or(Duration::from_secs(3600), |w| w.0));
        tokio::select! {
            () = sleep => {}
            () = shared.changed.notified() => {}
            Some((port, device)) = incoming.recv() => {
                let device = match AsyncDevice::new(device) {
                    Ok(device) => Arc::new(device),
                    Err(error) => panic!("cannot wait for a TAP device: {error}"),
                };
                let (queue, frames) = mpsc::channel(DEVICE_QUEUE);
                out.insert(port, queue);
                tasks.spawn(write(Arc::clone(&device), frames));
                tasks.spawn(read(Arc::clone(shared), start, port, device));
            }
        }
    }
}

async fn write(device: Arc<AsyncDevice>, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        // An interface that is down takes nothing; its frames are lost as on a cable that is out.
        let _ = device.send(&frame).await;
    }
}

async fn read(
    shared: Arc<Shared>,
    start: tokio::time::Instant,
    port: Port,
    device: Arc<AsyncDevice>,
) {
    let mut buffer = vec![0; FRAME_MAX];
    loop {
        match device.recv(&mut buffer).await {
            Ok(n) => {
                let frame = Bytes::copy_from_slice(&buffer[..n]);
                shared
                    .lock()
                    .switch
                    .frame(Uptime(start.elapsed()), port, &frame);
                shared.changed.notify_one();
            }
            // The namespace was deleted, and the device with it.
            Err(_) => return,
        }
    }
}
