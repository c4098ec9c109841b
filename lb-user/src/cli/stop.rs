//! `lb stop`

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};
use clap::Args;

use super::{Socket, block_on};
use crate::{
    api::client::{self, ClientError},
    config::{Config, DEFAULT_PIN_PATH},
    dataplane::{PinError, Pins},
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
    /// Returns when nothing is attached or pinned any more, and says what has ended.
    pub fn run(self) -> Result<()> {
        let (socket, pin_path) = match &self.config {
            Some(file) => {
                let config = Config::load(file)?;
                (config.control.socket, config.pin_path)
            }
            None => (self.socket.socket, self.pin_path),
        };
        match block_on(async { Ok(client::stop(&socket).await) })? {
            Err(ClientError::NoDaemon { .. }) => {
                remove_pins(&Pins::new(&pin_path), &socket)?;
                println!(
                    "forwarding ended: no daemon ran, and the pins at {} are removed",
                    pin_path.display()
                );
            }
            outcome => {
                outcome?;
                println!("forwarding ended, and the daemon at {}", socket.display());
            }
        }
        Ok(())
    }
}

fn remove_pins(pins: &Pins, socket: &Path) -> Result<()> {
    ensure!(
        pins.exist(),
        "nothing to stop: no daemon answers and nothing is pinned at {}; is pin_path another (--pin-path, --config)?",
        pins.root().display()
    );
    let _lock = pins.lock().map_err(|error| match error {
        PinError::InUse { path } => anyhow!(
            "the daemon that runs on pin_path {} does not answer at {}: name its control socket (--socket) or its configuration (--config)",
            path.display(),
            socket.display()
        ),
        error => error.into(),
    })?;
    Ok(pins.remove()?)
}
