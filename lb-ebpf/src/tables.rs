//! What a packet may look up, keep and count. The maps of the same names are described in `lb_common`.

use lb_common::{
    Binding, Control, Datagram, DropReason, FirstFragment, Interface, PortRange, RealServer,
    TableBlock, Vip, VipBucket, VirtualServer,
};

use crate::parse::IpPacket;

/// The maps, in the kernel; plain arrays, on the host. `None` is an index past a table's end.
pub trait Tables {
    /// The only entry of `control`.
    fn control(&self) -> Option<&Control>;
    /// An entry of `vip_buckets`.
    fn vip_bucket(&self, index: u32) -> Option<&VipBucket>;
    /// An entry of `vips`.
    fn vip(&self, index: u32) -> Option<&Vip>;
    /// An entry of `port_ranges`.
    fn port_range(&self, index: u32) -> Option<&PortRange>;
    /// An entry of `virtual_servers`.
    fn virtual_server(&self, index: u32) -> Option<&VirtualServer>;
    /// An entry of `predictor_tables`.
    fn table_block(&self, index: u32) -> Option<&TableBlock>;
    /// An entry of `bindings`.
    fn binding(&self, index: u32) -> Option<&Binding>;
    /// An entry of `real_servers`.
    fn real_server(&self, index: u32) -> Option<&RealServer>;
    /// An entry of `interfaces`.
    fn interface(&self, ifindex: u32) -> Option<&Interface>;
}

/// What packets leave behind for later ones, and what else the program needs of its surroundings.
pub trait State: Tables {
    /// An entry of `fragments`.
    fn first_fragment(&self, datagram: &Datagram) -> Option<FirstFragment>;
    /// Makes or replaces an entry of `fragments`.
    fn remember_fragment(&self, datagram: &Datagram, first: &FirstFragment);
    /// Gives a packet's description back as it is, through memory that the verifier knows nothing of. It follows
    /// each way in which a packet may be parsed to the end of the program, as long as it can tell them
    /// apart; after this it can't, and goes on once for all of them.
    fn forget(&self, ip: IpPacket) -> Option<IpPacket>;
    /// Nanoseconds of the monotonic clock, as exact as a timer tick.
    fn now(&self) -> u64;
    /// Takes one from the budget of ICMP errors, if there is one left.
    fn may_send_error(&self) -> bool;
    /// Counts a dropped packet.
    fn count_drop(&self, reason: DropReason);
    /// Counts a forwarded packet, for a virtual server and for one of its bindings.
    fn count(&self, virtual_server: u32, binding_counters: u32, bytes: u64);
}

#[cfg(test)]
pub(crate) mod arrays;
