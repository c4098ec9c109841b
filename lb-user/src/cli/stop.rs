//! `lb stop`

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use super::{Socket, block_on};
use crate::{
    api::client::{self, ClientError},
    config::{Config, DEFAULT_PIN_PATH},
    dataplane::Pins,
};

/// End forwarding: detach the programs and remove the pins, whether or not the daemon runs
#[derive(Args)]
#[command(after_help = "Examples:\n  lb stop\n  lb stop --config /etc/lb/lb.yaml")]
pub struct Stop {
    #[command(flatten)]
    socket: Socket,
    /// Take the control socket and the pin path from this configuration file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["socket", "pin_path"])]
    config: Option<PathBuf>,
    /// The pins to remove if no daemon runs
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PIN_PATH)]
    pin_path: PathBuf,
}

impl Stop {
    /// Returns when nothing is attached or pinned any more.
    pub fn run(self) -> Result<()> {
        let (socket, pin_path) = match &self.config {
            Some(file) => {
                let config = Config::load(file)?;
                (config.control.socket, config.pin_path)
            }
            None => (self.socket.socket, self.pin_path),
        };
        match block_on(async { Ok(client::stop(&socket).await) })? {
            Err(ClientError::NoDaemon { .. }) => remove_pins(&Pins::new(&pin_path)),
            outcome => Ok(outcome?),
        }
    }
}

fn remove_pins(pins: &Pins) -> Result<()> {
    ensure!(
        pins.exist(),
        "nothing to stop: no daemon answers and nothing is pinned at {}; is pin_path another (--pin-path, --config)?",
        pins.root().display()
    );
    let _lock = pins.lock()?;
    Ok(pins.remove()?)
}
