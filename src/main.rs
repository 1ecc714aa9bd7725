//! The binary: parses and dispatches.

use std::process::ExitCode;

use authentik_stage_operator::commands::Cli;
use clap::Parser;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr)] // the log may not be there yet
            {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
