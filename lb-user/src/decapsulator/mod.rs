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
    net::{self, Targets, View},
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
    let view = network.borrow_and_update().clone();
    let mut decapsulators = start(options, &namespace, &view)?;
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

/// Starts all or, if one fails, leaves none that wasn't in place before.
fn start(
    options: &Options,
    namespace: &NamespacePins,
    network: &View,
) -> Result<Vec<Decapsulator>> {
    for Interface { name, .. } in &options.interfaces {
        ensure!(
            network.interfaces.contains_key(name),
            "interface {name} does not exist"
        );
    }
    let pins = || {
        let interfaces = options.interfaces.iter();
        interfaces.map(|interface| (interface, namespace.interface(&interface.name)))
    };
    let new: Vec<Pins> = pins()
        .filter_map(|(_, pins)| (!pins.exist()).then_some(pins))
        .collect();
    let started = pins()
        .map(|(interface, pins)| Decapsulator::start(pins, interface, &options.from, network));
    started.collect::<Result<_>>().inspect_err(|_| {
        for pins in new.iter().filter(|pins| pins.exist()) {
            if let Err(error) = namespace.remove(pins) {
                warn!("{error:#}");
            }
        }
    })
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
