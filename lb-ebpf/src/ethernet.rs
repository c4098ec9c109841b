//! The Ethernet header: whom a frame is for; and what stays of it when it is rebuilt (the MAC addresses and the
//! EtherType are new, the tags stay).

use lb_common::{Interface, RealServer};

use crate::{
    frame::{Frame, Packet},
    parse::{ETHERNET, TAG},
    tables::Tables,
};

/// Whether a frame is for the interface that it came in by. A switch may flood frames that are for others.
#[inline(always)]
pub fn is_for_us(packet: &mut impl Packet, tables: &impl Tables) -> bool {
    let ours = interface(tables, packet.ingress_ifindex());
    let header = packet.frame().view::<ETHERNET>();
    matches!((ours, header), (Some(ours), Some(header)) if header.first_mac_words() == ours.mac_words())
}

/// Whether [`is_for_us`] is certain, of a packet for this server that came in by this interface: what goes out there again
/// has its MAC address at hand. Of a server that can't be reached that may be a former one.
#[inline(always)]
pub fn is_for_us_to(
    packet: &mut impl Packet,
    tables: &impl Tables,
    server: &RealServer,
    ingress: u32,
) -> bool {
    if ingress != server.ifindex {
        return is_for_us(packet, tables);
    }
    let header = packet.frame().view::<ETHERNET>();
    header.is_some_and(|header| (header.u16::<0>(), header.u32::<2>()) == server.source_mac_words())
}

/// The MAC address of an interface that the balancer is attached to.
#[inline(always)]
pub fn mac(tables: &impl Tables, ifindex: u32) -> Option<[u8; 6]> {
    Some(interface(tables, ifindex)?.mac)
}

#[inline(always)]
fn interface(tables: &impl Tables, ifindex: u32) -> Option<&Interface> {
    for number in 0..Interface::PLACES {
        let interface = tables.interface(Interface::place(ifindex, number))?;
        if interface.ifindex == ifindex {
            return Some(interface);
        }
    }
    None
}

/// Up to two tags, with their own EtherTypes, as they lie in the packet.
#[derive(Clone, Copy)]
pub struct Tags([u32; 2]);

impl Tags {
    /// The tags of a frame with `offset` bytes before its payload.
    #[inline(always)]
    pub fn read(packet: &mut impl Packet, offset: usize) -> Option<Self> {
        let mut tags = [0; 2];
        if offset > ETHERNET {
            tags[0] = packet.frame().skip(ETHERNET - 2)?.view::<TAG>()?.u32::<0>();
        }
        if offset > ETHERNET + TAG {
            tags[1] = packet
                .frame()
                .skip(ETHERNET - 2 + TAG)?
                .view::<TAG>()?
                .u32::<0>();
        }
        Some(Self(tags))
    }

    /// Puts them, and the payload's EtherType behind them, into a frame with as many bytes before its payload.
    #[inline(always)]
    pub fn write(self, frame: Frame<'_>, offset: usize, ethertype: u16) -> Option<()> {
        if offset > ETHERNET {
            let tag = frame.skip(ETHERNET - 2)?.view::<TAG>()?;
            tag.set_u32::<0>(self.0[0]);
        }
        if offset > ETHERNET + TAG {
            let tag = frame.skip(ETHERNET - 2 + TAG)?.view::<TAG>()?;
            tag.set_u32::<0>(self.0[1]);
        }
        let end = frame.skip_to(offset - 2)?.view::<2>()?;
        end.set_u16::<0>(ethertype.to_be());
        Some(())
    }
}
