//! `lb run`

use std::{io::IsTerminal, path::PathBuf};

use anyhow::Result;
use clap::Args;
use tracing_subscriber::EnvFilter;

use super::block_on;
use crate::daemon;

/// Run the daemon in the foreground: load the programs, fill the maps, keep them true
///
/// SIGHUP or a changed file reloads the configuration. SIGTERM stops the daemon and leaves forwarding in
/// place; the next `lb run` takes over without losing a packet.
#[derive(Args)]
#[command(after_help = "Example:\n  lb run --config /etc/lb/lb.yaml")]
pub struct Run {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Run {
    /// Returns when the daemon has stopped.
    pub fn run(self) -> Result<()> {
        let filter = EnvFilter::try_from_env("LB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init();
        block_on(daemon::run(&self.config))
    }
}
