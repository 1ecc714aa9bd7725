//! What Helm 4 and Flux make of an object's status: their own judge, run for real.

use serde_json::Value;
use tokio::process::Command;

use crate::Tool;
use crate::kubectl::{expect_success, run};

/// What the judge says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `Current`, `InProgress`, `Failed`, `Terminating` or `Unknown`.
    pub status: String,
    /// Why, in the judge's words.
    pub message: String,
}

/// Asks the judge about an object as the API server returned it.
///
/// # Panics
/// With the judge's message, if it cannot make sense of the object.
pub async fn kstatus(object: &Value) -> Verdict {
    let program = tokio::task::spawn_blocking(|| Tool::Kstatus.path())
        .await
        .unwrap()
        .unwrap();
    let output = run(&mut Command::new(program), Some(&object.to_string()))
        .await
        .unwrap();
    let text = expect_success("kstatus", output);
    let (status, message) = text.split_once('\n').expect("status and message, a line each");
    Verdict {
        status: status.to_owned(),
        message: message.trim_end().to_owned(),
    }
}
