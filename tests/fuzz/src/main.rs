//! One program for all fuzz targets, under libFuzzer. `tests/fuzz/run` builds it, instrumented, and starts it:
//!
//! - with `SHOAL_FUZZ_TARGET=NAME` it runs that target; seeds go into the directory `SHOAL_FUZZ_SEEDS`, where that is
//!   set, before libFuzzer reads its corpus;
//! - without, it lists the targets.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod fuzzing {
    use std::{fs, path::PathBuf, process, sync::OnceLock};

    use fuzz_kit::Target;

    static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

    fn targets() -> Vec<Target> {
        let mut all = [
            routing::fuzz::targets(),
            dns::fuzz::targets(),
            media::fuzz::targets(),
            mesh::fuzz::targets(),
            api::fuzz::targets(),
            shoal::fuzz::targets(),
        ]
        .concat();
        all.sort_by_key(|target| target.name);
        all
    }

    #[expect(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "a program's face"
    )]
    fn choose() -> fn(&[u8]) {
        let Ok(name) = std::env::var("SHOAL_FUZZ_TARGET") else {
            for target in targets() {
                println!("{}", target.name);
            }
            process::exit(0);
        };
        let Some(target) = targets().into_iter().find(|t| t.name == name) else {
            eprintln!("there is no target {name}");
            process::exit(2);
        };
        if let Some(dir) = std::env::var_os("SHOAL_FUZZ_SEEDS").map(PathBuf::from) {
            for (seed, n) in (target.seeds)().iter().zip(0..) {
                if let Err(error) = fs::write(dir.join(format!("seed-{n}")), seed) {
                    eprintln!("{}: {error}", dir.display());
                    process::exit(2);
                }
            }
        }
        target.run
    }

    libfuzzer_sys::fuzz_target!(
        init: {
            RUN.get_or_init(choose);
        },
        |bytes: &[u8]| {
            if let Some(run) = RUN.get() {
                run(bytes);
            }
        }
    );
}

#[cfg(not(fuzzing))]
fn main() -> Result<(), &'static str> {
    Err("this program fuzzes only when built by tests/fuzz/run")
}
