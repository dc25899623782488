//! Films that tests publish, made by ffmpeg before anything begins, and the truth that they carry.
//!
//! [`Film::beats`] turns white and beeps at the same instants; [`Beats::read`] finds both in whatever ffmpeg can open, so
//! that what is served can be held against the film itself.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use media::flv::{self, Tag, TagKind};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// An FLV file with H.264 and AAC.
#[derive(Clone, Debug)]
pub struct Film(PathBuf);

impl Film {
    /// White pictures and a beep for a tenth of each second but every fifth: a shift by whole seconds shows too. Three
    /// B-frames, a keyframe each two seconds.
    ///
    /// # Errors
    /// What ffmpeg says.
    pub fn beats(home: &Path, seconds: u32) -> anyhow::Result<Self> {
        let now = "lt(mod(t,1),0.1)*lt(mod(t,5),4)";
        Self::make(
            home.join("beats.flv"),
            seconds,
            &format!("color=c=black:s=320x180:r=30,drawbox=c=white:t=fill:enable='{now}'"),
            &format!("aevalsrc='if({now},0.8*sin(2*PI*1000*t),0)':s=48000"),
            &["-bf", "3", "-g", "60"],
        )
    }

    /// Hard on packaging: two B-frames, and keyframes 0.5 to 5 s apart, as the seed says.
    ///
    /// # Errors
    /// What ffmpeg says.
    pub fn hard(home: &Path, seconds: u32, seed: u64) -> anyhow::Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut at = 0.0;
        let mut keys = vec!["0".to_owned()];
        while at < f64::from(seconds) {
            at += rng.random_range(0.5..5.0);
            keys.push(format!("{at:.3}"));
        }
        let keys = keys.join(",");
        Self::make(
            home.join(format!("hard-{seed}.flv")),
            seconds,
            "testsrc2=s=320x180:r=30",
            "sine=f=440:r=48000",
            &[
                "-bf",
                "2",
                "-g",
                "600",
                "-sc_threshold",
                "0",
                "-force_key_frames",
                &keys,
            ],
        )
    }

    fn make(
        path: PathBuf,
        seconds: u32,
        pictures: &str,
        sound: &str,
        coding: &[&str],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("ffmpeg");
        command
            .args(["-hide_banner", "-nostdin", "-loglevel", "warning", "-y"])
            .args(["-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", sound])
            .args(["-t", &seconds.to_string()])
            .args(["-c:v", "libx264", "-preset", "ultrafast"])
            .args(["-pix_fmt", "yuv420p", "-b:v", "300k"])
            .args(coding)
            .args(["-c:a", "aac", "-ac", "2", "-f", "flv"])
            .arg(&path);
        run(&mut command)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its tags, and when each is to arrive: pictures at their time, sound `lead` milliseconds before its own (after it,
    /// where negative). Time stamps stay as they are.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn arriving(&self, lead: i64) -> anyhow::Result<Vec<(Duration, Tag)>> {
        let tags = flv::file(&fs::read(&self.0)?)?.into_iter();
        let due = |tag: &Tag| {
            let ahead = if tag.kind == TagKind::Audio && tag.is_frame() {
                lead
            } else {
                0
            };
            // From the first, whoever is ahead.
            let at = i64::from(tag.timestamp) - ahead + lead.max(0);
            let at = if tag.is_frame() { at } else { 0 };
            Duration::from_millis(at.unsigned_abs())
        };
        let mut tags: Vec<(Duration, Tag)> = tags.map(|t| (due(&t), t)).collect();
        tags.sort_by_key(|(due, _)| *due);
        Ok(tags)
    }
}

/// When pictures turn white and when beeps begin, in seconds of the medium's own time.
#[derive(Clone, Debug, Default)]
pub struct Beats {
    /// Of the first white picture of each flash.
    pub flashes: Vec<f64>,
    /// Of the first loud sample of each beep.
    pub beeps: Vec<f64>,
}

impl Beats {
    /// Reads `seconds` of a file or URL with `ffmpeg`, a command for it on the machine that reads; `scratch` is a
    /// directory of this reading's own.
    ///
    /// # Errors
    /// Where ffmpeg fails.
    pub fn read(
        mut ffmpeg: Command,
        url: &str,
        seconds: u32,
        scratch: &Path,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(scratch)?;
        let [pictures, sound] = ["pictures", "sound"].map(|name| scratch.join(name));
        let live = url.ends_with(".m3u8");
        ffmpeg
            .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-copyts"])
            .args(if live {
                &["-live_start_index", "0"][..]
            } else {
                &[]
            })
            .args(["-t", &seconds.to_string(), "-i", url, "-filter_complex"])
            .arg(format!(
                "[0:v]blackdetect=d=0.3:pix_th=0.3,metadata=print:key=lavfi.black_end:file={}[v];\
                 [0:a]silencedetect=n=-30dB:d=0.3,ametadata=print:key=lavfi.silence_end:file={}[a]",
                pictures.display(),
                sound.display()
            ))
            .args(["-map", "[v]", "-map", "[a]", "-f", "null", "-"]);
        run(&mut ffmpeg).with_context(|| url.to_owned())?;
        let times = |path: &Path, key: &str| -> anyhow::Result<Vec<f64>> {
            let text = fs::read_to_string(path)?;
            let found = text.lines().filter_map(|l| l.strip_prefix(key));
            found
                .map(|t| t.parse().context("a time that is no number"))
                .collect()
        };
        Ok(Self {
            flashes: times(&pictures, "lavfi.black_end=")?,
            beeps: times(&sound, "lavfi.silence_end=")?,
        })
    }

    /// By how much each beep comes after its flash, in seconds. At either end one may be alone, where reading began or
    /// ended between the two.
    ///
    /// # Errors
    /// Where one in the middle has no other within half a second.
    pub fn offsets(&self) -> anyhow::Result<Vec<f64>> {
        let near = |t: f64, others: &[f64]| others.iter().any(|o| (o - t).abs() < 0.5);
        let begin = |all: &[f64]| all.first().copied().unwrap_or(f64::MAX);
        let end = |all: &[f64]| all.last().copied().unwrap_or(f64::MIN);
        let from = begin(&self.flashes).max(begin(&self.beeps)) - 0.5;
        let to = end(&self.flashes).min(end(&self.beeps)) + 0.5;
        let within = |t: &&f64| (from..=to).contains(*t);
        let alone = |all: &[f64], others: &[f64]| {
            let mut inner = all.iter().filter(within);
            inner.find(|t| !near(**t, others)).copied()
        };
        let lone = alone(&self.flashes, &self.beeps).or(alone(&self.beeps, &self.flashes));
        anyhow::ensure!(
            lone.is_none(),
            "{lone:?} s is a flash or beep alone: {self:?}"
        );
        let pairs = self.flashes.iter().filter_map(|flash| {
            let beep = self.beeps.iter().find(|beep| (*beep - flash).abs() < 0.5)?;
            Some(beep - flash)
        });
        Ok(pairs.collect())
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let out = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "{command:?}: {}: {said}", out.status);
    Ok(())
}
