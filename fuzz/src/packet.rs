//! TCP segments and UDP datagrams of a few clients, so that sessions meet again, by choices.

use std::net::IpAddr;

use bytemuck::{Pod, Zeroable};
use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, Ipv4Header, Ipv6FlowLabel, Ipv6Header,
    SingleVlanHeader, TcpHeader, UdpHeader, VlanId, ether_type, ip_number,
};
use lb_user::config::{Ports, Protocol};

use crate::{
    network::LAN,
    scenario::{Service, pick},
};

/// A client's packet, as numbers to choose by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Segment {
    service: u8,
    port: u8,
    client: u8,
    kind: u8,
    length: u8,
    extras: u8,
}

/// A bit of [`Segment::extras`].
mod extra {
    pub const TAG: u8 = 1;
    pub const FOR_OTHERS: u8 = 2;
    pub const DONT_FRAGMENT: u8 = 4;
    pub const PADDING: u8 = 8;
    pub const CONGESTED: u8 = 16;
    pub const FIRST_FRAGMENT: u8 = 32;
    pub const LATER_FRAGMENT: u8 = 64;
}

impl Segment {
    /// The frame, for one of the services or for nobody's address.
    pub fn frame(&self, services: &[Service]) -> Vec<u8> {
        let service = services.get(usize::from(self.service) % (services.len() + 1));
        let stranger = || "10.9.1.200".parse().expect("an address");
        let vip = service.map_or_else(stranger, Service::vip);
        let client: IpAddr = match (vip, self.client >> 3, self.client & 1) {
            // Nobody's address.
            (IpAddr::V4(_), 30, _) => [224, 0, 0, 1].into(),
            (IpAddr::V6(_), 30, _) => [0xff02, 0, 0, 0, 0, 0, 0, 1].into(),
            (vip, 31, _) => vip,
            (IpAddr::V4(_), _, number) => [198, 51, 100, number].into(),
            (IpAddr::V6(_), _, number) => [0x2001, 0xdb8, 7, 0, 0, 0, 0, number.into()].into(),
        };
        let protocol = service.map_or(Protocol::Tcp, Service::protocol);
        self.ethernet(vip, &self.ip(client, vip, protocol, self.port(service)))
    }

    fn has(&self, extra: u8) -> bool {
        self.extras & extra != 0
    }

    fn port(&self, service: Option<&Service>) -> u16 {
        const OTHERS: [u16; 4] = [80, 8050, 8443, 53];

        let own = match service.map(Service::ports) {
            Some(Ports::List(ports)) => ports.first().copied(),
            Some(Ports::Range(ports)) => Some(*ports.end()),
            Some(Ports::Any) | None => None,
        };
        own.filter(|_| self.port & 3 != 0)
            .unwrap_or(pick(OTHERS, self.port >> 2))
    }

    fn payload(&self) -> Vec<u8> {
        // Around the MTUs of the servers, with headers and without.
        const LENGTHS: [usize; 8] = [0, 8, 1320, 1360, 1440, 1460, 1480, 3000];
        vec![0x2a; pick(LENGTHS, self.length)]
    }

    fn transport(&self, [client, vip]: [IpAddr; 2], protocol: Protocol, port: u16) -> Vec<u8> {
        let client_port = 40_000 + u16::from(self.client >> 1 & 3);
        let payload = self.payload();
        let header = match protocol {
            Protocol::Tcp => {
                let mut header = TcpHeader::new(client_port, port, 0x0102_0304, 0xfaf0);
                [header.syn, header.ack, header.fin, header.rst] = pick(
                    [
                        [true, false, false, false],
                        [false, true, false, false],
                        [false, true, true, false],
                        [false, false, false, true],
                        [true, true, false, false],
                        [false, true, false, false],
                    ],
                    self.kind,
                );
                header.checksum = match (client, vip) {
                    (IpAddr::V4(client), IpAddr::V4(vip)) => {
                        header.calc_checksum_ipv4_raw(client.octets(), vip.octets(), &payload)
                    }
                    (IpAddr::V6(client), IpAddr::V6(vip)) => {
                        header.calc_checksum_ipv6_raw(client.octets(), vip.octets(), &payload)
                    }
                    _ => unreachable!("a client of the VIP's family"),
                }
                .expect("it fits");
                header.to_bytes().to_vec()
            }
            Protocol::Udp => {
                let header = match (client, vip) {
                    (IpAddr::V4(client), IpAddr::V4(vip)) => {
                        let [client, vip] = [client.octets(), vip.octets()];
                        let header = Ipv4Header::new(0, 64, ip_number::UDP, client, vip);
                        let header = header.expect("no payload");
                        UdpHeader::with_ipv4_checksum(client_port, port, &header, &payload)
                    }
                    (IpAddr::V6(client), IpAddr::V6(vip)) => {
                        let header = Ipv6Header {
                            source: client.octets(),
                            destination: vip.octets(),
                            ..Ipv6Header::default()
                        };
                        UdpHeader::with_ipv6_checksum(client_port, port, &header, &payload)
                    }
                    _ => unreachable!("a client of the VIP's family"),
                };
                header.expect("it fits").to_bytes().to_vec()
            }
        };
        [header, payload].concat()
    }

    fn ip(&self, client: IpAddr, vip: IpAddr, protocol: Protocol, port: u16) -> Vec<u8> {
        let transport = self.transport([client, vip], protocol, port);
        let protocol = protocol.number().into();
        let header = match (client, vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                let length = u16::try_from(transport.len()).expect("a datagram");
                let [client, vip] = [client.octets(), vip.octets()];
                let header = Ipv4Header::new(length, 57, protocol, client, vip);
                let mut header = header.expect("it fits");
                header.identification = 0x1234;
                header.dont_fragment = self.has(extra::DONT_FRAGMENT);
                header.more_fragments = self.has(extra::FIRST_FRAGMENT);
                if self.has(extra::LATER_FRAGMENT) {
                    header.fragment_offset = IpFragOffset::try_new(185).expect("13 bits");
                }
                if self.has(extra::CONGESTED) {
                    header.ecn = etherparse::IpEcn::try_new(3).expect("2 bits");
                }
                header.header_checksum = header.calc_header_checksum();
                header.to_bytes().to_vec()
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                let header = Ipv6Header {
                    traffic_class: if self.has(extra::CONGESTED) { 3 } else { 0 },
                    flow_label: Ipv6FlowLabel::default(),
                    payload_length: transport.len().try_into().expect("a datagram"),
                    next_header: protocol,
                    hop_limit: 57,
                    source: client.octets(),
                    destination: vip.octets(),
                };
                header.to_bytes().to_vec()
            }
            _ => unreachable!("a client of the VIP's family"),
        };
        [header, transport].concat()
    }

    fn ethernet(&self, vip: IpAddr, packet: &[u8]) -> Vec<u8> {
        const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x01, 0xc1];
        const OTHERS_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x01, 0x77];

        let carried: EtherType = match vip {
            IpAddr::V4(_) => ether_type::IPV4,
            IpAddr::V6(_) => ether_type::IPV6,
        };
        let for_others = self.has(extra::FOR_OTHERS);
        let ethernet = Ethernet2Header {
            destination: if for_others { OTHERS_MAC } else { LAN.mac },
            source: CLIENT_MAC,
            ether_type: if self.has(extra::TAG) {
                ether_type::VLAN_TAGGED_FRAME
            } else {
                carried
            },
        };
        let mut frame = ethernet.to_bytes().to_vec();
        if self.has(extra::TAG) {
            let tag = SingleVlanHeader {
                vlan_id: VlanId::try_new(9).expect("12 bits"),
                ether_type: carried,
                ..SingleVlanHeader::default()
            };
            frame.extend(tag.to_bytes());
        }
        frame.extend(packet);
        if self.has(extra::PADDING) {
            frame.extend([0; 7]);
        }
        frame
    }
}
