//! `lb run`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{block_on, log_to_stderr};
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
        log_to_stderr();
        block_on(daemon::run(&self.config))
    }
}
