//! Whatever becomes of the daemon and its maps, requests are answered and sessions stay where they are.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lb_tests::{Daemon, Lab, Report, TcpClient, binary, layout_variant, named};
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;

use crate::support::{
    StopAtEnd, VIP, VIP6, apply, ask_all, lab, number, open, serve_http, serve_tcp, serve_udp,
    wait_until,
};

/// New connections to the first two, long ones to the others, which a packet without its session would break. Nothing but
/// the session tells the server, as each session begins at the next one.
const SERVICES: &str = "
- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, predictor: round_robin, bind: [web]}
- {name: shop6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, sticky: {timeout: 10s}, bind: [web6]}
- {name: chat, vip: 10.9.1.1, protocol: tcp, port: 90, predictor: round_robin, session: {on_unknown: reset}, bind: [web]}
- {name: chat6, vip: '2001:db8:9:1::1', protocol: tcp, port: 90, predictor: least_connection, session: {on_unknown: reset},
   slow_start: none, bind: [web6]}
- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, predictor: round_robin, bind: [web-1, web-2, web-3]}
";

/// A configuration with tables for so many sessions, and for virtual and real servers in proportion.
fn config(lab: &Lab, sessions: u32) -> String {
    let servers = sessions / 200;
    let servers = format!("virtual_servers: {servers}, real_servers: {servers}");
    let limits = format!("limits: {{sessions: {sessions}, sticky: 1000, {servers}}}\n");
    lab.config(SERVICES) + &limits
}

/// Asks without a pause until told to stop.
fn get_until(lab: &Lab, vip: &str, stop: &AtomicBool) -> Report {
    let mut all = Report::default();
    while !stop.load(Ordering::Relaxed) {
        all = all.and(lab.client().http().parallel(4).get((vip, 80), 40));
    }
    all
}

/// Connections and a datagrams' flow, and who answered them first.
struct Sessions {
    connections: Vec<TcpClient>,
    servers: Vec<String>,
}

impl Sessions {
    fn open(lab: &Lab) -> Self {
        let connections: Vec<_> = [VIP, VIP6]
            .into_iter()
            .flat_map(|vip| open(lab, (vip, 90), 30))
            .collect();
        let servers = ask_all(&connections);
        Self {
            connections,
            servers,
        }
    }

    #[track_caller]
    fn assert_where_they_were(&self, after: &str) {
        for (connection, server) in self.connections.iter().zip(&self.servers) {
            let now = connection.ask();
            let now = now.unwrap_or_else(|error| panic!("after {after}: {error}"));
            assert_eq!(&now, server, "after {after}");
        }
    }
}

/// Packets and sessions of each virtual server.
fn counts(status: &Value) -> Vec<[u64; 2]> {
    let all = status["virtual_servers"].as_array().unwrap().iter();
    all.map(|it| [number(&it["packets"]), number(&it["sessions"]["total"])])
        .collect()
}

#[test]
fn nothing_is_lost_whatever_becomes_of_the_daemon() {
    let lab = lab(3);
    let _servers = (
        serve_http(&lab, &[80]),
        serve_tcp(&lab, &[90]),
        serve_udp(&lab, &[53]),
    );
    let (small, large) = (config(&lab, 20_000), config(&lab, 50_000));
    let copy = lab.directory().join("lb-copy");
    fs::copy(binary().unwrap(), &copy).unwrap();
    let variant = layout_variant().unwrap();
    let this = binary().unwrap();

    let mut lb = Daemon::start(&lab, &small).unwrap();
    let sessions = Sessions::open(&lab);
    let flow = lab.client().udp((VIP, 53));
    let asked = flow.ask("?").unwrap().server;
    let mut counted = vec![[0; 2]; 5];
    let mut check = |lb: &Daemon, after: &str| {
        sessions.assert_where_they_were(after);
        assert_eq!(flow.ask("?").unwrap().server, asked, "after {after}");
        let now = counts(&lb.status().unwrap());
        let mut pairs = now.iter().flatten().zip(counted.iter().flatten());
        let went_on = pairs.all(|(now, before)| now >= before);
        assert!(went_on, "after {after}: {counted:?} became {now:?}");
        counted = now;
    };

    let done = AtomicBool::new(false);
    let lb = thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let loads = [VIP, VIP6].map(|vip| scope.spawn(|| get_until(&lab, vip, &done)));

        apply(
            &lab,
            &lb,
            &small.replace("sticky: 1000", "sticky: 1000, cps_per_cpu: 90000"),
        );
        check(&lb, "a reload");
        lab.write_config("nonsense").unwrap();
        lb.wait_until("the refusal", |_| {
            lab.log().contains("configuration not applied")
        })
        .unwrap();
        lb.signal(Signal::SIGHUP);
        check(&lb, "a bad file");

        lab.write_config(&small).unwrap();
        for command in [
            "reload",
            "unbind dns web-1",
            "bind dns web-1",
            "trace --count 50",
        ] {
            let output = lab.lb(&format!("{command} --socket {{socket}}")).unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "lb {command}: {error}");
            check(&lb, command);
        }

        for (what, end, binary, config) in [
            ("a crash", Signal::SIGKILL, &this, &small),
            ("SIGTERM", Signal::SIGTERM, &this, &small),
            ("an abort", Signal::SIGABRT, &this, &small),
            ("another binary", Signal::SIGTERM, &copy, &small),
            ("larger limits", Signal::SIGTERM, &this, &large),
            (
                "smaller limits, after a crash",
                Signal::SIGKILL,
                &this,
                &small,
            ),
            ("another layout", Signal::SIGTERM, &variant, &small),
            (
                "larger limits in that layout",
                Signal::SIGTERM,
                &variant,
                &large,
            ),
        ] {
            lb.stop(end).unwrap();
            lb = Daemon::start_binary(&lab, config, binary).unwrap();
            check(&lb, what);
        }

        // The variant's maps are unknown to the version under test.
        lb.stop(Signal::SIGTERM).unwrap();
        refused(&lab, "knows layouts up to");
        lb = Daemon::start_binary(&lab, &large, &variant).unwrap();
        check(&lb, "a start that was refused");

        drop(stop);
        let reports = loads.map(|load| load.join().unwrap());
        let report = reports.into_iter().fold(Report::default(), Report::and);
        report.assert_all_succeeded();
        assert!(report.replies.len() > 1000, "{}", report.replies.len());
        lb
    });
    let replaced = lab.log().matches("took the sessions over").count();
    assert_eq!(replaced, 4, "{}", lab.log());
    let status = lb.status().unwrap();
    for name in ["chat", "chat6"] {
        let active = &named(&status["virtual_servers"], name)["sessions"]["active"];
        assert_eq!(active, 30, "{name}: {status:#}");
    }
}

/// Runs `lb`, which ends with these words.
#[track_caller]
fn refused(lab: &Lab, words: &str) {
    let run = lab.lb("run --config {config}").unwrap();
    let error = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{error}");
    assert!(error.contains(words), "{error}");
}

/// New maps are being filled; they are about to take the place of the former ones, or have just done so.
#[rstest]
#[case::while_new_maps_are_filled("maps-next")]
#[case::when_packets_use_the_new_maps("maps-former")]
fn a_daemon_that_is_killed_while_it_replaces_the_maps_loses_nothing(#[case] moment: &str) {
    let lab = lab(3);
    let _servers = (serve_http(&lab, &[80]), serve_tcp(&lab, &[90]));
    drop(Daemon::start(&lab, &config(&lab, 2000)).unwrap());
    let first = Sessions::open(&lab);
    let directory = lab.pin_path().join(moment);
    // It may be faster than this test.
    let killed_in_time = (1..20).any(|attempt| {
        let config = config(&lab, 2000 + 8 * attempt);
        let lb = Daemon::spawn(&lab, &config).unwrap();
        wait_until("the daemon replaces the maps", || {
            directory.exists()
                || lab.log().matches("took the sessions over").count() == attempt as usize
        });
        lb.stop(Signal::SIGKILL).unwrap();
        first.assert_where_they_were("a crash");
        directory.exists()
    });
    assert!(killed_in_time, "{}", lab.log());
    let second = Sessions::open(&lab);
    let wanted = fs::read_to_string(lab.config_file()).unwrap();
    if moment == "maps-former" {
        lab.write_config(&config(&lab, 4000)).unwrap();
        refused(&lab, "start once with those");
    }
    let _lb = Daemon::start(&lab, &wanted).unwrap();
    for sessions in [&first, &second] {
        sessions.assert_where_they_were("the next start");
    }
    for directory in ["maps-next", "maps-former"] {
        assert!(!lab.pin_path().join(directory).exists(), "{directory}");
    }
}

/// Those that are unbound count, too, as long as they may have sessions.
#[test]
fn limits_that_are_too_small_for_what_is_in_use_change_nothing() {
    let lab = lab(5);
    let _servers = (serve_http(&lab, &[80]), serve_tcp(&lab, &[90]));
    let all = config(&lab, 2000);
    drop(Daemon::start(&lab, &all).unwrap());
    let sessions = Sessions::open(&lab);
    let (_, chat) = SERVICES.split_once("\n- {name: chat").unwrap();
    let (chat, _) = chat.split_once('\n').unwrap();
    let chat = chat.replace("bind: [web]", "bind: [web-1]");
    let is_kept = |line: &&str| !line.starts_with("  web") || line.starts_with("  web-1");
    let one = lab.config(&format!("- {{name: chat{chat}"))
        + "limits: {sessions: 2000, real_servers: 1}\n";
    let one: Vec<_> = one
        .lines()
        .filter(is_kept)
        .filter(|&line| line != "groups:")
        .collect();
    lab.write_config(&one.join("\n")).unwrap();
    refused(
        &lab,
        "no room for what is in use: more real servers than limits.real_servers",
    );
    assert!(!lab.pin_path().join("maps-next").exists());
    let _lb = Daemon::start(&lab, &all).unwrap();
    sessions.assert_where_they_were("a start that was refused");
}
