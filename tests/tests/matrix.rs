//! Every way in and every way out, by programs that others wrote: codecs as expected, sound in step with the pictures, at
//! the origin and one relay away. The table is `tests/matrix.toml`.
//!
//! The short form takes the first input with every output and every input with the first output, at the relay; the long
//! one takes all, at both.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use rustix::process::Signal;
use serde::Deserialize;
use shoal_tests::{
    film::{Beats, Film},
    full,
    lab::Running,
    saved::modern_ffmpeg,
    say,
    stage::{DOMAIN, Node, Stage, Stream},
};

/// How far sound may be off the pictures, beside the film itself, in seconds.
const IN_STEP: f64 = 0.05;
/// How much of each is read, in seconds.
const READ: u32 = 8;
/// Inputs at once: coding for real takes its time.
const AT_ONCE: usize = 2;

#[derive(Debug, Deserialize)]
struct Matrix {
    input: Vec<Input>,
    output: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Input {
    name: String,
    program: String,
    line: String,
    codecs: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
    url: String,
    /// Codecs that it cannot carry, and why.
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    why: String,
}

impl Output {
    fn carries(&self, input: &Input) -> bool {
        !input
            .codecs
            .iter()
            .any(|codec| self.without.contains(codec))
    }
}

struct World {
    stage: Stage,
    modern: PathBuf,
    film: Film,
    /// By how much the film's own beeps come after its flashes.
    own: f64,
}

impl World {
    fn program(&self, name: &str) -> PathBuf {
        match name {
            "modern ffmpeg" => self.modern.clone(),
            other => other.into(),
        }
    }

    fn publish(&self, input: &Input, stream: &Stream) -> Running {
        let mut command = self.stage.streamer().command(self.program(&input.program));
        command.args(["-hide_banner", "-nostdin", "-loglevel", "warning"]);
        for word in input.line.split_whitespace() {
            let word = word
                .replace("FILM", &self.film.path().to_string_lossy())
                .replace("NAME", &format!("edge-ingest.{DOMAIN}"))
                .replace("KEY", &stream.key);
            command.arg(word);
        }
        self.stage.streamer().spawn(&mut command).unwrap()
    }

    /// Reads one cell: how far sound is off, in milliseconds.
    fn cell(&self, input: &Input, output: &Output, node: &Node, stream: &Stream) -> f64 {
        let what = format!("{} to {} at {}", input.name, output.name, node.name());
        let url = output
            .url
            .replace("HOST", &node.ip().to_string())
            .replace("ID", &stream.playback);
        let asked = "-v error -show_entries stream=codec_name -of csv=p=0";
        let mut probe = asked.split(' ').collect::<Vec<_>>();
        probe.push(&url);
        let found = self.stage.viewer().run("ffprobe", &probe).unwrap();
        for codec in &input.codecs {
            assert!(found.contains(codec), "{what}: {codec} is not in {found}");
        }
        let scratch = self.stage.home().join(what.replace([' ', ',', '/'], "-"));
        let ffmpeg = self.stage.viewer().command(&self.modern);
        let beats = Beats::read(ffmpeg, &url, READ, &scratch);
        let beats = beats.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        let offsets = beats.offsets().unwrap();
        assert!(offsets.len() >= 3, "{what}: {beats:?}");
        let off = offsets.iter().map(|o| (o - self.own).abs());
        let worst = off.fold(0.0, f64::max);
        assert!(worst < IN_STEP, "{what}: sound is {worst} s off: {beats:?}");
        worst * 1000.0
    }
}

#[test]
fn every_way_in_goes_out_every_way() {
    let Some(stage) = Stage::or_skip(59) else {
        return;
    };
    let text = include_str!("../matrix.toml");
    let matrix: Matrix = toml::from_str(text).unwrap();
    let film = Film::beats(stage.home(), 300).unwrap();
    let own = {
        let path = film.path().to_string_lossy();
        let ffmpeg = std::process::Command::new("ffmpeg");
        let beats = Beats::read(ffmpeg, &path, 30, &stage.home().join("film")).unwrap();
        let offsets = beats.offsets().unwrap();
        offsets.iter().sum::<f64>() / offsets.len() as f64
    };
    let world = World {
        modern: modern_ffmpeg().unwrap(),
        stage,
        film,
        own,
    };
    let nodes = match full() {
        true => vec![world.stage.a(), world.stage.b()],
        false => vec![world.stage.b()],
    };
    let mut table = BTreeMap::new();
    for inputs in matrix.input.chunks(AT_ONCE) {
        let running: Vec<(&Input, Stream, Running)> = inputs
            .iter()
            .map(|input| {
                let stream = world.stage.create(world.stage.a(), &input.name).unwrap();
                let running = world.publish(input, &stream);
                (input, stream, running)
            })
            .collect();
        for (_, stream, running) in &running {
            for node in &nodes {
                let playable = world.stage.playable(node, stream);
                assert!(playable.is_ok(), "{playable:?} {}", running.tail(5));
            }
        }
        std::thread::scope(|s| {
            let mut cells = Vec::new();
            for (input, stream, _) in &running {
                let first = input.name == matrix.input[0].name;
                let outputs = matrix.output.iter().enumerate();
                let outputs = outputs.filter(|(at, _)| full() || first || *at == 0);
                for (_, output) in outputs.filter(|(_, o)| o.carries(input)) {
                    for node in &nodes {
                        let world = &world;
                        let cell = s.spawn(move || world.cell(input, output, node, stream));
                        cells.push((&input.name, &output.name, node.name(), cell));
                    }
                }
            }
            for (input, output, node, cell) in cells {
                let off = cell
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                let shown: &mut String = table.entry((input, output)).or_default();
                let _ = write!(shown, "{node} {off:.1} ");
            }
        });
        for (_, _, running) in &running {
            assert_eq!(running.ended(), None, "{}", running.tail(5));
            running.signal(Signal::INT).unwrap();
        }
    }
    say("sound off its pictures, in milliseconds, by node");
    let names: Vec<&str> = matrix.output.iter().map(|o| &*o.name).collect();
    say(&format!("| | {} |", names.join(" | ")));
    for input in &matrix.input {
        let cells = matrix.output.iter().map(|output| {
            let shown = table.get(&(&input.name, &output.name));
            match shown {
                Some(shown) => shown.trim().to_owned(),
                None if !output.carries(input) => output.why.clone(),
                None => "in the long form".into(),
            }
        });
        let cells: Vec<String> = cells.collect();
        say(&format!("| {} | {} |", input.name, cells.join(" | ")));
    }
}
