//! `lb man`

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man as Page;

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
        let mut lb = Cli::command().disable_help_subcommand(true);
        lb.build();
        let mut commands = lb.get_subcommands().chain([&lb]).cloned();
        commands
            .try_for_each(|command| write(command, &directory))
            .with_context(|| format!("can't write the manual's pages to {}", directory.display()))
    }
}

/// As clap_mangen does it, but with the usage that --help prints, and arguments and examples under headings of their own.
fn write(mut command: Command, directory: &Path) -> io::Result<()> {
    let usage = command.render_usage().to_string().replace("Usage: ", "");
    let command = command.override_usage(usage).mut_args(|argument| {
        let heading = argument.is_positional().then_some("Arguments");
        argument.help_heading(heading)
    });
    let page = Page::new(command).source(concat!("lb ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = String::from_utf8_lossy(&text)
        .replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n")
        .replace(".SH EXTRA\nExample:\n", ".SH EXAMPLE\n");
    fs::write(directory.join(page.get_filename()), text)
}
