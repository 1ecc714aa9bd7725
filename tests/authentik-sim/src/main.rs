//! Runs the simulated server by itself, for the demo and for trying things by hand.

use std::net::SocketAddr;

use authentik_sim::{Config, Sim, Version};
use clap::Parser;

/// A stateful stand-in for authentik's API.
#[derive(Parser)]
struct Arguments {
    /// Release to play, e.g. 2023.10.2 or 2026.8.2
    #[arg(long, default_value = "2026.5.0")]
    version_of_authentik: Version,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Token of the superuser; drawn and printed if absent
    #[arg(long, env = "AUTHENTIK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Sub-path, with both slashes
    #[arg(long, default_value = "/")]
    base_path: String,
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "this is what the program is for")]
async fn main() -> std::io::Result<()> {
    let Arguments {
        version_of_authentik,
        listen,
        token,
        base_path,
    } = Arguments::parse();
    let drawn = token.is_none();
    let config = Config {
        listen,
        base_path,
        admin_token: token,
        ..Config::of(version_of_authentik)
    };
    let sim = Sim::start(config).await;
    println!("{}", sim.url());
    if drawn {
        println!("token: {}", sim.admin_token());
    }
    let mut changed = sim.changed();
    let mut told = 0;
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => return interrupted,
            _ = changed.changed() => {
                // Answered calls only, in their order; one that hangs holds back those behind it.
                for call in sim.calls_after(told).iter().take_while(|call| call.status.is_some()) {
                    let status = call.status.unwrap_or_default();
                    println!("{status} {} {} ({})", call.method, call.path, call.user_agent);
                    told += 1;
                }
            }
        }
    }
}
