//! Which virtual server takes which ports of a VIP.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::net::IpAddr;

use super::model::Protocol;
use super::ports::Ports;

/// A VIP and the protocol on it.
type Service = (IpAddr, Protocol);

/// A virtual server that takes ports.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub name: &'a str,
    /// Line of the file.
    pub line: u64,
}

/// All that is taken so far. A packet's virtual server is found by exact port, else by range, else by
/// `any`, so these three don't stand in each other's way; two of a kind do.
#[derive(Debug, Default)]
pub struct Claims<'a> {
    exact: HashMap<(Service, u16), Owner<'a>>,
    /// Disjoint ranges by their first port, with their last.
    ranges: HashMap<Service, BTreeMap<u16, (u16, Owner<'a>)>>,
    any: HashMap<Service, Owner<'a>>,
}

impl<'a> Claims<'a> {
    /// Takes `ports` of the service for `owner`; what is taken already keeps its first owner.
    ///
    /// # Errors
    /// Who has them, or the first of them, already.
    pub fn claim(
        &mut self,
        service: Service,
        ports: &Ports,
        owner: Owner<'a>,
    ) -> Result<(), String> {
        match ports {
            Ports::Any => match self.any.entry(service) {
                Entry::Occupied(other) => Err(taken(service, ports, *other.get())),
                Entry::Vacant(free) => {
                    free.insert(owner);
                    Ok(())
                }
            },
            Ports::List(ports) => {
                for &port in ports {
                    if let Some(&other) = self.exact.get(&(service, port)) {
                        return Err(taken(service, format_args!("port {port}"), other));
                    }
                }
                self.exact
                    .extend(ports.iter().map(|&port| ((service, port), owner)));
                Ok(())
            }
            Ports::Range(range) => {
                let ranges = self.ranges.entry(service).or_default();
                // The last range that begins before this one ends is the only one that can overlap.
                if let Some((first, &(last, other))) = ranges.range(..=range.end()).next_back()
                    && last >= *range.start()
                {
                    return Err(taken(service, format_args!("{first}-{last}"), other));
                }
                ranges.insert(*range.start(), (*range.end(), owner));
                Ok(())
            }
        }
    }
}

fn taken((vip, protocol): Service, what: impl Display, by: Owner<'_>) -> String {
    let Owner { name, line } = by;
    format!(
        "port: {vip} {protocol} {what} is already taken by virtual server `{name}` (line {line})"
    )
}
