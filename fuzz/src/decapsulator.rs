//! A real server that decapsulates.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::{Address, address::AddressWords, decapsulator::Fate};
use lb_ebpf::decapsulate::{Host, decapsulate};

use crate::{
    memory::Buffer,
    network::{SERVERS, VIPS},
};

/// The outer sources that [`Decapsulator::allows_part`] is about.
pub const PART: [&str; 2] = ["10.9.0.0/16", "2001:db8:9::/48"];

/// A real server with all addresses of all real servers, and all VIPs.
pub struct Decapsulator {
    /// It takes packets from [`PART`] alone, else from everywhere.
    pub allows_part: bool,
}

impl Decapsulator {
    /// Its addresses.
    pub fn addresses() -> impl Iterator<Item = IpAddr> {
        let servers = SERVERS.iter().map(|server| server.address);
        let vips = VIPS.as_flattened().iter().copied();
        let addresses = servers.chain(vips);
        addresses.map(|address| address.parse().expect("an address"))
    }

    /// What becomes of a frame, and the frame afterwards.
    pub fn run(&self, frame: &[u8]) -> (Option<Fate>, Vec<u8>) {
        let mut packet = Buffer::new(frame, Buffer::HEADROOM, 0);
        (decapsulate(&mut packet, self), packet.into_bytes())
    }
}

impl Host for Decapsulator {
    fn has_address(&self, address: AddressWords) -> bool {
        let address = IpAddr::from(Address::from_words(address));
        Self::addresses().any(|own| own == address)
    }

    fn allows_source(&self, source: AddressWords) -> bool {
        let source = IpAddr::from(Address::from_words(source));
        let mut part = PART.iter().map(|net| net.parse().expect("a prefix"));
        !self.allows_part || part.any(|net: IpNet| net.contains(&source))
    }
}
