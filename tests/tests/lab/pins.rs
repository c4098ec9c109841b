//! What an operator finds below the pin path, and at the control socket.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::Value;

use crate::support::{SHOP, balance, lab};

/// The names in the README's table of the maps.
fn maps_in_readme() -> BTreeSet<String> {
    let readme = include_str!("../../../README.md");
    let (_, table) = readme.split_once("| map | key | value |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let names = |row: &'static str| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2);
    rows.flat_map(names).map(str::to_owned).collect()
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// What bpftool prints, as JSON.
fn bpftool(arguments: &[&str], pin: &Path, more: &[&str]) -> Value {
    let output = Command::new("bpftool")
        .arg("-j")
        .args(arguments)
        .arg(pin)
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_pins_are_those_of_the_readme() {
    let lab = lab(1);
    let _lb = balance(&lab, SHOP);
    let pins = lab.pin_path();
    assert_eq!(names_in(&pins.join("maps")), maps_in_readme());
    assert_eq!(names_in(&pins.join("progs")), ["balancer".into()].into());
    assert_eq!(names_in(&pins.join("links")), ["eth0".into()].into());
}

#[test]
fn bpftool_names_the_fields_of_the_maps() {
    let lab = lab(1);
    let _lb = balance(&lab, SHOP);
    for (map, fields) in [
        (
            "real_servers",
            &["destination_mac", "ifindex", "address"][..],
        ),
        ("virtual_servers", &["table", "vip"]),
        ("bindings", &["real_server", "counters"]),
        ("vip_buckets", &["slots"]),
    ] {
        let dump = bpftool(
            &["map", "dump", "pinned"],
            &lab.pin_path().join("maps").join(map),
            &[],
        );
        let value = &dump[0]["formatted"]["value"];
        for field in fields {
            assert!(value[field] != Value::Null, "no {field} in {value:#}");
        }
    }
}

#[test]
fn bpftool_runs_the_pinned_program() {
    const XDP_PASS: u64 = 2;
    let lab = lab(1);
    let _lb = balance(&lab, SHOP);
    let frame = lab.directory().join("frame");
    fs::write(&frame, [0; 64]).unwrap();
    let program = lab.pin_path().join("progs/balancer");
    let frame = frame.to_str().unwrap();
    let run = bpftool(&["prog", "run", "pinned"], &program, &["data_in", frame]);
    assert_eq!(run["retval"], XDP_PASS, "{run:#}");
}

#[test]
fn the_control_socket_is_for_its_owner_and_group() {
    let lab = lab(1);
    let _lb = balance(&lab, SHOP);
    let mode = fs::metadata(lab.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "{mode:o}");
}
