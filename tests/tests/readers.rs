//! Other programs read what every node serves.
#![allow(clippy::unwrap_used, reason = "tests")]
use shoal_tests::stage::Stage;

#[test]
fn ffmpeg_and_ffprobe_read_every_node_without_a_warning() {
    let Some(stage) = Stage::or_skip(52) else {
        return;
    };
    let stream = stage.create(stage.a(), "Kelp").unwrap();
    let _encoder = stage.publish_hard(&stream).unwrap();
    for node in [stage.a(), stage.b(), stage.c()] {
        stage.playable(node, &stream).unwrap();
        for container in ["cmaf", "hls"] {
            let url = format!(
                "http://{}/play/{}/{container}/index.m3u8",
                node.ip(),
                stream.playback
            );
            let quiet = |program: &str, arguments: &[&str]| {
                let mut command = stage.viewer().command(program);
                let out = command
                    .args(["-hide_banner", "-loglevel", "warning"])
                    .args(arguments)
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                assert!(out.status.success(), "{program} {url}: {said}");
                // With every reload of a live playlist that has a map, ffmpeg 5.1 reads the map again and says so.
                let other = |l: &&str| !l.contains("Found duplicated MOOV Atom. Skipped it");
                let said: Vec<&str> = said.lines().filter(other).collect();
                assert!(said.is_empty(), "{program} {url}: {said:?}");
                String::from_utf8(out.stdout).unwrap()
            };
            let entries = "stream=codec_name";
            let probed = quiet(
                "ffprobe",
                &["-show_entries", entries, "-of", "csv=p=0", &url],
            );
            assert!(
                probed.contains("h264") && probed.contains("aac"),
                "{url}: {probed}"
            );
            quiet("ffmpeg", &["-i", &url, "-t", "4", "-f", "null", "-"]);
        }
    }
}
