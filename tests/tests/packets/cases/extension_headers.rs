//! IPv6 extension headers: looked through, as many as a packet should have (RFC 8200 section 4.1).

use std::slice::from_ref;

use etherparse::ip_number;

use crate::{
    case::Case,
    fixture::{NEAR, TUNNEL},
    frames::{Extension, Family, Flow, Segment},
};

pub fn cases() -> Vec<Case> {
    Flow::over(Family::V6).flat_map(every_flow).collect()
}

fn every_flow(flow: Flow) -> Vec<Case> {
    let segment = Segment::to(flow, &NEAR, 80);
    let with = |extensions: &[Extension]| segment.with(|it| it.extensions = extensions.to_vec());
    let hop_by_hop = &Extension::hop_by_hop(8);
    let destination = &Extension::destination_options(8);
    let routing = &Extension::routing(0);
    let atomic = &Extension::fragment(0, false, 0x0102_0304);
    let first = &Extension::fragment(0, true, 0x0102_0304);
    let forwarded: &[(&str, &[&Extension])] = &[
        ("hop-by-hop options", &[hop_by_hop]),
        (
            "256 bytes of hop-by-hop options",
            &[&Extension::hop_by_hop(256)],
        ),
        ("destination options", &[destination]),
        (
            "as many destination options as can be",
            &[&Extension::destination_options(2048)],
        ),
        ("routing header at its last segment", &[routing]),
        ("atomic fragment header", &[atomic]),
        ("two atomic fragment headers", &[atomic, atomic]),
        ("destination options twice", &[destination, destination]),
        (
            "every header, in the order of RFC 8200",
            &[hop_by_hop, destination, routing, atomic, destination],
        ),
        (
            "every header, in another order",
            &[destination, atomic, routing, destination, hop_by_hop],
        ),
        ("five headers", &[destination; 5]),
    ];
    let routing_on = &Extension::routing(1);
    let passed: &[(&str, &[&Extension])] = &[
        ("six headers", &[destination; 6]),
        (
            "every header and one more",
            &[
                hop_by_hop,
                destination,
                routing,
                atomic,
                destination,
                destination,
            ],
        ),
        ("routing header with a segment left", &[routing_on]),
        (
            "routing header with 255 segments left",
            &[&Extension::routing(255)],
        ),
        (
            "a segment left after options",
            &[hop_by_hop, destination, routing_on],
        ),
        ("two headers of a first fragment", &[first, first]),
        ("a first fragment of a whole one", &[first, atomic]),
        ("authentication header", &[&Extension::authentication()]),
        (
            "authentication header after options",
            &[destination, &Extension::authentication()],
        ),
        ("mobility header", &[&Extension::unusual(135)]),
        ("host identity", &[&Extension::unusual(139)]),
        ("shim6", &[&Extension::unusual(140)]),
        ("experimental header", &[&Extension::unusual(253)]),
    ];
    let clone = |extensions: &[&Extension]| -> Vec<Extension> {
        extensions.iter().map(|&it| it.clone()).collect()
    };
    let mut cases = Vec::new();
    for (what, extensions) in forwarded {
        let extended = with(&clone(extensions));
        cases.push(Case::forwarded(what, &extended, &NEAR));
        for tunnel in &TUNNEL {
            let tunnelled = extended.with(|it| it.destination_port = tunnel.port());
            if tunnelled.packet().len() <= tunnel.fits() {
                cases.push(Case::forwarded(what, &tunnelled, tunnel));
            }
        }
    }
    for (what, extensions) in passed {
        cases.push(Case::segment_passed(what, &with(&clone(extensions))));
    }
    for (what, protocol) in [
        ("no next header", ip_number::IPV6_NO_NEXT_HEADER),
        ("ESP", ip_number::ENCAPSULATING_SECURITY_PAYLOAD),
        ("SCTP", ip_number::SCTP),
        ("IPv6 in IPv6", ip_number::IPV6),
    ] {
        for (place, extensions) in [("", vec![]), (" after options", vec![destination.clone()])] {
            let frame = with(&extensions).of_protocol(protocol, &[0; 64]);
            cases.push(Case::passed(format!("{flow}: {what}{place}"), frame));
        }
    }
    cases.extend(lengths(&with(from_ref(destination))));
    cases
}

/// A header that says that it is longer than the packet, which its next header would be in.
fn lengths(segment: &Segment) -> Vec<Case> {
    const LENGTH: usize = 14 + 40 + 1;
    let longest = (segment.frame().len() - LENGTH) / 8;
    let from = longest as u8;
    [from, from + 1, 0x7f, 0xff]
        .map(|length| {
            let mut frame = segment.frame();
            frame[LENGTH] = length;
            Case::passed(format!("{}: header of {length} words", segment.flow), frame)
        })
        .into()
}
