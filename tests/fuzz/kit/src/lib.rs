//! What a fuzz target is, how one takes its input apart, and what runs it over mutated seeds.
//!
//! A crate lists its targets with [`targets!`]: each has a function that takes any bytes and panics where a property does
//! not hold, and one that makes valid inputs to begin with. Two things run them: `tests/fuzz/run`, guided by coverage, and
//! the unit tests that the macro makes, by [`check`], over a few thousand mutations of the seeds.
mod input;
mod mutate;

pub use input::{Input, join};

/// Mutated inputs by target in a unit test.
const ROUNDS: u32 = 2_000;

/// One parser, or one property of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Takes any bytes. A panic is a finding.
    pub run: fn(&[u8]),
    /// Valid inputs, made by the crate's own encoders.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Lists targets as `TARGETS`, and makes a unit test of each.
///
/// `name: run, seeds;` where `run` is a `fn(&[u8])` and `seeds` a `fn() -> Vec<Vec<u8>>`.
#[macro_export]
macro_rules! targets {
    ($($name:ident: $run:expr, $seeds:expr;)*) => {
        /// What is fuzzed here.
        pub(crate) const TARGETS: &[$crate::Target] = &[$($crate::Target {
            name: stringify!($name),
            run: $run,
            seeds: $seeds,
        },)*];

        #[cfg(test)]
        mod each {
            $(#[test]
            fn $name() {
                $crate::check(super::TARGETS, stringify!($name));
            })*
        }
    };
}

/// Runs the target of this name over its seeds and over mutations of them, the same ones at every call.
///
/// # Panics
/// Where the target does, with the input in hexadecimal; where there is no such target; and where it has no seeds.
pub fn check(targets: &[Target], name: &str) {
    let target = targets.iter().find(|t| t.name == name);
    let Some(Target { run, seeds, .. }) = target else {
        panic!("there is no target {name}");
    };
    let seeds = seeds();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let bear = |input: &[u8]| {
        if std::panic::catch_unwind(|| run(input)).is_err() {
            let hex: String = input.iter().map(|b| format!("{b:02x}")).collect();
            panic!("{name} fails on these bytes: {hex}");
        }
    };
    for seed in &seeds {
        bear(seed);
    }
    let mut mutator = mutate::Mutator::new(name);
    for _ in 0..ROUNDS {
        bear(&mutator.next(&seeds));
    }
}
