//! What clients are told of connections that are unknown.

use etherparse::TcpHeader;
use lb_common::DropReason::{UnknownSession, UnknownSessionReset};
use lb_ebpf::Verdict;

use super::balancer::{Balancer, DROP, RESET, ack, client, counted_drop, fin, rst, tcp};
use crate::{
    backend::{Backend, Observed},
    frames::{Extension, Family, Segment, Tag},
};

/// The RST that answers a segment (RFC 9293 section 3.10.7.1).
pub fn answer(segment: &Segment) -> Vec<u8> {
    let TcpHeader {
        sequence_number,
        acknowledgment_number,
        syn,
        fin,
        ack,
        ..
    } = segment.tcp;
    let mut tcp = TcpHeader::new(0, 0, 0, 0);
    tcp.rst = true;
    if ack {
        tcp.sequence_number = acknowledgment_number;
    } else {
        let length = segment.payload.len() as u32 + u32::from(syn) + u32::from(fin);
        tcp.ack = true;
        tcp.acknowledgment_number = sequence_number.wrapping_add(length);
    }
    Segment {
        destination_mac: segment.source_mac,
        source_mac: segment.destination_mac,
        ttl: 64,
        traffic_class: 0,
        identification: 0,
        options: Default::default(),
        extensions: Vec::new(),
        tcp,
        payload: Vec::new(),
        ..segment.reversed()
    }
    .frame()
}

pub fn a_packet_in_mid_stream_is_answered_with_a_rst(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let segment = client(flow, RESET, 40_000);
        let bare = segment.with(|it| it.tcp.syn = false);
        let mut segments = vec![
            ack(&segment),
            fin(&segment),
            ack(&segment).with(|it| it.tcp.syn = true),
            bare.clone(),
            bare.with(|it| it.tcp.fin = true),
            bare.with(|it| it.payload.clear()),
            bare.with(|it| it.tcp.sequence_number = u32::MAX),
            ack(&segment).with(|it| it.tags = vec![Tag::q(7)]),
            ack(&segment).with(|it| it.traffic_class = 0xb9),
            ack(&segment).with_packet_length(1500),
            bare.with_packet_length(9000),
        ];
        match flow.family {
            Family::V4 => segments.push(ack(&segment).with(|it| {
                it.options = [7, 7, 4, 0].as_slice().try_into().unwrap();
            })),
            Family::V6 => segments.push(bare.with(|it| {
                it.extensions = vec![Extension::hop_by_hop(16), Extension::destination_options(8)];
            })),
        }
        for segment in segments {
            let seen = balancer.run(&segment.frame());
            let expected = Observed {
                verdict: Verdict::Transmit,
                output: answer(&segment),
                counted: [counted_drop(UnknownSessionReset)].into(),
            };
            assert_eq!(seen, expected, "{flow}: {:?}", segment.tcp);
        }
        assert_eq!(balancer.active(RESET, flow), [0; 3], "{flow}");
        let server = balancer.begin(RESET, &segment);
        assert_eq!(balancer.follow(RESET, &ack(&segment)), server, "{flow}");
    }
}

pub fn a_rst_is_never_answered(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        for segment in [
            rst(&client(flow, RESET, 40_000)),
            fin(&rst(&client(flow, RESET, 40_000))),
        ] {
            let seen = balancer.run(&segment.frame());
            assert_eq!(seen.verdict, Verdict::Drop(UnknownSession), "{flow}");
            assert_eq!(
                seen.counted,
                [counted_drop(UnknownSession)].into(),
                "{flow}"
            );
        }
    }
}

pub fn a_packet_in_mid_stream_is_dropped(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let segment = client(flow, DROP, 40_000);
        for segment in [ack(&segment), fin(&segment), rst(&segment)] {
            let seen = balancer.run(&segment.frame());
            assert_eq!(seen.verdict, Verdict::Drop(UnknownSession), "{flow}");
            assert_eq!(
                seen.counted,
                [counted_drop(UnknownSession)].into(),
                "{flow}"
            );
        }
        let server = balancer.begin(DROP, &segment);
        assert_eq!(balancer.follow(DROP, &ack(&segment)), server, "{flow}");
    }
}
