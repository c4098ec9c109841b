//! The BPF file system, and what is pinned there already.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::Error;
use nix::sys::stat::{major, minor};

use super::Finding;
use crate::{
    config::Config,
    dataplane::{PinError, Pins, Sizes, attach, former},
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
    if let Some(pid) = holder(pins.root()) {
        let message = format!("process {pid} runs on it: another lb would be refused");
        findings.push(Finding::ok(&subject, message));
    }
    for interface in &config.interfaces {
        let name = &interface.name;
        let known = network.interfaces.get(name);
        if known.is_some_and(|it| it.xdp.is_some()) && !pins.link(name).exists() {
            let interface = name.clone();
            let busy = attach::AttachError::Busy { interface };
            findings.push(Finding::stops(name, busy.to_string()));
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

/// The process that has locked a directory, as [`Pins::lock`] does it.
fn holder(directory: &Path) -> Option<u32> {
    let known = fs::metadata(directory).ok()?;
    let (major, minor) = (major(known.dev()), minor(known.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", known.ino());
    locked_by(&fs::read_to_string("/proc/locks").ok()?, &file)
}

/// Lines are such as `1: FLOCK  ADVISORY  WRITE 708 00:13:14 0 EOF` (proc_locks(5)), the file as its device's numbers and its
/// inode.
fn locked_by(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = *fields.get(1)? == "FLOCK" && *fields.get(5)? == file;
        is_it.then(|| fields[4].parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_holds_a_lock_is_found() {
        let locks = "1: POSIX  ADVISORY  READ 5433 08:01:140 0 EOF
2: FLOCK  ADVISORY  WRITE 2001 00:1c:14 0 EOF
3: FLOCK  ADVISORY  WRITE 2002 00:1c:140 0 EOF
";
        assert_eq!(locked_by(locks, "00:1c:140"), Some(2002));
        assert_eq!(locked_by(locks, "08:01:140"), None);
    }
}
