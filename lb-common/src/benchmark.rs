//! What the packet benchmark and the program that makes its packets tell each other.

use bytemuck::{Pod, Zeroable};

/// Value of the map `stream`: packets of many flows, one after the other.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Stream {
    /// The first bytes of each packet. What tells flows apart is written over them.
    pub head: [u64; Stream::HEAD / 8],
    /// The number of the next packet.
    pub next: u64,
    /// The numbers of the packets before which the clock is read.
    pub timed: [u64; 2],
    /// What the clock said, in nanoseconds.
    pub times: [u64; 2],
    /// How many packets the measured program changed, of those that were followed by another one.
    pub changed: u64,
    /// The length of each packet, [`Self::HEAD`] at least.
    pub length: u32,
    /// Where the last four bytes of the client's address are, at most [`Self::LAST`].
    pub client: u32,
    /// Where the client's port is, or what else tells its packets apart; alike.
    pub port: u32,
    /// Where the last four bytes of the VIP are; alike.
    pub vip: u32,
    /// The last four bytes of the first VIP, as a number.
    pub first_vip: u32,
    /// How many VIPs there are, less one: a power of two, less one.
    pub vips: u32,
    /// How many flows there are, less one: alike.
    pub flows: u32,
    /// How many flows each client has, less one: alike.
    pub flows_of_client: u32,
    /// The number of bits in `flows_of_client`.
    pub client_shift: u32,
    /// The interface that live frames go out by.
    pub ifindex: u32,
}

impl Stream {
    /// Bytes of a packet that are written anew each time: all headers of any packet that is measured.
    pub const HEAD: usize = 128;
    /// The last place in [`Self::HEAD`] that has room for four bytes.
    pub const LAST: usize = Self::HEAD - 4;
    /// The last four bytes of the first client's address, as a number.
    pub const FIRST_CLIENT: u32 = 0x0a80_0001;
    /// The first port of each client.
    pub const FIRST_PORT: u16 = 1024;
}

/// The MAC address of the interface of the balancer, which what it forwards comes from.
pub const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
