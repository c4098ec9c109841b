//! `lb completions`

use std::io;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, end_quietly};

/// Print a script that lets a shell complete commands and options
#[derive(Args)]
#[command(
    after_help = "Example:\n  lb completions bash > /usr/share/bash-completion/completions/lb"
)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub fn run(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "lb", &mut script);
        end_quietly(io::Write::write_all(&mut io::stdout(), &script).map_err(Into::into))
    }
}
