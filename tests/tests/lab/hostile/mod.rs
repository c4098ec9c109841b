//! What strangers send to do harm.

mod floods;
mod forged_errors;
mod nested;
mod relay;
mod spoofing;

use lb_tests::{Host, Lab};

/// A configuration in which every real server has its MAC address.
fn with_macs(lab: &Lab, config: &str) -> String {
    let servers = lab.real_servers().iter();
    let addresses = servers.flat_map(|host| [(host, host.v4()), (host, host.v6())]);
    addresses.fold(config.to_owned(), |config, (host, address)| {
        let mac = text(host.mac());
        let pinned = format!("{{address: \"{address}\", mac: \"{mac}\"}}");
        config.replace(&format!("\"{address}\"\n"), &format!("{pinned}\n"))
    })
}

/// A MAC address as people write it.
fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The machine that does harm, which no virtual server binds.
fn attacker(lab: &Lab) -> &Host {
    lab.real_servers().last().expect("a machine to spare")
}
