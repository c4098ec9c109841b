//! Packets with IPv6 extension headers pass.

use etherparse::{Ipv6Extensions, Ipv6RawExtHeader, Ipv6RoutingExtensions, ip_number};

use crate::{
    case::Case,
    fixture::NEAR,
    frames::{Family, Flow, Segment},
};

pub fn cases() -> Vec<Case> {
    Flow::over(Family::V6).flat_map(every_flow).collect()
}

fn every_flow(flow: Flow) -> Vec<Case> {
    let none = Ipv6Extensions::default();
    let hop_by_hop = Ipv6Extensions {
        hop_by_hop_options: Some(padding(6)),
        ..none.clone()
    };
    let destination = Ipv6Extensions {
        destination_options: Some(padding(6)),
        ..none.clone()
    };
    let longest = Ipv6Extensions {
        destination_options: Some(padding(254)),
        ..none.clone()
    };
    let routing = |segments_left| Ipv6Extensions {
        routing: Some(Ipv6RoutingExtensions {
            routing: route(segments_left),
            final_destination_options: None,
        }),
        ..none.clone()
    };
    let every = Ipv6Extensions {
        hop_by_hop_options: Some(padding(6)),
        destination_options: Some(padding(14)),
        routing: Some(Ipv6RoutingExtensions {
            routing: route(0),
            final_destination_options: Some(padding(6)),
        }),
        ..none.clone()
    };
    let passed = |what: &str, extensions: Ipv6Extensions| {
        let segment = Segment::to(flow, &NEAR, 80).with(|it| it.extensions = extensions);
        Case::segment_passed(what, &segment)
    };
    vec![
        passed("hop-by-hop options", hop_by_hop),
        passed("destination options", destination),
        passed("256 bytes of destination options", longest),
        passed("routing header at its last segment", routing(0)),
        passed("routing header with a segment left", routing(1)),
        passed("every extension header", every),
    ]
}

/// Options of `length` bytes that say nothing: PadN (RFC 8200 section 4.2), in a header of 2 bytes more.
fn padding(length: u8) -> Ipv6RawExtHeader {
    let mut options = vec![0; length.into()];
    options[..2].copy_from_slice(&[1, length - 2]);
    Ipv6RawExtHeader::new_raw(ip_number::UDP, &options).expect("whole words of 8 bytes")
}

/// A routing header without addresses, of an experimental type (RFC 4727 section 3.5).
fn route(segments_left: u8) -> Ipv6RawExtHeader {
    let payload = [253, segments_left, 0, 0, 0, 0];
    Ipv6RawExtHeader::new_raw(ip_number::UDP, &payload).expect("8 bytes with its beginning")
}
