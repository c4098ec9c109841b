//! The steering of health checks over byte vectors: packets built by etherparse.

mod buffer;

use std::net::IpAddr;

use bytemuck::Zeroable;
use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Type, Icmpv6Type, IpHeaders, IpNumber, Ipv4Header,
    Ipv6Header, PacketBuilder, PacketBuilderStep, icmpv4, icmpv6,
};
use lb_common::{
    Address, RealServer,
    address::AddressWords,
    health::PORTS,
    real_server::{OUTER_V4, OUTER_V6},
};
use lb_ebpf::{
    Packet,
    parse::Flow,
    steer::{Checks, is_answer, label, path, steer},
};
use rstest::rstest;

use self::buffer::Buffer;

const VIP: &str = "10.9.1.1";
const VIP6: &str = "2001:db8:9:1::1";
const OTHER: &str = "10.9.1.2";
const OTHER6: &str = "2001:db8:9:1::2";
const HOST: &str = "10.9.0.1";
const HOST6: &str = "2001:db8:9::1";
const ROUTER: &str = "10.9.0.254";
const ROUTER6: &str = "2001:db8:9::fe";
const IDENTIFIER: u16 = 0x1234;
const CHECK: u16 = *PORTS.start();
const TAKEN: u16 = CHECK + 1;

/// Checks are sent to the first VIPs; the host has a connection of its own from one of their ports.
struct Known;

impl Checks for Known {
    fn are_sent_to(&self, vip: AddressWords) -> bool {
        [VIP, VIP6].contains(&IpAddr::from(Address::from_words(vip)).to_string().as_str())
    }

    fn echo_identifier(&self) -> u16 {
        IDENTIFIER
    }

    fn host_is_connected(&self, flow: &Flow) -> bool {
        flow.destination_port == TAKEN
    }
}

fn ip(source: &str, destination: &str) -> PacketBuilderStep<IpHeaders> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ethernet.ip(IpHeaders::Ipv4(
            Ipv4Header::new(0, 64, IpNumber(0), source.octets(), destination.octets()).unwrap(),
            Default::default(),
        )),
        (IpAddr::V6(source), IpAddr::V6(destination)) => ethernet.ip(IpHeaders::Ipv6(
            Ipv6Header {
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
                ..Default::default()
            },
            Default::default(),
        )),
        _ => panic!("two IP versions"),
    }
}

fn tcp(source: &str, destination: &str, ports: (u16, u16)) -> Vec<u8> {
    let builder = ip(source, destination)
        .tcp(ports.0, ports.1, 1, 1000)
        .syn()
        .ack(2);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).unwrap();
    frame
}

fn udp(source: &str, destination: &str, ports: (u16, u16)) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = ip(source, destination).udp(ports.0, ports.1);
    builder.write(&mut frame, b"answer").unwrap();
    frame
}

fn echo_reply(source: &str, destination: &str, identifier: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    if source.contains(':') {
        let builder = ip(source, destination).icmpv6_echo_reply(identifier, 1);
        builder.write(&mut frame, &[0; 8]).unwrap();
    } else {
        let builder = ip(source, destination).icmpv4_echo_reply(identifier, 1);
        builder.write(&mut frame, &[0; 8]).unwrap();
    }
    frame
}

/// That a port is unreachable, about a packet of the host.
fn unreachable(source: &str, destination: &str, about: &[u8]) -> Vec<u8> {
    let quote = &about[14..];
    let mut frame = Vec::new();
    if source.contains(':') {
        let port = icmpv6::DestUnreachableCode::Port;
        let kind = Icmpv6Type::DestinationUnreachable(port);
        ip(source, destination)
            .icmpv6(kind)
            .write(&mut frame, quote)
            .unwrap();
    } else {
        let port = icmpv4::DestUnreachableHeader::Port;
        let kind = Icmpv4Type::DestinationUnreachable(port);
        ip(source, destination)
            .icmpv4(kind)
            .write(&mut frame, quote)
            .unwrap();
    }
    frame
}

#[rstest]
#[case::syn_ack(tcp(VIP, HOST, (80, CHECK)), true)]
#[case::syn_ack_v6(tcp(VIP6, HOST6, (80, CHECK)), true)]
#[case::last_port(tcp(VIP, HOST, (80, u16::MAX)), true)]
#[case::udp(udp(VIP, HOST, (53, CHECK)), true)]
#[case::udp_v6(udp(VIP6, HOST6, (53, CHECK)), true)]
#[case::to_another_port(tcp(VIP, HOST, (80, CHECK - 1)), false)]
#[case::from_another_vip(tcp(OTHER, HOST, (80, CHECK)), false)]
#[case::from_another_vip_v6(tcp(OTHER6, HOST6, (80, CHECK)), false)]
#[case::to_the_host_itself(tcp(VIP, HOST, (80, TAKEN)), false)]
#[case::to_the_host_itself_v6(udp(VIP6, HOST6, (53, TAKEN)), false)]
#[case::ping(echo_reply(VIP, HOST, IDENTIFIER), true)]
#[case::ping_v6(echo_reply(VIP6, HOST6, IDENTIFIER), true)]
#[case::another_ping(echo_reply(VIP, HOST, IDENTIFIER + 1), false)]
#[case::another_ping_v6(echo_reply(VIP6, HOST6, IDENTIFIER + 1), false)]
#[case::ping_of_another_vip(echo_reply(OTHER, HOST, IDENTIFIER), false)]
#[case::error(unreachable(ROUTER, HOST, &tcp(HOST, VIP, (CHECK, 80))), true)]
#[case::error_v6(unreachable(ROUTER6, HOST6, &udp(HOST6, VIP6, (CHECK, 53))), true)]
#[case::error_of_the_vip(unreachable(VIP, HOST, &udp(HOST, VIP, (CHECK, 53))), true)]
#[case::error_about_another_port(unreachable(ROUTER, HOST, &tcp(HOST, VIP, (TAKEN, 80))), false)]
#[case::error_about_another_vip(unreachable(ROUTER, HOST, &tcp(HOST, OTHER, (CHECK, 80))), false)]
#[case::error_about_another_vip_v6(unreachable(ROUTER6, HOST6, &tcp(HOST6, OTHER6, (CHECK, 80))), false)]
fn answers_are_told_from_the_hosts_own_traffic(#[case] frame: Vec<u8>, #[case] expected: bool) {
    let mut buffer = Buffer(frame.clone());
    assert_eq!(is_answer(buffer.frame(), &Known), expected);
    assert_eq!(buffer.0, frame, "nothing is changed");
    for length in 0..frame.len().min(40) {
        let mut short = Buffer(frame[..length].to_vec());
        assert!(!is_answer(short.frame(), &Known), "{length} bytes");
    }
}

#[test]
fn a_frame_carries_the_index_of_its_path() {
    for index in [1, 0x0102_0304, u32::MAX] {
        let mut buffer = Buffer(tcp(HOST, VIP, (CHECK, 80)));
        label(buffer.frame(), index).unwrap();
        assert_eq!(path(buffer.frame()), Some(index));
        assert_eq!(buffer.0[0] & 1, 0, "for one station");
    }
}

fn server(address: &str, outer_source: Option<&str>) -> RealServer {
    let parsed = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
    RealServer {
        destination_mac: [2, 0, 0, 0, 0, 11],
        source_mac: [2, 0, 0, 0, 0, 1],
        ifindex: 3,
        address: parsed(address),
        outer_source: outer_source.map_or(Address::zeroed(), parsed),
        outer_header: match outer_source.map(|source| source.contains(':')) {
            None => 0,
            Some(false) => OUTER_V4,
            Some(true) => OUTER_V6,
        },
        mtu: 1500,
        ..RealServer::zeroed()
    }
}

#[rstest]
#[case(tcp(HOST, VIP, (CHECK, 80)))]
#[case(tcp(HOST6, VIP6, (CHECK, 80)))]
fn l2_dsr_gives_a_check_the_servers_mac_address(#[case] frame: Vec<u8>) {
    let mut buffer = Buffer(frame.clone());
    steer(&mut buffer, &server("10.9.0.11", None)).unwrap();
    assert_eq!(buffer.0[..12], [2, 0, 0, 0, 0, 11, 2, 0, 0, 0, 0, 1]);
    assert_eq!(buffer.0[12..], frame[12..]);
}

/// Of whatever protocol: pings, too.
#[rstest]
#[case::tcp(tcp(HOST, VIP, (CHECK, 80)))]
#[case::tcp_v6(tcp(HOST6, VIP6, (CHECK, 80)))]
#[case::ping(echo_reply(HOST, VIP, IDENTIFIER))]
#[case::ping_v6(echo_reply(HOST6, VIP6, IDENTIFIER))]
fn l3_dsr_puts_a_check_inside_an_outer_header(
    #[case] frame: Vec<u8>,
    #[values(("10.9.3.11", HOST), ("2001:db8:9:3::11", HOST6))] (address, source): (&str, &str),
) {
    let mut buffer = Buffer(frame.clone());
    steer(&mut buffer, &server(address, Some(source))).unwrap();
    assert_eq!(buffer.0[..12], [2, 0, 0, 0, 0, 11, 2, 0, 0, 0, 0, 1]);
    let headers = Ethernet2Header::from_slice(&buffer.0).unwrap().0;
    let (outer, protocol, inner) = outer(&buffer.0[14..]);
    let ether_type = if source == HOST {
        EtherType::IPV4
    } else {
        EtherType::IPV6
    };
    assert_eq!(headers.ether_type, ether_type);
    assert_eq!(
        outer,
        [source, address].map(|it| it.parse::<IpAddr>().unwrap())
    );
    let is_v4 = frame[12..14] == EtherType::IPV4.0.to_be_bytes();
    let expected = if is_v4 {
        IpNumber::IPV4
    } else {
        IpNumber::IPV6
    };
    assert_eq!(protocol, expected);
    assert_eq!(inner, &frame[14..]);
}

/// It would go on as what it is not.
#[test]
fn l3_dsr_takes_no_ipv4_address_in_an_ipv6_header() {
    let mut frame = tcp(HOST6, VIP6, (CHECK, 80));
    frame[38..54].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 9, 1, 1]);
    let mut buffer = Buffer(frame);
    let server = server("10.9.3.11", Some(HOST));
    assert_eq!(steer(&mut buffer, &server), None);
}

/// Its segments may be larger than the MTU, until the kernel cuts them.
#[rstest]
#[case(tcp(HOST, VIP, (CHECK, 80)), "10.9.3.11", HOST, 16, 65_535 - 20)]
#[case(tcp(HOST, VIP, (CHECK, 80)), "2001:db8:9:3::11", HOST6, 16, 65_535 - 40)]
#[case(tcp(HOST6, VIP6, (CHECK, 80)), "10.9.3.11", HOST, 18, 65_535 - 20 - 40)]
fn l3_dsr_takes_what_a_header_can_say(
    #[case] frame: Vec<u8>,
    #[case] address: &str,
    #[case] source: &str,
    #[case] at: usize,
    #[case] most: u16,
) {
    let steered = |length: u16| {
        let mut buffer = Buffer(frame.clone());
        buffer.0[at..at + 2].copy_from_slice(&length.to_be_bytes());
        buffer.0[15] = 0xff;
        steer(&mut buffer, &server(address, Some(source))).map(|()| buffer.0)
    };
    let output = steered(most).unwrap();
    if source == HOST {
        assert_eq!(output[14], 0x45);
        assert_eq!(output[16..18], u16::MAX.to_be_bytes());
    } else {
        assert_eq!(output[18..20], most.to_be_bytes());
    }
    assert_eq!(steered(most + 1), None);
}

/// Source and destination, protocol and payload.
fn outer(packet: &[u8]) -> ([IpAddr; 2], IpNumber, &[u8]) {
    if packet[0] >> 4 == 4 {
        let (header, payload) = Ipv4Header::from_slice(packet).unwrap();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(usize::from(header.total_len), packet.len());
        let ends = [header.source, header.destination].map(IpAddr::from);
        (ends, header.protocol, payload)
    } else {
        let (header, payload) = Ipv6Header::from_slice(packet).unwrap();
        assert_eq!(usize::from(header.payload_length), payload.len());
        let ends = [header.source, header.destination].map(IpAddr::from);
        (ends, header.next_header, payload)
    }
}
