//! Which virtual server a flow belongs to: that of its exact port, else that of a port range, else that
//! of any port.

use lb_common::{
    Directory, Vip, VipBucket, VipSlot, VirtualServer, address::AddressWords, directory::VipPorts,
    protocol,
};

use crate::{parse::Flow, tables::Tables};

/// The virtual server of a flow.
#[inline(always)]
pub fn virtual_server<'t>(tables: &'t impl Tables, flow: &Flow) -> Option<&'t VirtualServer> {
    let directory = tables.control()?.directory.load();
    if let Some(found) = by_exact_port(tables, directory, flow) {
        return Some(found);
    }
    let id = by_range_or_any(tables, vip_in(tables, directory, flow.destination)?, flow)?;
    tables.virtual_server(id)
}

/// As [`virtual_server`], by the exact port alone.
#[inline(always)]
pub fn by_exact_port<'t>(
    tables: &'t impl Tables,
    directory: Directory,
    flow: &Flow,
) -> Option<&'t VirtualServer> {
    let id = find(
        tables,
        directory,
        flow.destination,
        flow.protocol,
        flow.destination_port,
    )?;
    tables.virtual_server(id)
}

/// The VIP with this address.
#[inline(always)]
pub fn vip(tables: &impl Tables, address: AddressWords) -> Option<&Vip> {
    vip_in(tables, tables.control()?.directory.load(), address)
}

/// As [`vip`], in this directory.
#[inline(always)]
pub fn vip_in(tables: &impl Tables, directory: Directory, address: AddressWords) -> Option<&Vip> {
    match *find(tables, directory, address, 0, 0)? {
        // Only `::` is what a free place looks like.
        0 => None,
        id => tables.vip(id),
    }
}

/// The id that a key of the directory leads to.
#[inline(always)]
fn find<'t>(
    tables: &'t impl Tables,
    directory: Directory,
    address: AddressWords,
    protocol: u8,
    port: u16,
) -> Option<&'t u32> {
    let [first, second] = directory.buckets(address, protocol, port);
    let in_bucket = |bucket: &'t VipBucket| {
        let holds = |slot: &&VipSlot| slot.holds(address, protocol, port);
        bucket.slots.iter().find(holds).map(|slot| &slot.id)
    };
    let bucket = tables.vip_bucket(first)?;
    match in_bucket(bucket) {
        None if bucket.spilled != 0 => in_bucket(tables.vip_bucket(second)?),
        found => found,
    }
}

#[inline(always)]
fn by_range_or_any<'t>(tables: &'t impl Tables, vip: &'t Vip, flow: &Flow) -> Option<&'t u32> {
    let ports = match flow.protocol {
        protocol::TCP => &vip.tcp,
        _ => &vip.udp,
    };
    by_range(tables, ports, flow.destination_port).or((ports.any != 0).then_some(&ports.any))
}

/// Binary search. There are at most 2^16 - 1 ranges, of one port each.
#[inline(always)]
fn by_range<'t>(tables: &'t impl Tables, ports: &VipPorts, port: u16) -> Option<&'t u32> {
    const MOST_STEPS: usize = 16;
    let (mut low, mut high) = (0, ports.ranges);
    for _ in 0..MOST_STEPS {
        if low >= high {
            break;
        }
        let middle = (low + high) / 2;
        let range = tables.port_range(ports.first_range + middle)?;
        if port < range.first {
            high = middle;
        } else if port > range.last {
            low = middle + 1;
        } else {
            return Some(&range.virtual_server);
        }
    }
    None
}

#[cfg(test)]
mod tests;
