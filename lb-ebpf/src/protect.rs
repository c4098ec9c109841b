//! What must not get through to a real server.

use lb_common::address::AddressWords;

use crate::{frame::opaque, parse::Flow};

/// Whether the source address is one that no host sends from: multicast and broadcast, loopback, unspecified
/// and "this network" (RFC 1812 section 5.3.7, RFC 4291 section 2), or the VIP itself (the "land" attack).
#[inline(always)]
pub fn is_martian(flow: &Flow) -> bool {
    if flow.is_ipv4() {
        let [source, destination] = [flow.source, flow.destination].map(|[_, low]| low >> 32);
        // The compiler would compare it as a byte, and cut it out of the word for each comparison.
        let first_octet = opaque(source & 0xff);
        first_octet == 127 || !(1..224).contains(&first_octet) || source == destination
    } else {
        let [high, low]: AddressWords = flow.source;
        let multicast = high as u8 == 0xff;
        let unspecified_or_loopback = high == 0 && u64::from_be(low) <= 1;
        multicast || unspecified_or_loopback || flow.source == flow.destination
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use lb_common::{Address, protocol};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10.0.0.1", false)]
    #[case("1.0.0.0", false)]
    #[case("223.255.255.255", false)]
    #[case("0.0.0.0", true)]
    #[case("0.1.2.3", true)]
    #[case("126.255.255.255", false)]
    #[case("127.0.0.1", true)]
    #[case("128.0.0.1", false)]
    #[case("224.0.0.1", true)]
    #[case("239.255.255.255", true)]
    #[case("255.255.255.255", true)]
    #[case("10.9.1.1", true)]
    #[case("2001:db8::1", false)]
    #[case("fe80::1", false)]
    #[case("::", true)]
    #[case("::1", true)]
    #[case("::2", false)]
    #[case("ff02::1", true)]
    #[case("2001:db8:9:1::1", true)]
    fn sources_that_no_host_sends_from(#[case] source: IpAddr, #[case] martian: bool) {
        let vip: IpAddr = match source {
            IpAddr::V4(_) => "10.9.1.1".parse().unwrap(),
            IpAddr::V6(_) => "2001:db8:9:1::1".parse().unwrap(),
        };
        let flow = Flow {
            source: Address::from(source).words(),
            destination: Address::from(vip).words(),
            source_port: 1024,
            destination_port: 80,
            protocol: protocol::TCP,
        };
        assert_eq!(is_martian(&flow), martian);
    }
}
