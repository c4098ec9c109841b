//! Interfaces, as RTM_NEWLINK describes them.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};

use super::view::{AttachedProgram, Interface};

/// Whether the message is about an interface itself. The kernel also sends link messages of family
/// AF_BRIDGE, about an interface's being a port of a bridge: RTM_DELLINK then means that it left the
/// bridge (net/bridge/br_netlink.c, br_ifinfo_notify).
pub(super) fn concerns_interface(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// The name of the interface and its state; `None` if the message doesn't describe the whole
/// interface (wireless events have the type of a link message too).
pub(super) fn interface(message: &LinkMessage) -> Option<(String, Interface)> {
    let mut name = None;
    let mut mac = None;
    let mut mtu = None;
    let mut kind = None;
    let mut xdp = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(it) => name = Some(it.clone()),
            LinkAttribute::Address(it) => mac = it.as_slice().try_into().ok(),
            LinkAttribute::Mtu(it) => mtu = Some(*it),
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(attributes) => xdp = attached_program(attributes),
            _ => {}
        }
    }
    let is_ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let interface = Interface {
        ifindex: message.header.index,
        mac: mac.filter(|_| is_ethernet),
        mtu: mtu?,
        up: message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::Running),
        kind,
        xdp,
    };
    Some((name?, interface))
}

fn attached_program(attributes: &[LinkXdp]) -> Option<AttachedProgram> {
    let id = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    })?;
    let generic = attributes.contains(&LinkXdp::Attached(XdpAttached::SocketBuffer));
    Some(AttachedProgram { id, generic })
}
