//! The lab: its hosts, their addresses, and the configuration that fits them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    ops::Deref,
    path::PathBuf,
};

use crate::{Builder, HttpClient, Namespace, TcpClient, UdpClient, remains, service::address};

/// Hosts on a switch: the balancer `10.9.0.1`, a client from `10.9.0.100` on, real servers from
/// `10.9.0.11` on, VIPs in `10.9.1.0/24`; and the same in IPv6 below `2001:db8:9::/48`. On further segments
/// if wanted: real servers in `10.10.0.0/16` (the second segment) and `10.11.0.0/16` (behind a router), the
/// client in `10.12.0.0/16` (behind a router of its own).
///
/// Every real server carries every VIP on its loopback, and keeps quiet about it.
#[derive(Debug)]
pub struct Lab {
    pub(crate) name: String,
    pub(crate) switch: Namespace,
    pub(crate) client: Host,
    pub(crate) balancer: Host,
    pub(crate) router: Option<Host>,
    pub(crate) client_router: Option<Host>,
    pub(crate) real_servers: Vec<Host>,
    pub(crate) _remains: Remains,
}

/// A machine of the lab: a namespace and its place on the network.
#[derive(Debug)]
pub struct Host {
    pub(crate) name: String,
    pub(crate) namespace: Namespace,
    /// `eth0`, `eth1`, ...
    pub(crate) legs: Vec<Leg>,
}

/// A host's connection to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    /// 1 is `10.9.0.0/16` and `2001:db8:9::/48`; 2 is `10.10.0.0/16` and `2001:db8:a::/48`; and so on.
    pub(crate) segment: u8,
    /// The last number of the addresses, in IPv6 written with the same digits.
    pub(crate) host: u8,
}

/// Removes a lab, also one that was never completed.
#[derive(Debug)]
pub(crate) struct Remains(pub(crate) String);

// === impl Lab ===

impl Lab {
    /// A lab with one client address, one real server, and the VIPs `10.9.1.1`, `10.9.1.2`,
    /// `2001:db8:9:1::1` and `2001:db8:9:1::2`.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The lab's name: the beginning of its namespaces' names, and the last part of its paths.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its files are.
    pub fn directory(&self) -> PathBuf {
        remains::directory(&self.name)
    }

    /// The balancer's pin path.
    pub fn pin_path(&self) -> PathBuf {
        remains::pin_path(&self.name)
    }

    /// The balancer's control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory().join("lb.sock")
    }

    /// The machine that clients run on.
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// The machine that `lb` runs on.
    pub fn balancer(&self) -> &Host {
        &self.balancer
    }

    /// The router that real servers are behind, with its `eth0` next to the balancer. Panics if there is none.
    #[track_caller]
    pub fn router(&self) -> &Host {
        self.router.as_ref().expect("real servers behind a router")
    }

    /// The router that the client is behind, with its `eth0` next to the balancer. Panics if there is none.
    #[track_caller]
    pub fn client_router(&self) -> &Host {
        self.client_router
            .as_ref()
            .expect("a client behind a router")
    }

    /// The real server `web-NUMBER`, counted from 1.
    pub fn real_server(&self, number: usize) -> &Host {
        &self.real_servers[number - 1]
    }

    /// All real servers, in order.
    pub fn real_servers(&self) -> &[Host] {
        &self.real_servers
    }

    /// Takes a host off the network, as when its power fails: the cable stays, the switch forwards
    /// nothing.
    pub fn unplug(&self, host: &Host) {
        self.switch.ip(&format!(
            "link set dev {} nomaster",
            host.port(host.legs[0])
        ));
    }

    /// Puts a host back on the network.
    pub fn plug_in(&self, host: &Host) {
        let leg = host.legs[0];
        self.switch.ip(&format!(
            "link set dev {} master {}",
            host.port(leg),
            leg.bridge()
        ));
    }

    /// Makes the cable of a host take IP packets of so many bytes at most. Longer ones vanish, and nobody says so.
    pub fn narrow(&self, host: &Host, mtu: u16) {
        let port = host.port(host.legs[0]);
        self.switch.ip(&format!("link set dev {port} mtu {mtu}"));
    }

    /// Leaves everything in place, for people to play with, until [`crate::remove`].
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// A configuration for this lab: its interfaces, pin path and socket; its real servers as `web-1`,
    /// `web-2`, ... in the group `web`, by their IPv6 addresses as `web6-1`, `web6-2`, ... in the group
    /// `web6`; and these virtual servers, a YAML list.
    pub fn config(&self, virtual_servers: &str) -> String {
        let interfaces =
            (0..self.balancer.legs.len()).map(|n| format!("{{name: eth{n}, xdp: auto}}"));
        let servers = |prefix, address: fn(&Host) -> IpAddr| {
            let numbered = self.real_servers.iter().zip(1..);
            numbered.map(move |(host, n)| (format!("{prefix}-{n}"), address(host)))
        };
        let entries = servers("web", Host::v4).chain(servers("web6", Host::v6));
        let names = |prefix, address| servers(prefix, address).map(|(name, _)| name);
        format!(
            "interfaces: [{}]\n\
             pin_path: {}\n\
             control:\n  socket: {}\n\
             real_servers:\n{}\
             groups:\n  web: [{}]\n  web6: [{}]\n\
             virtual_servers:\n{}\n",
            join(interfaces),
            self.pin_path().display(),
            self.socket().display(),
            entries
                .map(|(name, address)| format!("  {name}: \"{address}\"\n"))
                .collect::<String>(),
            join(names("web", Host::v4)),
            join(names("web6", Host::v6)),
            virtual_servers.trim_end(),
        )
    }
}

/// The unspecified address of a destination's family.
fn any(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn join(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

// === impl Host ===

impl Host {
    /// Its name: `client`, `balancer`, `web-1`, ...
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its namespace, as `ip -n` takes it.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        self.legs[0].v4()
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        self.legs[0].v6()
    }

    /// The MAC address that its first interface was made with.
    pub fn mac(&self) -> [u8; 6] {
        self.legs[0].mac()
    }

    /// An HTTP client on this host.
    pub fn http(&self) -> HttpClient<'_> {
        HttpClient::new(&self.namespace)
    }

    /// A TCP connection from a fresh port of this host.
    ///
    /// # Errors
    /// As [`TcpClient::connect`].
    pub fn tcp(&self, to: impl ToSocketAddrs) -> io::Result<TcpClient> {
        let to = address(to);
        self.tcp_from(any(to), to)
    }

    /// A TCP connection from a fresh port of one of this host's addresses.
    ///
    /// # Errors
    /// As [`TcpClient::connect`].
    pub fn tcp_from(&self, source: IpAddr, to: impl ToSocketAddrs) -> io::Result<TcpClient> {
        TcpClient::connect(&self.namespace, (source, 0).into(), to)
    }

    /// A UDP flow from a fresh port of this host.
    pub fn udp(&self, to: impl ToSocketAddrs) -> UdpClient {
        let to = address(to);
        self.udp_from(any(to), to)
    }

    /// A UDP flow from a fresh port of one of this host's addresses.
    pub fn udp_from(&self, source: IpAddr, to: impl ToSocketAddrs) -> UdpClient {
        UdpClient::open(&self.namespace, (source, 0).into(), to)
    }

    /// The name of the switch's end of a leg.
    pub(crate) fn port(&self, leg: Leg) -> String {
        format!("{}.{}", self.name, leg.segment)
    }
}

impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

// === impl Leg ===

impl Leg {
    pub(crate) fn v4(self) -> IpAddr {
        Ipv4Addr::new(10, 8 + self.segment, 0, self.host).into()
    }

    pub(crate) fn v6(self) -> IpAddr {
        let text = format!("2001:db8:{:x}::{}", 8 + self.segment, self.host);
        text.parse()
            .expect("decimal digits are hexadecimal digits too")
    }

    /// The networks of its segment.
    pub(crate) fn networks(self) -> [String; 2] {
        let network = Self { host: 0, ..self };
        [
            format!("{}/16", network.v4()),
            format!("{}/48", network.v6()),
        ]
    }

    pub(crate) fn mac(self) -> [u8; 6] {
        [2, 0, 10, 8 + self.segment, 0, self.host]
    }

    pub(crate) fn bridge(self) -> String {
        format!("segment{}", self.segment)
    }
}

// === impl Remains ===

impl Drop for Remains {
    fn drop(&mut self) {
        remains::remove(&self.0);
    }
}
