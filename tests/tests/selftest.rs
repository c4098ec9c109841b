//! The lab itself, without a balancer.

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::Path,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use lb_tests::{HttpClient, HttpServer, Lab, PacketSocket, UdpServer};

const PATIENCE: Duration = Duration::from_secs(2);

fn lab(real_servers: u8) -> Lab {
    Lab::builder().real_servers(real_servers).build().unwrap()
}

#[test]
fn a_client_reaches_a_real_server_over_both_families_and_protocols() {
    let lab = lab(1);
    let server = lab.real_server(1);
    let _http = HttpServer::start(server, &[80]);
    let _udp = UdpServer::start(server, &[(server.v4(), 53), (server.v6(), 53)]);
    for address in [server.v4(), server.v6()] {
        let report = lab.client().http().get((address, 80), 1);
        report.assert_all_succeeded();
        assert_eq!(report.replies[0].server, "web-1");
        assert_eq!(report.replies[0].client_seen, report.replies[0].source);

        let flow = lab.client().udp((address, 53));
        let reply = flow.ask("hello there").unwrap();
        assert_eq!(
            (reply.server.as_str(), reply.payload.as_str()),
            ("web-1", "hello there")
        );
        assert_eq!(reply.client_seen.port(), flow.source().port());
    }
}

#[test]
fn a_host_whose_interface_was_down_is_back_over_both_families() {
    let lab = lab(1);
    let server = lab.real_server(1);
    let _http = HttpServer::start(server, &[80]);
    for state in ["down", "up"] {
        server.ip(&format!("link set dev eth0 {state}"));
    }
    for address in [server.v4(), server.v6()] {
        let report = lab.client().http().get((address, 80), 1);
        report.assert_all_succeeded();
    }
}

#[test]
fn a_body_of_any_size_arrives() {
    let lab = lab(1);
    let _server = HttpServer::start(lab.real_server(1), &[80]);
    let client = lab.client().http().path("/bytes/1000000");
    let report = client.get((lab.real_server(1).v4(), 80), 1);
    report.assert_all_succeeded();
    assert_eq!(report.replies[0].length, 1_000_000);
}

#[test]
fn parallel_requests_keep_or_change_their_connection() {
    let lab = lab(1);
    let _server = HttpServer::start(lab.real_server(1), &[80]);
    let to = (lab.real_server(1).v6(), 80);
    let sources = |client: HttpClient| {
        let report = client.parallel(16).get(to, 1000);
        report.assert_all_succeeded();
        let sources: BTreeSet<_> = report.replies.iter().map(|reply| reply.source).collect();
        sources.len()
    };
    assert_eq!(sources(lab.client().http().keep_alive()), 16);
    assert!(sources(lab.client().http()) > 900);
    assert_eq!(lab.client().tcp_retransmissions(), 0);
}

#[test]
fn a_server_can_refuse_hang_and_hesitate() {
    let lab = lab(1);
    let server = HttpServer::start(lab.real_server(1), &[80]);
    let ask = || {
        lab.client()
            .http()
            .timeout(Duration::from_millis(300))
            .get((lab.real_server(1).v4(), 80), 1)
    };
    server.set_delay(Duration::from_millis(100));
    assert!(ask().replies[0].elapsed >= Duration::from_millis(100));
    server.hang();
    assert_eq!(ask().failures, ["no answer within 300ms"]);
    drop(server);
    assert!(ask().failures[0].contains("refused"));
}

#[test]
fn real_servers_keep_quiet_about_the_vip() {
    let lab = lab(2);
    for vip in ["10.9.1.1:80", "[2001:db8:9:1::1]:80"] {
        let report = lab
            .client()
            .http()
            .timeout(Duration::from_secs(4))
            .get(vip, 1);
        assert!(
            report.failures[0].contains("No route to host")
                || report.failures[0].contains("unreachable"),
            "{report:?}"
        );
    }
}

#[test]
fn the_client_has_several_addresses() {
    let lab = Lab::builder().client_addresses(3).build().unwrap();
    let _server = HttpServer::start(lab.real_server(1), &[80]);
    let report = lab
        .client()
        .http()
        .source([10, 9, 0, 102])
        .get((lab.real_server(1).v4(), 80), 1);
    report.assert_all_succeeded();
    assert_eq!(report.replies[0].client_seen.ip().to_string(), "10.9.0.102");
}

#[test]
fn a_real_server_of_the_second_segment_reaches_the_client() {
    let lab = Lab::builder()
        .real_servers(1)
        .on_second_segment(1)
        .build()
        .unwrap();
    let far = lab.real_server(2);
    assert_eq!(far.v4().to_string(), "10.10.0.12");
    let _server = HttpServer::start(far, &[80]);
    // From the client's address on the first segment, so the answer takes the route back.
    for (client, server) in [(lab.client().v4(), far.v4()), (lab.client().v6(), far.v6())] {
        lab.client()
            .http()
            .source(client)
            .get((server, 80), 1)
            .assert_all_succeeded();
    }
}

#[test]
fn an_unplugged_host_is_gone_until_it_is_plugged_in() {
    let lab = lab(1);
    let _server = HttpServer::start(lab.real_server(1), &[80]);
    let ask = || {
        lab.client()
            .http()
            .timeout(Duration::from_millis(300))
            .get((lab.real_server(1).v4(), 80), 1)
    };
    ask().assert_all_succeeded();
    lab.unplug(lab.real_server(1));
    assert_eq!(ask().replies.len(), 0);
    lab.plug_in(lab.real_server(1));
    ask().assert_all_succeeded();
}

#[test]
fn frames_arrive_as_they_were_sent() {
    let lab = lab(1);
    let receiver = PacketSocket::open(lab.real_server(1), "eth0");
    let sender = PacketSocket::open(lab.client(), "eth0");
    let addresses = [lab.real_server(1).mac(), lab.client().mac()].concat();
    // Untagged, 802.1Q, and 802.1ad around 802.1Q.
    for tags in [
        &[][..],
        &[0x81, 0, 0, 7],
        &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7],
    ] {
        let frame = [&addresses, tags, &[0x88, 0xb5], &[42; 60]].concat();
        sender.send(&frame);
        let received = receiver.receive(PATIENCE, |frame| frame.ends_with(&[42; 60]));
        assert_eq!(received, Some(frame));
    }
}

#[test]
fn a_lab_takes_well_under_a_second() {
    let build = |_| {
        let start = Instant::now();
        drop(lab(3));
        start.elapsed()
    };
    // The best of several, because other tests run beside this one.
    let best = (0..5).map(build).min().unwrap();
    assert!(best < Duration::from_secs(1), "{best:?}");
}

#[test]
fn labs_side_by_side_do_not_clash() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lab = lab(2);
                let servers = lab.real_servers();
                let _http: Vec<_> = servers
                    .iter()
                    .map(|host| HttpServer::start(host, &[80]))
                    .collect();
                let report = lab.client().http().get((lab.real_server(2).v4(), 80), 50);
                report.assert_all_succeeded();
                assert_eq!(report.by_server(), [("web-2".to_owned(), 50)].into());
            });
        }
    });
}

#[test]
fn nothing_is_left_of_a_lab_even_after_a_panic() {
    let started = Mutex::new(None);
    let panic = catch_unwind(|| {
        let lab = lab(1);
        let _server = HttpServer::start(lab.real_server(1), &[80]);
        let process = lab
            .real_server(1)
            .spawn(Command::new("sleep").arg("600"))
            .unwrap();
        *started.lock().unwrap() = Some((lab.name().to_owned(), process));
        panic!("as a failing test does");
    });
    assert!(panic.is_err());
    let (name, mut process) = started.into_inner().unwrap().expect("the process started");
    assert_eq!(process.wait().unwrap().code(), None, "it was killed");
    assert_nothing_left_of(&name);
}

#[test]
fn what_a_killed_run_left_is_removed() {
    // A process number that no process has: they end at 2^22.
    let left = "lb-test-4194305-0";
    let made = Command::new("ip")
        .args(["netns", "add", &format!("{left}-client")])
        .status()
        .unwrap();
    assert!(made.success());
    fs::create_dir_all(Path::new("/run").join(left)).unwrap();
    for pins in [left.to_owned(), format!("{left}-decap/4026531840/eth0")] {
        fs::create_dir_all(Path::new("/sys/fs/bpf").join(pins).join("maps")).unwrap();
    }
    lb_tests::remove_dead_labs();
    assert_nothing_left_of(left);
}

fn assert_nothing_left_of(lab: &str) {
    assert!(lab.starts_with("lb-test-"), "{lab:?} is the name of a lab");
    for directory in ["/run", "/run/netns", "/sys/fs/bpf"] {
        let entries = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = entries
            .filter(|name| name.to_string_lossy().starts_with(lab))
            .collect();
        assert!(left.is_empty(), "{directory}: {left:?}");
    }
}

#[test]
fn hosts_behind_routers_reach_each_other() {
    let lab = Lab::builder()
        .real_servers(1)
        .behind_router(1)
        .client_behind_router(1300)
        .build()
        .unwrap();
    assert_eq!(lab.client().v4().to_string(), "10.12.0.100");
    assert_eq!(lab.real_server(2).v6().to_string(), "2001:db8:b::12");
    let client = lab.client().http().path("/bytes/100000");
    for server in lab.real_servers() {
        let _server = HttpServer::start(server, &[80]);
        for (address, client_address) in [
            (server.v4(), lab.client().v4()),
            (server.v6(), lab.client().v6()),
        ] {
            client.get((address, 80), 1).assert_all_succeeded();
            lab.balancer()
                .http()
                .get((address, 80), 1)
                .assert_all_succeeded();
            let route = server.ip(&format!("route get {client_address}"));
            assert!(route.contains("mtu 1300"), "{route}");
        }
    }
}

#[test]
fn an_upload_arrives_in_full() {
    let lab = lab(1);
    let server = lab.real_server(1);
    let _server = HttpServer::start(server, &[80]);
    let report = lab
        .client()
        .http()
        .upload(3_000_000)
        .get((server.v4(), 80), 2);
    report.assert_all_succeeded();
    assert!(
        report
            .replies
            .iter()
            .all(|reply| reply.received == 3_000_000)
    );
}
