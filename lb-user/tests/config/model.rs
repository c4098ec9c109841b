//! What a valid file means: forms, defaults, groups, weights.

use std::{net::IpAddr, time::Duration};

use lb_user::config::{
    Binding, Config, Forward, Health, HealthCheck, IcmpCheck, Limits, OnDown, OnUnknown, Ports,
    Predictor, Protocol, Session, SessionMode, Sticky, Via, VirtualServer, XdpMode,
};
use rstest::rstest;
use serde_json::json;

fn parse(text: &str) -> Config {
    Config::parse("lb.yaml", text).unwrap_or_else(|error| panic!("{error}"))
}

/// The only virtual server of a file with the real servers web-1 (weight 1), web-2 (2), web-3 (0) and
/// a group `web` of all three; `keys` are added to its own.
fn virtual_server(keys: &str) -> VirtualServer {
    let config = parse(&format!(
        "interfaces: [{{ name: eth0 }}]
real_servers:
  web-1: 10.9.0.11
  web-2: {{ address: 10.9.0.12, weight: 2 }}
  web-3: {{ address: 10.9.0.13, weight: 0 }}
groups: {{ web: [web-1, web-2, web-3], none: }}
virtual_servers: [{{ name: shop, vip: 10.9.1.1, protocol: tcp, {keys} }}]"
    ));
    let [virtual_server] = <[VirtualServer; 1]>::try_from(config.virtual_servers).unwrap();
    virtual_server
}

fn binding(server: &str, weight: u16, drain: bool) -> Binding {
    Binding {
        server: server.to_owned(),
        weight,
        drain,
    }
}

#[test]
fn the_shortest_file_has_the_defaults() {
    let config = parse("interfaces: [{ name: eth0 }]");
    assert_eq!(
        serde_json::to_value(config).unwrap(),
        json!({
            "interfaces": [{ "name": "eth0", "xdp": "auto" }],
            "pin_path": "/sys/fs/bpf/lb",
            "control": { "socket": "/run/lb/lb.sock" },
            "metrics": null,
            "limits": {
                "sessions": 1_000_000, "sessions_v6": 1_000_000, "sticky": 100_000,
                "cps_per_cpu": 100_000, "virtual_servers": 4096, "real_servers": 4096,
            },
            "tunnel": { "source_v4": null, "source_v6": null },
            "real_servers": {},
            "virtual_servers": [],
        })
    );
}

#[test]
fn metrics_are_for_this_host_alone_unless_the_file_says_otherwise() {
    let listen = |keys: &str| {
        let config = parse(&format!("interfaces: [{{ name: eth0 }}]\n{keys}"));
        config.metrics.map(|metrics| metrics.listen.to_string())
    };
    assert_eq!(listen(""), None);
    assert_eq!(listen("metrics:"), None);
    assert_eq!(listen("metrics: {}").unwrap(), "127.0.0.1:9179");
    assert_eq!(
        listen("metrics: { listen: '10.9.0.1:80' }").unwrap(),
        "10.9.0.1:80"
    );
}

#[test]
fn every_setting_is_read() {
    let config = parse(
        r#"
interfaces:
  - name: eth0
    xdp: native
  - { name: eth1, xdp: generic }
pin_path: /sys/fs/bpf/other
control:
  socket: /run/other.sock
metrics:
  listen: "[::]:9999"
limits:
  sessions: 16777216
  sessions_v6: 1
  sticky: 2
  cps_per_cpu: 100000000
  virtual_servers: 32767
  real_servers: 2
tunnel: { source_v4: 10.200.0.0/16, source_v6: "2001:db8:200::1" }
real_servers:
  web-3: { address: "2001:db8::13", weight: 7, mac: "02:00:00:00:00:13" }
  web-4: "2001:db8::14"
virtual_servers:
  - name: shop
    vip: "2001:db8:1::1"
    protocol: tcp
    port: 443
    forward: l3dsr
    predictor: least_connection
    session: { mode: stateful, idle_timeout: 48h, on_unknown: drop, on_down: reset }
    sticky: { timeout: 1s, prefix_v4: 1, prefix_v6: 48 }
    slow_start: 1h
    bind:
      - { server: web-3, weight: 5, drain: false }
    sorry: web-4
    minimum_up: 1
    health: { interval: 1h, timeout: 10ms, rise: 1, fall: 100, checks: [icmp: { via: real }] }
"#,
    );
    assert_eq!(
        serde_json::to_value(config).unwrap(),
        json!({
            "interfaces": [{ "name": "eth0", "xdp": "native" }, { "name": "eth1", "xdp": "generic" }],
            "pin_path": "/sys/fs/bpf/other",
            "control": { "socket": "/run/other.sock" },
            "metrics": { "listen": "[::]:9999" },
            "limits": {
                "sessions": 16_777_216, "sessions_v6": 1, "sticky": 2,
                "cps_per_cpu": 100_000_000, "virtual_servers": 32767, "real_servers": 2,
            },
            "tunnel": { "source_v4": "10.200.0.0/16", "source_v6": "2001:db8:200::1/128" },
            "real_servers": {
                "web-3": { "address": "2001:db8::13", "weight": 7, "mac": "02:00:00:00:00:13" },
                "web-4": { "address": "2001:db8::14", "weight": 1, "mac": null },
            },
            "virtual_servers": [{
                "name": "shop",
                "vip": "2001:db8:1::1",
                "protocol": "tcp",
                "port": 443,
                "forward": "l3dsr",
                "predictor": "least_connection",
                "session": {
                    "mode": "stateful",
                    "idle_timeout": "48h",
                    "on_unknown": "drop",
                    "on_down": "reset",
                    "settle": "30s",
                },
                "sticky": { "timeout": "1s", "prefix_v4": 1, "prefix_v6": 48 },
                "slow_start": "1h",
                "bind": [{ "server": "web-3", "weight": 5, "drain": false }],
                "sorry": "web-4",
                "minimum_up": 1,
                "health": {
                    "interval": "1h",
                    "timeout": "10ms",
                    "rise": 1,
                    "fall": 100,
                    "checks": [{ "icmp": { "via": "real", "size": null } }],
                },
            }],
        })
    );
}

#[rstest]
#[case::one("80", "80", json!(80))]
#[case::quoted("'80'", "80", json!(80))]
#[case::list("[443, 80]", "[80, 443]", json!([80, 443]))]
#[case::list_of_one("[80]", "80", json!(80))]
#[case::range("'8000-8100'", "8000-8100", json!("8000-8100"))]
#[case::unquoted_range("8000-8100", "8000-8100", json!("8000-8100"))]
#[case::whole_range("1-65535", "1-65535", json!("1-65535"))]
#[case::any("any", "any", json!("any"))]
fn ports_are_shown_as_they_are_written(
    #[case] written: &str,
    #[case] shown: &str,
    #[case] json: serde_json::Value,
) {
    let ports = virtual_server(&format!("port: {written}")).ports;
    assert_eq!(ports.to_string(), shown);
    assert_eq!(serde_json::to_value(&ports).unwrap(), json);
    assert_eq!(virtual_server(&format!("port: {shown}")).ports, ports);
}

#[test]
fn a_group_binds_its_real_servers_in_order_with_their_own_weights() {
    let bind = virtual_server("port: 80, bind: [web]").bind;
    let expected = [
        binding("web-1", 1, false),
        binding("web-2", 2, false),
        binding("web-3", 0, true),
    ];
    assert_eq!(bind, expected);
}

#[test]
fn groups_and_real_servers_mix_in_the_order_of_bind() {
    let text = "
interfaces: [{ name: eth0 }]
real_servers: { a: 10.9.0.1, b: 10.9.0.2, c: 10.9.0.3, d: 10.9.0.3 }
groups: { pair: [c, b] }
virtual_servers: [{ name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [d, pair, { server: a }] }]";
    let bind = &parse(text).virtual_servers[0].bind;
    assert_eq!(
        Vec::from_iter(bind.iter().map(|b| b.server.as_str())),
        ["d", "c", "b", "a"]
    );
}

#[rstest]
#[case::own_weight("{ server: web-2, weight: 5 }", binding("web-2", 5, false))]
#[case::inherited_weight("{ server: web-2 }", binding("web-2", 2, false))]
#[case::drained_by_weight("{ server: web-2, weight: 0 }", binding("web-2", 0, true))]
#[case::drained_by_word("{ server: web-2, drain: true }", binding("web-2", 2, true))]
#[case::drained_server("web-3", binding("web-3", 0, true))]
#[case::weight_over_zero("{ server: web-3, weight: 1 }", binding("web-3", 1, false))]
fn a_binding_wins_over_its_real_server(#[case] written: &str, #[case] expected: Binding) {
    assert_eq!(
        virtual_server(&format!("port: 80, bind: [{written}]")).bind,
        [expected]
    );
}

#[rstest]
#[case::absent("port: 80")]
#[case::nothing("port: 80, bind: ")]
#[case::empty_list("port: 80, bind: []")]
#[case::empty_group("port: 80, bind: [none]")]
#[case::with_a_minimum("port: 80, bind: [], minimum_up: 2")]
fn a_virtual_server_may_bind_nothing(#[case] keys: &str) {
    assert_eq!(virtual_server(keys).bind, []);
}

#[rstest]
#[case::absent("", None)]
#[case::beside_others("bind: [web-1, web-2], sorry: web-3", Some("web-3"))]
#[case::alone("sorry: web-1", Some("web-1"))]
fn a_virtual_server_may_have_a_sorry_server(#[case] keys: &str, #[case] sorry: Option<&str>) {
    let server = virtual_server(&format!("port: 80, {keys}"));
    assert_eq!(server.sorry.as_deref(), sorry);
}

#[test]
fn draining_does_not_collide_with_minimum_up() {
    let keys = "port: 80, bind: [web-1, { server: web-2, drain: true }], minimum_up: 2";
    assert_eq!(virtual_server(keys).minimum_up, 2);
}

#[test]
fn what_a_virtual_server_leaves_out_comes_from_the_defaults() {
    let config = parse(
        "
interfaces: [{ name: eth0 }]
real_servers: { a: 10.9.0.1, b: 10.9.0.2 }
defaults: { protocol: udp, forward: l2dsr, predictor: hash, minimum_up: 2, session: { mode: stateless } }
virtual_servers:
  - { name: plain, vip: 10.9.1.1, port: 53, bind: [a, b] }
  - { name: own, vip: 10.9.1.1, port: 53, bind: [a, b], protocol: tcp, minimum_up: 1 }",
    );
    let [plain, own] = config.virtual_servers.as_slice() else {
        panic!("{config:?}")
    };
    assert_eq!((plain.protocol, plain.minimum_up), (Protocol::Udp, 2));
    assert_eq!((own.protocol, own.minimum_up), (Protocol::Tcp, 1));
    assert_eq!(
        (own.forward, own.predictor),
        (Forward::L2dsr, Predictor::Hash)
    );
}

#[rstest]
#[case::hash("hash", Predictor::Hash)]
#[case::source_hash("source_hash", Predictor::SourceHash)]
#[case::round_robin("round_robin", Predictor::RoundRobin)]
#[case::least_connection("least_connection", Predictor::LeastConnection)]
#[case::response_time("response_time", Predictor::ResponseTime)]
fn predictors_go_by_their_names(#[case] name: &str, #[case] predictor: Predictor) {
    let health = "health: { checks: [icmp: { via: real }] }";
    let server = virtual_server(&format!("port: 80, predictor: {name}, {health}"));
    assert_eq!(server.predictor, predictor);
    assert_eq!(predictor.to_string(), name);
}

#[test]
fn the_table_of_ipv6_sessions_is_as_large_as_that_of_ipv4_unless_it_says_otherwise() {
    let limits = |keys: &str| {
        parse(&format!(
            "interfaces: [{{ name: eth0 }}]\nlimits: {{ {keys} }}"
        ))
        .limits
    };
    let sessions = |limits: Limits| (limits.sessions, limits.sessions_v6);
    assert_eq!(sessions(limits("sessions: 5")), (5, 5));
    assert_eq!(sessions(limits("sessions_v6: 6")), (1_000_000, 6));
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn sessions_are_remembered_for_half_an_hour_in_tcp_and_five_minutes_in_udp() {
    let expected = |idle_timeout| Session {
        mode: SessionMode::Stateful,
        idle_timeout,
        on_unknown: OnUnknown::Forward,
        on_down: OnDown::Move,
        settle: Duration::from_secs(30),
    };
    let config = parse(
        "
interfaces: [{ name: eth0 }]
virtual_servers:
  - { name: tcp, vip: 10.9.1.1, protocol: tcp, port: 53 }
  - { name: udp, vip: 10.9.1.1, protocol: udp, port: 53 }",
    );
    assert_eq!(config.virtual_servers[0].session, expected(30 * MINUTE));
    assert_eq!(config.virtual_servers[1].session, expected(5 * MINUTE));
}

/// The only virtual server of a file with these defaults.
fn with_defaults(defaults: &str, keys: &str) -> VirtualServer {
    let text = format!(
        "interfaces: [{{ name: eth0 }}]
defaults: {{ protocol: tcp, {defaults} }}
virtual_servers: [{{ name: shop, vip: 10.9.1.1, port: 80, {keys} }}]"
    );
    let [virtual_server] = <[VirtualServer; 1]>::try_from(parse(&text).virtual_servers).unwrap();
    virtual_server
}

#[test]
fn a_session_section_changes_its_own_keys_of_the_defaults_alone() {
    let defaults = "session: { idle_timeout: 10m, on_unknown: reset, on_down: reset }";
    let session = with_defaults(defaults, "session: { idle_timeout: 1m, on_down: move }").session;
    let expected = Session {
        mode: SessionMode::Stateful,
        idle_timeout: MINUTE,
        on_unknown: OnUnknown::Reset,
        on_down: OnDown::Move,
        settle: Duration::from_secs(30),
    };
    assert_eq!(session, expected);
}

#[rstest]
#[case::stateless(
    "session: { idle_timeout: 10m, on_unknown: reset, on_down: reset }",
    "session: { mode: stateless }",
    SessionMode::Stateless
)]
#[case::stateful(
    "session: { mode: stateless, idle_timeout: 10m }",
    "session: { mode: stateful }",
    SessionMode::Stateful
)]
#[case::on_change(
    "session: { idle_timeout: 10m, on_unknown: reset, on_down: reset }",
    "session: { mode: on_change }",
    SessionMode::OnChange
)]
#[case::udp(
    "session: { on_unknown: reset, idle_timeout: 10m }",
    "protocol: udp",
    SessionMode::Stateful
)]
fn defaults_may_hold_keys_that_do_not_concern_each_virtual_server(
    #[case] defaults: &str,
    #[case] keys: &str,
    #[case] mode: SessionMode,
) {
    let session = with_defaults(defaults, keys).session;
    assert_eq!((session.mode, session.idle_timeout), (mode, 10 * MINUTE));
    if mode == SessionMode::OnChange {
        let others = (session.on_unknown, session.on_down);
        assert_eq!(others, (OnUnknown::Forward, OnDown::Move));
    }
}

#[rstest]
#[case::absent("", "", None)]
#[case::own("", "sticky: { timeout: 1m }", Some((1, 32, 128)))]
#[case::inherited("sticky: { timeout: 2m, prefix_v4: 24 }", "", Some((2, 24, 128)))]
#[case::merged("sticky: { timeout: 2m, prefix_v4: 24 }", "sticky: { timeout: 1m, prefix_v6: 64 }", Some((1, 24, 64)))]
#[case::timeout_from_the_defaults("sticky: { timeout: 2m }", "sticky: { prefix_v4: 16 }", Some((2, 16, 128)))]
#[case::timeout_of_its_own("sticky: { prefix_v4: 16 }", "sticky: { timeout: 1m }", Some((1, 16, 128)))]
#[case::off("sticky: { timeout: 2m }", "sticky: none", None)]
#[case::on("sticky: none", "sticky: { timeout: 1m }", Some((1, 32, 128)))]
#[case::nothing("sticky: { timeout: 2m }", "sticky: ", Some((2, 32, 128)))]
#[case::off_without_sessions(
    "sticky: { timeout: 2m }",
    "sticky: none, session: { mode: stateless }",
    None
)]
fn sticky_merges_with_the_defaults_and_none_switches_it_off(
    #[case] defaults: &str,
    #[case] keys: &str,
    #[case] expected: Option<(u32, u8, u8)>,
) {
    let expected = expected.map(|(minutes, prefix_v4, prefix_v6)| Sticky {
        timeout: minutes * MINUTE,
        prefix_v4,
        prefix_v6,
    });
    assert_eq!(with_defaults(defaults, keys).sticky, expected);
}

#[rstest]
#[case::half_a_minute("", "predictor: least_connection", Some(30))]
#[case::own("", "predictor: least_connection, slow_start: 5s", Some(5))]
#[case::off("", "predictor: least_connection, slow_start: none", None)]
#[case::inherited("slow_start: 10s", "predictor: least_connection", Some(10))]
#[case::off_by_default("slow_start: none", "predictor: least_connection", None)]
#[case::on_again(
    "slow_start: none",
    "predictor: least_connection, slow_start: 1s",
    Some(1)
)]
#[case::of_another_predictor("slow_start: 10s", "predictor: round_robin", None)]
#[case::hash("", "", None)]
fn least_connection_alone_starts_slowly(
    #[case] defaults: &str,
    #[case] keys: &str,
    #[case] seconds: Option<u64>,
) {
    let slow_start = with_defaults(defaults, keys).slow_start;
    assert_eq!(slow_start, seconds.map(Duration::from_secs));
}

/// Milliseconds, `rise`, `fall`, and whether there is a check.
#[rstest]
#[case::absent("", "", (2000, 1000, 2, 3, false))]
#[case::check_alone("", "checks: [icmp: { via: real }]", (2000, 1000, 2, 3, true))]
#[case::own(
    "",
    "interval: 10s, timeout: 5s, rise: 1, fall: 4, checks: [icmp: { via: real }]",
    (10_000, 5000, 1, 4, true)
)]
#[case::a_short_interval_bounds_the_timeout(
    "",
    "interval: 300ms, checks: [icmp: { via: real }]",
    (300, 300, 2, 3, true)
)]
#[case::inherited(
    "interval: 10s, timeout: 5s, rise: 1, fall: 4, checks: [icmp: { via: real }]",
    "",
    (10_000, 5000, 1, 4, true)
)]
#[case::merged(
    "interval: 10s, fall: 4, checks: [icmp: { via: real }]",
    "timeout: 3s, rise: 5, fall: 6",
    (10_000, 3000, 5, 6, true)
)]
#[case::off("fall: 4, checks: [icmp: { via: real }]", "checks: []", (2000, 1000, 2, 4, false))]
#[case::nothing("checks: [icmp: { via: real }]", "checks: ", (2000, 1000, 2, 3, true))]
fn health_merges_with_the_defaults_key_by_key(
    #[case] defaults: &str,
    #[case] own: &str,
    #[case] (interval, timeout, rise, fall, is_checked): (u64, u64, u32, u32, bool),
) {
    let health = |keys: &str| format!("health: {{ {keys} }}");
    let expected = Health {
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis(timeout),
        rise,
        fall,
        checks: if is_checked {
            vec![HealthCheck::Icmp(IcmpCheck {
                via: Via::Real,
                size: None,
            })]
        } else {
            vec![]
        },
    };
    assert_eq!(
        with_defaults(&health(defaults), &health(own)).health,
        expected
    );
}

/// The checks of a virtual server with port 443, as JSON.
fn checks(keys: &str) -> serde_json::Value {
    let health = virtual_server(&format!("port: 443, health: {{ checks: [{keys}] }}")).health;
    serde_json::to_value(health.checks).unwrap()
}

/// An HTTP check as JSON: the defaults, and what is other.
fn http(other: serde_json::Value) -> serde_json::Value {
    let mut check = json!({
        "via": "vip", "port": 443, "tls": null, "method": "GET", "path": "/", "host": null,
        "headers": [], "status": [[200, 399]], "body": null,
    });
    let other = other.as_object().unwrap().clone();
    check.as_object_mut().unwrap().extend(other);
    json!({ "http": check })
}

#[rstest]
#[case::arp("arp", json!("arp"))]
#[case::icmp("icmp", json!({ "icmp": { "via": "vip", "size": null } }))]
#[case::icmp_without_options("icmp: {}", json!({ "icmp": { "via": "vip", "size": null } }))]
#[case::icmp_with_options("icmp: { via: real, size: 64 }", json!({ "icmp": { "via": "real", "size": 64 } }))]
#[case::icmp_of_jumbo_frames("icmp: { size: 9000 }", json!({ "icmp": { "via": "vip", "size": 9000 } }))]
#[case::syn("syn", json!({ "syn": { "via": "vip", "port": 443 } }))]
#[case::syn_with_options("syn: { port: 80, via: real }", json!({ "syn": { "via": "real", "port": 80 } }))]
#[case::tcp("tcp", json!({ "tcp": { "via": "vip", "port": 443 } }))]
#[case::tcp_with_options("tcp: { port: 80, via: real }", json!({ "tcp": { "via": "real", "port": 80 } }))]
#[case::dns(
    "dns: { name: example.com, port: 53 }",
    json!({ "dns": { "via": "vip", "port": 53, "name": "example.com", "record": "A" } })
)]
#[case::dns_with_options(
    "dns: { name: _sip._tcp.example.com., type: srv, port: 53, via: real }",
    json!({ "dns": { "via": "real", "port": 53, "name": "_sip._tcp.example.com.", "record": "SRV" } })
)]
#[case::dns_of_the_root(
    "dns: { name: ., type: NS, port: 53 }",
    json!({ "dns": { "via": "vip", "port": 53, "name": ".", "record": "NS" } })
)]
#[case::udp(
    "udp: { send: ping, port: 7 }",
    json!({ "udp": { "via": "vip", "port": 7, "send": "ping", "expect": null } })
)]
#[case::udp_with_options(
    "udp: { send: ping, expect: pong, port: 7, via: real }",
    json!({ "udp": { "via": "real", "port": 7, "send": "ping", "expect": "pong" } })
)]
#[case::http("http", http(json!({})))]
#[case::http_where_it_is_sent("http: { port: 8080, via: real }", http(json!({ "port": 8080, "via": "real" })))]
#[case::http_path("http: { path: '/health?full=1' }", http(json!({ "path": "/health?full=1" })))]
#[case::http_host("http: { host: 'example.com:8443' }", http(json!({ "host": "example.com:8443" })))]
#[case::http_host_address("http: { host: '[2001:db8::1]' }", http(json!({ "host": "[2001:db8::1]" })))]
#[case::http_method("http: { method: head }", http(json!({ "method": "HEAD" })))]
#[case::http_method_in_capitals("http: { method: GET }", http(json!({ "method": "GET" })))]
#[case::http_headers(
    "http: { headers: { X-Check: lb, Accept: '*/*' } }",
    http(json!({ "headers": [["X-Check", "lb"], ["Accept", "*/*"]] }))
)]
#[case::http_status("http: { status: 204 }", http(json!({ "status": [[204, 204]] })))]
#[case::http_statuses("http: { status: [200, 301-302] }", http(json!({ "status": [[200, 200], [301, 302]] })))]
#[case::http_body("http: { body: 'all is well' }", http(json!({ "body": { "contains": "all is well" } })))]
#[case::http_body_regex("http: { body_regex: '^ok \\d+$' }", http(json!({ "body": { "matches": "^ok \\d+$" } })))]
#[case::without_tls("http: { tls: false }", http(json!({})))]
#[case::tls("http: { tls: true }", http(json!({ "tls": { "server_name": null, "verify": false } })))]
#[case::tls_with_options(
    "http: { tls: true, sni: example.com, verify: true }",
    http(json!({ "tls": { "server_name": "example.com", "verify": true } }))
)]
#[case::tls_verified_for_the_host(
    "http: { tls: true, host: 'example.com:443', verify: true }",
    http(json!({ "tls": { "server_name": null, "verify": true }, "host": "example.com:443" }))
)]
fn a_check_is_read(#[case] written: &str, #[case] expected: serde_json::Value) {
    assert_eq!(checks(written), json!([expected]));
}

#[test]
fn checks_keep_their_order_and_may_be_alike() {
    let kinds = checks("http, arp, syn, tcp, http: { via: real }, http: { path: /x }");
    let kinds = kinds.as_array().unwrap().iter();
    let kinds: Vec<_> = kinds
        .map(|check| {
            check
                .as_object()
                .map_or("arp", |it| it.keys().next().unwrap())
        })
        .collect();
    assert_eq!(kinds, ["http", "arp", "syn", "tcp", "http", "http"]);
}

#[rstest]
#[case::one("80", 80)]
#[case::lowest_of_a_list("[443, 80]", 80)]
#[case::first_of_a_range("8000-8100", 8000)]
fn a_check_goes_to_the_first_port_of_its_virtual_server(#[case] ports: &str, #[case] port: u16) {
    let health = virtual_server(&format!("port: {ports}, health: {{ checks: [tcp] }}")).health;
    assert_eq!(health.checks[0].port(), Some(port));
}

#[test]
fn checks_of_the_defaults_go_to_the_port_of_each_virtual_server() {
    let config = parse(
        "
interfaces: [{ name: eth0 }]
defaults: { protocol: tcp, health: { checks: [arp, icmp, tcp, 'dns': { name: example.com, port: 53 }] } }
virtual_servers:
  - { name: v4, vip: 10.9.1.1, port: 80 }
  - { name: v6, vip: '2001:db8::1', port: 443 }
  - { name: any, vip: 10.9.1.1, port: any, health: { checks: [tcp: { port: 22 }, icmp] } }
  - { name: udp, vip: 10.9.1.1, protocol: udp, port: 53, health: { checks: [tcp: { port: 53 }, dns: { name: . }] } }",
    );
    let ports = config.virtual_servers.iter().map(|server| {
        let checks = server.health.checks.iter();
        checks.filter_map(HealthCheck::port).collect()
    });
    let ports: Vec<Vec<_>> = ports.collect();
    assert_eq!(ports, [vec![80, 53], vec![443, 53], vec![22], vec![53, 53]]);
}

#[test]
fn exact_ports_ranges_and_any_share_a_vip() {
    let config = parse(
        "
interfaces: [{ name: eth0 }]
virtual_servers:
  - { name: any, vip: 10.9.1.1, protocol: tcp, port: any }
  - { name: range, vip: 10.9.1.1, protocol: tcp, port: 8000-8100 }
  - { name: next-range, vip: 10.9.1.1, protocol: tcp, port: 8101-8200 }
  - { name: range-before, vip: 10.9.1.1, protocol: tcp, port: 7000-7999 }
  - { name: exact, vip: 10.9.1.1, protocol: tcp, port: 8080 }
  - { name: other-protocol, vip: 10.9.1.1, protocol: udp, port: 8080 }
  - { name: other-vip, vip: 10.9.1.2, protocol: tcp, port: 8080 }",
    );
    assert_eq!(config.virtual_servers.len(), 7);
    assert_eq!(config.virtual_servers[1].ports, Ports::Range(8000..=8100));
}

#[test]
fn two_real_servers_may_share_an_address_and_several_virtual_servers_a_real_server() {
    let config = parse(
        "
interfaces: [{ name: eth0 }]
real_servers: { a: 10.9.0.1, also-a: 10.9.0.1 }
virtual_servers:
  - { name: one, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [a, also-a] }
  - { name: two, vip: 10.9.1.1, protocol: tcp, port: 81, bind: [a] }",
    );
    let address: IpAddr = "10.9.0.1".parse().unwrap();
    assert!(
        config
            .real_servers
            .values()
            .all(|server| server.address == address)
    );
    assert_eq!(config.virtual_servers[0].bind.len(), 2);
}

#[test]
fn anchors_and_merges_are_expanded() {
    let config = parse(
        "
interfaces: [&eth { name: eth0, xdp: generic }, { <<: *eth, name: eth1 }]
virtual_servers:
  - &shop { name: shop, vip: 10.9.1.1, protocol: tcp, port: 80 }
  - { <<: *shop, name: shop-tls, port: 443 }",
    );
    assert_eq!(
        (config.interfaces[1].name.as_str(), config.interfaces[1].xdp),
        ("eth1", XdpMode::Generic)
    );
    assert_eq!(config.virtual_servers[1].ports.to_string(), "443");
}
