//! `lb reload`

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;

use super::{Socket, block_on, end_quietly};
use crate::api::client;

/// Apply the configuration file now, and print what has changed
///
/// Exits 1, with nothing applied, if the file is bad.
#[derive(Args)]
#[command(after_help = "Example:\n  lb reload")]
pub struct Reload {
    #[command(flatten)]
    socket: Socket,
}

impl Reload {
    /// Prints a line for each change.
    pub fn run(self) -> Result<()> {
        let changes = block_on(async { Ok(client::reload(&self.socket.socket).await?) })?;
        let text = match changes.as_slice() {
            [] => "nothing has changed\n".to_owned(),
            changes => changes.join("\n") + "\n",
        };
        end_quietly(io::stdout().write_all(text.as_bytes()).map_err(Into::into))
    }
}
