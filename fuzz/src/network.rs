//! The network around a balancer that random frames come to: that of the packet tests, so that their frames mean something
//! there.

/// An interface of the balancer.
#[derive(Debug, PartialEq, Eq)]
pub struct Port {
    /// The kernel's name for it.
    pub name: &'static str,
    /// The kernel's index of it.
    pub ifindex: u32,
    /// Its address.
    pub mac: [u8; 6],
}

/// Where clients' packets arrive, and some real servers are.
pub static LAN: Port = Port {
    name: "lan",
    ifindex: 11,
    mac: [0x02, 0, 0, 0, 0x01, 0x00],
};

/// Where other real servers are.
pub static FAR: Port = Port {
    name: "far",
    ifindex: 21,
    mac: [0x02, 0, 0, 0, 0x02, 0x00],
};

/// The VIPs, each of IPv4 and of IPv6.
pub const VIPS: [[&str; 2]; 4] = [
    ["10.9.1.1", "2001:db8:9:1::1"],
    ["10.9.1.2", "2001:db8:9:1::2"],
    ["10.9.1.3", "2001:db8:9:1::3"],
    ["10.9.1.4", "2001:db8:9:1::4"],
];

/// A real server.
#[derive(Debug)]
pub struct Server {
    /// Its address.
    pub address: &'static str,
    /// Its own MAC address, or a router's.
    pub mac: [u8; 6],
    /// Where it is.
    pub port: &'static Port,
    /// The largest IP packet on the way to it, in bytes.
    pub mtu: u32,
}

impl Server {
    const fn new(address: &'static str, last: u8, port: &'static Port, mtu: u32) -> Self {
        let [a, b, c, d, e, _] = port.mac;
        Self {
            address,
            mac: [a, b, c, d, e, last],
            port,
            mtu,
        }
    }
}

/// The real servers.
pub static SERVERS: [Server; 6] = [
    Server::new("10.9.0.11", 0x11, &LAN, 9000),
    Server::new("10.9.0.12", 0x12, &LAN, 1500),
    Server::new("10.10.0.13", 0x13, &FAR, 1400),
    Server::new("2001:db8:9::14", 0x14, &LAN, 9000),
    Server::new("2001:db8:9::15", 0x15, &LAN, 1500),
    Server::new("2001:db8:10::16", 0x16, &FAR, 1400),
];
