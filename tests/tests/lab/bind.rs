//! `lb bind` and `lb unbind` edit the file, and the change is live.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lb_tests::{Daemon, Lab, TcpClient};

use crate::{
    session_maps::members,
    support::{
        StopAtEnd, VIP, ask_all, balance_few, counts, few_sessions, lab, open, serve_http,
        serve_tcp, tally, wait_until,
    },
};

/// As people write it.
const SHOP: &str = "
  # What we live on.
  - name: shop
    vip: 10.9.1.1
    protocol: tcp   # http
    port: 80
    predictor: round_robin
    bind:
      # The old one.
      - web-1   # since 2019
";

/// What a command on the lab's daemon prints.
#[track_caller]
fn done(lab: &Lab, command: &str) -> String {
    let output = lab.lb(&format!("{command} --socket {{socket}}")).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{command}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Why a command on the lab's daemon fails, with the file as it was.
#[track_caller]
fn refused(lab: &Lab, command: &str) -> String {
    let before = fs::read(lab.config_file()).unwrap();
    let output = lab.lb(&format!("{command} --socket {{socket}}")).unwrap();
    assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
    assert_eq!(fs::read(lab.config_file()).unwrap(), before, "{command}");
    let file = lab.config_file().display().to_string();
    let errors = String::from_utf8(output.stderr).unwrap();
    errors.trim_end().replace(&file, "FILE")
}

fn config(lab: &Lab) -> String {
    fs::read_to_string(lab.config_file()).unwrap()
}

/// How many connections have ended.
fn ended(connections: &[TcpClient]) -> usize {
    let answers = connections.iter().map(TcpClient::ask);
    answers.filter(Result::is_err).count()
}

#[test]
fn a_server_is_bound_and_drained_and_dropped() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let _lb = balance_few(&lab, SHOP);
    // Behind a link.
    let target = lab.config_file().with_extension("target");
    fs::rename(lab.config_file(), &target).unwrap();
    symlink(&target, lab.config_file()).unwrap();
    let before = config(&lab);

    let said = done(&lab, "bind shop web-2 --weight 2");
    assert_eq!(said, "shop: web-2 bound (weight 2), up\n");
    let old = "      - web-1   # since 2019\n";
    let new = format!("{old}      - {{ server: web-2, weight: 2 }}\n");
    assert_eq!(config(&lab), before.replace(old, &new));
    let connections = open(&lab, (VIP, 80), 6);
    let servers = ask_all(&connections);
    assert_eq!(tally(&servers[..]), counts([("web-1", 2), ("web-2", 4)]));

    let said = done(&lab, "unbind shop web-2");
    assert_eq!(said, "shop: web-2 unbound, 4 sessions still active\n");
    assert_eq!(config(&lab), before);
    assert!(
        fs::symlink_metadata(lab.config_file())
            .unwrap()
            .is_symlink()
    );
    assert_eq!(
        tally(ask_all(&open(&lab, (VIP, 80), 3))),
        counts([("web-1", 3)])
    );
    assert_eq!(ask_all(&connections), servers);

    let said = done(&lab, "unbind shop web-2 --now");
    assert_eq!(
        said,
        "shop: web-2 was unbound already, 4 sessions dropped\n"
    );
    assert_eq!(config(&lab), before);
    assert_eq!(ended(&connections), 4);
    wait_until("web-2 is gone", || {
        !members(&lab, "shop").contains_key("web-2")
    });
    assert_eq!(
        refused(&lab, "unbind shop web-2 --now"),
        "`web-2` is not bound to `shop`"
    );

    done(&lab, "bind shop web-2");
    done(&lab, "unbind shop web-1");
    let connections = open(&lab, (VIP, 80), 3);
    let said = done(&lab, "unbind shop web-2 --now");
    assert_eq!(
        said,
        "shop: web-2 unbound, 3 sessions dropped; the virtual server is down\n"
    );
    assert!(
        config(&lab)
            .ends_with("    bind:\n      # The old one.\nlimits: {sessions: 2000, sticky: 1000}\n")
    );
    drop(connections);
}

#[test]
fn a_group_is_unbound_and_bound_again() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let bind = &SHOP[SHOP.find("      # The old one").unwrap()..];
    let shop = SHOP.replace(bind, "      - web\n");
    let _lb = balance_few(&lab, &shop);
    let before = config(&lab);
    let connections = open(&lab, (VIP, 80), 4);
    let said = done(&lab, "unbind shop web --now");
    let down = "shop: web unbound, 4 sessions dropped; the virtual server is down\n";
    assert_eq!(said, down);
    let said = done(&lab, "bind shop web");
    assert_eq!(said, "shop: web bound, 2 of 2 real servers up\n");
    assert_eq!(config(&lab), before);
    drop(connections);

    let connections = open(&lab, (VIP, 80), 4);
    done(&lab, "unbind shop web");
    done(&lab, "bind shop web-1");
    let said = done(&lab, "unbind shop web --now");
    assert_eq!(said, "shop: web was unbound already, 2 sessions dropped\n");
    assert_eq!(ended(&connections), 2);
}

#[test]
fn what_cannot_be_leaves_the_file_alone() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let shop = "- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, minimum_up: 2, bind: [web]}";
    let lb = Daemon::start(&lab, &few_sessions(&lab, shop)).unwrap();
    for (command, words) in [
        (
            "bind shp web-1",
            "FILE has no virtual server `shp`; did you mean `shop`?",
        ),
        (
            "bind shop web-9",
            "FILE has no real server or group `web-9`; did you mean `web-1`?",
        ),
        (
            "bind shop web-1",
            "`web-1` is bound to `shop` already, by group `web` (FILE:14)",
        ),
        ("unbind shop web6-1", "`web6-1` is not bound to `shop`"),
        (
            "unbind shop web-1",
            "`web-1` is bound to `shop` by group `web`: unbind `web`, or take `web-1` out of the group in FILE",
        ),
        (
            "bind shop web6",
            "that would make the file wrong: FILE:14:83: bind: real server `web6-1` (2001:db8:",
        ),
    ] {
        let said = refused(&lab, command);
        assert!(said.starts_with(words), "{command}: {said}");
    }
    // One that is right, and that a running daemon does not apply.
    let limits = config(&lab).replace("sticky: 1000", "sticky: 2000");
    lab.write_config(&limits).unwrap();
    let said = refused(&lab, "unbind shop web");
    assert!(
        said.starts_with("configuration not applied: limits needs restart"),
        "{said}"
    );
    assert!(said.ends_with("; the file is as it was"), "{said}");
    let status = lb.status().unwrap();
    assert_eq!(status["virtual_servers"][0]["state"], "up");
}

#[test]
fn nobody_notices_a_server_that_comes_and_goes() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let _lb = balance_few(&lab, SHOP);
    let before = config(&lab);
    let stop = AtomicBool::new(false);
    let failures = thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut failures = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let report = lab.client().http().parallel(4).get((VIP, 80), 100);
                failures.extend(report.failures);
            }
            failures
        });
        let stop = StopAtEnd(&stop);
        for _ in 0..5 {
            assert_eq!(
                done(&lab, "bind shop web-2"),
                "shop: web-2 bound (weight 1), up\n"
            );
            done(&lab, "unbind shop web-2");
        }
        drop(stop);
        requests.join().unwrap()
    });
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(lab.client().tcp_retransmissions(), 0);
    assert_eq!(config(&lab), before);
}
