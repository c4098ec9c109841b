//! The BPF file system, and what is pinned there already.

use std::fs;

use anyhow::Error;

use super::Finding;
use crate::{
    config::Config,
    dataplane::{AttachError, PinError, Pins, Sizes, attach, former},
    net::View,
};

/// What would become of an `lb run` with this configuration. Nothing is changed or locked.
pub fn examine(config: &Config, network: &View) -> Vec<Finding> {
    let pins = Pins::new(&config.pin_path);
    let path = pins.root().display();
    let subject = format!("pin_path {path}");
    let mut findings = vec![match pins.place() {
        Ok(()) => Finding::ok(&subject, "on a BPF file system"),
        Err(error @ PinError::NotBpf { .. }) if pins.can_be_mounted() => {
            Finding::ok(&subject, format!("{error}; lb run does so"))
        }
        Err(error) => Finding::stops(&subject, error.to_string()),
    }];
    if let Some(pid) = pins.holder() {
        let message = format!("process {pid} runs on it: another lb would be refused");
        findings.push(Finding::ok(&subject, message));
    }
    if pins.forward_alone() {
        let message = "forwarding goes on without a daemon, and nobody checks the real servers: start `lb run`";
        findings.push(Finding::warning(&subject, message));
    }
    for interface in &config.interfaces {
        let free = attach::check_interface(&pins, network, interface);
        if let Err(busy @ AttachError::Busy { .. }) = free {
            findings.push(Finding::stops(&interface.name, busy.to_string()));
        }
    }
    let stopped = |error: Error| Finding::stops(&subject, format!("{error:#}"));
    // Without root nothing can be read there, and the capabilities are what is missing.
    if fs::read_dir(pins.root()).is_ok() {
        let links = attach::check_links(&pins, network, &config.interfaces);
        findings.extend(links.err().map(|error| stopped(error.into())));
        match former::differing(&pins, &Sizes::new(&config.limits)) {
            Ok(None) => {}
            Ok(Some(_)) => {
                let message = "its maps are of other limits or another layout: lb run replaces them, and keeps the sessions";
                findings.push(Finding::ok(&subject, message));
            }
            Err(error) => findings.push(stopped(error.into())),
        }
    }
    findings
}
