//! `lb decap` on a real server: loads the decapsulator, one for each interface, and keeps the addresses true
//! that it goes by.

mod interface;
mod maps;
mod pins;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lb_common::DecapsulatorCounters;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

use self::{interface::Decapsulator, pins::NamespacePins};
use crate::{
    config::Interface,
    dataplane::Pins,
    net::{self, Targets},
};

/// What to decapsulate.
#[derive(Debug)]
pub struct Options {
    /// Where packets come in.
    pub interfaces: Vec<Interface>,
    /// The outer sources whose packets are decapsulated; none means all.
    pub from: Vec<IpNet>,
    /// A directory on a BPF file system.
    pub pin_path: PathBuf,
}

/// Runs until SIGTERM or SIGINT, which leave decapsulation in place.
pub async fn run(options: &Options) -> Result<()> {
    require_root()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut network = net::watch(no_targets()).await?;
    let namespace = NamespacePins::current(&options.pin_path)?;
    let new: Vec<Pins> = options
        .interfaces
        .iter()
        .map(|interface| namespace.interface(&interface.name))
        .filter(|pins| !pins.exist())
        .collect();
    let view = network.borrow_and_update().clone();
    let started = options.interfaces.iter().map(|interface| {
        let pins = namespace.interface(&interface.name);
        Decapsulator::start(pins, interface, &options.from, &view)
    });
    let mut decapsulators = match started.collect::<Result<Vec<_>>>() {
        Ok(decapsulators) => decapsulators,
        Err(error) => {
            // Nothing of a start that failed stays behind.
            new.iter()
                .filter(|pins| pins.exist())
                .try_for_each(|pins| namespace.remove(pins))?;
            return Err(error);
        }
    };
    info!(version = env!("CARGO_PKG_VERSION"), "decapsulating");
    loop {
        select! {
            changed = network.changed() => changed.context("the network is not watched any more")?,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        let view = network.borrow_and_update().clone();
        for decapsulator in &mut decapsulators {
            if let Err(error) = decapsulator.follow(&view) {
                warn!("{error:#}");
            }
        }
    }
    info!("stopping; decapsulation stays in place (`lb decap --stop` ends it)");
    Ok(())
}

/// What was counted on interfaces (on all that are pinned, if none is named), whether or not a process runs.
pub fn counters(
    interfaces: &[String],
    pin_path: &Path,
) -> Result<Vec<(String, DecapsulatorCounters)>> {
    require_root()?;
    let namespace = NamespacePins::current(pin_path)?;
    namespace
        .pinned(interfaces)?
        .into_iter()
        .map(|(interface, pins)| Ok((interface, maps::counters(&pins)?)))
        .collect()
}

/// Ends decapsulation on interfaces (on all that are pinned, if none is named).
pub fn stop(interfaces: &[String], pin_path: &Path) -> Result<()> {
    require_root()?;
    let namespace = NamespacePins::current(pin_path)?;
    for (interface, pins) in namespace.pinned(interfaces)? {
        let _lock = interface::lock(&pins, &interface)?;
        namespace.remove(&pins)?;
    }
    Ok(())
}

fn require_root() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "lb decap needs root: it loads a program into the kernel"
    );
    Ok(())
}

/// Only this host itself is of interest.
fn no_targets() -> watch::Receiver<Targets> {
    watch::channel(Targets::new()).1
}
