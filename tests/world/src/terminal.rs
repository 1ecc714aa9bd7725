//! Emphasis, only where somebody looks.

use std::io::IsTerminal;

/// Bold on a terminal.
#[must_use]
pub fn strong(text: &str) -> String {
    with("1", text)
}

/// Dim on a terminal.
#[must_use]
pub fn faint(text: &str) -> String {
    with("2", text)
}

fn with(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}
