//! What a node serves of a rendition, saved to a file for other programs to read.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{lab::until, stage::Node};

/// All segments that a rendition has now in one file, their init segments before them; waits until it has so many.
///
/// # Errors
/// When they do not come, or have gaps or discontinuities.
pub fn rendition(
    node: &Node,
    folder: &str,
    name: &str,
    segments: usize,
    to: &Path,
) -> anyhow::Result<()> {
    let base = format!("{folder}/{name}.m3u8");
    let limit = Duration::from_secs(40);
    let text = until(&format!("{segments} segments of {base}"), limit, || {
        let (status, body) = node.get(&base).ok()?;
        let text = String::from_utf8(body).ok()?;
        (status == 200 && text.matches("#EXTINF").count() >= segments).then_some(text)
    })?;
    ensure!(!text.contains("#EXT-X-GAP"), "{base}: {text}");
    ensure!(!text.contains("#EXT-X-DISCONTINUITY\n"), "{base}: {text}");
    let map = |l: &str| {
        let uri = l.strip_prefix("#EXT-X-MAP:URI=\"")?;
        Some(uri.split_once('"')?.0.to_owned())
    };
    let mut all = Vec::new();
    for line in text.lines() {
        let media = (!line.starts_with('#') && !line.is_empty()).then(|| line.to_owned());
        if let Some(uri) = map(line).or(media) {
            let (status, body) = node.get(&format!("{folder}/{uri}"))?;
            ensure!(status == 200, "{folder}/{uri}: {status}");
            all.extend(body);
        }
    }
    Ok(fs::write(to, all)?)
}

/// What a program of ffmpeg's says of a file: on standard output, and as warnings.
///
/// # Errors
/// When it fails.
pub fn output(
    program: impl AsRef<Path>,
    before: &[&str],
    path: &Path,
    after: &[&str],
) -> anyhow::Result<(String, String)> {
    let mut command = Command::new(program.as_ref());
    command.args(["-hide_banner", "-loglevel", "warning"]);
    let out = command.args(before).arg(path).args(after).output()?;
    ensure!(out.status.success(), "{command:?}: {out:?}");
    Ok((
        String::from_utf8(out.stdout)?,
        String::from_utf8(out.stderr)?,
    ))
}

/// What an ffmpeg complains of when it decodes all of a file, pictures at the times that they have.
///
/// # Errors
/// When it cannot.
pub fn complaints(ffmpeg: impl AsRef<Path>, path: &Path) -> anyhow::Result<String> {
    let before = ["-nostdin", "-xerror", "-i"];
    // One thing, two names: ffmpeg 7 gave it another.
    let as_read = match ffmpeg.as_ref().to_str() {
        Some("ffmpeg") => "-1",
        _ => "demux",
    };
    let after = format!("-map 0 -fps_mode passthrough -enc_time_base {as_read} -f null -");
    let after: Vec<&str> = after.split(' ').collect();
    Ok(output(ffmpeg, &before, path, &after)?.1)
}

/// The ffmpeg of PyPI's imageio-ffmpeg, which `tests/run` installs.
///
/// # Errors
/// When it is not there.
pub fn modern_ffmpeg() -> anyhow::Result<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/venv/bin/python3");
    let out = Command::new(&python)
        .args([
            "-c",
            "import imageio_ffmpeg as i; print(i.get_ffmpeg_exe())",
        ])
        .output()
        .with_context(|| format!("no {}: tests/run makes it", python.display()))?;
    ensure!(out.status.success(), "imageio-ffmpeg: {out:?}");
    Ok(String::from_utf8(out.stdout)?.trim().into())
}
