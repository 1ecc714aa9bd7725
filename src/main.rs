//! The binary.
fn main() -> std::io::Result<()> {
    authentik_stage_operator::commands::crd::run(None, std::io::stdout())
}
