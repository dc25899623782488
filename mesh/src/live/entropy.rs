//! Random bytes for keys and nonces, from a seed that the process was given.
use std::sync::{Arc, Mutex, PoisonError};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

/// A shared generator, good for secrets: `ChaCha` with twenty rounds.
#[derive(Clone)]
pub(crate) struct Entropy(Arc<Mutex<ChaCha20Rng>>);

impl Entropy {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(Arc::new(Mutex::new(ChaCha20Rng::from_seed(seed))))
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random()
    }
}
