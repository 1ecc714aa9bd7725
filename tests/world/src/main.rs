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
    /// Shows the operator at work, from nothing to a deleted stage.
    Demo,
    /// Leaves the demo's world running until Ctrl-C.
    Dev,
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let result = match command {
        Command::Tools(arguments) => commands::tools::run(&arguments),
        Command::Demo => runtime(commands::demo::run()),
        Command::Dev => runtime(commands::dev::run()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn runtime(command: impl Future<Output = Result<(), world::Error>>) -> Result<(), world::Error> {
    let runtime = tokio::runtime::Runtime::new().map_err(world::Error::when("start a runtime"))?;
    runtime.block_on(command)
}
