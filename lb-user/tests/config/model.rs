//! What a valid file means: forms, defaults, groups, weights.

use std::net::IpAddr;

use lb_user::config::{
    Binding, Config, Forward, Ports, Predictor, Protocol, VirtualServer, XdpMode,
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
            "limits": { "virtual_servers": 4096, "real_servers": 4096 },
            "tunnel": { "source_v4": null, "source_v6": null },
            "real_servers": {},
            "virtual_servers": [],
        })
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
limits:
  virtual_servers: 65535
  real_servers: 1
tunnel: { source_v4: 10.200.0.0/16, source_v6: "2001:db8:200::1" }
real_servers:
  web-3: { address: "2001:db8::13", weight: 7, mac: "02:00:00:00:00:13" }
virtual_servers:
  - name: shop
    vip: "2001:db8:1::1"
    protocol: udp
    port: 443
    forward: l3dsr
    predictor: hash
    session: { mode: stateless }
    bind:
      - { server: web-3, weight: 5, drain: false }
    minimum_up: 1
"#,
    );
    assert_eq!(
        serde_json::to_value(config).unwrap(),
        json!({
            "interfaces": [{ "name": "eth0", "xdp": "native" }, { "name": "eth1", "xdp": "generic" }],
            "pin_path": "/sys/fs/bpf/other",
            "control": { "socket": "/run/other.sock" },
            "limits": { "virtual_servers": 65535, "real_servers": 1 },
            "tunnel": { "source_v4": "10.200.0.0/16", "source_v6": "2001:db8:200::1/128" },
            "real_servers": {
                "web-3": { "address": "2001:db8::13", "weight": 7, "mac": "02:00:00:00:00:13" }
            },
            "virtual_servers": [{
                "name": "shop",
                "vip": "2001:db8:1::1",
                "protocol": "udp",
                "ports": 443,
                "forward": "l3dsr",
                "predictor": "hash",
                "bind": [{ "server": "web-3", "weight": 5, "drain": false }],
                "minimum_up": 1,
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
