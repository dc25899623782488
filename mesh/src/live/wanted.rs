//! What this node wants said of itself, until the driver says it. Later words on one subject replace earlier ones, so
//! there is never more waiting than there are subjects.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn say(&self, word: impl FnOnce(&mut Words)) {
        self.mention(word);
        self.wake.notify_one();
    }

    /// As [`Wanted::say`], for what need not be heard before the driver wakes anyway, with the next beat.
    pub(crate) fn mention(&self, word: impl FnOnce(&mut Words)) {
        word(&mut self.lock());
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
