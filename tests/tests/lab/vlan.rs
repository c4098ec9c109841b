//! Frames with VLAN tags, built by hand.

use std::{net::Ipv6Addr, time::Duration};

use etherparse::PacketBuilder;
use lb_tests::PacketSocket;
use rstest::rstest;

use crate::{
    frames::{BROADCAST, Mac, arp_reply, arp_request},
    support::{DNS, TUNNELS, balance, lab},
};

const SOON: Duration = Duration::from_secs(1);
const Q: &[u8] = &[0x81, 0x00, 0x60, 0x07];
const AD: &[u8] = &[0x88, 0xa8, 0x00, 0x09];

/// A UDP datagram to a VIP, without an Ethernet header but with its EtherType.
fn datagram(v6: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2([0; 6], [0; 6]);
    let ip = if v6 {
        let client = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 0x100);
        let vip = Ipv6Addr::new(0x2001, 0xdb8, 9, 1, 0, 0, 0, 1);
        ethernet.ipv6(client.octets(), vip.octets(), 7)
    } else {
        ethernet.ipv4([10, 9, 0, 100], [10, 9, 1, 1], 7)
    };
    ip.udp(1234, 53).write(&mut frame, b"in a VLAN").unwrap();
    frame.split_off(12)
}

#[rstest]
#[case::none(&[])]
#[case::one(&[Q])]
#[case::two(&[AD, Q])]
fn a_forwarded_frame_differs_in_its_mac_addresses_alone(
    #[case] tags: &[&[u8]],
    #[values(false, true)] v6: bool,
) {
    let lab = lab(1);
    let _lb = balance(&lab, DNS);
    let server = PacketSocket::open(lab.real_server(1), "eth0");
    let frame = |macs: [Mac; 2]| [macs.concat(), tags.concat(), datagram(v6)].concat();
    PacketSocket::open(lab.client(), "eth0")
        .send(&frame([lab.balancer().mac(), lab.client().mac()]));
    let received = server.receive(SOON, |frame| frame.ends_with(b"in a VLAN"));
    assert_eq!(
        received,
        Some(frame([lab.real_server(1).mac(), lab.balancer().mac()]))
    );
}

#[test]
fn an_arp_request_in_a_vlan_is_answered_in_that_vlan() {
    let lab = lab(1);
    let _lb = balance(&lab, DNS);
    let socket = PacketSocket::open(lab.client(), "eth0");
    let (client, vip) = ([10, 9, 0, 100].into(), [10, 9, 1, 1].into());
    let mut request = arp_request([lab.client().mac(), BROADCAST], client, vip);
    request.splice(12..12, Q.iter().copied());
    socket.send(&request);
    let reply = socket
        .receive(SOON, |frame| arp_reply(frame).is_some())
        .expect("an ARP reply");
    assert_eq!(&reply[12..16], Q);
}

#[rstest]
#[case::none(&[])]
#[case::one(&[Q])]
#[case::two(&[AD, Q])]
fn an_outer_header_goes_between_the_tags_and_the_packet(#[case] tags: &[&[u8]]) {
    let lab = lab(1);
    let _lb = balance(&lab, TUNNELS);
    let server = PacketSocket::open(lab.real_server(1), "eth0");
    let client = PacketSocket::open(lab.client(), "eth0");
    for v6 in [false, true] {
        let datagram = datagram(v6);
        let macs = [lab.balancer().mac(), lab.client().mac()];
        client.send(&[&macs.concat(), &tags.concat(), &datagram[..]].concat());
        let received = server
            .receive(SOON, |frame| frame.ends_with(b"in a VLAN"))
            .expect("a frame");

        let macs = [lab.real_server(1).mac(), lab.balancer().mac()];
        let ethernet = [macs.concat(), tags.concat(), datagram[..2].to_vec()].concat();
        assert_eq!(received[..ethernet.len()], ethernet);
        let outer = if v6 { 40 } else { 20 };
        assert_eq!(received[ethernet.len() + outer..], datagram[2..]);
    }
}
