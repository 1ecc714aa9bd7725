//! `world tools`: has every tool built, so that no test has to wait for it.

#![allow(clippy::print_stdout)] // its result

use world::{Error, Tool};

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also the oldest API server that is supported.
    #[arg(long)]
    oldest: bool,
}

/// Builds what is missing and prints a line for each tool: name and path.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let Arguments { oldest } = arguments;
    let mut tools = Tool::NEWEST.to_vec();
    if *oldest {
        tools.extend(Tool::OLDEST);
    }
    for tool in tools {
        println!("{}\t{}", tool.binary(), tool.path()?.display());
    }
    Ok(())
}
