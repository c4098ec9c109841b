//! No text makes the parser panic, hang or eat memory.

use std::time::{Duration, Instant};

use lb_user::config::{Config, LoadError, Position};
use proptest::prelude::*;
use proptest::sample::Index;

const L2DSR: &str = include_str!("../../../deploy/examples/l2dsr.yaml");
const DUAL_STACK: &str = include_str!("../../../deploy/examples/dual-stack.yaml");

const SESSIONS: &str = "\
interfaces: [{ name: eth0 }]
limits: { sessions: 1000, sessions_v6: 10, sticky: 100, cps_per_cpu: 10 }
defaults:
  protocol: tcp
  session: { mode: stateful, idle_timeout: 30m, on_unknown: reset, on_down: reset }
  sticky: { timeout: 10m, prefix_v4: 24, prefix_v6: 64 }
  slow_start: 1m
virtual_servers:
  - { name: a, vip: 10.9.1.1, port: 80, predictor: least_connection, slow_start: none }
  - { name: b, vip: 10.9.1.1, port: 81, session: { mode: stateless }, sticky: none }
";

const CHECKS: &str = "\
interfaces: [{ name: eth0 }]
defaults:
  health: { interval: 1s, checks: [arp, icmp: { size: 1500 }, syn, tcp: { port: 22, via: real }] }
virtual_servers:
  - { name: a, vip: 10.9.1.1, protocol: tcp, port: 80 }
  - name: b
    vip: 10.9.1.2
    protocol: udp
    port: 53
    health:
      checks:
        - dns: { name: example.com, type: AAAA }
        - udp: { send: ping, expect: pong }
        - http: { path: '/a?b', host: 'a.b:80', headers: { A: b }, status: [200, 301-302], body_regex: '^o(k)', port: 1 }
        - http: { tls: true, sni: a.b, verify: true, method: HEAD, port: 443 }
";

/// Every problem has a place in the file and a message of one line.
fn parse(text: &str) {
    if let Err(error) = Config::parse("lb.yaml", text) {
        let LoadError::Invalid { diagnostics, .. } = &error else {
            panic!("{error}")
        };
        assert!(!diagnostics.is_empty());
        assert!(diagnostics.is_sorted());
        assert!(
            diagnostics
                .iter()
                .all(|diagnostic| diagnostic.position >= Position::START)
        );
        assert_eq!(
            error.to_string().lines().count(),
            diagnostics.len(),
            "{error}"
        );
    }
}

/// A change of the text: replace `len` characters from `at` by `with`.
#[derive(Debug, Clone)]
struct Edit {
    at: Index,
    len: usize,
    with: String,
}

fn edit() -> impl Strategy<Value = Edit> {
    let with = prop_oneof![
        Just(String::new()),
        "[\\x00-\\x7f]{1,3}",
        "\\PC{1,2}",
        proptest::sample::select(vec![
            "\n",
            "\n  ",
            "\t",
            "- ",
            ": ",
            "[",
            "]",
            "{",
            "}",
            "&a ",
            "*a",
            "<<: *a",
            "!!int ",
            "|",
            "null",
            "-1",
            "65536",
            "1e999",
            ".nan",
            "0x10",
            "---\n",
            "99999999999999999999",
            "\"",
        ])
        .prop_map(str::to_owned),
    ];
    (any::<Index>(), 0..8_usize, with).prop_map(|(at, len, with)| Edit { at, len, with })
}

fn apply(text: &str, edits: &[Edit]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for Edit { at, len, with } in edits {
        let start = at.index(chars.len() + 1);
        let end = (start + len).min(chars.len());
        chars.splice(start..end, with.chars());
    }
    chars.into_iter().collect()
}

proptest! {
    #[test]
    fn a_mutated_file_is_parsed_or_refused(
        text in proptest::sample::select(vec![L2DSR, DUAL_STACK, SESSIONS, CHECKS]),
        edits in proptest::collection::vec(edit(), 1..6),
    ) {
        parse(&apply(text, &edits));
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,200}") {
        parse(&text);
    }
}

#[test]
fn what_is_mutated_is_right() {
    for text in [L2DSR, DUAL_STACK, SESSIONS, CHECKS] {
        Config::parse("lb.yaml", text).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn refused_soon(text: &str) -> String {
    let start = Instant::now();
    let error = Config::parse("lb.yaml", text).unwrap_err().to_string();
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "took {:?}",
        start.elapsed()
    );
    error
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    refused_soon(&text);
    let bind = format!(
        "virtual_servers:\n- bind: &a0 [x]\n- bind: {}",
        "[".repeat(5000)
    );
    refused_soon(&bind);
}

#[test]
fn deep_nesting_is_refused() {
    refused_soon(&"[".repeat(100_000));
    refused_soon(&"{a: ".repeat(100_000));
    refused_soon(&format!("interfaces: {}", "- ".repeat(100_000)));
}
