//! What the command `lb` prints and how it exits, without root and without a daemon.

use std::{os::unix::net::UnixListener, path::PathBuf};

use assert_cmd::{assert::Assert, cargo::cargo_bin_cmd};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use rstest::rstest;
use tempfile::TempDir;

const GOOD: &str = "\
interfaces: [{ name: eth0 }]
real_servers: { web-1: 10.9.0.11, web-2: 10.9.0.12 }
virtual_servers:
  - { name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web-1, web-2] }
";

/// Runs `lb` in a directory of its own.
struct Cli {
    directory: TempDir,
}

impl Cli {
    fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    /// A file in the directory.
    fn with_file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Assert {
        let mut lb = cargo_bin_cmd!("lb");
        lb.args(arguments).current_dir(&self.directory).assert()
    }

    /// Runs a command that must fail with these lines.
    fn run_in_vain(&self, arguments: &[&str], lines: &str) {
        let outcome = self.run(arguments).code(1).stdout("");
        outcome.stderr(format!("{lines}\n"));
    }
}

#[test]
fn a_good_file_is_told_to_be_good() {
    let lb = Cli::new().with_file("lb.yaml", GOOD);
    lb.run(&["check", "lb.yaml"])
        .code(0)
        .stdout("lb.yaml: good: 1 virtual server, 2 real servers\n")
        .stderr("");
}

#[rstest]
#[case::check(&["check", "lb.yaml"])]
#[case::run(&["run", "--config", "lb.yaml"])]
#[case::stop(&["stop", "--config", "lb.yaml"])]
#[case::doctor(&["doctor", "--config", "lb.yaml"])]
fn a_bad_file_is_refused_with_a_line_for_each_mistake(#[case] command: &[&str]) {
    let bad = GOOD
        .replace("port: 80", "port: 0")
        .replace("[web-1, web-2]", "[web-1, web-3]");
    let lb = Cli::new().with_file("lb.yaml", &bad);
    lb.run_in_vain(
        command,
        "lb.yaml:4:55: port: expected a port from 1 to 65535, found 0\n\
         lb.yaml:4:72: bind: unknown real server or group `web-3`; did you mean `web-1`?",
    );
}

#[rstest]
#[case::missing("lb.yaml", "No such file or directory (os error 2)")]
#[case::directory(".", "Is a directory (os error 21)")]
fn a_file_that_cannot_be_read_is_refused_with_the_reason(#[case] file: &str, #[case] reason: &str) {
    let lb = Cli::new();
    let problem = format!("{file}: can't be read: {reason}");
    lb.run_in_vain(&["check", file], &problem);
    lb.run_in_vain(&["run", "--config", file], &problem);
}

#[rstest]
fn a_command_without_a_daemon_asks_for_one(#[values("status", "sessions", "trace")] command: &str) {
    Cli::new().run_in_vain(
        &[command, "--socket", "lb.sock"],
        "no lb daemon answers at lb.sock (No such file or directory (os error 2)): \
         is `lb run` running, with this control.socket?",
    );
}

#[rstest]
fn nothing_is_bound_without_a_daemon(#[values("bind", "unbind")] command: &str) {
    let lb = Cli::new().with_file("lb.yaml", GOOD);
    let options = ["--config", "lb.yaml", "--socket", "lb.sock"];
    lb.run_in_vain(
        &[&[command, "shop", "web-1"], &options[..]].concat(),
        "no lb daemon answers at lb.sock (No such file or directory (os error 2)): \
         is `lb run` running, with this control.socket?",
    );
    assert_eq!(std::fs::read(lb.path("lb.yaml")).unwrap(), GOOD.as_bytes());
}

/// A daemon that was killed leaves its socket.
#[test]
fn a_socket_that_nobody_listens_on_is_no_daemon() {
    let lb = Cli::new();
    drop(UnixListener::bind(lb.path("lb.sock")).unwrap());
    lb.run_in_vain(
        &["status", "--socket", "lb.sock"],
        "no lb daemon answers at lb.sock (Connection refused (os error 111)): \
         is `lb run` running, with this control.socket?",
    );
}

#[test]
fn a_stop_with_nothing_to_stop_asks_for_another_pin_path() {
    Cli::new().run_in_vain(
        &["stop", "--socket", "lb.sock", "--pin-path", "pins"],
        "nothing to stop: no daemon answers and nothing is pinned at pins; \
         is pin_path another (--pin-path, --config)?",
    );
}

#[test]
fn a_stop_finds_socket_and_pins_in_the_configuration() {
    let lb = Cli::new();
    let (pins, socket) = (lb.path("pins"), lb.path("lb.sock"));
    let (pins, socket) = (pins.display(), socket.display());
    let config = format!("{GOOD}pin_path: {pins}\ncontrol: {{ socket: {socket} }}\n");
    lb.with_file("lb.yaml", &config).run_in_vain(
        &["stop", "--config", "lb.yaml"],
        &format!(
            "nothing to stop: no daemon answers and nothing is pinned at {pins}; \
             is pin_path another (--pin-path, --config)?"
        ),
    );
}

#[rstest]
#[case::nothing(&[], "Usage: lb <COMMAND>")]
#[case::unknown_command(&["frobnicate"], "unrecognized subcommand 'frobnicate'")]
#[case::unknown_option(&["status", "--jsn"], "a similar argument exists: '--json'")]
#[case::missing_file(&["check"], "<FILE>")]
#[case::missing_option(&["run"], "--config <FILE>")]
#[case::bits_behind_a_prefix(
    &["decap", "--interface", "eth0", "--from", "10.9.0.5/24"],
    "10.9.0.5/24 has bits set behind its prefix: write 10.9.0.0/24"
)]
#[case::no_prefix(
    &["decap", "--interface", "eth0", "--from", "balancer"],
    "expected an address or a prefix such as 10.9.0.0/24"
)]
#[case::vip_that_is_no_address(&["sessions", "--vip", "shop"], "invalid value 'shop' for '--vip <IP>'")]
#[case::weight_too_large(&["bind", "shop", "web-1", "--weight", "1001"], "1001 is not in 0..=1000")]
#[case::watch_without_pause(&["status", "--watch", "0"], "expected whole seconds, 1 to 86400")]
#[case::part_of_a_second(&["trace", "--seconds", "0.5"], "expected whole seconds, 1 to 86400")]
#[case::contradiction(&["stop", "--config", "a", "--socket", "b"], "cannot be used with")]
fn a_wrong_use_exits_with_2_and_says_how(#[case] arguments: &[&str], #[case] hint: &str) {
    let outcome = Cli::new().run(arguments).code(2).stdout("");
    outcome.stderr(contains(hint));
}

#[rstest]
fn every_command_has_an_example(
    #[values(
        "run",
        "check",
        "status",
        "top",
        "sessions",
        "bind",
        "unbind",
        "stop",
        "decap",
        "doctor",
        "reload",
        "trace",
        "completions",
        "man"
    )]
    command: &str,
) {
    let outcome = Cli::new().run(&[command, "--help"]).code(0).stderr("");
    outcome.stdout(contains("\nExample").and(contains(format!("\n  lb {command}"))));
}

#[test]
fn a_manual_page_has_usage_arguments_and_examples() {
    let lb = Cli::new();
    lb.run(&["man", "."]).code(0).stdout("").stderr("");
    assert!(lb.path("lb.1").exists());
    let page = std::fs::read_to_string(lb.path("lb-bind.1")).unwrap();
    for lines in [
        ".SH SYNOPSIS\n\\fBlb bind\\fR [OPTIONS] <VIRTUAL\\-SERVER> <SERVER>\n",
        ".SH ARGUMENTS\n",
        ".SH EXAMPLES\n  lb bind shop",
    ] {
        assert!(page.contains(lines), "{lines}{page}");
    }
}

#[test]
fn a_live_view_without_a_terminal_is_refused() {
    Cli::new().run_in_vain(&["top"], "lb top needs a terminal: use `lb status --watch`");
}

#[test]
fn the_version_is_that_of_lb() {
    let expected = concat!("lb ", env!("CARGO_PKG_VERSION"), "\n");
    Cli::new().run(&["--version"]).code(0).stdout(expected);
}

#[test]
fn a_directory_that_is_no_place_for_pins_is_not_stopped() {
    let lb = Cli::new().with_file("precious", "kept");
    lb.run(&["stop", "--socket", "none.sock", "--pin-path", "."])
        .code(1)
        .stderr(contains("BPF file system"));
    assert_eq!(std::fs::read(lb.path("precious")).unwrap(), b"kept");
}
