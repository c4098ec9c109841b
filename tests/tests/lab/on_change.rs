//! Virtual servers that track changes alone: no connection moves, and none is remembered while nothing changes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lb_tests::{Daemon, Lab, Report, TcpClient, named};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    session_maps::{active, members},
    support::{
        StopAtEnd, VIP, VIP6, apply, ask_all, few_sessions, lab, open, serve_http, serve_tcp,
        tally, wait_for_state, wait_until,
    },
};

/// Short connections to port 80, long ones to port 90, in each family.
fn services(bound: &str) -> String {
    let both = "protocol: tcp, session: {mode: on_change, settle: 2s}";
    let bound6 = bound.replace("web-", "web6-");
    format!(
        "
- {{name: shop, vip: 10.9.1.1, port: 80, {both}, bind: [{bound}]}}
- {{name: shop6, vip: '2001:db8:9:1::1', port: 80, {both}, bind: [{bound6}]}}
- {{name: chat, vip: 10.9.1.1, port: 90, {both}, bind: [{bound}]}}
- {{name: chat6, vip: '2001:db8:9:1::1', port: 90, {both}, bind: [{bound6}]}}
"
    )
}

fn settles(status: &Value, virtual_server: &str) -> bool {
    !named(&status["virtual_servers"], virtual_server)["settling"].is_null()
}

/// Waits until no virtual server settles.
#[track_caller]
fn wait_until_settled(lb: &Daemon) {
    let settled = |status: &Value| {
        let all = ["shop", "shop6", "chat", "chat6"];
        !all.iter().any(|name| settles(status, name))
    };
    lb.wait_until("everything has settled", settled).unwrap();
}

/// Starts a balancer, and waits until all of its servers are where they belong.
fn start<'a>(lab: &'a Lab, bound: &str) -> Daemon<'a> {
    let lb = Daemon::start(lab, &few_sessions(lab, &services(bound))).unwrap();
    wait_until_settled(&lb);
    lb
}

/// Connections to both families' port 90, and who answers them.
struct Connections {
    all: Vec<TcpClient>,
    servers: Vec<String>,
}

impl Connections {
    #[track_caller]
    fn open(lab: &Lab, count: usize) -> Self {
        let both = [VIP, VIP6].into_iter();
        let all: Vec<_> = both.flat_map(|vip| open(lab, (vip, 90), count)).collect();
        let servers = ask_all(&all);
        Self { all, servers }
    }

    #[track_caller]
    fn assert_where_they_were(&self, after: &str) {
        for (connection, server) in self.all.iter().zip(&self.servers) {
            let now = connection.ask();
            let now = now.unwrap_or_else(|error| panic!("{server} after {after}: {error}"));
            assert_eq!(&now, server, "after {after}");
        }
    }

    fn extend(&mut self, others: Self) {
        self.all.extend(others.all);
        self.servers.extend(others.servers);
    }

    fn on(&self, server: &str) -> usize {
        self.servers.iter().filter(|it| *it == server).count()
    }
}

/// Sessions in the table for port 90.
fn recorded(lab: &Lab) -> u64 {
    ["chat", "chat6"]
        .map(|name| active(lab, name).values().sum::<u64>())
        .iter()
        .sum()
}

/// Asks without a pause until told to stop.
fn get_until(lab: &Lab, vip: &str, stop: &AtomicBool) -> Report {
    let mut all = Report::default();
    while !stop.load(Ordering::Relaxed) {
        all = all.and(lab.client().http().parallel(2).get((vip, 80), 20));
    }
    all
}

#[test]
fn no_connection_moves_and_no_request_fails_while_servers_come_and_go() {
    let lab = lab(3);
    let _servers = (serve_http(&lab, &[80]), serve_tcp(&lab, &[90]));
    let mut lb = start(&lab, "web-1, web-2");
    let mut connections = Connections::open(&lab, 20);
    assert_eq!(recorded(&lab), 0, "while nothing changes");

    let done = AtomicBool::new(false);
    let _lb = thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let loads = [VIP, VIP6].map(|vip| scope.spawn(|| get_until(&lab, vip, &done)));

        let change = |lb: &Daemon, connections: &Connections, bound: &str| {
            apply(&lab, lb, &few_sessions(&lab, &services(bound)));
            let status = lb.status().unwrap();
            assert!(
                settles(&status, "chat") && settles(&status, "chat6"),
                "{status:#}"
            );
            connections.assert_where_they_were(&format!("bind: [{bound}]"));
        };

        change(&lb, &connections, "web-1, web-2, web-3");
        let now = Connections::open(&lab, 20);
        assert_ne!(
            now.on("web-3"),
            0,
            "connections that begin: {:?}",
            now.servers
        );
        assert_ne!(recorded(&lab), 0);
        connections.assert_where_they_were("new connections");
        wait_until_settled(&lb);
        connections.assert_where_they_were("a server more");
        now.assert_where_they_were("a server more");
        connections.extend(now);

        change(
            &lb,
            &connections,
            "web-1, web-2, {server: web-3, weight: 4}",
        );
        wait_until_settled(&lb);
        connections.assert_where_they_were("another weight");

        change(&lb, &connections, "web-1, {server: web-3, weight: 4}");
        let now = Connections::open(&lab, 20);
        assert_eq!(now.on("web-2"), 0, "on a server that drains");
        lb.stop(Signal::SIGKILL).unwrap();
        let unbound = services("web-1, {server: web-3, weight: 4}");
        lb = Daemon::spawn(&lab, &few_sessions(&lab, &unbound)).unwrap();
        lb.wait_until("the next daemon settles", |status| settles(status, "chat"))
            .unwrap();
        connections.assert_where_they_were("a crash while it settles");
        wait_until_settled(&lb);
        connections.assert_where_they_were("an unbound server");
        now.assert_where_they_were("an unbound server");

        lb.stop(Signal::SIGTERM).unwrap();
        let larger = few_sessions(&lab, &unbound).replace("sessions: 2000", "sessions: 3000");
        lb = Daemon::spawn(&lab, &larger).unwrap();
        lb.wait_until("the next daemon", |_| true).unwrap();
        connections.assert_where_they_were("larger limits");
        now.assert_where_they_were("larger limits");

        drop(stop);
        for load in loads {
            load.join().unwrap().assert_all_succeeded();
        }
        lb
    });

    assert_ne!(connections.on("web-2"), 0);
    let Connections { all, servers } = connections;
    for (connection, server) in all.into_iter().zip(servers) {
        if server == "web-2" {
            connection.reset();
        }
    }
    wait_until("the unbound server is gone", || {
        !members(&lab, "chat").contains_key("web-2")
    });
}

#[test]
fn a_server_that_fails_takes_its_own_connections_along_alone() {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[90]);
    let lb = start(&lab, "web-1, web-2, web-3");
    let connections = Connections::open(&lab, 20);
    lab.unplug(lab.real_server(2));
    for (shop, server) in [("chat", "web-2"), ("chat6", "web6-2")] {
        wait_for_state(&lb, shop, server, "down");
    }
    let Connections { all, servers } = connections;
    let with_servers = all.into_iter().zip(servers);
    let (lost, others): (Vec<_>, Vec<_>) = with_servers.partition(|(_, it)| it == "web-2");
    assert_ne!(lost.len(), 0);
    for (connection, _) in lost {
        connection
            .ask()
            .expect_err("another server doesn't know it");
    }
    let (all, servers) = others.into_iter().unzip();
    let others = Connections { all, servers };
    others.assert_where_they_were("a failure");
    assert_eq!(recorded(&lab), 0, "after a failure");
    let meanwhile = Connections::open(&lab, 20);
    assert_eq!(meanwhile.on("web-2"), 0);

    lab.plug_in(lab.real_server(2));
    for (shop, server) in [("chat", "web-2"), ("chat6", "web6-2")] {
        wait_for_state(&lb, shop, server, "up");
    }
    others.assert_where_they_were("a recovery");
    meanwhile.assert_where_they_were("a recovery");
    let now = Connections::open(&lab, 20);
    assert_ne!(now.on("web-2"), 0, "{:?}", tally(&now.servers));
    wait_until_settled(&lb);
    for connections in [&others, &meanwhile, &now] {
        connections.assert_where_they_were("a settled recovery");
    }
}

#[test]
fn a_server_that_is_given_up_keeps_no_connection() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[90]);
    let lb = start(&lab, "web-1, web-2");
    // The time must not be over before the test is.
    let longer = services("web-1, web-2").replace("settle: 2s", "settle: 1h");
    apply(&lab, &lb, &few_sessions(&lab, &longer));
    let connections = Connections::open(&lab, 10);
    let unbind = |virtual_server: &str, options: &str| {
        let command = format!("unbind {virtual_server} web-2 {options} --socket {{socket}}");
        let output = lab.lb(&command).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = unbind("chat", "");
    let so_far = "chat: web-2 unbound, no sessions so far, and its flows are recorded for 3";
    assert!(
        said.starts_with(so_far) && said.ends_with(" s more\n"),
        "{said}"
    );
    // One has a session from now on, and the others none.
    let of_chat = || connections.all.iter().zip(&connections.servers).take(10);
    let (connection, _) = of_chat().find(|(_, server)| *server == "web-2").unwrap();
    assert_eq!(connection.ask().unwrap(), "web-2");
    assert_eq!(
        unbind("chat", "--now"),
        "chat: web-2 was unbound already, 1 session dropped\n"
    );
    // Nobody has a session there, and yet flows are to go.
    unbind("shop", "");
    assert_eq!(
        unbind("shop", "--now"),
        "shop: web-2 was unbound already, no sessions dropped\n"
    );
    for (connection, server) in of_chat() {
        let now = connection.ask();
        assert_eq!(now.is_ok(), server == "web-1", "{server}: {now:?}");
    }
    let other = connections.all.iter().zip(&connections.servers).skip(10);
    for (connection, server) in other {
        assert_eq!(connection.ask().unwrap(), *server);
    }
}
