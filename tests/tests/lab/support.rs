//! What most tests start from.

use lb_tests::{Daemon, HttpServer, Lab, UdpServer};

/// The VIPs of the lab.
pub const VIP: &str = "10.9.1.1";
pub const VIP6: &str = "2001:db8:9:1::1";

/// A virtual server for HTTP on the first VIP, v4 and v6.
pub const SHOP: &str = "
- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web]}
- {name: shop6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, bind: [web6]}
";

/// A virtual server for UDP on the first VIP, v4 and v6.
pub const DNS: &str = "
- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web]}
- {name: dns6, vip: '2001:db8:9:1::1', protocol: udp, port: 53, bind: [web6]}
";

/// A lab with so many real servers.
pub fn lab(real_servers: u8) -> Lab {
    Lab::builder().real_servers(real_servers).build().unwrap()
}

/// Starts `lb` with these virtual servers, and waits until they are up.
pub fn balance<'a>(lab: &'a Lab, virtual_servers: &str) -> Daemon<'a> {
    Daemon::start(lab, &lab.config(virtual_servers)).unwrap()
}

/// An HTTP server on each real server.
pub fn serve_http(lab: &Lab, ports: &[u16]) -> Vec<HttpServer> {
    lab.real_servers()
        .iter()
        .map(|host| HttpServer::start(host, ports))
        .collect()
}

/// A UDP server on each real server, for the first VIP, v4 and v6.
pub fn serve_udp(lab: &Lab, ports: &[u16]) -> Vec<UdpServer> {
    let addresses: Vec<_> = [VIP, VIP6]
        .into_iter()
        .flat_map(|vip| ports.iter().map(move |&port| (vip, port)))
        .collect();
    lab.real_servers()
        .iter()
        .map(|host| UdpServer::start(host, &addresses))
        .collect()
}
