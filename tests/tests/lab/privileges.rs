//! The daemon does its work with few capabilities, and says which it lacks.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, chown},
};

use lb_tests::{Daemon, Lab};
use nix::sys::signal::Signal;
use rstest::rstest;

use crate::{
    interfaces::xdp_mode,
    lifecycle::add_cable,
    support::{SHOP, VIP, apply, lab, serve_http, wait_until},
};

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON and CAP_BPF (linux/capability.h).
const KEPT: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
const CHECKED: &str = "
- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web], health: {interval: 200ms, timeout: 200ms, checks: [arp, http]}}
";
const NOBODY: u32 = 65534;

/// All that the kernel says of the capabilities of a process's threads.
fn capabilities(of: i32) -> BTreeSet<String> {
    let threads = fs::read_dir(format!("/proc/{of}/task")).unwrap();
    let threads = threads.map(|thread| thread.unwrap().path().join("status"));
    let threads: Vec<_> = threads.map(|it| fs::read_to_string(it).unwrap()).collect();
    assert!(threads.len() > 2, "{threads:?}");
    let lines = threads.iter().flat_map(|status| status.lines());
    let of_privileges = |line: &&str| line.starts_with("Cap") || line.starts_with("NoNewPrivs");
    lines.filter(of_privileges).map(str::to_owned).collect()
}

/// As `deploy/systemd/lb.service` starts the daemon: with few capabilities, and a file system that it can't write to but for the
/// directory of its socket.
const AS_A_SERVICE: &str = "
    mount --bind $0 $0 &&
    mount -o remount,bind,ro / &&
    { ! mountpoint -q /run || mount -o remount,bind,ro /run; } &&
    exec setpriv --inh-caps=-all \
        --bounding-set=-all,+bpf,+perfmon,+net_admin,+net_raw,+sys_admin,+setpcap \"$@\"";

fn device_of_checks(lab: &Lab) -> bool {
    lab.balancer().ip("-br link show").contains("lb-hc")
}

#[test]
fn a_daemon_with_few_capabilities_does_all_of_its_work() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let get = || {
        let report = lab.client().http().get((VIP, 80), 50);
        report.assert_all_succeeded();
    };
    let directory = lab.directory().display().to_string();
    let as_a_service = ["unshare", "-m", "sh", "-c", AS_A_SERVICE, &directory];
    let lb = Daemon::spawn_by(&lab, &lab.config(SHOP), &as_a_service).unwrap();
    lb.wait_until("it is up", |it| it["virtual_servers"][0]["state"] == "up")
        .unwrap();
    let kept = format!("{KEPT:016x}");
    let none = "0000000000000000";
    let expected = [
        format!("CapAmb:\t{none}"),
        format!("CapBnd:\t{kept}"),
        format!("CapEff:\t{kept}"),
        format!("CapInh:\t{none}"),
        format!("CapPrm:\t{kept}"),
        "NoNewPrivs:\t1".to_owned(),
    ];
    assert_eq!(capabilities(lb.pid()), BTreeSet::from(expected.clone()));

    // With another interface and checks by the data path; without; with them again.
    add_cable(&lab, "cable");
    let cable = "interfaces: [{name: cable}, ";
    let checked = lab.config(CHECKED).replace("interfaces: [", cable);
    for (config, has_checks) in [
        (&checked, true),
        (&lab.config(SHOP), false),
        (&checked, true),
    ] {
        apply(&lab, &lb, config);
        wait_until("checks have a device or not", || {
            device_of_checks(&lab) == has_checks
        });
        assert_eq!(xdp_mode(lab.balancer(), "cable").is_some(), has_checks);
        get();
    }
    assert_eq!(capabilities(lb.pid()), BTreeSet::from(expected));

    // A file of somebody else is refused when the daemon reloads, as when it starts.
    let file = lab.config_file();
    let refused = || {
        lab.log()
            .matches("make that user the configuration's owner")
            .count()
    };
    chown(&file, Some(NOBODY), None).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    lb.signal(Signal::SIGHUP);
    wait_until("the file is refused", || refused() >= 1);
    get();
    chown(&file, Some(0), None).unwrap();
    lb.wait_until("the file is good again", |status| {
        status["configuration"]["error"].is_null()
    })
    .unwrap();
    chown(&file, Some(NOBODY), None).unwrap();
    lb.stop(Signal::SIGTERM).unwrap();
    let again = lab.lb("run --config {config}").unwrap();
    let error = String::from_utf8(again.stderr).unwrap();
    assert!(
        error.contains("make that user the configuration's owner"),
        "{error}"
    );
    chown(&file, Some(0), None).unwrap();

    let lb = Daemon::start(&lab, &checked).unwrap();
    assert!(lab.lb("stop --config {config}").unwrap().status.success());
    assert!(lb.wait().unwrap().success());
    assert_eq!(xdp_mode(lab.balancer(), "eth0"), None);
}

#[rstest]
#[case::any(
    "--bounding-set=-all",
    "lb run needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW: run it as root"
)]
#[case::one("--bounding-set=-net_raw", "lb run needs CAP_NET_RAW: run it as root")]
#[case::that_to_make_a_namespace("--bounding-set=-sys_admin", "start lb with CAP_SYS_ADMIN, too")]
fn a_daemon_without_a_capability_says_so(#[case] without: &str, #[case] words: &str) {
    let lab = lab(1);
    let by = ["setpriv", "--inh-caps=-all", without];
    let lb = Daemon::spawn_by(&lab, &lab.config(CHECKED), &by).unwrap();
    assert_eq!(lb.wait().unwrap().code(), Some(1));
    let log = lab.log();
    assert!(log.contains(words), "{log}");
    assert_eq!(xdp_mode(lab.balancer(), "eth0"), None);
}

/// As a unit of systemd with `User=` and `AmbientCapabilities=` starts it.
#[test]
fn a_daemon_of_another_user_does_with_ambient_capabilities() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let capabilities = "+bpf,+perfmon,+net_admin,+net_raw,+sys_admin";
    // What a unit's RuntimeDirectory= and ExecStartPre=+ are for. The host's BPF file system may be root's alone.
    fs::create_dir_all(lab.directory()).unwrap();
    chown(lab.directory(), Some(NOBODY), Some(NOBODY)).unwrap();
    let pins = lab.pin_path();
    let pins = pins.display();
    let before = format!(
        "mount -t bpf -o mode=0711 bpf /sys/fs/bpf && mkdir {pins} && chown {NOBODY}:{NOBODY} {pins} && \
         exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups \
         --inh-caps={capabilities} --ambient-caps={capabilities} \"$@\""
    );
    let by = ["unshare", "--mount", "sh", "-c", &before, "sh"];
    let lb = Daemon::spawn_by(&lab, &lab.config(CHECKED), &by).unwrap();
    lb.wait_until("it is up", |status| {
        status["virtual_servers"][0]["state"] == "up"
    })
    .unwrap();
    let report = lab.client().http().get((VIP, 80), 50);
    report.assert_all_succeeded();
    assert!(device_of_checks(&lab));
    assert!(lb.stop(Signal::SIGTERM).unwrap().success());
}
