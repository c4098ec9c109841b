extern crate std;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6Header,
    PacketBuilder, VlanId,
};
use rstest::rstest;

use super::*;

const PAYLOAD: &[u8] = b"payload";

/// A packet from 10.9.0.100 or 2001:db8::100, port 40000, to 10.9.1.1 or 2001:db8::1, port 443.
fn frame(v6: bool, protocol: u8, tags: usize, options: usize) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let vlan = |id| VlanId::try_new(id).unwrap();
    let ip = if v6 {
        let (source, destination) = v6_addresses();
        IpHeaders::Ipv6(
            Ipv6Header {
                source: source.octets(),
                destination: destination.octets(),
                hop_limit: 64,
                ..Ipv6Header::default()
            },
            Ipv6Extensions::default(),
        )
    } else {
        let mut header =
            Ipv4Header::new(0, 64, IpNumber(0), [10, 9, 0, 100], [10, 9, 1, 1]).unwrap();
        header.options = Ipv4Options::try_from(&[1; 40][..options]).unwrap();
        IpHeaders::Ipv4(header, Ipv4Extensions::default())
    };
    let ip = match tags {
        0 => ethernet.ip(ip),
        1 => ethernet.single_vlan(vlan(7)).ip(ip),
        _ => ethernet.double_vlan(vlan(9), vlan(7)).ip(ip),
    };
    let mut frame = Vec::new();
    if protocol == TCP {
        ip.tcp(40000, 443, 1, 1024)
            .write(&mut frame, PAYLOAD)
            .unwrap();
    } else {
        ip.udp(40000, 443).write(&mut frame, PAYLOAD).unwrap();
    }
    frame
}

fn v6_addresses() -> (Ipv6Addr, Ipv6Addr) {
    (
        "2001:db8::100".parse().unwrap(),
        "2001:db8::1".parse().unwrap(),
    )
}

fn parsed(frame: &[u8]) -> Parsed {
    let mut bytes = frame.to_vec();
    let range = bytes.as_mut_ptr_range();
    // SAFETY: the range is one vector's, which nothing else uses meanwhile; what is parsed keeps none of it.
    parse(unsafe { Frame::new(range.start, range.end) })
}

#[rstest]
#[case::v4_tcp(false, TCP, 0, 0, 20)]
#[case::v4_udp(false, UDP, 0, 0, 20)]
#[case::v6_tcp(true, TCP, 0, 0, 40)]
#[case::v6_udp(true, UDP, 0, 0, 40)]
#[case::v4_tag(false, TCP, 1, 0, 20)]
#[case::v6_tag(true, UDP, 1, 0, 40)]
#[case::v4_two_tags(false, UDP, 2, 0, 20)]
#[case::v6_two_tags(true, TCP, 2, 0, 40)]
#[case::an_option(false, UDP, 0, 4, 24)]
#[case::most_options(false, TCP, 2, 40, 60)]
fn a_flow_is_read_and_every_cut_in_its_headers_is_noticed(
    #[case] v6: bool,
    #[case] protocol: u8,
    #[case] tags: usize,
    #[case] options: usize,
    #[case] ip_header: usize,
) {
    let frame = frame(v6, protocol, tags, options);
    let offset = ETHERNET + TAG * tags;
    let headers = offset
        + ip_header
        + if protocol == TCP {
            TCP_HEADER
        } else {
            UDP_HEADER
        };
    let Parsed::Ip(ip) = parsed(&frame) else {
        panic!("no flow");
    };
    let addresses: [IpAddr; 2] = if v6 {
        let (source, destination) = v6_addresses();
        [source.into(), destination.into()]
    } else {
        [[10, 9, 0, 100], [10, 9, 1, 1]].map(|octets| Ipv4Addr::from(octets).into())
    };
    let [source, destination] = addresses.map(|address| Address::from(address).words());
    let flow = Flow {
        source,
        destination,
        source_port: 40000,
        destination_port: 443,
        protocol,
    };
    assert_eq!(ip.flow, flow);
    assert_eq!(ip.flow.is_ipv4(), !v6);
    assert_eq!(ip.fragment, Fragment::Whole);
    assert_eq!((ip.offset(), ip.end()), (offset, frame.len()));
    assert!(!ip.icmp_error);
    for length in 0..headers {
        assert!(
            matches!(parsed(&frame[..length]), Parsed::Other),
            "cut to {length} bytes"
        );
    }
}
