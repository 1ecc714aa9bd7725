//! Logs: one line a record on standard error, as JSON or as text, filtered by target and level.
//!
//! Whatever the filter says, no library below the operator can log what it sends or receives: see `QUIET`.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

/// The most that each library may log, even at TRACE. The longest prefix of a target counts.
///
/// Below these levels there are header values (`Authorization` among them), bytes of bodies, or text that the peer
/// chose. `kube_client::client` even warns with the whole body of a reply that it cannot parse, and that body may be a
/// Secret; its errors tell the status only.
const QUIET: [(&str, LevelFilter); 9] = [
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("hyper_util", LevelFilter::INFO),
    ("reqwest", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
    ("tower", LevelFilter::INFO),
    ("kube_client", LevelFilter::INFO),
    ("kube_client::client", LevelFilter::ERROR),
    // At DEBUG it logs errors of deserialization, which quote the values that they met.
    ("kube_runtime", LevelFilter::INFO),
];

/// How a record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people; with colours on a terminal.
    #[default]
    Text,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error(
        "cannot read --log-level {filter:?}: {cause}; write a level (error, warn, info, debug, trace, off), or levels of targets beside it, as in \"info,authentik_stage_operator=debug\""
    )]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Something in this process has set up logging before.
    #[error("logging is set up already: call this once, at the start of the process")]
    AlreadySet(#[source] TryInitError),
}

impl LogError {
    fn filter(filter: &str, cause: impl Into<String>) -> Self {
        Self::Filter {
            filter: filter.to_owned(),
            cause: cause.into(),
        }
    }
}

/// Starts logging to standard error. `filter` is a level, or a list of levels by target.
///
/// # Errors
/// If the filter cannot be read, or logging has been started before.
pub fn init(filter: &str, format: Format) -> Result<(), LogError> {
    subscriber(filter, format, io::stderr().is_terminal(), io::stderr)?
        .try_init()
        .map_err(LogError::AlreadySet)
}

fn subscriber<W>(
    filter: &str,
    format: Format,
    colours: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
        // Where colours are possible the library still honours NO_COLOR.
        Format::Text if colours => lines.boxed(),
        Format::Text => lines.with_ansi(false).boxed(),
    };
    let quiet = Targets::new().with_default(LevelFilter::TRACE).with_targets(QUIET);
    Ok(Registry::default().with(lines).with(parse(filter)?).with(quiet))
}

/// The filter, or what is wrong with it.
///
/// The syntax takes a bare word that is no level for a target, so that a mistyped level would switch all logs off in
/// silence; here such a word is an error.
fn parse(filter: &str) -> Result<Targets, LogError> {
    let filter = filter.trim();
    if filter.is_empty() {
        return Err(LogError::filter(filter, "it is empty"));
    }
    let is_bare = |part: &&str| !part.contains('=');
    for word in filter.split(',').map(str::trim).filter(is_bare) {
        if word.parse::<LevelFilter>().is_err() {
            return Err(LogError::filter(filter, format!("{word:?} is not a level")));
        }
    }
    filter
        .parse()
        .map_err(|error: ParseError| LogError::filter(filter, error.to_string()))
}

#[cfg(test)]
mod tests;
