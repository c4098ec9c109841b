//! `lb decap` on a real server: loads the decapsulator, one for each interface, and keeps the addresses true
//! that it goes by.

mod interface;
mod maps;
mod pins;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lb_common::DecapsulatorCounters;
use sd_notify::NotifyState;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};

use self::{interface::Decapsulator, pins::NamespacePins};
use crate::{
    config::Interface,
    dataplane::{kernel, pins::Claim},
    net::{self, View},
    privileges,
};

/// What to decapsulate.
#[derive(Debug)]
pub struct Options {
    /// Where packets come in; names unique.
    pub interfaces: Vec<Interface>,
    /// The outer sources whose packets are decapsulated; none means all.
    pub from: Vec<IpNet>,
    /// A directory on a BPF file system.
    pub pin_path: PathBuf,
}

/// Runs until SIGTERM or SIGINT, which leave decapsulation in place.
pub async fn run(options: &Options) -> Result<()> {
    require_privileges()?;
    kernel::require()?;
    privileges::keep_for_start(&privileges::PROGRAMS)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut network = net::watch_host().await?;
    let namespace = NamespacePins::current(&options.pin_path)?;
    let view = network.borrow_and_update().clone();
    let mut decapsulators =
        start(options, &namespace, &view).inspect_err(|_| namespace.remove_empty())?;
    privileges::keep_only(&privileges::PROGRAMS)?;
    info!(version = env!("CARGO_PKG_VERSION"), "decapsulating");
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        warn!("can't tell the service manager that lb decap is ready: {error}");
    }
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
    let sources = maps::allowed_sources(&options.from)?;
    let claim = |Interface { name, .. }: &Interface| {
        let pins = namespace.interface(name);
        pins.claim().map_err(interface::not_free(name))
    };
    let claims = options.interfaces.iter().map(claim);
    let claims: Vec<Claim> = claims.collect::<Result<_>>()?;
    let started = claims
        .into_iter()
        .zip(&options.interfaces)
        .map(|(claim, interface)| Decapsulator::start(claim, interface, network));
    let mut decapsulators: Vec<Decapsulator> = started.collect::<Result<_>>()?;
    // The maps of programs that were in place are changed when nothing else can fail.
    for decapsulator in &mut decapsulators {
        decapsulator.allow(&sources)?;
        decapsulator.follow(network)?;
    }
    decapsulators.iter_mut().for_each(Decapsulator::keep);
    Ok(decapsulators)
}

/// What was counted on interfaces (on all that are pinned, if none is named), whether or not a process runs.
pub fn counters(
    interfaces: &[String],
    pin_path: &Path,
) -> Result<Vec<(String, DecapsulatorCounters)>> {
    require_privileges()?;
    let namespace = NamespacePins::current(pin_path)?;
    namespace
        .pinned(interfaces)?
        .into_iter()
        .map(|(interface, pins)| Ok((interface, maps::counters(&pins)?)))
        .collect()
}

/// Ends decapsulation on interfaces (on all that are pinned, if none is named, and what is left of those that are gone goes, too).
pub fn stop(interfaces: &[String], pin_path: &Path) -> Result<()> {
    require_privileges()?;
    let namespace = NamespacePins::current(pin_path)?;
    let were_gone = interfaces.is_empty() && namespace.remove_gone()?;
    let pinned = match namespace.pinned(interfaces) {
        Err(_) if were_gone => Vec::new(),
        pinned => pinned?,
    };
    for (interface, pins) in pinned {
        let _lock = pins.lock().map_err(interface::not_free(&interface))?;
        pins.remove()?;
    }
    namespace.remove_empty();
    Ok(())
}

fn require_privileges() -> Result<()> {
    Ok(privileges::require("lb decap", &privileges::PROGRAMS)?)
}
