//! ARP requests (RFC 826) and neighbour solicitations (RFC 4861), over packet sockets: who has the address of a real server,
//! and does one machine alone say so?
//!
//! The kernel hears the answers, too: a MAC address that has changed is in its neighbour table, and so in the maps, once the check
//! has passed.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacket, EtherType, Ethernet2Header, PacketBuilder,
};
use tokio::sync::oneshot;

use super::{Failure, destination::Awaited, packet_socket::PacketSocket};
use crate::{config::MacAddress, raw_socket::Field};

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// Type, code, checksum and flags (RFC 4861 section 4.4).
const ICMPV6: usize = 8;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// From a router it would be less (RFC 4861 section 7.1.2).
const HOP_LIMIT: u8 = 255;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// Whoever is on the segment can send answers of as many machines as they like; so few tell that there are several.
const MOST_HEARD: usize = 4;

/// The segment that a real server is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the interface there.
    pub ifindex: u32,
    /// That interface's MAC address.
    pub mac: [u8; 6],
    /// An address of this host there, of the real server's IP version.
    pub source: Option<IpAddr>,
}

type Question = (u32, IpAddr);

/// Asks, and gets the answers.
pub(super) struct ArpSockets {
    arp: PacketSocket,
    ipv6: PacketSocket,
    asked: RefCell<HashMap<Question, Asked>>,
}

/// What has come of the last question.
#[derive(Default)]
struct Asked {
    /// At most [`MOST_HEARD`].
    heard: BTreeSet<MacAddress>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    /// No other machine's answer counts.
    only: Option<MacAddress>,
    tell: oneshot::Sender<()>,
}

impl ArpSockets {
    /// # Errors
    /// Not root.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            arp: PacketSocket::open(EtherType::ARP.0, &[Field::Half(20, 2)])?,
            ipv6: PacketSocket::open(
                EtherType::IPV6.0,
                &[
                    Field::Byte(20, 58),
                    Field::Byte(21, HOP_LIMIT),
                    Field::Byte(54, NEIGHBOR_ADVERTISEMENT),
                ],
            )?,
            asked: RefCell::default(),
        })
    }

    /// Asks for an address and waits for an answer: of the machine that is known to have it, if that is fixed. The answers
    /// to the question before this one are looked at, too: two of them can't both be right.
    pub(super) async fn ask(
        &self,
        segment: Segment,
        address: IpAddr,
        only: Option<MacAddress>,
        awaited: &Awaited,
    ) -> Result<(), Failure> {
        awaited.set(match address {
            IpAddr::V4(_) => "answer to ARP",
            IpAddr::V6(_) => "neighbour advertisement",
        });
        let (tell, answered) = oneshot::channel();
        let before = {
            let mut asked = self.asked.borrow_mut();
            let asked = asked.entry((segment.ifindex, address)).or_default();
            asked.waiting.retain(|it| !it.tell.is_closed());
            asked.waiting.push(Waiting { only, tell });
            std::mem::take(&mut asked.heard)
        };
        let sent = match address {
            IpAddr::V4(address) => self.arp.send(segment.ifindex, &request(segment, address)),
            IpAddr::V6(address) => self
                .ipv6
                .send(segment.ifindex, &solicitation(segment, address)),
        };
        sent?;
        let answered = answered.await;
        answered.map_err(|_| Failure::Unsent("the check was ended".to_owned()))?;
        if only.is_none() && before.len() > 1 {
            let macs: Vec<_> = before.iter().map(MacAddress::to_string).collect();
            return Err(Failure::Answer(format!(
                "answers of several machines ({})",
                macs.join(", ")
            )));
        }
        Ok(())
    }

    /// Forgets what came of questions that are over: they may not be asked again.
    pub(super) fn forget(&self) {
        let is_asked = |asked: &Asked| asked.waiting.iter().any(|it| !it.tell.is_closed());
        self.asked.borrow_mut().retain(|_, asked| is_asked(asked));
    }

    /// Waits until there may be answers, and takes those that are there.
    pub(super) async fn receive(&self) {
        tokio::select! {
            () = self.arp.receive(|ifindex, frame| self.take(ifindex, reply(frame))) => {}
            () = self.ipv6.receive(|ifindex, frame| self.take(ifindex, advertisement(frame))) => {}
        }
    }

    fn take(&self, ifindex: u32, answer: Option<(IpAddr, [u8; 6])>) {
        let Some((address, mac)) = answer else { return };
        let Ok(mac) = MacAddress::try_from(mac) else {
            return;
        };
        if let Some(asked) = self.asked.borrow_mut().get_mut(&(ifindex, address)) {
            asked.hear(mac);
            let for_this = |it: &mut Waiting| it.only.is_none_or(|only| only == mac);
            for waiting in asked.waiting.extract_if(.., for_this) {
                let _ = waiting.tell.send(());
            }
        }
    }
}

impl Asked {
    fn hear(&mut self, mac: MacAddress) {
        if self.heard.len() < MOST_HEARD {
            self.heard.insert(mac);
        }
    }
}

/// Who has an address?
fn request(segment: Segment, address: Ipv4Addr) -> Vec<u8> {
    let source = match segment.source {
        Some(IpAddr::V4(source)) => source,
        // A probe (RFC 5227 section 2.1.1).
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let header = Ethernet2Header {
        source: segment.mac,
        destination: [0xff; 6],
        ether_type: EtherType::ARP,
    };
    let request = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: segment.mac,
        sender_ipv4: source.octets(),
        target_mac: [0; 6],
        target_ipv4: address.octets(),
    };
    [&header.to_bytes()[..], &request.to_bytes()].concat()
}

/// The address and the machine that says to have it.
fn reply(frame: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    let packet = ArpPacket::from_slice(frame.get(ETHERNET..)?).ok()?;
    let packet = packet.try_eth_ipv4().ok()?;
    let address = packet.sender_ipv4_addr().into();
    (packet.operation == ArpOperation::REPLY).then_some((address, packet.sender_mac))
}

/// Who has an address? To the group of those who may (RFC 4291 section 2.7.1).
fn solicitation(segment: Segment, address: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = address.octets();
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    let source = match segment.source {
        Some(IpAddr::V6(source)) => source,
        _ => Ipv6Addr::UNSPECIFIED,
    };
    let mut message = address.octets().to_vec();
    // Without a source address it asks whether the address is taken, and has no options (RFC 4862 section 5.4.2).
    if !source.is_unspecified() {
        message.extend([SOURCE_LINK_LAYER_ADDRESS, 1]);
        message.extend(segment.mac);
    }
    let builder = PacketBuilder::ethernet2(segment.mac, [0x33, 0x33, 0xff, a, b, c])
        .ipv6(source.octets(), group, HOP_LIMIT)
        .icmpv6_raw(NEIGHBOR_SOLICITATION, 0, [0; 4]);
    let mut frame = Vec::with_capacity(builder.size(message.len()));
    let written = builder.write(&mut frame, &message);
    written.expect("a vector takes all");
    frame
}

/// The address and the machine that says to have it.
fn advertisement(frame: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    let message = frame.get(ETHERNET + IPV6..)?;
    let address: [u8; 16] = *message.get(ICMPV6..)?.first_chunk()?;
    let mut options = message.get(ICMPV6 + address.len()..)?;
    while let &[kind, eights, ..] = options {
        match (kind, eights) {
            (TARGET_LINK_LAYER_ADDRESS, 1) => {
                return Some((address.into(), *options.get(2..)?.first_chunk()?));
            }
            // To be discarded (RFC 4861 section 4.6).
            (_, 0) => return None,
            _ => options = options.get(8 * usize::from(eights)..)?,
        }
    }
    // It may be left out in an answer to one machine: it is where the frame comes from.
    Some((address.into(), *frame.get(6..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Slice, Ipv6HeaderSlice};

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 11];
    const V4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 11);
    const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0x12, 0x3456);

    fn segment(source: Option<IpAddr>) -> Segment {
        Segment {
            ifindex: 3,
            mac: [2, 0, 0, 0, 0, 1],
            source,
        }
    }

    fn answered(operation: ArpOperation) -> Vec<u8> {
        let answer = ArpEthIpv4Packet {
            operation,
            sender_mac: MAC,
            sender_ipv4: V4.octets(),
            target_mac: [2, 0, 0, 0, 0, 1],
            target_ipv4: [10, 9, 0, 1],
        };
        [&[0; ETHERNET][..], &answer.to_bytes()].concat()
    }

    #[test]
    fn an_arp_reply_tells_who_has_the_address() {
        let frame = answered(ArpOperation::REPLY);
        assert_eq!(reply(&frame), Some((V4.into(), MAC)));
        assert_eq!(reply(&answered(ArpOperation::REQUEST)), None);
        for length in 0..frame.len() {
            assert_eq!(reply(&frame[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn an_arp_request_asks_everybody() {
        for source in [None, Some([10, 9, 0, 1].into())] {
            let frame = request(segment(source), V4);
            assert_eq!(frame[..6], [0xff; 6]);
            let packet = ArpPacket::from_slice(&frame[ETHERNET..]).unwrap();
            let packet = packet.try_eth_ipv4().unwrap();
            let asks = (packet.operation, packet.target_ipv4_addr());
            assert_eq!(asks, (ArpOperation::REQUEST, V4));
            let sender = IpAddr::from(packet.sender_ipv4_addr());
            assert_eq!(sender, source.unwrap_or(Ipv4Addr::UNSPECIFIED.into()));
        }
    }

    #[test]
    fn of_very_many_machines_that_answer_a_few_are_kept() {
        let mut asked = Asked::default();
        for [high, low] in (0..10_000u16).map(u16::to_be_bytes) {
            asked.hear([2, 0, 0, 0, high, low].try_into().unwrap());
        }
        assert_eq!(asked.heard.len(), MOST_HEARD);
    }

    /// A neighbour advertisement with these options.
    fn advertised(options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + IPV6 + ICMPV6];
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 99]);
        frame.extend(V6.octets());
        frame.extend(options);
        frame
    }

    #[test]
    fn a_neighbour_advertisement_tells_who_has_the_address() {
        let option = [&[TARGET_LINK_LAYER_ADDRESS, 1][..], &MAC].concat();
        let other = [[14, 1, 0, 0, 0, 0, 0, 0].as_slice(), &option].concat();
        let whose = |options: &[u8]| advertisement(&advertised(options));
        assert_eq!(whose(&option), Some((V6.into(), MAC)));
        assert_eq!(whose(&other), Some((V6.into(), MAC)));
        assert_eq!(whose(&[]), Some((V6.into(), [2, 0, 0, 0, 0, 99])));
        assert_eq!(whose(&option[..5]), None);
        assert_eq!(whose(&[14, 0, 0, 0, 0, 0, 0, 0]), None);
        let frame = advertised(&[]);
        for length in 0..frame.len() {
            assert_eq!(advertisement(&frame[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_neighbour_solicitation_asks_the_group_of_those_who_may_have_the_address() {
        let frame = solicitation(segment(Some("2001:db8:9::1".parse().unwrap())), V6);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        let header = Ipv6HeaderSlice::from_slice(&frame[ETHERNET..]).unwrap();
        let group: Ipv6Addr = "ff02::1:ff12:3456".parse().unwrap();
        assert_eq!(
            (header.destination_addr(), header.hop_limit()),
            (group, 255)
        );
        let message = &frame[ETHERNET + IPV6..];
        let checked = Icmpv6Slice::from_slice(message).unwrap();
        assert!(checked.is_checksum_valid(header.source(), header.destination()));
        assert_eq!(message[0], NEIGHBOR_SOLICITATION);
        assert_eq!(message[ICMPV6..ICMPV6 + 16], V6.octets());
        assert_eq!(message[ICMPV6 + 16..], [1, 1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(solicitation(segment(None), V6).len(), frame.len() - 8);
    }
}
