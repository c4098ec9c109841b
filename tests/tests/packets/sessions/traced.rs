//! What the tracing balancer tells of sessions.

use lb_common::{DropReason, TraceSession};

use super::balancer::{
    self, Balancer, DOWN_RESET, HASH, RESET, STICKY, TURNS, ack, client, rst, tcp,
};
use crate::{
    backend::{Kernel, Told},
    frames::Segment,
};

#[test]
fn it_is_told_how_a_server_was_chosen() {
    let config = balancer::config();
    Kernel::run_tracing(&config, |kernel, told| {
        let mut balancer = Balancer::new(kernel, &config);
        for flow in tcp() {
            let syn = |service, port| client(flow, service, port);
            told_of(
                &mut balancer,
                told,
                &syn(TURNS, 40_000),
                Some(TraceSession::New),
            );
            let ack_of = ack(&syn(TURNS, 40_000));
            told_of(&mut balancer, told, &ack_of, Some(TraceSession::Existing));
            told_of(&mut balancer, told, &ack_of, Some(TraceSession::Existing));
            let stray = ack(&syn(HASH, 40_001));
            told_of(&mut balancer, told, &stray, Some(TraceSession::MidStream));
            told_of(
                &mut balancer,
                told,
                &rst(&syn(HASH, 40_002)),
                Some(TraceSession::TableOnly),
            );
            told_of(
                &mut balancer,
                told,
                &syn(STICKY, 40_000),
                Some(TraceSession::New),
            );
            told_of(
                &mut balancer,
                told,
                &syn(STICKY, 40_001),
                Some(TraceSession::Sticky),
            );

            let reset = told_of(&mut balancer, told, &ack(&syn(RESET, 40_000)), None);
            assert_eq!(reset, Some(DropReason::UnknownSessionReset));
            let resets = syn(DOWN_RESET, 40_000);
            let (down, _) = balancer.sent(DOWN_RESET, &resets);
            let moves = syn(TURNS, 40_003);
            while balancer.sent(TURNS, &moves).0 != down {
                balancer.sent(TURNS, &rst(&moves));
            }
            told.take();
            balancer.take_down(down);
            let reset = told_of(&mut balancer, told, &ack(&resets), None);
            assert_eq!(reset, Some(DropReason::ServerDownReset));
            told_of(&mut balancer, told, &ack(&moves), Some(TraceSession::Moved));
            balancer.restore();
        }
    });
}

/// Why a packet counts as a drop.
#[track_caller]
fn told_of(
    balancer: &mut Balancer<'_, Kernel>,
    told: &mut Told,
    segment: &Segment,
    session: Option<TraceSession>,
) -> Option<DropReason> {
    balancer.run(&segment.frame());
    let events = told.take();
    let [(event, _)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(TraceSession::at(event.session), session, "{segment:?}");
    event.drop_reason()
}
