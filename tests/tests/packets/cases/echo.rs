//! Pings: the program answers for a VIP that is up.

use std::net::IpAddr;

use etherparse::{IcmpEchoHeader, Ipv4Header};
use lb_common::DropReason::{MartianSource, NoRealServer};

use crate::{
    case::Case,
    fixture::{ALL_DOWN, ANY, DOWN, FAR, NEAR},
    frames::{
        BROADCAST, CLIENT_MAC, Extension, Family, Flow, Icmp, SHORTEST, STRANGER_MAC, Segment, Tag,
        padded,
    },
};

const HEADER: IcmpEchoHeader = IcmpEchoHeader { id: 7, seq: 1 };
const PING: &[u8] = b"what ping sends";

pub fn cases() -> Vec<Case> {
    Family::ALL.into_iter().flat_map(every_family).collect()
}

/// What a ping goes in.
pub fn envelope(family: Family, destination: IpAddr) -> Segment {
    let flow = Flow::over(family).next().expect("a flow");
    Segment::between(flow, destination, 0)
}

/// The frame of a ping.
pub fn request(envelope: &Segment) -> Vec<u8> {
    let family = envelope.flow.family;
    envelope.icmp(&Icmp::echo_request(family, HEADER), PING)
}

/// What becomes of it.
fn reply(envelope: &Segment, payload: &[u8]) -> Vec<u8> {
    let reply = Icmp::echo_reply(envelope.flow.family, HEADER);
    let back = envelope.reversed().with(|it| {
        it.destination_mac = CLIENT_MAC;
        it.source_mac = envelope.destination_mac;
        it.ttl = 64;
    });
    back.icmp(&reply, payload)
}

fn every_family(family: Family) -> Vec<Case> {
    let to = |destination| envelope(family, destination);
    let vip = to(NEAR.vip(family));
    let name = |what: &str| format!("echo request over {family}: {what}");
    let answered = |what: &str, envelope: &Segment| {
        Case::answered(name(what), request(envelope), reply(envelope, PING))
    };
    let passed = |what: &str, frame| Case::passed(name(what), frame);
    let with = |change: &dyn Fn(&mut Segment)| vip.with(change);
    let tagged = |tags: &[Tag]| with(&|it| it.tags = tags.to_vec());
    let of_kind = |kind, code| vip.icmp(&Icmp::of(family, kind, code, [0, 7, 0, 1]), PING);
    let (echo_request, echo_reply) = match family {
        Family::V4 => (8, 0),
        Family::V6 => (128, 129),
    };
    let with_payload = |length: usize| {
        let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let frame = vip.icmp(&Icmp::echo_request(family, HEADER), &payload);
        let name = name(&format!("{length} bytes of payload"));
        Case::answered(name, frame, reply(&vip, &payload))
    };
    let by_far = with(&|it| it.destination_mac = FAR.mac);
    let martian = match family {
        Family::V4 => "255.255.255.255",
        Family::V6 => "ff02::1",
    };
    let martian: IpAddr = martian.parse().expect("an address");
    let flooded = |destination| to(destination).with(|it| it.destination_mac = STRANGER_MAC);
    let mut cases = vec![
        answered("to a VIP", &vip),
        answered(
            "to a VIP with one virtual server down",
            &to(DOWN.vip(family)),
        ),
        answered("to a VIP with any port", &to(ANY.vip(family))),
        answered("TTL 1", &with(&|it| it.ttl = 1)),
        answered("TTL 64", &with(&|it| it.ttl = 64)),
        answered("TTL 255", &with(&|it| it.ttl = 255)),
        answered(
            "every bit of the traffic class",
            &with(&|it| it.traffic_class = 0xff),
        ),
        answered("in a VLAN", &tagged(&[Tag::q(7)])),
        answered("in two VLANs", &tagged(&[Tag::ad(9), Tag::q(7)])),
        answered("by another interface", &by_far).by(&FAR),
        Case::answered(
            name("padded"),
            padded(request(&vip), SHORTEST + 20),
            padded(reply(&vip, PING), SHORTEST + 20),
        ),
        with_payload(0),
        with_payload(1),
        with_payload(1400),
        with_payload(8900),
        Case::dropped(
            name("to a VIP that is down"),
            request(&to(ALL_DOWN.vip(family))),
            NoRealServer,
        ),
        Case::dropped(
            name("from a multicast or broadcast address"),
            request(&with(&|it| it.source = martian)),
            MartianSource,
        ),
        Case::dropped(
            name("from the VIP to itself"),
            request(&with(&|it| it.source = it.destination)),
            MartianSource,
        ),
        passed("to another address", request(&to(family.stranger()))),
        passed("to another station", request(&flooded(NEAR.vip(family)))),
        passed(
            "to another station, the VIP is down",
            request(&flooded(ALL_DOWN.vip(family))),
        ),
        passed(
            "to another station, from the VIP to itself",
            request(&flooded(NEAR.vip(family)).with(|it| it.source = it.destination)),
        ),
        passed(
            "in a broadcast frame",
            request(&with(&|it| it.destination_mac = BROADCAST)),
        ),
        passed(
            "in three VLANs",
            request(&tagged(&[Tag::ad(9), Tag::q(7), Tag::q(5)])),
        ),
        passed("an unassigned code", of_kind(echo_request, 1)),
        passed("a reply", of_kind(echo_reply, 0)),
        passed("an unassigned type", of_kind(44, 0)),
        passed("an experimental type", of_kind(253, 0)),
    ];
    match family {
        Family::V4 => {
            let options =
                |options: &[u8]| with(&|it| it.options = options.try_into().expect("whole words"));
            cases.extend([
                answered("4 bytes of options", &options(&[1; 4])),
                answered("40 bytes of options", &options(&[1; 40])),
                answered("may be fragmented", &with(&|it| it.dont_fragment = false)),
            ]);
            let kinds = [4, 5, 9, 10, 13, 15, 17];
            cases.extend(kinds.map(|kind| passed(&format!("type {kind}"), of_kind(kind, 0))));
        }
        Family::V6 => {
            let extended =
                |extensions: &[Extension]| with(&|it| it.extensions = extensions.to_vec());
            cases.extend([
                answered("hop-by-hop options", &extended(&[Extension::hop_by_hop(8)])),
                answered(
                    "destination options",
                    &extended(&[Extension::destination_options(256)]),
                ),
            ]);
            let kinds = [130, 131, 132, 133, 134, 136, 137, 143];
            cases.extend(kinds.map(|kind| passed(&format!("type {kind}"), of_kind(kind, 0))));
        }
    }
    let first = match family {
        Family::V4 => {
            let mut frame = request(&vip);
            let (mut header, _) = Ipv4Header::from_slice(&frame[14..]).expect("an IPv4 packet");
            header.dont_fragment = false;
            header.more_fragments = true;
            header.header_checksum = header.calc_header_checksum();
            frame[14..34].copy_from_slice(&header.to_bytes());
            frame
        }
        Family::V6 => request(&with(&|it| {
            it.extensions = vec![Extension::fragment(0, true, 7)];
        })),
    };
    cases.push(passed("a first fragment", first));
    cases
}
