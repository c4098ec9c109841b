//! What does not fit the way to its server: the client is told the MTU that would.

use std::net::IpAddr;

use lb_common::DropReason::TooBigUnanswered;

use crate::{
    case::Case,
    fixture::{FAR, Service, TIGHT, tunnels},
    frames::{CLIENT_MAC, Extension, Family, Flow, Icmp, STRANGER_MAC, Segment, Tag, padded},
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for flow in Flow::all() {
        for service in tunnels().chain([&TIGHT]) {
            cases.extend(every_service(flow, service));
        }
    }
    cases
}

/// The error about a segment: from the VIP, by the way that the segment came, quoting as much as fits in 576 bytes
/// (RFC 1812 section 4.3.2.3) or in 1280 (RFC 4443 section 3.2).
pub fn error(segment: &Segment, packet: &[u8], mtu: usize) -> Vec<u8> {
    let family = segment.flow.family;
    let (traffic_class, quoted) = match family {
        // Internetwork control (RFC 1812 section 4.3.2.5); the length is one of whole words of 8 bytes.
        Family::V4 => (0xc0, 544),
        Family::V6 => (0, 1280 - 40 - 8),
    };
    let envelope = Segment {
        destination_mac: CLIENT_MAC,
        source_mac: segment.destination_mac,
        source: segment.destination,
        destination: segment.source,
        ttl: 64,
        traffic_class,
        identification: 0,
        dont_fragment: true,
        options: Default::default(),
        extensions: Vec::new(),
        fragmentable: Vec::new(),
        ..segment.clone()
    };
    let mtu = mtu.try_into().expect("an MTU");
    envelope.icmp(&Icmp::too_big(family, mtu), &packet[..quoted])
}

fn every_service(flow: Flow, service: &'static Service) -> Vec<Case> {
    let fits = service.fits();
    let segment = Segment::to(flow, service, service.port()).with_packet_length(fits + 1);
    let name = |what: &str| format!("{flow}: {what} ({service})");
    let refused = |what: &str, segment: &Segment| {
        let error = error(segment, &segment.packet(), fits);
        Case::refused(name(what), segment.frame(), error)
    };
    let with = |change: &dyn Fn(&mut Segment)| segment.with(change);
    let tagged = |tags: &[Tag]| with(&|it| it.tags = tags.to_vec());
    let by_far = with(&|it| it.destination_mac = FAR.mac);
    let mut cases = vec![
        refused("one byte too long", &segment),
        refused("as long as can be", &segment.with_packet_length(9000)),
        refused("too long, in a VLAN", &tagged(&[Tag::q(7)])),
        refused("too long, in two VLANs", &tagged(&[Tag::ad(9), Tag::q(7)])),
        refused(
            "too long, any traffic class",
            &with(&|it| it.traffic_class = 0xff),
        ),
        refused("too long, TTL 1", &with(&|it| it.ttl = 1)),
        refused("too long, by the other interface", &by_far).by(&FAR),
        Case::refused(
            name("too long, with padding"),
            padded(segment.frame(), fits + 40),
            error(&segment, &segment.packet(), fits),
        ),
        Case::segment_passed(
            format!("too long, for another station ({service})"),
            &with(&|it| it.destination_mac = STRANGER_MAC),
        ),
        icmp_error(flow, service),
    ];
    cases.extend(fragments(flow, service));
    match flow.family {
        Family::V4 => {
            let options = [1; 40].as_slice().try_into().expect("40 bytes fit");
            cases.extend([
                // A program can't send two packets for one.
                refused(
                    "too long, may be fragmented",
                    &with(&|it| it.dont_fragment = false),
                ),
                refused(
                    "too long, with options",
                    &segment
                        .with(|it| it.options = options)
                        .with_packet_length(fits + 1),
                ),
            ]);
        }
        Family::V6 => {
            let extensions = vec![Extension::destination_options(64)];
            cases.push(refused(
                "too long, with extension headers",
                &segment
                    .with(|it| it.extensions = extensions)
                    .with_packet_length(fits + 1),
            ));
        }
    }
    cases
}

/// No error is sent about an error (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 e).
fn icmp_error(flow: Flow, service: &Service) -> Case {
    let answer = Segment::to(flow, service, service.port()).reversed();
    let router: IpAddr = flow.family.router();
    let envelope = Segment::between(flow, answer.source, 0).with(|it| it.source = router);
    let quote = answer.with_packet_length(service.fits()).packet();
    let frame = envelope.icmp(&Icmp::too_big(flow.family, 1280), &quote);
    let name = format!("{flow}: ICMP error that is too long ({service})");
    Case::dropped(name, frame, TooBigUnanswered)
}

/// About a first fragment an error is sent, about a later one not (RFC 1812 section 4.3.2.7).
fn fragments(flow: Flow, service: &Service) -> [Case; 2] {
    let fits = service.fits();
    let whole = Segment::to(flow, service, service.port()).with_packet_length(2 * fits + 1000);
    // More than fits, in whole words of 8 bytes.
    let cut = fits / 8 * 8;
    let first = whole.fragment(0..cut);
    let quoted = whole.fragment_packet(0..cut);
    let name = |what: &str| format!("{flow}: {what} fragment that is too long ({service})");
    let error = error(&whole, &quoted, fits);
    [
        Case::refused(name("first"), first.clone(), error),
        Case::dropped(
            name("later"),
            whole.fragment(cut..2 * cut),
            TooBigUnanswered,
        )
        .after(vec![first]),
    ]
}
