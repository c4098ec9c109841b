//! The packets of a case, built by etherparse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::Zeroable;
use etherparse::{
    Ethernet2Header, Icmpv4Type, Icmpv6Type, IpFragOffset, IpHeaders, Ipv4Header,
    Ipv6FragmentHeader, Ipv6Header, PacketBuilder, PacketBuilderStep, UdpHeader, ether_type,
    icmpv4::DestUnreachableHeader, ip_number,
};
use lb_common::benchmark::{OWN_MAC, Stream};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];
const MTU: u16 = 1400;

/// What the packets are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Syn,
    Ack,
    Udp,
    /// Of a UDP datagram.
    FirstFragment,
    LaterFragment,
    /// A router could not forward a real server's packet to the client.
    IcmpError,
}

/// Packets that differ in client and port.
#[derive(Clone)]
pub struct Traffic {
    /// One of them.
    pub frame: Vec<u8>,
    pub stream: Stream,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    const fn header_length(self) -> usize {
        match self {
            Self::V4 => Ipv4Header::MIN_LEN,
            Self::V6 => Ipv6Header::LEN,
        }
    }

    /// Where the last four bytes of source and destination are in an IP header.
    const fn address_places(self) -> [usize; 2] {
        match self {
            Self::V4 => [12, 16],
            Self::V6 => [20, 36],
        }
    }

    fn first_client(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(Stream::FIRST_CLIENT).into(),
            Self::V6 => {
                let high = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 0));
                Ipv6Addr::from(high | u128::from(Stream::FIRST_CLIENT)).into()
            }
        }
    }

    fn router(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(203, 0, 113, 1).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1).into(),
        }
    }
}

impl Traffic {
    /// More flows than anybody sends packets.
    pub const WITHOUT_END: u32 = 1 << 31;

    /// To a port of a VIP, from this many flows, a power of two.
    pub fn new(kind: Kind, vip: IpAddr, port: u16, flows: u32) -> Self {
        let family = Family::of(vip);
        let frame = frame(kind, family, vip, port);
        let mut head = [0; Stream::HEAD / 8];
        bytemuck::bytes_of_mut(&mut head).copy_from_slice(&frame[..Stream::HEAD]);
        let ip = Ethernet2Header::LEN;
        let payload = ip + family.header_length();
        let [source, destination] = family.address_places();
        let (client, port) = match (kind, family) {
            (Kind::Syn | Kind::Ack | Kind::Udp, _) => (ip + source, payload),
            (Kind::FirstFragment | Kind::LaterFragment, Family::V4) => (ip + source, ip + 4),
            (Kind::FirstFragment | Kind::LaterFragment, Family::V6) => (ip + source, payload + 6),
            (Kind::IcmpError, _) => {
                const ICMP: usize = 8;
                let quoted = payload + ICMP;
                (quoted + destination, quoted + family.header_length() + 2)
            }
        };
        let first_vip = &frame[ip + destination..][..4];
        let stream = Stream {
            head,
            length: frame.len() as u32,
            client: client as u32,
            port: port as u32,
            vip: (ip + destination) as u32,
            first_vip: u32::from_be_bytes(first_vip.try_into().expect("four bytes")),
            ..Stream::zeroed()
        };
        // Fragments show no ports: the flows of a client would be one.
        let flows_of_client = match kind {
            Kind::FirstFragment | Kind::LaterFragment => 1,
            _ => 1 << 14,
        };
        Self { frame, stream }
            .with_flows(flows)
            .with_flows_of_client(flows_of_client)
    }

    /// From another number of flows, a power of two.
    #[must_use]
    pub fn with_flows(mut self, flows: u32) -> Self {
        assert!(flows.is_power_of_two());
        self.stream.flows = flows - 1;
        self
    }

    /// With so many flows of each client, a power of two.
    #[must_use]
    pub fn with_flows_of_client(mut self, flows: u32) -> Self {
        assert!(flows.is_power_of_two());
        self.stream.flows_of_client = flows - 1;
        self.stream.client_shift = flows.ilog2();
        self
    }

    /// Spreads over so many VIPs, a power of two, which follow one another.
    pub fn spread_over(&mut self, vips: u32) {
        assert!(vips.is_power_of_two());
        self.stream.vips = vips - 1;
    }

    /// Goes to a VIP whose last four bytes, as a number, are so much more.
    pub fn move_vip(&mut self, by: u32) {
        self.stream.first_vip += by;
    }

    /// From the packet with this number on.
    #[must_use]
    pub fn starting_at(&self, next: u64) -> Self {
        let mut traffic = self.clone();
        traffic.stream.next = next;
        traffic
    }

    /// How many flows there are.
    pub const fn flows(&self) -> u32 {
        self.stream.flows + 1
    }

    /// How many flows each client has.
    pub const fn flows_of_client(&self) -> u32 {
        self.stream.flows_of_client + 1
    }

    /// The packet with this number, as the program makes it.
    pub fn packet(&self, number: u64) -> Vec<u8> {
        let Stream {
            flows,
            flows_of_client,
            vips,
            client,
            port,
            vip,
            first_vip,
            ..
        } = self.stream;
        let flow = number as u32 & flows;
        let mut frame = self.frame.clone();
        let mut put = |place: u32, bytes: &[u8]| {
            frame[place as usize..][..bytes.len()].copy_from_slice(bytes);
        };
        let client_number = Stream::FIRST_CLIENT + flow / (flows_of_client + 1);
        put(client, &client_number.to_be_bytes());
        put(
            port,
            &(Stream::FIRST_PORT + (flow & flows_of_client) as u16).to_be_bytes(),
        );
        put(vip, &(first_vip + (flow & vips)).to_be_bytes());
        frame
    }
}

fn frame(kind: Kind, family: Family, vip: IpAddr, port: u16) -> Vec<u8> {
    let client = family.first_client();
    let ethernet = || PacketBuilder::ethernet2(CLIENT_MAC, OWN_MAC);
    let from_client = || ethernet().ip(ip_headers(client, vip));
    // As much as makes the shortest packet as long as what is written anew of each.
    let payload = [0; Stream::HEAD - Ethernet2Header::LEN - Ipv4Header::MIN_LEN];
    let mut frame = Vec::new();
    match kind {
        Kind::Syn => {
            let segment = from_client().tcp(Stream::FIRST_PORT, port, 1, 65_535);
            segment.syn().write(&mut frame, &payload)
        }
        Kind::Ack => {
            let segment = from_client().tcp(Stream::FIRST_PORT, port, 1, 65_535);
            segment.ack(1).write(&mut frame, &payload)
        }
        Kind::Udp => {
            let datagram = from_client().udp(Stream::FIRST_PORT, port);
            datagram.write(&mut frame, &payload)
        }
        Kind::FirstFragment | Kind::LaterFragment => {
            return fragment(kind == Kind::FirstFragment, client, vip, port);
        }
        Kind::IcmpError => {
            let mut quoted = Vec::new();
            let lost: PacketBuilderStep<IpHeaders> = PacketBuilder::ip(ip_headers(vip, client));
            let lost = lost.tcp(port, Stream::FIRST_PORT, 1, 65_535).ack(1);
            lost.write(&mut quoted, &payload).expect("a packet");
            let error = ethernet().ip(ip_headers(family.router(), vip));
            match family {
                Family::V4 => {
                    let too_big = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: MTU };
                    let error = error.icmpv4(Icmpv4Type::DestinationUnreachable(too_big));
                    error.write(&mut frame, &quoted)
                }
                Family::V6 => {
                    let error = error.icmpv6(Icmpv6Type::PacketTooBig { mtu: MTU.into() });
                    error.write(&mut frame, &quoted)
                }
            }
        }
    }
    .expect("a packet");
    frame
}

fn ip_headers(source: IpAddr, destination: IpAddr) -> IpHeaders {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header {
                time_to_live: 64,
                source: source.octets(),
                destination: destination.octets(),
                dont_fragment: true,
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, Default::default())
        }
        _ => panic!("from {source} to {destination}"),
    }
}

/// The first or the second half of a UDP datagram.
fn fragment(is_first: bool, client: IpAddr, vip: IpAddr, port: u16) -> Vec<u8> {
    const HALF: u16 = 96;
    let data = [0; 2 * HALF as usize - UdpHeader::LEN];
    let udp = UdpHeader::without_ipv4_checksum(Stream::FIRST_PORT, port, data.len())
        .expect("it fits a datagram");
    let datagram = [&udp.to_bytes()[..], &data].concat();
    let (first, second) = datagram.split_at(HALF.into());
    let (bytes, offset) = if is_first {
        (first, 0)
    } else {
        (second, HALF / 8)
    };
    let offset = IpFragOffset::try_new(offset).expect("13 bits");
    let mut headers = ip_headers(client, vip);
    let ether_type = match &mut headers {
        IpHeaders::Ipv4(header, _) => {
            header.dont_fragment = false;
            header.more_fragments = is_first;
            header.fragment_offset = offset;
            ether_type::IPV4
        }
        IpHeaders::Ipv6(_, extensions) => {
            let header = Ipv6FragmentHeader::new(ip_number::UDP, offset, is_first, 0);
            extensions.fragment = Some(header);
            ether_type::IPV6
        }
    };
    headers.set_next_headers(ip_number::UDP);
    headers
        .set_payload_len(bytes.len())
        .expect("it fits a packet");
    let ethernet = Ethernet2Header {
        source: CLIENT_MAC,
        destination: OWN_MAC,
        ether_type,
    };
    let mut frame = ethernet.to_bytes().to_vec();
    headers.write(&mut frame).expect("a packet");
    frame.extend_from_slice(bytes);
    frame
}
