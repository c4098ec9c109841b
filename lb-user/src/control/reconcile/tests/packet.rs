//! The maps as a packet finds them.

use std::net::{IpAddr, Ipv4Addr};

use bytemuck::Pod;
use lb_common::{
    Address, Binding, Control, Interface, Name, PortRange, RealServer, TableBlock, TableSlot, Vip,
    VipBucket, VirtualServer,
};
use lb_ebpf::{Choice, find, parse::Flow, predict};

use super::wanted::vip;
use crate::{
    config::Protocol,
    dataplane::{Array, Tables},
};

fn entry_of<T: Pod>(array: &Array<T>, index: u32) -> Option<&T> {
    // SAFETY: the entry is there, and holds a `Pod`. What changes under the reader is read as in the kernel.
    (index < array.len()).then(|| unsafe { &*array.entry_ptr(index) })
}

/// As the kernel program sees them.
impl lb_ebpf::Tables for Tables {
    fn control(&self) -> Option<&Control> {
        entry_of(&self.control, 0)
    }
    fn vip_bucket(&self, index: u32) -> Option<&VipBucket> {
        entry_of(&self.vip_buckets, index)
    }
    fn vip(&self, index: u32) -> Option<&Vip> {
        entry_of(&self.vips, index)
    }
    fn port_range(&self, index: u32) -> Option<&PortRange> {
        entry_of(&self.port_ranges, index)
    }
    fn virtual_server(&self, &index: &u32) -> Option<&VirtualServer> {
        entry_of(&self.virtual_servers, index)
    }
    fn table_block(&self, index: u32) -> Option<&TableBlock> {
        entry_of(&self.predictor_tables, index)
    }
    fn binding(&self, index: u32) -> Option<&Binding> {
        entry_of(&self.bindings, index)
    }
    fn real_server(&self, &index: &u32) -> Option<&RealServer> {
        entry_of(&self.real_servers, index)
    }
    fn interface(&self, _: u32) -> Option<&Interface> {
        None
    }
}

/// Where the directory may lead: every VIP and one that is none, ports at the edges of all that `any_desired`
/// makes.
pub fn services() -> impl Iterator<Item = (IpAddr, Protocol, u16)> {
    const PORTS: [u16; 12] = [1, 2, 3, 80, 443, 7999, 8000, 8050, 8100, 8101, 9000, 9001];
    let vips = (0..4).map(vip);
    let protocols = [Protocol::Tcp, Protocol::Udp];
    vips.flat_map(move |vip| {
        protocols
            .into_iter()
            .flat_map(move |protocol| PORTS.map(|port| (vip, protocol, port)))
    })
}

pub fn flow(client_port: u16, (vip, protocol, port): (IpAddr, Protocol, u16)) -> Flow {
    Flow {
        source: Address::from(Ipv4Addr::new(10, 9, 0, 100)).words(),
        destination: Address::from(vip).words(),
        source_port: client_port,
        destination_port: port,
        protocol: protocol.number(),
    }
}

pub fn flows() -> Vec<Flow> {
    let clients = [40000, 50001];
    services()
        .flat_map(|service| clients.map(|client| flow(client, service)))
        .collect()
}

/// The virtual server that a flow finds, and the real server, if one is up; by name.
pub type Found = Option<(String, Option<String>)>;

pub fn walk(tables: &Tables, flow: &Flow) -> Found {
    let virtual_server = find::virtual_server(tables, flow)?;
    Some((
        text(virtual_server.name),
        choose(tables, virtual_server, flow),
    ))
}

/// The name of the real server that a virtual server chooses for a flow.
pub fn choose(tables: &Tables, virtual_server: &VirtualServer, flow: &Flow) -> Option<String> {
    let binding = predict::by_hash(tables, flow, flow.hash(), virtual_server)?;
    let choice = Choice::new(tables, virtual_server, binding)?;
    Some(text(choice.real_server.name))
}

fn text(name: Name) -> String {
    name.as_str().unwrap().to_owned()
}

/// The real server behind each slot of a virtual server's predictor table.
pub fn slots(tables: &Tables, virtual_server: &VirtualServer) -> Vec<RealServer> {
    (0..virtual_server.table.slots)
        .map(|slot| {
            let (block, slot) = virtual_server.table.position(slot);
            let slot = TableSlot(tables.predictor_tables.get(block).slots[slot]);
            let offset = slot.binding().unwrap();
            let binding = tables.bindings.get(virtual_server.first_binding + offset);
            tables.real_servers.get(binding.real_server)
        })
        .collect()
}
