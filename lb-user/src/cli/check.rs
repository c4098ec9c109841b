//! `lb check`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::count;
use crate::config::Config;

/// Validate a configuration file; nothing is applied
///
/// Exits 0, or 1 with a line for each mistake: FILE:LINE:COLUMN: what and why.
#[derive(Args)]
#[command(after_help = "Example:\n  lb check /etc/lb/lb.yaml")]
pub struct Check {
    /// The configuration file
    file: PathBuf,
}

impl Check {
    /// Prints a line about a good file.
    pub fn run(self) -> Result<()> {
        let config = Config::load(&self.file)?;
        println!(
            "{}: good: {}, {}",
            self.file.display(),
            count(config.virtual_servers.len(), "virtual server"),
            count(config.real_servers.len(), "real server")
        );
        Ok(())
    }
}
