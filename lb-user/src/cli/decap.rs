//! `lb decap`

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Result;
use clap::Args;
use ipnet::IpNet;
use lb_common::DecapsulatorCounters;
use serde_json::{Map, Value, json};

use super::{block_on, log_to_stderr};
use crate::{
    config::{self, Interface, InterfaceName, XdpMode},
    decapsulator::{self, Options},
};

/// On a real server: decapsulate IP-in-IP packets by XDP; no tunnel device or kernel module needed
///
/// Takes the outer header off packets that were sent to an address of this host, if the packet inside is for an
/// address of this host too (a VIP on lo). Everything else passes untouched. Runs in the foreground and
/// follows the host's addresses. SIGTERM leaves decapsulation in place; the next `lb decap` takes over
/// without losing a packet.
#[derive(Args)]
#[command(after_help = "Examples:
  lb decap --interface eth0
  lb decap --interface eth0 --from 10.9.0.0/24 --from 2001:db8:9::/64
  lb decap --stats
  lb decap --stop")]
pub struct Decap {
    /// An interface by which packets come in from balancers; may be given several times. --stats and --stop
    /// take all where lb decap is in place if none is given
    #[arg(long, value_name = "NAME", required_unless_present_any = ["stats", "stop"])]
    interface: Vec<InterfaceName>,
    /// Decapsulate packets from these balancers alone: an outer source address or prefix; may be given several
    /// times
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    from: Vec<IpNet>,
    /// Where the program runs: auto is native if the driver can, else generic with a warning
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        default_value_t,
        hide_possible_values = true
    )]
    xdp: XdpMode,
    /// Print what was counted, whether or not lb decap runs
    #[arg(long, conflicts_with_all = ["from", "xdp"])]
    stats: bool,
    /// Print JSON
    #[arg(long, requires = "stats")]
    json: bool,
    /// Detach the program and remove the pins; without --interface also those that interfaces and network namespaces have left
    /// that are gone
    #[arg(long, conflicts_with_all = ["from", "xdp", "stats"])]
    stop: bool,
    /// A directory on a BPF file system
    #[arg(long, value_name = "PATH", default_value = "/sys/fs/bpf/lb-decap")]
    pin_path: PathBuf,
}

fn prefix(text: &str) -> Result<IpNet, String> {
    config::prefix(text, || {
        "expected an address or a prefix such as 10.9.0.0/24".to_owned()
    })
}

impl Decap {
    /// Returns when decapsulation should go on without this process, or at once after --stats and --stop.
    pub fn run(self) -> Result<()> {
        let names = self.interface.into_iter().map(|InterfaceName(name)| name);
        let names = Vec::from_iter(names.collect::<BTreeSet<_>>());
        if self.stats {
            let counters = decapsulator::counters(&names, &self.pin_path)?;
            if self.json {
                println!("{:#}", json(&counters));
            } else {
                print!("{}", table(&counters));
            }
            return Ok(());
        }
        if self.stop {
            return decapsulator::stop(&names, &self.pin_path);
        }
        log_to_stderr();
        let interfaces = names.into_iter().map(|name| Interface {
            name,
            xdp: self.xdp,
        });
        block_on(decapsulator::run(&Options {
            interfaces: interfaces.collect(),
            from: self.from,
            pin_path: self.pin_path,
        }))
    }
}

fn json(counters: &[(String, DecapsulatorCounters)]) -> Value {
    let object = |counts: &[(&str, u64)]| {
        let counts = counts
            .iter()
            .map(|&(name, count)| (name.into(), count.into()));
        counts.collect::<Map<_, _>>()
    };
    let interfaces = counters.iter().map(|(name, counters)| {
        json!({
            "name": name,
            "decapsulated": {
                "packets": counters.decapsulated.packets,
                "bytes": counters.decapsulated.bytes,
            },
            "passed": object(&counters.passed()),
            "dropped": object(&counters.dropped()),
        })
    });
    json!({ "interfaces": interfaces.collect::<Vec<_>>() })
}

/// A line for each counter, a column for each interface.
fn table(counters: &[(String, DecapsulatorCounters)]) -> String {
    const LABEL: usize = 31;
    const NUMBER: usize = 20;
    let mut table = format!("{:LABEL$}", "");
    for (interface, _) in counters {
        table += &format!("{interface:>NUMBER$}");
    }
    table.push('\n');
    let columns: Vec<Vec<(String, u64)>> = counters
        .iter()
        .map(|(_, counters)| rows(counters))
        .collect();
    for (row, (label, _)) in columns.first().into_iter().flatten().enumerate() {
        table += &format!("{label:LABEL$}");
        for column in &columns {
            table += &format!("{:>NUMBER$}", column[row].1);
        }
        table.push('\n');
    }
    table
}

fn rows(counters: &DecapsulatorCounters) -> Vec<(String, u64)> {
    let decapsulated = [
        (
            "decapsulated packets".to_owned(),
            counters.decapsulated.packets,
        ),
        ("decapsulated bytes".to_owned(), counters.decapsulated.bytes),
    ];
    let passed = counters
        .passed()
        .map(|(name, count)| (format!("passed, {name}"), count));
    let dropped = counters
        .dropped()
        .map(|(name, count)| (format!("dropped, {name}"), count));
    decapsulated
        .into_iter()
        .chain(passed)
        .chain(dropped)
        .collect()
}
