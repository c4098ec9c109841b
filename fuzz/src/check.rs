//! What must hold, whatever happens.

use std::net::IpAddr;

use etherparse::{LaxNetSlice, LaxSlicedPacket};
use lb_common::{Address, Counters, decapsulator::Fate};
use lb_ebpf::Verdict;
use lb_user::dataplane::Tables;

use crate::{
    decapsulator::Decapsulator,
    memory::{Counter, Seen},
    network::{FAR, LAN, Port, SERVERS, VIPS},
    oracle,
    scenario::{Event, Scenario, Stage},
};

/// Lets a scenario happen, with the shortcut and without it.
///
/// # Panics
/// Something doesn't hold.
pub fn scenario(scenario: &Scenario) {
    let mut stage = Stage::new(&scenario.services);
    let mut whole_path = Stage::new(&scenario.services);
    whole_path.balancer = whole_path.balancer.without_shortcut();
    for event in &scenario.events {
        let seen = stage.happen(event);
        assert_eq!(seen, whole_path.happen(event), "the shortcut differs");
        if let (Event::Frame(ingress, frame), Some(seen)) = (event, &seen) {
            outcome(ingress, frame, seen);
        }
    }
    let tables = stage.balancer.reconciler().tables();
    assert_eq!(
        sessions(tables),
        sessions(whole_path.balancer.reconciler().tables()),
        "the shortcut's sessions differ"
    );
    active_sessions(tables);
}

/// What holds for what becomes of any frame.
///
/// # Panics
/// It doesn't.
pub fn outcome(ingress: &Port, input: &[u8], seen: &Seen) {
    let Seen {
        verdict,
        output,
        counted,
    } = seen;
    let egress = match *verdict {
        Verdict::Pass => {
            assert_eq!(output, input, "it was touched");
            assert!(counted.is_empty(), "{counted:?}");
            return;
        }
        _ if !mentions_a_vip(input) => panic!("it mentions no VIP: {verdict:?}"),
        Verdict::Drop(reason) => {
            assert_eq!(packets(seen), [1], "one drop");
            assert!(counted.contains_key(&Counter::Drop(reason.name())));
            return;
        }
        Verdict::Transmit => ingress,
        Verdict::Redirect(ifindex) => [&LAN, &FAR]
            .into_iter()
            .find(|port| port.ifindex == ifindex && *port != ingress)
            .expect("another interface"),
    };
    assert_eq!(output[6..12], egress.mac, "not from the interface");
    let forwarded = |(counter, counters): &(&Counter, &Counters)| {
        let is_drop = matches!(counter, Counter::Drop(_) | Counter::Event(_));
        !is_drop && counters.packets != 0
    };
    let forwarded: Vec<_> = counted.iter().filter(forwarded).collect();
    let bytes = |(_, counters): &(&Counter, &Counters)| counters.bytes;
    match &forwarded[..] {
        [] => {
            let refused = counted.keys().any(|it| matches!(it, Counter::Drop(_)));
            assert!(refused || oracle::is_answer(output), "it answers nothing");
            assert_eq!(*verdict, Verdict::Transmit);
            // Who has no address yet gets its answer with all others (RFC 4861 section 7.2.4).
            let receivers = [&input[6..12], &[0x33, 0x33, 0, 0, 0, 1]];
            assert!(receivers.contains(&&output[..6]), "it goes elsewhere");
            if refused {
                let checked = oracle::check(output);
                checked.unwrap_or_else(|error| panic!("{error}: {output:02x?}"));
            }
        }
        [binding] => {
            assert_eq!(packets(seen), [1], "{counted:?}");
            assert!(bytes(binding) <= input.len() as u64, "{counted:?}");
            let server = SERVERS.iter().find(|it| it.mac == output[..6]);
            let server = server.expect("it goes to a server");
            let on_wire = bytes(binding) as usize + output.len() - input.len();
            assert!(on_wire <= server.mtu as usize + 14 + 8, "it is too big");
            if output.len() == input.len() {
                assert_eq!(output[12..], input[12..], "more than MACs changed");
            } else {
                encapsulated(input, output, server.address.parse().expect("an address"));
            }
        }
        _ => panic!("{counted:?}"),
    }
    // A checksum that was wrong before stays wrong, so that its receiver sees it.
    if oracle::check(input).is_ok() {
        let checked = oracle::check(output);
        checked.unwrap_or_else(|error| panic!("{error}: {output:02x?}"));
    }
}

/// Packets that were counted, by each counter that counts packets.
fn packets(seen: &Seen) -> Vec<u64> {
    let counters = seen.counted.iter();
    let counters = counters.filter(|(counter, counters)| {
        !matches!(counter, Counter::Event(_)) && counters.packets != 0
    });
    counters.map(|(_, counters)| counters.packets).collect()
}

/// The server gets what the client sent: nothing but an outer header was put before the packet.
fn encapsulated(input: &[u8], output: &[u8], server: IpAddr) {
    let packet = LaxSlicedPacket::from_ethernet(output).expect("an Ethernet frame");
    let [source, destination]: [IpAddr; 2] = match packet.net.expect("an outer header") {
        LaxNetSlice::Ipv4(ip) => [
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ],
        LaxNetSlice::Ipv6(ip) => [
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ],
        LaxNetSlice::Arp(_) => panic!("ARP"),
    };
    assert_eq!(destination, server, "the outer destination");
    assert_eq!(source.is_ipv4(), server.is_ipv4(), "the outer source");
    let real_server = Decapsulator { allows_part: false };
    let (fate, inside) = real_server.run(output);
    assert_eq!(fate, Some(Fate::Decapsulated), "{output:02x?}");
    assert_eq!(inside[12..], input[12..], "what is inside");
}

/// What holds for what a decapsulator makes of any frame.
///
/// # Panics
/// It doesn't.
pub fn decapsulated(input: &[u8], fate: Option<Fate>, output: &[u8]) {
    if fate != Some(Fate::Decapsulated) {
        assert_eq!(output, input, "it was touched");
        return;
    }
    let lost = input.len() - output.len();
    assert!((20..=60).contains(&lost), "{lost} bytes lost");
    assert_eq!(output[..12], input[..12], "MAC addresses");
    let tags = output[12..]
        .chunks(4)
        .take_while(|tag| [[0x81, 0x00], [0x88, 0xa8]].contains(&[tag[0], tag[1]]));
    let start = 14 + 4 * tags.count();
    // In the first bytes is the congestion mark, and in IPv4 the checksum for it.
    let changed = match output[start] >> 4 {
        4 => [0, 2, 10, 12],
        6 => [0, 2, 2, 2],
        version => panic!("a packet of version {version}"),
    }
    .map(|place| start + place);
    let mut from = changed[1];
    for (until, next) in [(changed[2], changed[3]), (output.len(), 0)] {
        assert_eq!(output[from..until], input[from + lost..until + lost]);
        from = next;
    }
    // etherparse takes a payload length of 0 for all that follows, padding too.
    let is_endless = output[start] >> 4 == 6 && output[start + 4..][..2] == [0, 0];
    if !is_endless && oracle::check(input).is_ok() {
        let checked = oracle::check(output);
        checked.unwrap_or_else(|error| panic!("{error}: {output:02x?}"));
    }
}

/// Whether the bytes of a VIP are anywhere in a frame.
pub fn mentions_a_vip(frame: &[u8]) -> bool {
    let vips = VIPS.as_flattened().iter();
    let mut vips = vips.map(|vip| match vip.parse().expect("an address") {
        IpAddr::V4(vip) => vip.octets().to_vec(),
        IpAddr::V6(vip) => vip.octets().to_vec(),
    });
    vips.any(|vip| frame.windows(vip.len()).any(|bytes| bytes == vip))
}

/// A session: virtual server, binding, how far it is, client and ports.
type SessionSeen = (u32, u32, u8, Option<(Address, u16, u16)>);

/// All that is in the tables of sessions and of sticky clients.
pub fn sessions(tables: &Tables) -> Vec<SessionSeen> {
    let sessions = &tables.sessions;
    let mut seen = Vec::new();
    for table in sessions.sessions().into_iter().chain(sessions.sticky()) {
        table.visit(0..table.buckets(), &mut |slot| {
            let (state, phase) = (slot.state, slot.state.phase() as u8);
            seen.push((state.virtual_server(), state.binding(), phase, slot.key()));
        });
    }
    seen
}

/// What is counted as active is in the table.
///
/// # Panics
/// It isn't.
pub fn active_sessions(tables: &Tables) {
    let mut found = vec![0; tables.bindings.len() as usize];
    for table in tables.sessions.sessions() {
        table.visit(0..table.buckets(), &mut |slot| {
            if slot.state.is_active() {
                let virtual_server = tables.virtual_servers.get(slot.state.virtual_server());
                let binding = virtual_server.first_binding + slot.state.binding();
                found[tables.bindings.get(binding).counters_index() as usize] += 1;
            }
        });
    }
    for (counters, found) in (0..).zip(found) {
        let counted = tables.sessions.active(counters);
        assert_eq!(counted, found, "active sessions of binding {counters}");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{Ipv4Addr, Ipv6Addr},
    };

    use super::*;
    use crate::{packet::Segment, scenario::Service};
    use etherparse::{Icmpv6Type, PacketBuilder};

    const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0xc1];
    const CLIENT: [u8; 4] = [10, 9, 0, 101];
    const CLIENT6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc1];

    /// Who asks for a VIP's MAC address, and who pings it.
    fn questions() -> [Vec<u8>; 4] {
        const ARP: [u8; 10] = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
        let v4: Ipv4Addr = VIPS[0][0].parse().expect("an address");
        let v6: Ipv6Addr = VIPS[0][1].parse().expect("an address");
        let (v4, v6) = (v4.octets(), v6.octets());
        let ethernet = || PacketBuilder::ethernet2(CLIENT_MAC, LAN.mac);
        let ipv6 = || ethernet().ipv6(CLIENT6, v6, 255);
        let [mut solicitation, mut echo, mut echo6] = [const { Vec::new() }; 3];
        let target = [&v6, &[1, 1][..], &CLIENT_MAC].concat();
        let ask = ipv6().icmpv6(Icmpv6Type::NeighborSolicitation);
        ask.write(&mut solicitation, &target).expect("a vector");
        let ping = ethernet().ipv4(CLIENT, v4, 64).icmpv4_echo_request(1, 1);
        ping.write(&mut echo, b"ping").expect("a vector");
        let ping = ipv6().icmpv6_echo_request(1, 1);
        ping.write(&mut echo6, b"ping").expect("a vector");
        let parts = [
            &[0xff; 6],
            &CLIENT_MAC,
            &ARP[..],
            &CLIENT_MAC,
            &CLIENT,
            &[0; 6],
            &v4,
        ];
        [parts.concat(), solicitation, echo, echo6]
    }

    /// All that is done to frames is done, in both families. Few of them do: Miri runs this, too.
    #[test]
    fn frames_are_answered_refused_reset_and_encapsulated_as_must_be() {
        const SYN: u8 = 0;
        const ACK: u8 = 1;
        const EMPTY: u8 = 0;
        const LONG: u8 = 6;
        const DONT_FRAGMENT: u8 = 4;
        // By L3 DSR, for TCP of IPv4 and of IPv6; who has no session is reset.
        let services = &Service::at_first_vip(1, 4)[..2];
        let mut frames = questions().to_vec();
        for flow in 0..16 {
            let [service, client] = [flow & 1, flow >> 1];
            for [kind, length] in [[ACK, EMPTY], [SYN, EMPTY], [ACK, LONG]] {
                let segment = [service, 1, client, kind, length, DONT_FRAGMENT];
                frames.push(bytemuck::cast::<_, Segment>(segment).frame(services));
            }
        }
        let mut stage = Stage::new(services);
        let mut done = BTreeSet::new();
        for frame in frames {
            let is_ipv6 = frame[12..14] == [0x86, 0xdd];
            let seen = stage.happen(&Event::Frame(&LAN, frame.clone()));
            let seen = seen.expect("it is a frame");
            outcome(&LAN, &frame, &seen);
            let drop = seen.counted.keys().find_map(|counter| match counter {
                Counter::Drop(reason) => Some(*reason),
                _ => None,
            });
            let is_answer = oracle::is_answer(&seen.output);
            done.insert((
                is_ipv6,
                drop.unwrap_or(if is_answer { "answer" } else { "forward" }),
            ));
        }
        let all = ["answer", "forward", "too_big", "unknown_session_reset"];
        let all = [false, true]
            .into_iter()
            .flat_map(|is_ipv6| all.map(|it| (is_ipv6, it)));
        assert_eq!(done, all.collect());
    }
}
