//! How a packet is sent to its real server.

use lb_common::RealServer;

use crate::{frame::Frame, parse::ETHERNET};

/// Where a packet leaves.
pub enum Egress {
    /// By the interface that it came in by.
    Same,
    /// By the interface with this index.
    Other(u32),
}

/// L2 DSR: the frame goes on to the real server's MAC address, from ours; the IP packet stays as it is.
///
/// `None`, and the frame untouched, if it was sent to another station: a switch may flood a frame that
/// is on its way to a real server, and what another balancer has forwarded must not be forwarded
/// again.
#[inline(always)]
pub fn l2dsr(frame: Frame<'_>, ingress_ifindex: u32, server: &RealServer) -> Option<Egress> {
    let header = frame.view::<ETHERNET>()?;
    let egress = if server.ifindex == ingress_ifindex {
        if header.mac::<0>() != server.source_mac {
            return None;
        }
        Egress::Same
    } else {
        Egress::Other(server.ifindex)
    };
    header.set_mac::<0>(server.destination_mac);
    header.set_mac::<6>(server.source_mac);
    Some(egress)
}
