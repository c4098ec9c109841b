//! The decapsulator over byte vectors: IP-in-IP packets built by etherparse.

mod buffer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, Ethernet2Header, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel,
    Ipv6FragmentHeader, Ipv6Header, SingleVlanHeader, UdpHeader, VlanId,
};
use lb_common::{
    Address,
    address::AddressWords,
    decapsulator::{Fate, PassReason},
};
use lb_ebpf::decapsulate::{Host, decapsulate};
use proptest::prelude::*;
use rstest::rstest;

use self::buffer::Buffer;

const BALANCER: Ends = Ends {
    v4: Ipv4Addr::new(10, 9, 0, 1),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1),
};
const REAL_SERVER: Ends = Ends {
    v4: Ipv4Addr::new(10, 9, 0, 11),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 0x11),
};
const CLIENT: Ends = Ends {
    v4: Ipv4Addr::new(192, 0, 2, 100),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0x100),
};
const VIP: Ends = Ends {
    v4: Ipv4Addr::new(10, 9, 1, 1),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 9, 1, 0, 0, 0, 1),
};
/// Nobody's.
const OTHER: Ends = Ends {
    v4: Ipv4Addr::new(10, 9, 1, 2),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 9, 1, 0, 0, 0, 2),
};

/// A host's addresses.
#[derive(Clone, Copy)]
struct Ends {
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Ends {
    fn have(self, address: AddressWords) -> bool {
        let address = IpAddr::from(Address::from_words(address));
        address == self.v4 || address == self.v6
    }
}

/// Has the real server's addresses and the VIPs, and takes everything, or what the balancer sends.
struct RealServer {
    from_balancer_alone: bool,
}

const TAKES_ALL: RealServer = RealServer {
    from_balancer_alone: false,
};

impl Host for RealServer {
    fn has_address(&self, address: AddressWords) -> bool {
        REAL_SERVER.have(address) || VIP.have(address)
    }

    fn allows_source(&self, source: AddressWords) -> bool {
        !self.from_balancer_alone || BALANCER.have(source)
    }
}

/// What becomes of a frame, and the frame afterwards.
fn run(frame: &[u8], host: &RealServer) -> (Option<Fate>, Vec<u8>) {
    let mut buffer = Buffer(frame.to_vec());
    (decapsulate(&mut buffer, host), buffer.0)
}

#[track_caller]
fn assert_fate(frame: &[u8], expected: Option<Fate>, afterwards: &[u8]) {
    assert_eq!(
        run(frame, &TAKES_ALL),
        (expected, afterwards.to_vec()),
        "{frame:02x?}"
    );
}

#[track_caller]
fn assert_untouched(frame: &[u8], expected: Option<Fate>) {
    assert_fate(frame, expected, frame);
}

// === Building ===

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}
use Version::{V4, V6};

impl Version {
    fn ethertype(self) -> EtherType {
        match self {
            V4 => EtherType::IPV4,
            V6 => EtherType::IPV6,
        }
    }

    /// The IP protocol number that says that such a packet is inside.
    fn protocol(self) -> IpNumber {
        match self {
            V4 => IpNumber::IPV4,
            V6 => IpNumber::IPV6,
        }
    }
}

/// A frame with so many tags.
fn ethernet(tags: usize, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    const TAGS: [EtherType; 2] = [EtherType::PROVIDER_BRIDGING, EtherType::VLAN_TAGGED_FRAME];
    let tags = &TAGS[2 - tags..];
    let types: Vec<EtherType> = tags.iter().copied().chain([ethertype]).collect();
    let mut frame = Ethernet2Header {
        source: [2, 0, 10, 9, 0, 1],
        destination: [2, 0, 10, 9, 0, 11],
        ether_type: types[0],
    }
    .to_bytes()
    .to_vec();
    for (&ether_type, id) in types[1..].iter().zip(7..) {
        let tag = SingleVlanHeader {
            vlan_id: VlanId::try_new(id).unwrap(),
            ether_type,
            ..Default::default()
        };
        frame.extend(tag.to_bytes());
    }
    frame.extend(payload);
    frame
}

fn ipv4_header([from, to]: [Ends; 2], protocol: IpNumber, length: usize) -> Ipv4Header {
    let [from, to] = [from, to].map(|ends| ends.v4.octets());
    Ipv4Header::new(length.try_into().unwrap(), 61, protocol, from, to).unwrap()
}

/// With the right checksum.
fn ipv4(mut header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes(), payload].concat()
}

fn ipv6_header([from, to]: [Ends; 2], next_header: IpNumber, length: usize) -> Ipv6Header {
    Ipv6Header {
        traffic_class: 0,
        flow_label: Ipv6FlowLabel::try_new(0xabcde).unwrap(),
        payload_length: length.try_into().unwrap(),
        next_header,
        hop_limit: 61,
        source: from.v6.octets(),
        destination: to.v6.octets(),
    }
}

fn ipv6(header: &Ipv6Header, payload: &[u8]) -> Vec<u8> {
    [&header.to_bytes()[..], payload].concat()
}

/// An IP packet with a traffic class (of IPv4, the type of service).
fn ip(
    version: Version,
    ends: [Ends; 2],
    protocol: IpNumber,
    traffic_class: u8,
    payload: &[u8],
) -> Vec<u8> {
    match version {
        V4 => {
            let mut header = ipv4_header(ends, protocol, payload.len());
            header.dscp = (traffic_class >> 2).try_into().unwrap();
            header.ecn = IpEcn::try_new(traffic_class & 3).unwrap();
            ipv4(header, payload)
        }
        V6 => {
            let mut header = ipv6_header(ends, protocol, payload.len());
            header.traffic_class = traffic_class;
            ipv6(&header, payload)
        }
    }
}

/// What a client sends: UDP with a payload.
fn request(version: Version, ends: [Ends; 2], traffic_class: u8) -> Vec<u8> {
    let payload = b"is anybody there?";
    let [from, to] = ends;
    let header = match version {
        V4 => UdpHeader::with_ipv4_checksum(
            40000,
            53,
            &ipv4_header(ends, IpNumber::UDP, 8 + payload.len()),
            payload,
        ),
        V6 => UdpHeader::with_ipv6_checksum(
            40000,
            53,
            &ipv6_header([from, to], IpNumber::UDP, 8 + payload.len()),
            payload,
        ),
    };
    let datagram = [&header.unwrap().to_bytes()[..], payload].concat();
    ip(version, ends, IpNumber::UDP, traffic_class, &datagram)
}

fn client_request(version: Version) -> Vec<u8> {
    request(version, [CLIENT, VIP], 0)
}

/// A frame without tags in which the balancer sends a packet to the real server.
fn capsule(outer: Version, inner: Version, packet: &[u8]) -> Vec<u8> {
    let ends = [BALANCER, REAL_SERVER];
    ethernet(
        0,
        outer.ethertype(),
        &ip(outer, ends, inner.protocol(), 0, packet),
    )
}

// === Tests ===

#[rstest]
fn every_family_comes_out_of_every_family(
    #[values(V4, V6)] outer: Version,
    #[values(V4, V6)] inner: Version,
    #[values(0, 1, 2)] tags: usize,
) {
    let packet = client_request(inner);
    let ends = [BALANCER, REAL_SERVER];
    let carrier = ip(outer, ends, inner.protocol(), 0, &packet);
    // Short frames are padded.
    for padding in [0, 1, 30] {
        let padding = vec![0; padding];
        let framed =
            |ethertype, packet: &[u8]| ethernet(tags, ethertype, &[packet, &padding].concat());
        assert_fate(
            &framed(outer.ethertype(), &carrier),
            Some(Fate::Decapsulated),
            &framed(inner.ethertype(), &packet),
        );
    }
}

#[test]
fn options_of_the_outer_header_go_with_it() {
    let packet = client_request(V4);
    for length in (4..=40).step_by(4) {
        let mut header = ipv4_header([BALANCER, REAL_SERVER], IpNumber::IPV4, packet.len());
        let options: Vec<u8> = (1..).take(length).collect();
        header.options = options.as_slice().try_into().unwrap();
        header.set_payload_len(packet.len()).unwrap();
        assert_fate(
            &ethernet(0, EtherType::IPV4, &ipv4(header, &packet)),
            Some(Fate::Decapsulated),
            &ethernet(0, EtherType::IPV4, &packet),
        );
    }
}

#[test]
fn options_of_the_inner_header_stay() {
    let mut header = ipv4_header([CLIENT, VIP], IpNumber::TCP, 20);
    header.options = [7; 40].as_slice().try_into().unwrap();
    header.set_payload_len(20).unwrap();
    let packet = ipv4(header, &[42; 20]);
    assert_fate(
        &capsule(V4, V4, &packet),
        Some(Fate::Decapsulated),
        &ethernet(0, EtherType::IPV4, &packet),
    );
}

#[test]
fn a_tunnel_encapsulation_limit_goes_with_the_outer_header() {
    let packet = client_request(V6);
    let with_options = |options: [u8; 7]| {
        let payload = [&[IpNumber::IPV6.0][..], &options, &packet].concat();
        let ends = [BALANCER, REAL_SERVER];
        let carrier = ip(V6, ends, IpNumber::IPV6_DESTINATION_OPTIONS, 0, &payload);
        ethernet(0, EtherType::IPV6, &carrier)
    };
    // RFC 2473 section 4.1.1, padded as Linux does (net/ipv6/ip6_tunnel.c, init_tel_txopt).
    assert_fate(
        &with_options([0, 4, 1, 4, 1, 1, 0]),
        Some(Fate::Decapsulated),
        &ethernet(0, EtherType::IPV6, &packet),
    );
    // A home address (RFC 6275 section 6.3), a longer header.
    for options in [[0, 0xc9, 1, 4, 1, 1, 0], [1, 4, 1, 4, 1, 1, 0]] {
        assert_untouched(&with_options(options), None);
    }
}

#[test]
fn a_fragment_inside_is_the_kernels_to_assemble() {
    let mut header = ipv4_header([CLIENT, VIP], IpNumber::UDP, 40);
    header.fragment_offset = IpFragOffset::try_new(185).unwrap();
    let packet = ipv4(header, &[42; 40]);
    assert_fate(
        &capsule(V6, V4, &packet),
        Some(Fate::Decapsulated),
        &ethernet(0, EtherType::IPV4, &packet),
    );
}

/// RFC 6040 section 4.2, figure 4: by the inner mark (row) and the outer one (column), what comes out.
#[rstest]
fn congestion_marks_are_combined(
    #[values(V4, V6)] outer: Version,
    #[values(V4, V6)] inner: Version,
) {
    const NOT_ECT: u8 = 0b00;
    const ECT_1: u8 = 0b01;
    const ECT_0: u8 = 0b10;
    const CE: u8 = 0b11;
    const DSCP: u8 = 0b1010_1000;
    let outers = [NOT_ECT, ECT_0, ECT_1, CE];
    let figure = [
        (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
        (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
        (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
        (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
    ];
    for (inner_mark, outcomes) in figure {
        let sent = request(inner, [CLIENT, VIP], DSCP | inner_mark);
        for (outer_mark, outcome) in outers.into_iter().zip(outcomes) {
            let ends = [BALANCER, REAL_SERVER];
            let carrier = ip(
                outer,
                ends,
                inner.protocol(),
                0xfc ^ DSCP | outer_mark,
                &sent,
            );
            let frame = ethernet(1, outer.ethertype(), &carrier);
            let Some(mark) = outcome else {
                assert_untouched(&frame, Some(Fate::Congested));
                continue;
            };
            let received = request(inner, [CLIENT, VIP], DSCP | mark);
            let afterwards = ethernet(1, inner.ethertype(), &received);
            assert_fate(&frame, Some(Fate::Decapsulated), &afterwards);
        }
    }
}

#[rstest]
fn fragments_of_the_outer_packet_pass(#[values(V4, V6)] inner: Version) {
    let passed = Some(Fate::Passed(PassReason::OuterFragment));
    let packet = client_request(inner);
    for (more_fragments, offset) in [(true, 0), (true, 185), (false, 370)] {
        let ends = [BALANCER, REAL_SERVER];
        let offset = IpFragOffset::try_new(offset).unwrap();
        let mut header = ipv4_header(ends, inner.protocol(), packet.len());
        (header.more_fragments, header.fragment_offset) = (more_fragments, offset);
        assert_untouched(
            &ethernet(0, EtherType::IPV4, &ipv4(header, &packet)),
            passed,
        );

        let fragment = Ipv6FragmentHeader::new(inner.protocol(), offset, more_fragments, 7);
        let payload = [&fragment.to_bytes()[..], &packet].concat();
        let carrier = ip(V6, ends, IpNumber::IPV6_FRAGMENTATION_HEADER, 0, &payload);
        assert_untouched(&ethernet(0, EtherType::IPV6, &carrier), passed);
    }
}

#[rstest]
fn packets_from_others_than_the_balancer_pass_if_it_is_named(
    #[values(V4, V6)] outer: Version,
    #[values(V4, V6)] inner: Version,
) {
    let host = RealServer {
        from_balancer_alone: true,
    };
    for (from, expected) in [
        (BALANCER, Fate::Decapsulated),
        (OTHER, Fate::Passed(PassReason::SourceNotAllowed)),
    ] {
        let ends = [from, REAL_SERVER];
        let carrier = ip(outer, ends, inner.protocol(), 0, &client_request(inner));
        let frame = ethernet(0, outer.ethertype(), &carrier);
        let (fate, afterwards) = run(&frame, &host);
        assert_eq!(fate, Some(expected));
        assert_eq!(afterwards == frame, expected != Fate::Decapsulated);
    }
}

#[rstest]
fn packets_for_others_inside_pass(
    #[values(V4, V6)] outer: Version,
    #[values(V4, V6)] inner: Version,
) {
    assert_untouched(
        &capsule(outer, inner, &request(inner, [CLIENT, OTHER], 0)),
        Some(Fate::Passed(PassReason::DestinationNotLocal)),
    );
}

/// IPv4 addresses as IPv6 writes them down (RFC 4291 section 2.5.5.2), which no host sends.
fn mapped(ends: Ends) -> Ends {
    Ends {
        v6: ends.v4.to_ipv6_mapped(),
        ..ends
    }
}

/// The host's IPv4 addresses must not stand for IPv6 ones, which it would forward.
#[rstest]
fn ipv4_addresses_mapped_into_ipv6_inside_pass(
    #[values(V4, V6)] outer: Version,
    #[values([CLIENT, mapped(VIP)], [mapped(CLIENT), VIP])] ends: [Ends; 2],
) {
    assert_untouched(
        &capsule(outer, V6, &request(V6, ends, 0)),
        Some(Fate::Passed(PassReason::MalformedInner)),
    );
}

/// Who may come by IPv4 has not come by IPv6.
#[rstest]
fn ipv4_addresses_mapped_into_ipv6_outside_are_no_business_of_ours(
    #[values([BALANCER, mapped(REAL_SERVER)], [mapped(BALANCER), REAL_SERVER])] ends: [Ends; 2],
    #[values(V4, V6)] inner: Version,
) {
    let carrier = ip(V6, ends, inner.protocol(), 0, &client_request(inner));
    assert_untouched(&ethernet(0, EtherType::IPV6, &carrier), None);
}

/// As many headers as fit, each of them for this host.
#[rstest]
fn of_many_outer_headers_one_goes(
    #[values(V4, V6)] outer: Version,
    #[values(V4, V6)] inner: Version,
) {
    const MTU: usize = 1500;
    let ends = [CLIENT, REAL_SERVER];
    let mut packet = client_request(inner);
    let mut version = inner;
    for next in [outer, inner].into_iter().cycle() {
        let carrier = ip(next, ends, version.protocol(), 0, &packet);
        if carrier.len() > MTU {
            break;
        }
        (packet, version) = (carrier, next);
    }
    assert_fate(
        &capsule(outer, version, &packet),
        Some(Fate::Decapsulated),
        &ethernet(0, version.ethertype(), &packet),
    );
}

/// Changes a byte of a packet.
fn with(mut packet: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    packet[at] = byte;
    packet
}

#[rstest]
#[case::version_6_where_4_is_said(V4, client_request(V6))]
#[case::version_4_where_6_is_said(V6, client_request(V4))]
#[case::no_version(V4, with(client_request(V4), 0, 0x05))]
#[case::header_shorter_than_20_bytes(V4, with(client_request(V4), 0, 0x44))]
#[case::header_longer_than_its_packet(V4, with(client_request(V4), 0, 0x4f))]
#[case::shorter_than_its_header(V4, with(client_request(V4), 3, 19))]
#[case::longer_than_there_is(V4, with(client_request(V4), 3, 20 + 8 + 17 + 1))]
#[case::longer_than_there_is(V6, with(client_request(V6), 5, 8 + 17 + 1))]
#[case::nothing(V4, Vec::new())]
#[case::nothing(V6, Vec::new())]
fn a_malformed_packet_inside_passes(
    #[values(V4, V6)] outer: Version,
    #[case] inner: Version,
    #[case] packet: Vec<u8>,
) {
    // Padding doesn't make up for what is missing.
    let frame = [capsule(outer, inner, &packet), vec![0; 60]].concat();
    assert_untouched(&frame, Some(Fate::Passed(PassReason::MalformedInner)));
}

#[rstest]
fn a_packet_cut_off_inside_passes(
    #[values(V4, V6)] outer: Version,
    #[values(V4, V6)] inner: Version,
) {
    let packet = client_request(inner);
    for length in 0..packet.len() {
        assert_untouched(
            &capsule(outer, inner, &packet[..length]),
            Some(Fate::Passed(PassReason::MalformedInner)),
        );
    }
}

#[rstest]
fn a_frame_cut_off_anywhere_is_no_business_of_ours(
    #[values(V4, V6)] outer: Version,
    #[values(V4, V6)] inner: Version,
    #[values(0, 1, 2)] tags: usize,
) {
    let ends = [BALANCER, REAL_SERVER];
    let carrier = ip(outer, ends, inner.protocol(), 0, &client_request(inner));
    let frame = ethernet(tags, outer.ethertype(), &carrier);
    for length in 0..frame.len() {
        assert_untouched(&frame[..length], None);
    }
}

#[rstest]
#[case::for_another_host(ethernet(
    0,
    EtherType::IPV4,
    &ip(V4, [BALANCER, OTHER], IpNumber::IPV4, 0, &client_request(V4))
))]
#[case::for_another_host_by_ipv6(ethernet(
    0,
    EtherType::IPV6,
    &ip(V6, [BALANCER, OTHER], IpNumber::IPV6, 0, &client_request(V6))
))]
#[case::plain(ethernet(0, EtherType::IPV4, &client_request(V4)))]
#[case::plain_ipv6(ethernet(0, EtherType::IPV6, &client_request(V6)))]
#[case::gre(ethernet(
    0,
    EtherType::IPV4,
    &ip(V4, [BALANCER, REAL_SERVER], IpNumber::GRE, 0, &client_request(V4))
))]
#[case::hop_by_hop_options(ethernet(
    0,
    EtherType::IPV6,
    &ip(V6, [BALANCER, REAL_SERVER], IpNumber::IPV6_HEADER_HOP_BY_HOP, 0, &[41, 0, 1, 4, 0, 0, 0, 0])
))]
#[case::arp(ethernet(0, EtherType::ARP, &[0; 46]))]
#[case::ipv4_said_to_be_ipv6(ethernet(0, EtherType::IPV6, &capsule(V4, V4, &client_request(V4))[14..]))]
#[case::ipv6_said_to_be_ipv4(ethernet(0, EtherType::IPV4, &capsule(V6, V4, &client_request(V4))[14..]))]
#[case::a_third_tag(ethernet(
    2,
    EtherType::VLAN_TAGGED_FRAME,
    &[&[0, 9, 8, 0], &capsule(V4, V4, &client_request(V4))[14..]].concat()
))]
#[case::for_a_group_of_stations(with(capsule(V4, V4, &client_request(V4)), 0, 0x03))]
#[case::wrong_checksum(with(capsule(V4, V4, &client_request(V4)), 14 + 8, 60))]
#[case::header_shorter_than_20_bytes(with(capsule(V4, V4, &client_request(V4)), 14, 0x44))]
#[case::empty(Vec::new())]
fn everything_else_is_no_business_of_ours(#[case] frame: Vec<u8>) {
    assert_untouched(&frame, None);
}

#[test]
fn an_outer_packet_shorter_than_its_header_is_no_business_of_ours() {
    let mut header = ipv4_header([BALANCER, REAL_SERVER], IpNumber::IPV4, 0);
    header.total_len = 19;
    let frame = ethernet(0, EtherType::IPV4, &ipv4(header, &client_request(V4)));
    assert_untouched(&frame, None);
    let header = ipv6_header(
        [BALANCER, REAL_SERVER],
        IpNumber::IPV6_FRAGMENTATION_HEADER,
        7,
    );
    let frame = ethernet(
        0,
        EtherType::IPV6,
        &ipv6(&header, &[41, 0, 0, 0, 0, 0, 0, 0]),
    );
    assert_untouched(&frame, None);
}

/// Frames that are decapsulated.
fn capsules() -> Vec<Vec<u8>> {
    let families = [(V4, V4), (V4, V6), (V6, V4), (V6, V6)];
    families
        .map(|(outer, inner)| capsule(outer, inner, &client_request(inner)))
        .into()
}

/// Only a decapsulated packet is changed: it loses an outer header, and what is behind stays.
fn check(frame: &[u8]) {
    let (fate, afterwards) = run(frame, &TAKES_ALL);
    if fate != Some(Fate::Decapsulated) {
        assert_eq!(afterwards, frame, "{fate:?}");
        return;
    }
    let lost = frame.len() - afterwards.len();
    assert!((20..=60).contains(&lost), "{lost} bytes lost");
    // Up to two tags, and a header in which the congestion mark may have changed.
    const CHANGED: usize = 14 + 8 + 20;
    assert_eq!(afterwards[..12], frame[..12]);
    assert_eq!(afterwards[CHANGED..], frame[CHANGED + lost..]);
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&frame);
    }

    #[test]
    fn damaged_packets_do_no_harm(
        frame in proptest::sample::select(capsules()),
        damage in proptest::collection::vec((0_usize..100, any::<u8>()), 0..4),
        length in 0_usize..150,
    ) {
        let mut frame = frame;
        for (at, byte) in damage {
            if let Some(damaged) = frame.get_mut(at) {
                *damaged = byte;
            }
        }
        frame.truncate(length);
        check(&frame);
    }
}
