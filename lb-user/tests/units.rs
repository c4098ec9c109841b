//! The units of systemd in `deploy/systemd` start what there is, with what it needs.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use assert_cmd::cargo::cargo_bin;
use clap::Parser;
use lb_user::{cli::Cli, config::DEFAULT_SOCKET, privileges};
use rstest::rstest;

const DECAP: &str = "lb-decap@.service";
const LB: &str = "lb.service";

fn unit(name: &str) -> String {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd");
    fs::read_to_string(PathBuf::from(directory).join(name)).unwrap()
}

/// The values of a key.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines();
    let of_key = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    lines.filter_map(of_key).collect()
}

#[rstest]
fn commands_are_those_of_lb(#[values(LB, DECAP)] name: &str) {
    let unit = unit(name);
    let commands = ["ExecStart", "ExecReload"].map(|key| values(&unit, key));
    let commands = commands.concat();
    assert!(!commands.is_empty());
    for command in commands {
        let command = command.replace("%i", "eth0");
        let command = command.replace("$LB_DECAP_OPTIONS", "--from 10.9.0.1");
        if let Err(error) = Cli::try_parse_from(command.split_whitespace()) {
            panic!("{command}: {error}");
        }
    }
}

#[rstest]
#[case(LB, &privileges::DAEMON, &["CAP_SYS_ADMIN"])]
#[case(DECAP, &privileges::PROGRAMS, &[])]
fn they_give_the_capabilities_that_are_needed(
    #[case] name: &str,
    #[case] kept: &[caps::Capability],
    #[case] at_start: &[&str],
) {
    let unit = unit(name);
    let given = values(&unit, "CapabilityBoundingSet").join(" ");
    let given: BTreeSet<_> = given.split_whitespace().collect();
    let kept = privileges::names(kept);
    let kept = kept.split(", ").chain(at_start.iter().copied());
    let needed: BTreeSet<_> = kept.chain(["CAP_SETPCAP"]).collect();
    assert_eq!(given, needed);
}

#[test]
fn the_socket_is_in_the_directory_of_the_service() {
    let unit = unit(LB);
    let directory = format!("/run/{}/", values(&unit, "RuntimeDirectory")[0]);
    assert!(DEFAULT_SOCKET.starts_with(&directory), "{directory}");
}

/// systemd itself says so, where it is installed.
#[rstest]
#[case(LB, "lb.service")]
#[case(DECAP, "lb-decap@eth0.service")]
fn systemd_has_nothing_to_say_against_them(#[case] name: &str, #[case] instance: &str) {
    let directory = tempfile::tempdir().unwrap();
    let lb = format!("={} ", cargo_bin!("lb").display());
    let path = directory.path().join(instance);
    fs::write(&path, unit(name).replace("=lb ", &lb)).unwrap();
    let verify = Command::new("systemd-analyze")
        .arg("verify")
        .arg(path)
        .output();
    if let Ok(verify) = verify {
        let said = String::from_utf8_lossy(&verify.stderr);
        assert!(verify.status.success() && said.is_empty(), "{said}");
    }
}
