//! The `shoal` program: reads the command line and the configuration, and hands over to the library.
use std::process::ExitCode;

use clap::Parser;
use shoal::{cli::Cli, commands};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::main(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            commands::complain(&error);
            ExitCode::FAILURE
        }
    }
}
