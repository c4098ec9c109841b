//! What the program may choose in an outer header, over many flows.

use std::{collections::HashSet, net::IpAddr};

use etherparse::{Ipv4Header, Ipv6Header};

use crate::{
    backend::{Backend, Host},
    cases::icmp_errors,
    fixture::{LAN, Service, Sources, TUNNEL, config, sources},
    frames::{Family, Flow, Segment},
};

/// The outer header's source, and its identification or flow label.
fn outer(host: &mut Host, frame: &[u8]) -> (IpAddr, u32) {
    let output = host.run(&LAN, frame).output;
    assert!(output.len() > frame.len(), "an outer header");
    if output[14] >> 4 == 4 {
        let (header, _) = Ipv4Header::from_slice(&output[14..]).expect("an IPv4 header");
        (IpAddr::from(header.source), header.identification.into())
    } else {
        let (header, _) = Ipv6Header::from_slice(&output[14..]).expect("an IPv6 header");
        (IpAddr::from(header.source), header.flow_label.value())
    }
}

const CLIENTS: usize = 256;

/// Flows that differ in the client's port only.
fn flows(flow: Flow, service: &Service) -> impl Iterator<Item = Segment> {
    let segment = Segment::to(flow, service, service.port());
    (0..CLIENTS as u16).map(move |client| segment.with(|it| it.source_port = 40_000 + client))
}

/// Each kind of flow to each kind of server.
fn tunnelled() -> impl Iterator<Item = (Flow, &'static Service, IpAddr)> {
    Flow::all().flat_map(|flow| {
        TUNNEL.iter().map(move |service| {
            let server = service.tunnel_to(flow).expect("an outer header");
            (flow, service, server)
        })
    })
}

#[test]
fn flows_spread_over_the_configured_prefix() {
    let mut host = Host::new();
    for (flow, service, server) in tunnelled() {
        let prefix = sources(Sources::Spread, server);
        let mut seen = HashSet::new();
        for segment in flows(flow, service) {
            let (source, _) = outer(&mut host, &segment.frame());
            assert!(prefix.contains(&source), "{source} is not of {prefix}");
            seen.insert(source);
        }
        assert!(seen.len() > CLIENTS * 9 / 10, "{} sources", seen.len());
    }
}

#[test]
fn the_packets_of_a_flow_have_one_source_and_one_flow_label() {
    let mut host = Host::new();
    for (flow, service, _) in tunnelled() {
        for segment in flows(flow, service).take(16) {
            let first = outer(&mut host, &segment.frame());
            let other = segment.with(|it| {
                it.payload = vec![7; 700];
                it.ttl = 3;
                it.traffic_class = 0xb8;
                it.tcp.sequence_number += 1000;
            });
            assert_eq!(
                outer(&mut host, &other.frame()),
                first,
                "{flow} ({service})"
            );
            let answer = segment.reversed();
            let error = icmp_errors::error(&answer, &icmp_errors::least(&answer));
            assert_eq!(outer(&mut host, &error).0, first.0, "{flow} ({service})");
        }
    }
}

#[test]
fn without_a_prefix_the_source_is_the_balancers_own_address() {
    let mut host = Host::of(&config(Sources::Own));
    for (flow, service, server) in tunnelled() {
        let own = sources(Sources::Own, server).addr();
        for segment in flows(flow, service) {
            assert_eq!(
                outer(&mut host, &segment.frame()).0,
                own,
                "{flow} ({service})"
            );
        }
    }
}

#[test]
fn routers_can_tell_flows_apart_by_the_flow_label() {
    let mut host = Host::new();
    let [_, service] = &TUNNEL;
    for flow in Flow::all() {
        let labels: HashSet<u32> = flows(flow, service)
            .map(|segment| outer(&mut host, &segment.frame()).1)
            .collect();
        assert!(labels.len() > CLIENTS * 9 / 10, "{} labels", labels.len());
    }
}

/// A router may fragment the outer packet then (RFC 6864 section 4.1).
#[test]
fn packets_that_may_be_fragmented_have_identifications_of_their_own() {
    let mut host = Host::of(&config(Sources::Own));
    let [service, _] = &TUNNEL;
    for flow in Flow::over(Family::V4) {
        let may = Segment::to(flow, service, service.port()).with(|it| it.dont_fragment = false);
        let next = (0..CLIENTS as u32).map(|number| may.with(|it| it.identification = number));
        let whole: HashSet<u32> = next
            .map(|segment| outer(&mut host, &segment.frame()).1)
            .collect();
        assert_eq!(whole.len(), CLIENTS, "identifications of datagrams");
        let clients: HashSet<u32> = flows(flow, service)
            .map(|segment| segment.with(|it| it.dont_fragment = false))
            .map(|segment| outer(&mut host, &segment.frame()).1)
            .collect();
        assert!(
            clients.len() > CLIENTS * 9 / 10,
            "{} of clients",
            clients.len()
        );
        let datagram = may.with(|it| it.payload = vec![0x5a; 12_000]);
        let parts = (0..8).map(|part| datagram.fragment(part * 1400..(part + 1) * 1400));
        let parts: HashSet<u32> = parts.map(|frame| outer(&mut host, &frame).1).collect();
        assert_eq!(parts.len(), 8, "identifications of fragments");
    }
}
