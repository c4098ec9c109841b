//! What the tracing balancer tells of a packet without a session, for each verdict; and that it does with packets what the
//! other one does.

use lb_common::{DropReason, Name, TraceEvent, TraceSession, TraceVerdict, TracedPacket};

use crate::{
    backend::{Kernel, Told, program_info},
    case::check,
    cases,
    fixture::{self, ALL_DOWN, JUMBO_TUNNEL, LAN, NEAR, REMOTE, Service, Sources, TIGHT},
    frames::{BROADCAST, Flow, STRANGER_MAC, Segment, arp, arp_request},
};

/// What is told of a frame.
fn trace(kernel: &mut Kernel, told: &mut Told, frame: &[u8]) -> Option<TraceEvent> {
    kernel.run_uncounted(&LAN, frame);
    let mut events = told.take();
    assert!(events.len() < 2, "{events:?}");
    let (event, bytes) = events.pop()?;
    assert_eq!(bytes, frame[..frame.len().min(128)], "as it was received");
    assert_eq!(event.length as usize, frame.len());
    assert_eq!(event.ifindex, LAN.ifindex);
    Some(event)
}

/// The verdict, why it counts as a drop, how its server was chosen, and the names of both servers.
type Story = (
    TraceVerdict,
    Option<DropReason>,
    Option<TraceSession>,
    String,
    String,
);

fn story(event: &TraceEvent) -> Story {
    let name = |name: &Name| name.as_str().unwrap().to_owned();
    (
        TraceVerdict::at(event.verdict).unwrap(),
        event.drop_reason(),
        TraceSession::at(event.session),
        name(&event.virtual_server),
        name(&event.real_server),
    )
}

#[test]
fn every_verdict_is_told_with_what_it_is_about() {
    use TraceVerdict::{Answered, Dropped, Forwarded, Passed};
    Kernel::run_tracing(&fixture::config(Sources::Spread), |kernel, told| {
        for flow in Flow::all() {
            let to = |service: &'static Service| Segment::to(flow, service, service.port());
            let names = |service: &Service| {
                let binding = service.binding(flow);
                let (virtual_server, server) = binding.split_once(" -> ").unwrap();
                (virtual_server.to_owned(), server.to_owned())
            };
            let near = to(&NEAR);
            for (what, segment, expected) in [
                ("back", near.clone(), {
                    let (virtual_server, server) = names(&NEAR);
                    let session = Some(TraceSession::TableOnly);
                    Some((Forwarded, None, session, virtual_server, server))
                }),
                ("by another interface", to(&REMOTE), {
                    let (virtual_server, server) = names(&REMOTE);
                    let session = Some(TraceSession::TableOnly);
                    Some((Forwarded, None, session, virtual_server, server))
                }),
                ("in a tunnel", to(&JUMBO_TUNNEL[0]), {
                    let (virtual_server, server) = names(&JUMBO_TUNNEL[0]);
                    let session = Some(TraceSession::TableOnly);
                    Some((Forwarded, None, session, virtual_server, server))
                }),
                ("too big", to(&TIGHT).with_packet_length(1501), {
                    let (virtual_server, server) = names(&TIGHT);
                    let (reason, session) = (DropReason::TooBig, TraceSession::TableOnly);
                    Some((
                        Answered,
                        Some(reason),
                        Some(session),
                        virtual_server,
                        server,
                    ))
                }),
                ("without a server", to(&ALL_DOWN), {
                    let reason = Some(DropReason::NoRealServer);
                    Some((Dropped, reason, None, ALL_DOWN.name(flow), String::new()))
                }),
                (
                    "from the VIP",
                    near.with(|it| it.source = near.destination),
                    {
                        let reason = Some(DropReason::MartianSource);
                        Some((Dropped, reason, None, NEAR.name(flow), String::new()))
                    },
                ),
                (
                    "to no service of a VIP",
                    near.with(|it| it.destination_port = 79),
                    { Some((Passed, None, None, String::new(), String::new())) },
                ),
                (
                    "to no VIP",
                    near.with(|it| it.destination = flow.family.stranger()),
                    None,
                ),
                (
                    "to another station",
                    near.with(|it| it.destination_mac = STRANGER_MAC),
                    None,
                ),
            ] {
                let event = trace(kernel, told, &segment.frame());
                assert_eq!(event.as_ref().map(story), expected, "{flow}: {what}");
                let Some(event) = event else { continue };
                assert_eq!(event.client, segment.source.into(), "{flow}: {what}");
                assert_eq!(event.vip, segment.destination.into(), "{flow}: {what}");
                let ports = (event.client_port, event.vip_port);
                assert_eq!(ports, (segment.source_port, segment.destination_port));
            }
        }
        let asker = "10.9.0.100".parse().expect("an address");
        let question = arp_request(asker, "10.9.1.1".parse().expect("an address"));
        let event = trace(kernel, told, &arp(BROADCAST, &[], &question)).expect("an ARP request");
        assert_eq!(event.packet, TracedPacket::Arp as u8);
        assert_eq!(story(&event).0, Answered);
        assert_eq!(event.client, asker.into());
    });
}

#[test]
fn the_tracing_balancer_does_what_the_other_one_does() {
    Kernel::run_tracing(&fixture::config(Sources::Spread), |kernel, _| {
        for cases in [
            cases::echo::cases(),
            cases::fragments::cases(),
            cases::too_big::cases(),
        ] {
            check(kernel, cases);
        }
        let verified = program_info(kernel, "balancer")
            .verified_instruction_count()
            .unwrap();
        assert!(verified < 350_000, "{verified}");
    });
}
