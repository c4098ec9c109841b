//! `lb man`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};

use super::Cli;

/// Write the manual's pages, one for each command, into a directory
#[derive(Args)]
#[command(after_help = "Example:\n  lb man /usr/local/share/man/man1")]
pub struct Man {
    /// The directory
    directory: PathBuf,
}

impl Man {
    /// Writes lb.1, lb-run.1 and so on.
    pub fn run(self) -> Result<()> {
        let directory = self.directory;
        clap_mangen::generate_to(Cli::command(), &directory)
            .with_context(|| format!("can't write the manual's pages to {}", directory.display()))
    }
}
