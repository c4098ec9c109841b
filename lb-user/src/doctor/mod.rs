//! `lb doctor`: what on this host would stop `lb` or slow it.
//!
//! Each file knows one subject: what it asks the host, and, without I/O, what it makes of the answers.

mod device;
mod finding;
mod host;
mod interface;
mod kernel;
mod memory;
mod pins;
mod ports;
mod privileges;
mod real_servers;
mod vips;

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

use self::device::Device;
pub use self::finding::{Finding, Severity};
use crate::{
    config::Config,
    dataplane::{Pins, Sizes, former},
    net::{self, NetError, Targets, Unreachable, View},
};

/// How long real servers may take to tell their MAC addresses: as long as the kernel asks, and a second.
const ANSWERS: Duration = Duration::from_secs(4);

/// Examines this host, and whether it suits a configuration. Nothing is changed.
///
/// # Errors
/// If the kernel can't be asked about the network.
pub async fn examine(config: Option<&Config>) -> Result<Vec<Finding>, NetError> {
    let steers = config.is_some_and(Config::has_checks_by_data_path);
    let mut findings = privileges::findings(steers, privileges::missing());
    findings.extend(kernel::findings(steers, &kernel::Kernel::ask()));
    let Some(config) = config else {
        return Ok(findings);
    };
    let network = network(config).await?;
    findings.extend(pins::examine(config, &network));
    let pins = Pins::new(&config.pin_path);
    let replaces_maps = || former::differing(&pins, &Sizes::new(&config.limits));
    if !pins.exist() || matches!(replaces_maps(), Ok(Some(_))) {
        findings.extend(memory::findings(&config.limits, &memory::Memory::ask()));
    }
    findings.extend(of_network(config, &network).await?);
    findings.extend(real_servers::unreachable(config, &network));
    Ok(findings)
}

/// What deserves a warning when the daemon has started, and isn't told by something else.
///
/// # Errors
/// As [`examine`].
pub async fn warnings(config: &Config, network: &View) -> Result<Vec<Finding>, NetError> {
    let mut findings = of_network(config, network).await?;
    findings.extend(pins::passing(config));
    findings.retain(|finding| finding.severity == Severity::Warning);
    Ok(findings)
}

/// What interfaces and addresses are like.
async fn of_network(config: &Config, network: &View) -> Result<Vec<Finding>, NetError> {
    let mut kernel = device::connect().map_err(NetError::Open)?;
    let mut findings = Vec::new();
    for interface in &config.interfaces {
        let device = Device::ask(&mut kernel, &interface.name, network).await;
        findings.extend(interface::findings(interface, device.as_ref()));
    }
    findings.extend(ports::findings(config, ports::local_ports()));
    findings.extend(vips::findings(config, network));
    findings.extend(real_servers::too_narrow(config, network));
    Ok(findings)
}

/// The network, when the real servers have answered or had the time to.
async fn network(config: &Config) -> Result<View, NetError> {
    let targets: Targets = config.real_servers.values().map(|it| it.address).collect();
    let (_targets, receiver) = watch::channel(targets);
    let mut network = net::watch(receiver).await?;
    let is_settled = |view: &View| {
        let mut next_hops = view.next_hops.values();
        next_hops.all(|it| !matches!(it, Err(Unreachable::Resolving { .. })))
    };
    let _ = timeout(ANSWERS, network.wait_for(is_settled)).await;
    let view = network.borrow().clone();
    Ok(view)
}
