//! The subcommands, one file each.

pub mod crd;
pub mod run;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Keeps authentik's SMS authenticator stages as declared in Kubernetes.
#[derive(Parser, Debug)]
#[command(name = "authentik-stage-operator", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the controller
    Run(run::RunArgs),
    /// Print the CustomResourceDefinitions
    Crd {
        /// Write each to its file in this directory instead
        #[arg(long)]
        directory: Option<PathBuf>,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// `run`.
    #[error(transparent)]
    Run(#[from] run::RunError),
    /// `crd`.
    #[error("cannot write the CustomResourceDefinitions: {0}")]
    Crd(#[source] std::io::Error),
    /// The runtime that everything needs.
    #[error("cannot start: {0}")]
    Runtime(#[source] std::io::Error),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(self) -> Result<(), CommandError> {
        match self.command {
            Command::Crd { directory } => crd::run(directory.as_deref(), std::io::stdout()).map_err(CommandError::Crd),
            Command::Run(args) => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .enable_all()
                    .build()
                    .map_err(CommandError::Runtime)?;
                Ok(runtime.block_on(run::run(args))?)
            }
        }
    }
}
