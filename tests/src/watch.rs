//! A real browser that watches, and what its samples say about the picture's way through a fault.
//!
//! `tests/browser/watch.mjs` drives the browser and prints a sample every 100 ms; [`Viewer`] reads them.
use std::{path::Path, time::Duration};

use anyhow::Context as _;
use serde::Deserialize;

use crate::{
    lab::{Host, Running},
    stage::Stage,
};

/// Pictures in the demo's clip: its bar code counts modulo this.
const CLIP: i64 = 720;
/// Pictures a second of the demo's clip.
const RATE: f64 = 30.0;

/// How a page plays at a moment. See `watch.mjs`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Unix time in milliseconds.
    pub at: i64,
    /// The video element's time in seconds.
    pub current_time: f64,
    /// Across, in pixels; 0 without a picture.
    pub width: u32,
    /// The number in the picture's bar code.
    pub frame: Option<i64>,
    /// The node that is asked, as the player names it.
    pub node: String,
    /// Changes of node so far.
    pub switches: usize,
    /// How often it ran dry so far.
    pub stalls: usize,
    /// Jumps over holes, and to the live edge, so far.
    pub jumps: usize,
    /// How often the player began anew, the first time included.
    pub rounds: usize,
    /// Ranges in seconds.
    pub buffered: Vec<(f64, f64)>,
    /// Whether the page was loaded again.
    pub reloaded: bool,
    /// Errors so far.
    pub errors: usize,
    /// The newest.
    pub last_error: Option<String>,
    /// Of WebRTC: from its offer to the first picture, in milliseconds.
    pub first: Option<f64>,
}

impl Sample {
    /// How old the picture is, of a clip that began at a Unix time in milliseconds, in milliseconds.
    #[must_use]
    pub fn age(&self, began: i64) -> Option<f64> {
        let round = f64::from(u32::try_from(CLIP).ok()?) * 1000.0 / RATE;
        let made = f64::from(u32::try_from(self.frame?).ok()?) * 1000.0 / RATE;
        #[expect(clippy::cast_precision_loss, reason = "days at most")]
        let now = (self.at - began) as f64;
        let age = (now - made).rem_euclid(round);
        // A picture that was drawn a moment before its number's time is not a round old.
        Some(if age > round - 500.0 {
            age - round
        } else {
            age
        })
    }

    /// The picture's number minus what the media time says, in pictures of the clip's round: the same for as long as
    /// the timeline has no gap and leaves nothing out.
    fn offset(&self) -> Option<i64> {
        #[expect(clippy::cast_possible_truncation, reason = "hours at most")]
        let expected = (self.current_time * RATE).floor() as i64;
        self.frame.map(|frame| (frame - expected).rem_euclid(CLIP))
    }
}

/// A browser on the viewer's machine.
pub struct Viewer(Running);

impl Viewer {
    /// Opens a URL; `player` is `page` for a page of Shoal's own, `hls.js`, `shaka` or `dash.js` for
    /// a playlist or a DASH description, `whep` for a stream by WebRTC, `whip` to publish by it.
    ///
    /// # Errors
    /// Where the browser's driver is not installed (`npm install` in `tests/browser`) or does not start.
    pub fn open(stage: &Stage, url: &str, player: &str) -> anyhow::Result<Self> {
        Self::start(stage, stage.viewer(), &[url, "--player", player])
    }

    /// The same on any machine, with more of the driver's options.
    ///
    /// # Errors
    /// As [`Viewer::open`].
    pub fn start(stage: &Stage, host: &Host, arguments: &[&str]) -> anyhow::Result<Self> {
        let browser = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
        anyhow::ensure!(
            ["playwright-core", "hls.js", "shaka-player", "dashjs"]
                .iter()
                .all(|package| browser.join("node_modules").join(package).is_dir()),
            "the browser's driver is not installed: run `npm install` in {}",
            browser.display()
        );
        let mut command = host.command("node");
        command
            .arg(browser.join("watch.mjs"))
            .args(arguments)
            .args(["--every", "100"])
            .env("TMPDIR", stage.home())
            .env("HOME", stage.home());
        Ok(Self(host.spawn(&mut command)?))
    }

    /// All samples so far.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let lines = self.0.lines();
        let samples = lines.iter().filter(|l| l.text.contains("\"sample\""));
        samples
            .filter_map(|l| serde_json::from_str(&l.text).ok())
            .collect()
    }

    /// The first sample, now or to come, that fits.
    ///
    /// # Errors
    /// Where none comes in time, with the last lines.
    pub fn wait(
        &self,
        what: &str,
        within: Duration,
        fits: impl Fn(&Sample) -> bool,
    ) -> anyhow::Result<Sample> {
        let read = |line: &str| serde_json::from_str::<Sample>(line).ok();
        let line = self
            .0
            .wait_line(within, |l| read(l).is_some_and(|s| fits(&s)))
            .with_context(|| format!("waited {within:?} in vain for: {what}"))?;
        read(&line.text).context("a sample that cannot be read again")
    }

    /// Waits until it has played two seconds with what counts as settled, and gives the last sample.
    ///
    /// # Errors
    /// As [`Viewer::wait`].
    pub fn plays(&self, within: Duration) -> anyhow::Result<Sample> {
        let start = self.wait("the first picture", within, |s| s.frame.is_some())?;
        let settled = start.current_time + 2.0;
        self.wait("two seconds of it", within, |s| {
            s.frame.is_some() && s.current_time >= settled
        })
    }

    /// Waits until it has played `seconds` more of the clip's media than at the sample.
    ///
    /// # Errors
    /// As [`Viewer::wait`].
    pub fn plays_on(
        &self,
        from: &Sample,
        seconds: f64,
        within: Duration,
    ) -> anyhow::Result<Sample> {
        self.wait("more of the picture", within, |s| {
            s.at > from.at && s.current_time >= from.current_time + seconds
        })
    }

    /// The longest time in which the picture stood still, from the Unix time in milliseconds on.
    #[must_use]
    pub fn longest_stand(&self, from: i64) -> Duration {
        let samples = self.samples();
        let before = samples.iter().rposition(|s| s.at <= from).unwrap_or(0);
        let mut longest = 0;
        let mut moved = samples
            .get(before)
            .map_or((from, 0.0), |s| (from, s.current_time));
        for s in &samples[before.min(samples.len())..] {
            if s.current_time > moved.1 + 0.01 {
                longest = longest.max(s.at - moved.0);
                moved = (s.at, s.current_time);
            }
        }
        if let Some(last) = samples.last() {
            longest = longest.max(last.at - moved.0);
        }
        Duration::from_millis(u64::try_from(longest).unwrap_or(0))
    }

    /// That between two samples the page went on as if nothing had been: not loaded again, not begun anew, no jump, one
    /// unbroken range of media, and pictures at the times at which they would have been.
    ///
    /// # Errors
    /// What was otherwise.
    pub fn unbroken(&self, from: &Sample, to: &Sample) -> anyhow::Result<()> {
        let samples = self.samples();
        let between = samples.iter().filter(|s| (from.at..=to.at).contains(&s.at));
        for s in between {
            anyhow::ensure!(!s.reloaded, "the page was loaded again: {s:?}");
            anyhow::ensure!(
                s.rounds == from.rounds,
                "the player began anew: {s:?} after {from:?}"
            );
            anyhow::ensure!(
                s.jumps == from.jumps,
                "the player jumped: {s:?} after {from:?}"
            );
            anyhow::ensure!(s.buffered.len() <= 1, "a gap in the media timeline: {s:?}");
            if let (Some(now), Some(then)) = (s.offset(), from.offset()) {
                // A sample's time and picture are read one after the other, and a picture is shown late when busy.
                let apart = (now - then).rem_euclid(CLIP);
                anyhow::ensure!(
                    apart.min(CLIP - apart) <= 8,
                    "{apart} pictures off the timeline: {s:?} after {from:?}"
                );
            }
        }
        Ok(())
    }
}
