//! Real servers, from schema to model.

use std::collections::BTreeMap;

use super::address::HostAddress;
use super::error::{Diagnostics, Position};
use super::model::{Limits, RealServer};
use super::value::{Entry, Number};
use super::{name, schema};

const DEFAULT_WEIGHT: u16 = 1;

/// The real servers that are right, by name.
pub fn real_servers(
    file: &schema::File,
    limits: Limits,
    errors: &mut Diagnostics,
) -> BTreeMap<String, RealServer> {
    let mut entries: Vec<_> = file.real_servers.iter().flatten().collect();
    entries.sort_by_key(|(name, _)| Position::from(*name));
    if let Some(&(excess, _)) = entries.get(limits.real_servers as usize) {
        errors.add(
            excess,
            format!(
                "more real servers than limits.real_servers: {}",
                limits.real_servers
            ),
        );
    }
    let mut servers = BTreeMap::new();
    for (name, entry) in entries {
        if let Err(problem) = name::check(&name.value) {
            errors.add(name, format!("real_servers: {problem}"));
        }
        if let Some(server) = real_server(&name.value, entry, errors) {
            servers.insert(name.value.clone(), server);
        }
    }
    servers
}

fn real_server(
    name: &str,
    entry: &schema::RealServerEntry,
    errors: &mut Diagnostics,
) -> Option<RealServer> {
    match &entry.value {
        Entry::Short(address) => errors
            .parsed(entry, name, address)
            .map(|address| RealServer {
                address: address.0,
                weight: DEFAULT_WEIGHT,
                mac: None,
            }),
        Entry::Long(server) => {
            let weight = errors.value("weight", &server.weight);
            let mac = errors.value("mac", &server.mac);
            let HostAddress(address) = errors.required(entry, "address", &server.address)?;
            Some(RealServer {
                address: *address,
                weight: weight.map_or(DEFAULT_WEIGHT, |Number(weight)| *weight),
                mac: mac.copied(),
            })
        }
    }
}
