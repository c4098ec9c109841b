//! Sessions: packets that follow one another, on the host and in the kernel.

mod balancer;
mod life;
mod limits;
mod many;
mod predictors;
mod random;
mod resets;
mod servers;
mod sticky;
mod threads;
mod traced;
mod tracked;

/// Each scene as a test on each backend.
macro_rules! on_both {
    ($($subject:ident::$scene:ident)*) => {
        mod host {
            use super::{balancer::Balancer, *};
            use crate::backend::Host;

            $(
                #[test]
                fn $scene() {
                    let config = balancer::config();
                    $subject::$scene(&mut Balancer::new(&mut Host::of(&config), &config));
                }
            )*
        }

        mod kernel {
            use super::{balancer::Balancer, *};
            use crate::backend::Kernel;

            $(
                #[test]
                fn $scene() {
                    let config = balancer::config();
                    Kernel::run_with(&config, |kernel| {
                        $subject::$scene(&mut Balancer::new(kernel, &config));
                    });
                }
            )*
        }
    };
}

on_both! {
    life::a_syn_begins_a_session_that_its_packets_follow
    life::a_rst_ends_a_session
    life::a_fin_closes_a_session_that_packets_follow_still
    life::a_syn_begins_anew_at_a_closed_session_alone
    life::a_udp_packet_begins_a_session
    life::icmp_errors_go_to_the_session_and_leave_it_alone
    life::fragments_follow_their_session
    life::frames_for_others_leave_sessions_alone
    life::a_packet_in_mid_stream_goes_where_the_hash_decides
    predictors::a_round_robin_has_an_exact_order
    predictors::a_weighted_round_robin_is_exact_to_the_session
    predictors::the_least_connections_are_filled_up
    predictors::the_least_connections_in_relation_to_weights
    predictors::servers_with_equally_few_connections_take_turns
    predictors::a_client_has_one_server_by_its_address
    resets::a_packet_in_mid_stream_is_answered_with_a_rst
    resets::a_rst_is_never_answered
    resets::a_packet_in_mid_stream_is_dropped
    servers::sessions_of_a_server_that_is_down_move
    servers::sessions_of_a_server_that_is_down_are_reset
    servers::a_client_ends_its_session_on_a_server_that_is_down
    servers::a_syn_whose_server_is_down_goes_to_another_one
    servers::a_server_that_comes_back_takes_no_session
    servers::a_server_that_knows_a_former_mac_address_of_the_interface_keeps_its_sessions
    servers::a_drained_server_keeps_its_sessions
    servers::no_session_moves_when_servers_come_and_go
    sticky::a_client_stays_across_sessions_and_ports
    sticky::a_prefix_of_clients_stays_together
    sticky::a_client_leaves_a_server_that_is_drained_or_down
    tracked::flows_have_no_session_while_nothing_changes
    tracked::flows_stay_on_a_server_that_drains
    tracked::a_server_that_fails_loses_its_flows_alone
    tracked::a_client_begins_anew_at_a_tracked_session
}
