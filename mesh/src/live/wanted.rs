//! What this node wants said of itself, until the driver says it. Later words on one subject replace earlier ones, so
//! there is never more waiting than there are subjects.
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{probe::Probe, view::NodeState};

#[derive(Default)]
pub(crate) struct Words {
    pub(crate) state: Option<NodeState>,
    pub(crate) prober: Option<Arc<dyn Probe>>,
    pub(crate) changes: BTreeMap<String, Option<Bytes>>,
}

#[derive(Default)]
pub(crate) struct Wanted {
    words: Mutex<Words>,
    wake: Notify,
    /// The state was said once.
    stated: AtomicBool,
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn say(&self, word: impl FnOnce(&mut Words)) {
        word(&mut self.lock());
        self.wake.notify_one();
    }

    /// Says how the node is: the first time at once, later words when the driver wakes anyway, with the next beat.
    pub(crate) fn say_state(&self, state: NodeState) {
        self.lock().state = Some(state);
        if !self.stated.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Waits for words.
    pub(crate) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// Takes what there is.
    pub(crate) fn take(&self) -> Words {
        std::mem::take(&mut *self.lock())
    }
}
