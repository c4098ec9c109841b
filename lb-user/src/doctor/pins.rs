//! The BPF file system, and what is pinned there already.

use std::{fs, path::Path};

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
    findings.extend(passing(config));
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

/// A warning, if what is pinned now goes with this process and its children: below the /sys that `ip netns exec` makes.
pub fn passing(config: &Config) -> Option<Finding> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let namespace = source_of_sys(&mounts).map(|name| Path::new("/run/netns").join(name))?;
    let is_passing = config.pin_path.starts_with("/sys") && namespace.exists();
    is_passing.then(|| {
        let subject = format!("pin_path {}", config.pin_path.display());
        let message = format!(
            "`ip netns exec` hides /sys: pins, and forwarding, end with the processes that it starts; use nsenter --net={}",
            namespace.display()
        );
        Finding::warning(&subject, message)
    })
}

/// What is mounted at /sys: for `ip netns exec` the namespace's name (iproute2: lib/namespace.c, `netns_switch`). Lines are such as
/// `31 24 0:40 / /sys rw,relatime shared:7 - sysfs sysfs rw` (proc_pid_mountinfo(5)).
fn source_of_sys(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let (place, mounted) = line.split_once(" - sysfs ")?;
        let is_sys = place.split(' ').nth(4) == Some("/sys");
        is_sys.then(|| mounted.split(' ').next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_sys_is_found() {
        let mounts = "24 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
30 24 0:39 / /srv/sys rw - sysfs other rw
31 24 0:40 / /sys rw,relatime shared:7 master:2 - sysfs red rw
";
        assert_eq!(source_of_sys(mounts), Some("red"));
        assert_eq!(source_of_sys(""), None);
    }
}
