//! A real server that leaves keeps its sessions and gets no new ones.

use std::time::Duration;

use lb_tests::{Daemon, Lab, TcpClient, named};
use nix::sys::signal::Signal;
use rstest::rstest;

use crate::{
    session_maps::{Member, members, wait_for_active},
    support::{
        VIP, VIP6, apply, ask_all, balance_few, counts, decapsulate, few_sessions, lab, open,
        serve_tcp, tally, wait_for_state, wait_until,
    },
};

/// Virtual servers with a round robin.
fn shops(settings: &str, bound: &str) -> String {
    let both = format!("protocol: tcp, port: 80, predictor: round_robin, {settings}");
    let bound6 = bound.replace("web-", "web6-");
    format!(
        "
- {{name: shop, vip: 10.9.1.1, {both}, bind: [{bound}]}}
- {{name: shop6, vip: '2001:db8:9:1::1', {both}, bind: [{bound6}]}}
"
    )
}

const ALL: &str = "web-1, web-2, web-3";

/// In each family: virtual server, VIP, and what the second real server is called.
const FAMILIES: [(&str, &str, &str); 2] = [("shop", VIP, "web-2"), ("shop6", VIP6, "web6-2")];

/// The second real server, if it is in the maps.
fn second(lab: &Lab, (shop, _, name): (&str, &str, &str)) -> Option<Member> {
    members(lab, shop).get(name).copied()
}

/// Six connections of each family, two for each server.
fn connections(lab: &Lab) -> Vec<TcpClient> {
    let all: Vec<_> = [VIP, VIP6]
        .into_iter()
        .flat_map(|vip| open(lab, (vip, 80), 6))
        .collect();
    let expected = counts([("web-1", 4), ("web-2", 4), ("web-3", 4)]);
    assert_eq!(tally(ask_all(&all)), expected);
    all
}

/// New sessions go to the first and the third server.
#[track_caller]
fn assert_no_new_ones(lab: &Lab) {
    for vip in [VIP, VIP6] {
        let servers = tally(ask_all(&open(lab, (vip, 80), 6)));
        assert_eq!(servers, counts([("web-1", 3), ("web-3", 3)]));
    }
}

/// Ends, with RST, those that the second server answers, and gives back the others.
fn end_those_on_second(connections: Vec<TcpClient>) -> Vec<TcpClient> {
    let (on_second, others): (Vec<_>, Vec<_>) = connections
        .into_iter()
        .partition(|one| one.ask().unwrap() == "web-2");
    on_second.into_iter().for_each(TcpClient::reset);
    others
}

/// Takes a server out of the whole file.
fn without_second(config: &str) -> String {
    let lines = config.lines().filter(|line| {
        let line = line.trim_start();
        !line.starts_with("web-2:") && !line.starts_with("web6-2:")
    });
    let config: String = lines.map(|line| format!("{line}\n")).collect();
    config.replace("web-2, ", "").replace("web6-2, ", "")
}

#[rstest]
fn an_unbound_server_keeps_its_sessions_to_the_end(
    #[values("l2dsr", "l3dsr")] forward: &str,
    #[values(false, true)] removed_altogether: bool,
) {
    let lab = lab(3);
    let _servers = (serve_tcp(&lab, &[80]), decapsulate(&lab, ""));
    let settings = format!("forward: {forward}");
    let lb = balance_few(&lab, &shops(&settings, ALL));
    let connections = connections(&lab);
    let before = ask_all(&connections);
    let unbound = few_sessions(&lab, &shops(&settings, "web-1, web-3"));
    let unbound = if removed_altogether {
        without_second(&unbound)
    } else {
        unbound
    };
    apply(&lab, &lb, &unbound);
    for family in FAMILIES {
        wait_for_state(&lb, family.0, family.2, "draining");
        let member = second(&lab, family).expect("it has sessions left");
        assert!(member.drains && member.active == 2, "{member:?}");
    }
    // Longer than some passes of the sweep.
    for _ in 0..4 {
        assert_no_new_ones(&lab);
        assert_eq!(ask_all(&connections), before);
        std::thread::sleep(Duration::from_millis(300));
    }
    let others = end_those_on_second(connections);
    for family in FAMILIES {
        wait_until("the second server is gone", || {
            second(&lab, family).is_none()
        });
        lb.wait_until("the status says so", |status| {
            let shop = named(&status["virtual_servers"], family.0);
            shop["real_servers"].as_array().unwrap().len() == 2
        })
        .unwrap();
    }
    assert_no_new_ones(&lab);
    assert_eq!(
        tally(ask_all(&others)),
        counts([("web-1", 4), ("web-3", 4)])
    );
}

#[rstest]
#[case::drained("drain: true")]
#[case::without_weight("weight: 0")]
fn a_draining_server_keeps_its_sessions_to_the_end(#[case] draining: &str) {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let lb = balance_few(&lab, &shops("minimum_up: 1", ALL));
    let connections = connections(&lab);
    let before = ask_all(&connections);
    let bound = format!("web-1, {{server: web-2, {draining}}}, web-3");
    let drained = few_sessions(&lab, &shops("minimum_up: 1", &bound));
    apply(&lab, &lb, &drained);
    for (shop, _, server) in FAMILIES {
        wait_for_state(&lb, shop, server, "draining");
    }
    assert_no_new_ones(&lab);
    assert_eq!(ask_all(&connections), before);
    end_those_on_second(connections);
    for family in FAMILIES {
        let ended = || second(&lab, family).expect("it is bound").active == 0;
        wait_until("no sessions", ended);
    }
}

/// Starts `lb` with a configuration that doesn't bind the second server, which has sessions left.
fn start_draining<'a>(lab: &'a Lab, config: &str) -> Daemon<'a> {
    let lb = Daemon::spawn(lab, config).unwrap();
    for (shop, _, server) in FAMILIES {
        wait_for_state(&lb, shop, server, "draining");
    }
    lb
}

/// Binds again what has sessions left, and sees that it is as before.
fn bind_again(lab: &Lab, lb: &Daemon, connections: &[TcpClient]) {
    let before = ask_all(connections);
    let totals = FAMILIES.map(|family| second(lab, family).expect("it has sessions left").total);
    apply(lab, lb, &few_sessions(lab, &shops("minimum_up: 1", ALL)));
    assert_eq!(ask_all(connections), before);
    for (family, total) in FAMILIES.into_iter().zip(totals) {
        let servers = tally(ask_all(&open(lab, (family.1, 80), 6)));
        let expected = counts([("web-1", 2), ("web-2", 2), ("web-3", 2)]);
        assert_eq!(servers, expected);
        let member = second(lab, family).unwrap();
        assert_eq!((member.drains, member.total), (false, total + 2));
    }
    assert_eq!(ask_all(connections), before);
}

#[rstest]
fn a_server_that_is_bound_again_meanwhile_goes_on(#[values(false, true)] after_takeover: bool) {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let mut lb = balance_few(&lab, &shops("minimum_up: 1", ALL));
    let connections = connections(&lab);
    let unbound = few_sessions(&lab, &shops("minimum_up: 1", "web-1, web-3"));
    apply(&lab, &lb, &unbound);
    if after_takeover {
        lb.stop(Signal::SIGKILL).unwrap();
        lb = start_draining(&lab, &unbound);
        assert_no_new_ones(&lab);
    }
    bind_again(&lab, &lb, &connections);
}

#[test]
fn a_server_that_is_unbound_while_no_daemon_runs_keeps_its_sessions() {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let lb = balance_few(&lab, &shops("minimum_up: 1", ALL));
    let connections = connections(&lab);
    let before = ask_all(&connections);
    lb.stop(Signal::SIGKILL).unwrap();
    let unbound = without_second(&few_sessions(&lab, &shops("minimum_up: 1", "web-1, web-3")));
    let _lb = start_draining(&lab, &unbound);
    assert_no_new_ones(&lab);
    assert_eq!(ask_all(&connections), before);
    end_those_on_second(connections);
    for family in FAMILIES {
        wait_until("the second server is gone", || {
            second(&lab, family).is_none()
        });
    }
}

#[test]
fn an_unbound_server_without_sessions_goes_soon() {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let lb = balance_few(&lab, &shops("minimum_up: 1", ALL));
    let config = few_sessions(&lab, &shops("minimum_up: 1", "web-1, web-3"));
    apply(&lab, &lb, &config);
    for family in FAMILIES {
        wait_until("the second server is gone", || {
            second(&lab, family).is_none()
        });
    }
}

#[test]
fn a_closed_session_holds_an_unbound_server_for_its_timeout_only() {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let settings = "session: {idle_timeout: 2s}";
    let lb = balance_few(&lab, &shops(settings, ALL));
    drop(connections(&lab));
    for (shop, ..) in FAMILIES {
        wait_for_active(&lab, shop, 0);
    }
    let config = few_sessions(&lab, &shops(settings, "web-1, web-3"));
    apply(&lab, &lb, &config);
    for family in FAMILIES {
        wait_until("the second server is gone", || {
            second(&lab, family).is_none()
        });
    }
}

#[test]
fn a_drained_server_that_vanishes_loses_its_sessions_and_comes_back_empty() {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let lb = balance_few(&lab, &shops("session: {on_down: reset}", ALL));
    let connections = connections(&lab);
    let bound = "web-1, {server: web-2, drain: true}, web-3";
    let drained = few_sessions(&lab, &shops("session: {on_down: reset}", bound));
    apply(&lab, &lb, &drained);
    lab.unplug(lab.real_server(2));
    for (shop, _, server) in FAMILIES {
        wait_for_state(&lb, shop, server, "down");
    }
    let answers = connections.iter().map(|one| one.ask());
    let lost = answers.filter(|answer| answer.is_err()).count();
    assert_eq!(lost, 4);
    lab.plug_in(lab.real_server(2));
    for family in FAMILIES {
        wait_for_state(&lb, family.0, family.2, "draining");
        assert_eq!(second(&lab, family).unwrap().active, 0);
    }
    assert_no_new_ones(&lab);
}
