//! How bad one way is.
use std::time::Duration;

/// The condition of one way: from one port to another. The default is a perfect cable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Added to every frame.
    pub delay: Duration,
    /// Added besides, evenly spread between zero and this. Does not reorder by itself: a frame waits for the one before.
    pub jitter: Duration,
    /// Share of frames lost, 0 to 1, each by itself.
    pub loss: f64,
    /// Share of frames held back by [`Link::reorder_by`] while later ones overtake, 0 to 1.
    pub reorder: f64,
    /// For how long.
    pub reorder_by: Duration,
    /// Share of frames that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Bits a second, preamble and gap not counted; `None` for no limit.
    pub rate: Option<u64>,
    /// With a rate: how long a frame may wait for its turn. A frame that would wait longer is lost.
    pub queue: Duration,
    /// Nothing passes, and nobody is told: both ends keep their carrier. What is under way is lost too.
    pub cut: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(10),
            duplicate: 0.0,
            rate: None,
            queue: Duration::from_millis(200),
            cut: false,
        }
    }
}

impl Link {
    /// A perfect cable with this delay one way.
    #[must_use]
    pub fn delay_ms(ms: u64) -> Self {
        Self {
            delay: Duration::from_millis(ms),
            ..Self::default()
        }
    }
}
