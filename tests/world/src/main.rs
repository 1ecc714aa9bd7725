//! The world outside of tests: its tools, and what runs in it for a person to look at.

#![allow(clippy::print_stderr)] // a command line talks to its user

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The world that tests and the demo run in.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds every tool that is missing, and prints where each is.
    Tools(commands::tools::Arguments),
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let result = match command {
        Command::Tools(arguments) => commands::tools::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
