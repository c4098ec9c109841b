//! Each kind of bad configuration: where it is found and what is said about it.

use lb_user::config::{Config, LoadError};
use rstest::rstest;

/// What is said about the text, one line per problem, without the file's name.
fn problems(text: &str) -> Vec<String> {
    let error = Config::parse("lb.yaml", text).expect_err("the configuration was accepted");
    let strip = |line: &str| line.strip_prefix("lb.yaml:").expect(line).to_owned();
    error.to_string().lines().map(strip).collect()
}

const INTERFACES: &str = "interfaces: [{ name: eth0 }]";

/// The file under test continues on line 2.
fn problems_after_interfaces(text: &str) -> Vec<String> {
    problems(&format!("{INTERFACES}\n{text}"))
}

/// The virtual servers under test begin on line 5.
fn problems_of_virtual_servers(text: &str) -> Vec<String> {
    problems(&format!(
        "{INTERFACES}\n\
         real_servers: {{ web-1: 10.9.0.11, web-2: 10.9.0.12, web-6: '2001:db8::6' }}\n\
         groups: {{ web: [web-1, web-2] }}\n\
         virtual_servers:\n{text}"
    ))
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::empty("", "1:1: missing key `interfaces`: expected at least one, such as `interfaces: [{ name: eth0 }]`")]
#[case::no_mapping("just words", "1:1: expected a mapping (`key: value`)")]
#[case::tab("interfaces:\n\t- name: eth0", "2:1: a tab in the indentation: YAML is indented with spaces")]
#[case::open_bracket("interfaces: [{ name: eth0 }\n", "1:13: not YAML: unclosed bracket '['")]
#[case::bad_indentation("interfaces:\n  - name: eth0\n   xdp: auto", "3:4: not YAML: while parsing a block collection, did not find expected '-' indicator")]
#[case::two_documents("interfaces: []\n---\ninterfaces: []", "3:1: expected one document: remove what follows `---`")]
#[case::unknown_anchor("interfaces: *eth", "1:13: this alias has no anchor (`&name`) above it")]
#[case::tag("interfaces: [{ name: !secret eth0 }]", "1:30: unsupported tag `!secret`")]
#[case::list_expected("interfaces: eth0", "1:13: expected a list (`- item` or `[item, item]`)")]
#[case::mapping_expected("interfaces: [eth0]", "1:14: expected a mapping (`key: value`)")]
#[case::unknown_key("interfaces: [{ name: eth0, xpd: auto }]", "1:28: unknown key `xpd`: expected one of name, xdp; did you mean `xdp`?")]
#[case::duplicate_key("interfaces: [{ name: eth0 }]\ninterfaces: []", "2:1: duplicate key `interfaces`: it is already set above")]
#[case::no_interface("interfaces: []", "1:13: interfaces: the list is empty: expected at least one, such as `interfaces: [{ name: eth0 }]`")]
#[case::interface_twice("interfaces:\n- name: eth0\n- name: eth0", "3:9: name: interface `eth0` is in the list twice")]
#[case::interface_unnamed("interfaces:\n- xdp: auto", "2:3: missing key `name`")]
#[case::interface_too_long("interfaces: [{ name: abcdefghijklmnop }]", "1:22: name: expected an interface name (1 to 15 characters, no `/`, `:` or space), found \"abcdefghijklmnop\"")]
#[case::interface_with_slash("interfaces: [{ name: a/b }]", "1:22: name: expected an interface name (1 to 15 characters, no `/`, `:` or space), found \"a/b\"")]
#[case::interface_with_line_break("interfaces: [{ name: \"a\\nb\" }]", "1:22: name: expected an interface name (1 to 15 characters, no `/`, `:` or space), found \"a\\nb\"")]
#[case::xdp_mode("interfaces: [{ name: eth0, xdp: nativ }]", "1:33: xdp: expected auto | native | generic, found \"nativ\"; did you mean `native`?")]
fn a_file_that_is_wrong_from_the_start_is_refused(#[case] text: &str, #[case] problem: &str) {
    assert_eq!(problems(text), [problem]);
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::pin_path("pin_path: lb", "2:11: pin_path: expected an absolute path, found \"lb\"")]
#[case::pin_path_with_a_dot("pin_path: /sys/fs/bpf/lb.1", "2:11: pin_path: expected a directory below /sys/fs/bpf, without dots in its name, found \"/sys/fs/bpf/lb.1\"")]
#[case::pin_path_of_everybody("pin_path: /sys/fs/bpf/", "2:11: pin_path: expected a directory below /sys/fs/bpf, without dots in its name, found \"/sys/fs/bpf/\"")]
#[case::empty_pin_path("pin_path: ''", "2:11: pin_path: expected an absolute path, found \"\"")]
#[case::socket("control: { socket: lb.sock }", "2:20: control.socket: expected an absolute path, found \"lb.sock\"")]
#[case::limit_zero("limits: { virtual_servers: 0 }", "2:28: limits.virtual_servers: expected a number from 1 to 32767, found 0")]
#[case::limit_too_large("limits: { real_servers: 65536 }", "2:25: limits.real_servers: expected a number from 1 to 65535, found 65536")]
#[case::over_the_limit("limits: { real_servers: 1 }\nreal_servers:\n  a: 10.0.0.1\n  b: 10.0.0.2", "5:3: more real servers than limits.real_servers: 1")]
#[case::no_address("real_servers:\n  web-1:", "3:8: web-1: expected an IPv4 or IPv6 address, found nothing")]
#[case::bad_address("real_servers: { web-1: 10.9.0.300 }", "2:24: web-1: expected an IPv4 or IPv6 address, found \"10.9.0.300\"")]
#[case::prefix("real_servers: { web-1: 10.9.0.0/24 }", "2:24: web-1: expected an IPv4 or IPv6 address, found \"10.9.0.0/24\"")]
#[case::loopback("real_servers: { web-1: 127.0.0.1 }", "2:24: web-1: 127.0.0.1 is a loopback address, which never leaves its machine")]
#[case::link_local("real_servers: { web-1: 'fe80::1' }", "2:24: web-1: fe80::1 is link-local, which isn't routed")]
#[case::mapped("real_servers: { web-1: '::ffff:10.9.0.1' }", "2:24: web-1: ::ffff:10.9.0.1 is an IPv4-mapped address: write it as IPv4")]
#[case::missing_address("real_servers:\n  web-1: { weight: 2 }", "3:10: missing key `address`")]
#[case::weight("real_servers:\n  web-1: { address: 10.9.0.1, weight: 1001 }", "3:39: weight: expected a number from 0 to 1000, found 1001")]
#[case::fractional_weight("real_servers:\n  web-1: { address: 10.9.0.1, weight: 1.5 }", "3:39: weight: expected a number from 0 to 1000, found 1.5")]
#[case::weight_with_a_point("real_servers:\n  web-1: { address: 10.9.0.1, weight: 1.0 }", "3:39: weight: expected a number from 0 to 1000, found 1.0")]
#[case::octal_weight("real_servers:\n  web-1: { address: 10.9.0.1, weight: 010 }", "3:39: weight: expected a number from 0 to 1000, found \"010\"")]
#[case::mac("real_servers:\n  web-1: { address: 10.9.0.1, mac: 2-0-0-0-0-13 }", "3:36: mac: expected a MAC address such as \"02:00:00:00:00:13\", found \"2-0-0-0-0-13\"")]
#[case::multicast_mac("real_servers:\n  web-1: { address: 10.9.0.1, mac: 33:33:00:00:00:01 }", "3:36: mac: a multicast or broadcast MAC address belongs to no single machine, found \"33:33:00:00:00:01\"")]
#[case::duplicate_server("real_servers:\n  web-1: 10.9.0.1\n  web-1: 10.9.0.2", "4:3: duplicate key `web-1`: it is already set above")]
#[case::server_name("real_servers: { web 1: 10.9.0.1 }", "2:17: real_servers: expected a name of 1 to 63 characters A-Z a-z 0-9 . _ -, found \"web 1\"")]
#[case::unknown_member("real_servers: { web-1: 10.9.0.1 }\ngroups: { web: [web-1, web-l] }", "3:24: groups: unknown real server `web-l`; did you mean `web-1`?")]
#[case::member_twice("real_servers: { web-1: 10.9.0.1 }\ngroups: { web: [web-1, web-1] }", "3:24: groups: real server `web-1` is in the group twice")]
#[case::number_as_name("real_servers: { '10': 10.9.0.1 }\ngroups: { web: [10] }", "3:17: groups: expected a name (in quotes, if it looks like a number), found 10")]
#[case::nested_group("groups: { web: [], all: [web] }", "2:26: groups: `web` is a group: a group lists real servers")]
#[case::ambiguous_name("real_servers: { web: 10.9.0.1 }\ngroups: { web: [] }", "3:11: groups: `web` is a real server: a group needs another name")]
#[case::default_name("defaults: { name: shop }", "2:19: defaults: `name` belongs to one virtual server alone")]
#[case::default_bind("defaults: { bind: [web] }", "2:19: defaults: `bind` belongs to one virtual server alone")]
#[case::default_sorry("defaults: { sorry: web }", "2:20: defaults: `sorry` belongs to one virtual server alone")]
#[case::default_value("defaults: { protocol: tpc }", "2:23: protocol: expected tcp | udp, found \"tpc\"; did you mean `tcp`?")]
fn a_section_that_is_wrong_is_refused(#[case] text: &str, #[case] problem: &str) {
    assert_eq!(problems_after_interfaces(text), [problem]);
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::nameless("- { vip: 10.9.1.1, protocol: tcp, port: 80 }", "5:3: missing key `name`")]
#[case::without_vip("- { name: a, protocol: tcp, port: 80 }", "5:3: missing key `vip`")]
#[case::without_protocol("- { name: a, vip: 10.9.1.1, port: 80 }", "5:3: missing key `protocol`")]
#[case::without_port("- { name: a, vip: 10.9.1.1, protocol: tcp }", "5:3: missing key `port`")]
#[case::nothing("-", "5:2: expected a mapping (`key: value`)")]
#[case::name("- { name: a/b, vip: 10.9.1.1, protocol: tcp, port: 80 }", "5:11: name: expected a name of 1 to 63 characters A-Z a-z 0-9 . _ -, found \"a/b\"")]
#[case::name_twice("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80 }\n- { name: a, vip: 10.9.1.2, protocol: tcp, port: 80 }", "6:11: name: another virtual server is called `a` (line 5)")]
#[case::unspecified_vip("- { name: a, vip: 0.0.0.0, protocol: tcp, port: 80 }", "5:19: vip: 0.0.0.0 is the unspecified address: name one address")]
#[case::multicast_vip("- { name: a, vip: 'ff02::1', protocol: tcp, port: 80 }", "5:19: vip: ff02::1 is a multicast address: expected a unicast address")]
#[case::broadcast_vip("- { name: a, vip: 255.255.255.255, protocol: tcp, port: 80 }", "5:19: vip: 255.255.255.255 is the broadcast address")]
#[case::vip_of_a_server("- { name: a, vip: 10.9.0.11, protocol: tcp, port: 80 }", "5:19: vip: 10.9.0.11 is the address of real server `web-1`")]
#[case::protocol("- { name: a, vip: 10.9.1.1, protocol: sctp, port: 80 }", "5:39: protocol: expected tcp | udp, found \"sctp\"")]
#[case::port_zero("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 0 }", "5:50: port: expected a port from 1 to 65535, found 0")]
#[case::port_too_large("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 65536 }", "5:50: port: expected a port from 1 to 65535, found 65536")]
#[case::port_word("- { name: a, vip: 10.9.1.1, protocol: tcp, port: http }", "5:50: port: expected a port: 80, [80, 443], \"8000-8100\" or any, found \"http\"")]
#[case::port_kind("- { name: a, vip: 10.9.1.1, protocol: tcp, port: { http: 80 } }", "5:50: port: expected a port: 80, [80, 443], \"8000-8100\" or any, found a mapping")]
#[case::no_ports("- { name: a, vip: 10.9.1.1, protocol: tcp, port: [] }", "5:50: port: the list is empty: expected a port: 80, [80, 443], \"8000-8100\" or any")]
#[case::port_in_list("- { name: a, vip: 10.9.1.1, protocol: tcp, port: [80, 70000] }", "5:55: port: expected a port from 1 to 65535, found 70000")]
#[case::range_in_list("- { name: a, vip: 10.9.1.1, protocol: tcp, port: [80, 90-99] }", "5:55: port: expected a port from 1 to 65535, found \"90-99\"")]
#[case::port_twice("- { name: a, vip: 10.9.1.1, protocol: tcp, port: [80, 80] }", "5:55: port: 80 is in the list twice")]
#[case::reversed_range("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 8100-8000 }", "5:50: port: the range 8100-8000 is reversed: write 8000-8100")]
#[case::open_range("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 8000- }", "5:50: port: expected a range of ports from 1 to 65535 such as \"8000-8100\", found \"8000-\"")]
#[case::range_from_zero("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 0-99 }", "5:50: port: expected a range of ports from 1 to 65535 such as \"8000-8100\", found \"0-99\"")]
#[case::port_taken("- { name: a, vip: 10.9.1.1, protocol: tcp, port: [80, 443] }\n- { name: b, vip: 10.9.1.1, protocol: tcp, port: 443 }", "6:50: port: 10.9.1.1 tcp port 443 is already taken by virtual server `a` (line 5)")]
#[case::range_taken("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80-90 }\n- { name: b, vip: 10.9.1.1, protocol: tcp, port: 80-90 }", "6:50: port: 10.9.1.1 tcp 80-90 is already taken by virtual server `a` (line 5)")]
#[case::range_overlaps("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80-90 }\n- { name: b, vip: 10.9.1.1, protocol: tcp, port: 70-80 }", "6:50: port: 10.9.1.1 tcp 80-90 is already taken by virtual server `a` (line 5)")]
#[case::range_inside("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80-90 }\n- { name: b, vip: 10.9.1.1, protocol: tcp, port: 82-83 }", "6:50: port: 10.9.1.1 tcp 80-90 is already taken by virtual server `a` (line 5)")]
#[case::any_taken("- { name: a, vip: 10.9.1.1, protocol: tcp, port: any }\n- { name: b, vip: 10.9.1.1, protocol: tcp, port: any }", "6:50: port: 10.9.1.1 tcp any is already taken by virtual server `a` (line 5)")]
#[case::unknown_server("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web-3] }", "5:61: bind: unknown real server or group `web-3`; did you mean `web-1`?")]
#[case::unknown_group("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [mail] }", "5:61: bind: unknown real server or group `mail`")]
#[case::bound_twice("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web-1, web-1] }", "5:68: bind: real server `web-1` is bound already (line 5)")]
#[case::bound_by_group_too("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web, web-2] }", "5:66: bind: real server `web-2` is bound already (line 5)")]
#[case::group_with_weight("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [{ server: web, weight: 2 }] }", "5:71: server: `web` is a group: bind it as `- web`, or name a real server")]
#[case::binding_of_nothing("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [{ weight: 2 }] }", "5:61: missing key `server`")]
#[case::binding_weight("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [{ server: web-1, weight: -1 }] }", "5:86: weight: expected a number from 0 to 1000, found -1")]
#[case::drain_word("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [{ server: web-1, drain: no }] }", "5:85: drain: expected true or false, found \"no\"")]
#[case::bind_kind("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: web }", "5:60: expected a list (`- item` or `[item, item]`)")]
#[case::other_family("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web-6] }", "5:61: bind: real server `web-6` (2001:db8::6) and VIP 10.9.1.1: l2dsr needs both IPv4 or both IPv6")]
#[case::sorry_unknown("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, sorry: web-3 }", "5:61: sorry: unknown real server `web-3`; did you mean `web-1`?")]
#[case::sorry_group("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, sorry: web }", "5:61: sorry: `web` is a group: name a real server")]
#[case::sorry_bound("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web], sorry: web-2 }", "5:74: sorry: real server `web-2` is bound: name another one")]
#[case::sorry_of_another_family("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, sorry: web-6 }", "5:61: sorry: real server `web-6` (2001:db8::6) and VIP 10.9.1.1: l2dsr needs both IPv4 or both IPv6")]
#[case::sorry_number("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, sorry: 1 }", "5:61: sorry: expected a name (in quotes, if it looks like a number), found 1")]
#[case::minimum_up_zero("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, minimum_up: 0 }", "5:66: minimum_up: expected a number from 1 to 65535, found 0")]
#[case::minimum_up_too_large("- { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web], minimum_up: 3 }", "5:79: minimum_up: expected at most 2, all that `a` binds, found 3")]
fn a_virtual_server_that_is_wrong_is_refused(#[case] text: &str, #[case] problem: &str) {
    assert_eq!(problems_of_virtual_servers(text), [problem]);
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::nat("defaults: { forward: nat }", "2:22: forward: nat is not supported yet")]
#[case::fullnat("defaults: { forward: fullnat }", "2:22: forward: fullnat is not supported yet")]
fn what_cannot_be_done_yet_is_refused(#[case] text: &str, #[case] problem: &str) {
    assert_eq!(problems_after_interfaces(text), [problem]);
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::port_alone("metrics: { listen: 9179 }", "2:20: metrics.listen: expected an address and port such as 127.0.0.1:9179, found 9179")]
#[case::address_alone("metrics: { listen: '::1' }", "2:20: metrics.listen: expected an address and port such as 127.0.0.1:9179, found \"::1\"")]
#[case::any_port("metrics: { listen: '[::1]:0' }", "2:20: metrics.listen: expected an address and port such as 127.0.0.1:9179, found \"[::1]:0\"")]
fn a_place_for_metrics_that_is_wrong_is_refused(#[case] text: &str, #[case] problem: &str) {
    assert_eq!(problems_after_interfaces(text), [problem]);
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::sessions("limits: { sessions: 0 }", "2:21: limits.sessions: expected a number from 1 to 16777216, found 0")]
#[case::sessions_v6("limits: { sessions_v6: 16777217 }", "2:24: limits.sessions_v6: expected a number from 1 to 16777216, found 16777217")]
#[case::sticky_clients("limits: { sticky: 1M }", "2:19: limits.sticky: expected a number from 1 to 16777216, found \"1M\"")]
#[case::cps_per_cpu("limits: { cps_per_cpu: 100000001 }", "2:24: limits.cps_per_cpu: expected a number from 1 to 100000000, found 100000001")]
#[case::mode("defaults: { session: { mode: statefull } }", "2:30: session.mode: expected stateful | stateless | on_change, found \"statefull\"; did you mean `stateful`?")]
#[case::idle_timeout_too_short("defaults: { session: { idle_timeout: 999ms } }", "2:38: session.idle_timeout: expected a duration from 1s to 48h, found \"999ms\"")]
#[case::idle_timeout_too_long("defaults: { session: { idle_timeout: 49h } }", "2:38: session.idle_timeout: expected a duration from 1s to 48h, found \"49h\"")]
#[case::settle_too_short("defaults: { session: { settle: 500ms } }", "2:32: session.settle: expected a duration from 1s to 1h, found \"500ms\"")]
#[case::settle_too_long("defaults: { session: { settle: 2h } }", "2:32: session.settle: expected a duration from 1s to 1h, found \"2h\"")]
#[case::idle_timeout_without_unit("defaults: { session: { idle_timeout: 30 } }", "2:38: session.idle_timeout: expected a duration from 1s to 48h, found 30")]
#[case::on_unknown("defaults: { session: { on_unknown: pass } }", "2:36: session.on_unknown: expected forward | reset | drop, found \"pass\"")]
#[case::on_down("defaults: { session: { on_down: drop } }", "2:33: session.on_down: expected move | reset, found \"drop\"")]
#[case::sticky("defaults: { sticky: 10m }", "2:21: sticky: expected a mapping (`key: value`) or none, found \"10m\"")]
#[case::sticky_timeout("defaults: { sticky: { timeout: 172801s } }", "2:32: sticky.timeout: expected a duration from 1s to 48h, found \"172801s\"")]
#[case::prefix("defaults: { sticky: { prefix_v4: 33 } }", "2:34: sticky.prefix_v4: expected a number from 1 to 32, found 33")]
#[case::no_prefix("defaults: { sticky: { prefix_v4: 0 } }", "2:34: sticky.prefix_v4: expected a number from 1 to 32, found 0")]
#[case::prefix_v6("defaults: { sticky: { prefix_v6: 129 } }", "2:34: sticky.prefix_v6: expected a number from 1 to 128, found 129")]
#[case::slow_start("defaults: { slow_start: 61m }", "2:25: slow_start: expected a duration from 1s to 1h, or none, found \"61m\"")]
#[case::no_slow_start("defaults: { slow_start: 0 }", "2:25: slow_start: expected a duration from 1s to 1h, or none, found 0")]
fn what_is_remembered_has_bounds(#[case] text: &str, #[case] problem: &str) {
    assert_eq!(problems_after_interfaces(text), [problem]);
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::interval_without_unit("defaults: { health: { interval: 2 } }", "2:33: health.interval: expected a duration from 100ms to 1h, found 2")]
#[case::interval_too_short("defaults: { health: { interval: 99ms } }", "2:33: health.interval: expected a duration from 100ms to 1h, found \"99ms\"")]
#[case::interval_too_long("defaults: { health: { interval: 61m } }", "2:33: health.interval: expected a duration from 100ms to 1h, found \"61m\"")]
#[case::timeout_too_short("defaults: { health: { timeout: 9ms } }", "2:32: health.timeout: expected a duration from 10ms to 1h, found \"9ms\"")]
#[case::rise("defaults: { health: { rise: 0 } }", "2:29: health.rise: expected a number from 1 to 100, found 0")]
#[case::fall("defaults: { health: { fall: 101 } }", "2:29: health.fall: expected a number from 1 to 100, found 101")]
fn health_settings_that_are_wrong_are_refused(#[case] text: &str, #[case] problem: &str) {
    assert_eq!(problems_after_interfaces(text), [problem]);
}

/// What is said about this check, which stands at 2:32.
fn problems_of_check(check: &str) -> Vec<String> {
    problems_after_interfaces(&format!("defaults: {{ health: {{ checks: [{check}] }} }}"))
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::kind("htp", "2:32: check: expected arp | icmp | syn | tcp | http | dns | udp, found \"htp\"; did you mean `http`?")]
#[case::two_kinds("{ syn: {}, icmp: {} }", "2:32: check: expected one kind with its options, such as `syn: { port: 80 }`")]
#[case::no_kind("{}", "2:32: check: expected one kind with its options, such as `syn: { port: 80 }`")]
#[case::option("icmp: { sise: 100 }", "2:40: unknown key `sise`: expected one of size, via; did you mean `size`?")]
#[case::via("icmp: { via: tunnel }", "2:45: icmp.via: expected vip | real, found \"tunnel\"")]
#[case::syn_via("syn: { via: tunnel }", "2:44: syn.via: expected vip | real, found \"tunnel\"")]
#[case::small("icmp: { size: 63 }", "2:46: icmp.size: expected a number from 64 to 9000, found 63")]
#[case::large("icmp: { size: 9001 }", "2:46: icmp.size: expected a number from 64 to 9000, found 9001")]
#[case::port("tcp: { port: 0 }", "2:45: tcp.port: expected a number from 1 to 65535, found 0")]
#[case::port_word("syn: { port: http }", "2:45: syn.port: expected a number from 1 to 65535, found \"http\"")]
#[case::path("http: { path: x }", "2:46: http.path: expected a path that begins with `/`, without spaces and `#`, found \"x\"")]
#[case::path_with_space("http: { path: /a b }", "2:46: http.path: expected a path that begins with `/`, without spaces and `#`, found \"/a b\"")]
#[case::path_with_fragment("http: { path: '/a#b' }", "2:46: http.path: expected a path that begins with `/`, without spaces and `#`, found \"/a#b\"")]
#[case::host("http: { host: a b }", "2:46: http.host: expected a host such as example.com or example.com:8080, found \"a b\"")]
#[case::host_with_user("http: { host: me@example.com }", "2:46: http.host: expected a host such as example.com or example.com:8080, found \"me@example.com\"")]
#[case::host_with_bad_port("http: { host: 'example.com:70000' }", "2:46: http.host: expected a host such as example.com or example.com:8080, found \"example.com:70000\"")]
#[case::host_without_name("http: { host: ':80' }", "2:46: http.host: expected a host such as example.com or example.com:8080, found \":80\"")]
#[case::url_as_host("http: { host: 'http://example.com/' }", "2:46: http.host: expected a host such as example.com or example.com:8080, found \"http://example.com/\"")]
#[case::method("http: { method: post }", "2:48: http.method: expected get | head, found \"post\"")]
#[case::header("http: { headers: { a b: x } }", "2:51: http.headers: expected the name of a header such as Accept, found \"a b\"")]
#[case::header_value("http: { headers: { A: \"x\\n\" } }", "2:54: http.headers.A: expected visible characters of ASCII, found \"x\\n\"")]
#[case::number_as_header_value("http: { headers: { A: 1 } }", "2:54: http.headers.A: expected text (in quotes, if it looks like a number), found 1")]
#[case::header_without_value("http: { headers: { A: } }", "2:52: http.headers.A: expected text (in quotes, if it looks like a number), found nothing")]
#[case::host_header("http: { headers: { Host: a } }", "2:51: http.headers: expected `host: NAME` beside `headers`, found \"Host\"")]
#[case::header_of_lb("http: { headers: { Content-Length: '1' } }", "2:51: http.headers: Content-Length is for lb to set: remove it")]
#[case::status("http: { status: 600 }", "2:48: http.status: expected a status from 100 to 599 or a range such as 200-399, found 600")]
#[case::status_of_another_kind("http: { status: ok }", "2:48: http.status: expected a status from 100 to 599 or a range such as 200-399, found \"ok\"")]
#[case::reversed_status("http: { status: 399-200 }", "2:48: http.status: expected a status from 100 to 599 or a range such as 200-399, found \"399-200\"")]
#[case::status_in_list("http: { status: [200, 99] }", "2:54: http.status: expected a status from 100 to 599 or a range such as 200-399, found 99")]
#[case::no_status("http: { status: [] }", "2:48: http.status: the list is empty: expected a status from 100 to 599 or a range such as 200-399")]
#[case::body("http: { body: '' }", "2:46: http.body: expected text (in quotes, if it looks like a number), found \"\"")]
#[case::regex("http: { body_regex: 'a(b' }", "2:52: http.body_regex: expected a regular expression, found \"a(b\": unclosed group")]
#[case::large_regex("http: { body_regex: '(\\w{1000}){1000}' }", "2:52: http.body_regex: expected a regular expression, found \"(\\w{1000}){1000}\": Compiled regex exceeds size limit of 10485760 bytes.")]
#[case::two_bodies("http: { body: a, body_regex: b }", "2:61: http.body_regex: expected this or http.body, found both")]
#[case::body_of_head("http: { method: head, body: a }", "2:48: http.method: the response to HEAD has no body: remove http.body and http.body_regex, or use get")]
#[case::tls("http: { tls: on }", "2:45: http.tls: expected true or false, found \"on\"")]
#[case::sni("http: { tls: true, sni: 10.9.1.1 }", "2:56: http.sni: expected the name of a host such as example.com, found \"10.9.1.1\"")]
#[case::sni_without_tls("http: { sni: example.com }", "2:45: http.sni needs `tls: true`: add that, or remove it")]
#[case::verify_without_tls("http: { tls: false, verify: false }", "2:60: http.verify needs `tls: true`: add that, or remove it")]
#[case::verify_without_name("http: { tls: true, verify: true }", "2:59: http.verify needs the name that the certificate is for: add `sni: NAME` or `host: NAME`")]
#[case::verify_with_an_address("http: { tls: true, verify: true, host: 10.9.1.1 }", "2:59: http.verify needs the name that the certificate is for: add `sni: NAME` or `host: NAME`")]
#[case::dns("dns", "2:32: check: dns needs the name to ask for: write `dns: { name: example.com }`")]
#[case::dns_without_name("dns: { type: A }", "2:32: missing key `dns.name`")]
#[case::dns_name("dns: { name: a..b }", "2:45: dns.name: expected a DNS name such as example.com, found \"a..b\"")]
#[case::dns_name_with_hyphen("dns: { name: -a.b }", "2:45: dns.name: expected a DNS name such as example.com, found \"-a.b\"")]
#[case::dns_type("dns: { name: a, type: X }", "2:54: dns.type: expected A | AAAA | NS | MX | SOA | TXT | SRV | PTR | CNAME | CAA, found \"X\"")]
#[case::udp("udp", "2:32: check: udp needs what to send: write `udp: { send: ping }`")]
#[case::udp_without_payload("udp: { expect: pong }", "2:32: missing key `udp.send`")]
#[case::udp_payload("udp: { send: 1 }", "2:45: udp.send: expected text (in quotes, if it looks like a number), found 1")]
#[case::udp_answer("udp: { send: a, expect: '' }", "2:56: udp.expect: expected text (in quotes, if it looks like a number), found \"\"")]
fn a_check_that_is_wrong_is_refused(#[case] check: &str, #[case] problem: &str) {
    assert_eq!(problems_of_check(check), [problem]);
}

#[rstest]
#[case::label("a".repeat(64))]
#[case::name("a.".repeat(127) + "a")]
fn a_name_that_is_too_long_for_dns_is_refused(#[case] name: String) {
    let problem =
        format!("2:45: dns.name: expected a DNS name such as example.com, found \"{name}\"");
    assert_eq!(
        problems_of_check(&format!("dns: {{ name: {name} }}")),
        [problem]
    );
}

#[test]
fn all_that_is_wrong_with_a_check_is_reported() {
    assert_eq!(
        problems_of_check("http: { path: x, port: 0, status: [1, 2], via: x }, udp"),
        [
            "2:46: http.path: expected a path that begins with `/`, without spaces and `#`, found \"x\"",
            "2:55: http.port: expected a number from 1 to 65535, found 0",
            "2:67: http.status: expected a status from 100 to 599 or a range such as 200-399, found 1",
            "2:70: http.status: expected a status from 100 to 599 or a range such as 200-399, found 2",
            "2:79: http.via: expected vip | real, found \"x\"",
            "2:84: check: udp needs what to send: write `udp: { send: ping }`",
        ]
    );
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::any("protocol: tcp, port: any, health: { checks: [syn] }", "5:74: check: syn needs `port: PORT`: `a` takes any port")]
#[case::any_via_real("protocol: tcp, port: any, health: { checks: [tcp: { via: real }] }", "5:74: check: tcp needs `port: PORT`: `a` takes any port")]
#[case::tcp_of_udp("protocol: udp, port: 53, health: { checks: [arp, tcp] }", "5:78: check: tcp needs `port: PORT`: `a` has no tcp port")]
#[case::http_of_udp("protocol: udp, port: 53, health: { checks: [http] }", "5:73: check: http needs `port: PORT`: `a` has no tcp port")]
#[case::dns_of_tcp("protocol: tcp, port: 53, health: { checks: [dns: { name: a }] }", "5:73: check: dns needs `port: PORT`: `a` has no udp port")]
#[case::udp_of_tcp("protocol: tcp, port: 53, health: { checks: [udp: { send: a }] }", "5:73: check: udp needs `port: PORT`: `a` has no udp port")]
#[case::twice("protocol: tcp, port: 80, health: { checks: [icmp: { via: real }, icmp: { via: real }] }", "5:94: check: icmp is in the list twice")]
#[case::twice_in_other_words("protocol: tcp, port: [80, 443], health: { checks: [http, syn: { port: 80 }, syn] }", "5:105: check: syn is in the list twice")]
fn a_check_that_does_not_fit_its_virtual_server_is_refused(#[case] keys: &str, #[case] problem: &str) {
    assert_eq!(problems_of_virtual_servers(&format!("- {{ name: a, vip: 10.9.1.1, {keys} }}")), [problem]);
}

#[test]
fn a_check_of_the_defaults_that_does_not_fit_a_virtual_server_names_it() {
    let problems = problems_after_interfaces(
        "defaults: { health: { checks: [syn] } }\n\
         virtual_servers:\n\
         - { name: web, vip: 10.9.1.1, protocol: tcp, port: 80 }\n\
         - { name: dns, vip: 10.9.1.1, protocol: udp, port: 53 }\n\
         - { name: all, vip: 10.9.1.1, protocol: tcp, port: any }",
    );
    assert_eq!(
        problems,
        [
            "2:32: check: syn needs `port: PORT`: `all` takes any port",
            "2:32: check: syn needs `port: PORT`: `dns` has no tcp port",
        ]
    );
}

/// What is said about the keys of a virtual server (from 3:3 on) with these defaults (from 2:13 on).
fn problems_with_defaults(defaults: &str, keys: &str) -> Vec<String> {
    problems_after_interfaces(&format!(
        "defaults: {{ {defaults} }}\nvirtual_servers: [{{ name: a, vip: 10.9.1.1, port: 80,\n  {keys} }}]"
    ))
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::predictor("", "protocol: tcp, predictor: round_robin, session: { mode: stateless }", "4:29: predictor: round_robin needs session.mode: stateful: each packet would go to another server")]
#[case::default_mode("session: { mode: stateless }", "protocol: tcp, predictor: least_connection", "4:29: predictor: least_connection needs session.mode: stateful: each packet would go to another server")]
#[case::default_predictor("predictor: round_robin", "protocol: tcp, session: { mode: stateless }", "4:35: predictor: round_robin needs session.mode: stateful: each packet would go to another server")]
#[case::defaults_alone("predictor: round_robin, session: { mode: stateless }", "protocol: tcp", "2:24: predictor: round_robin needs session.mode: stateful: each packet would go to another server")]
#[case::sticky("", "protocol: tcp, session: { mode: stateless }, sticky: { timeout: 1m }", "4:56: sticky needs session.mode: stateful: change the mode, or write `sticky: none`")]
#[case::default_mode_with_sticky("session: { mode: stateless }", "protocol: tcp, sticky: { timeout: 1m }", "4:26: sticky needs session.mode: stateful: change the mode, or write `sticky: none`")]
#[case::default_sticky("sticky: { timeout: 1m }", "protocol: tcp, session: { mode: stateless }", "4:35: sticky needs session.mode: stateful: change the mode, or write `sticky: none`")]
#[case::sticky_in_defaults_alone("sticky: { timeout: 1m }, session: { mode: stateless }", "protocol: tcp", "2:21: sticky needs session.mode: stateful: change the mode, or write `sticky: none`")]
#[case::idle_timeout("", "protocol: tcp, session: { mode: stateless, idle_timeout: 1m }", "4:60: session.idle_timeout needs session.mode: stateful: remove it, or change the mode")]
#[case::on_unknown("", "protocol: tcp, session: { mode: stateless, on_unknown: drop }", "4:58: session.on_unknown needs session.mode: stateful: remove it, or change the mode")]
#[case::on_down("session: { mode: stateless }", "protocol: tcp, session: { on_down: reset }", "4:38: session.on_down needs session.mode: stateful: remove it, or change the mode")]
#[case::predictor_on_change("", "protocol: tcp, predictor: round_robin, session: { mode: on_change }", "4:29: predictor: round_robin needs session.mode: stateful: each packet would go to another server")]
#[case::sticky_on_change("session: { mode: on_change }", "protocol: tcp, sticky: { timeout: 1m }", "4:26: sticky needs session.mode: stateful: change the mode, or write `sticky: none`")]
#[case::on_unknown_on_change("", "protocol: tcp, session: { mode: on_change, on_unknown: reset }", "4:58: session.on_unknown: expected forward with session.mode: on_change, found reset: most packets belong to no session")]
#[case::on_down_on_change("session: { mode: on_change }", "protocol: tcp, session: { on_down: reset }", "4:38: session.on_down: expected move with session.mode: on_change, found reset: most flows have no session")]
#[case::settle_without_on_change("", "protocol: tcp, session: { settle: 10s }", "4:37: session.settle needs session.mode: on_change: remove it, or change the mode")]
#[case::settle_of_a_default_mode("session: { mode: stateless }", "protocol: tcp, session: { settle: 10s }", "4:37: session.settle needs session.mode: on_change: remove it, or change the mode")]
#[case::on_unknown_of_udp("", "protocol: udp, session: { on_unknown: forward }", "4:41: session.on_unknown: UDP has no packets in mid-stream: remove it")]
#[case::on_unknown_of_udp_by_default("protocol: udp", "session: { on_unknown: reset }", "4:26: session.on_unknown: UDP has no packets in mid-stream: remove it")]
#[case::slow_start("", "protocol: tcp, slow_start: 10s", "4:30: slow_start: only least_connection starts slowly: remove it")]
#[case::slow_start_of_a_default_predictor("predictor: round_robin", "protocol: tcp, slow_start: none", "4:30: slow_start: only least_connection starts slowly: remove it")]
#[case::timeout("", "protocol: tcp, health: { interval: 1s, timeout: 2s, checks: [icmp: { via: real }] }", "4:51: health.timeout: 2s is longer than the interval: expected at most 1s")]
#[case::interval("health: { timeout: 3s, checks: [icmp: { via: real }] }", "protocol: tcp, health: { interval: 1500ms }", "4:38: health.timeout: 3s is longer than the interval: expected at most 1.5s")]
#[case::default_interval("", "protocol: tcp, health: { timeout: 3s, checks: [icmp: { via: real }] }", "4:37: health.timeout: 3s is longer than the interval: expected at most 2s")]
#[case::timeout_in_defaults_alone("health: { timeout: 3s }", "protocol: tcp", "2:32: health.timeout: 3s is longer than the interval: expected at most 2s")]
#[case::rise_without_checks("", "protocol: tcp, health: { rise: 1 }", "4:34: health.rise needs health.checks: add them, or remove it")]
#[case::interval_with_checks_off("health: { checks: [icmp: { via: real }] }", "protocol: tcp, health: { checks: [], interval: 5s }", "4:50: health.interval needs health.checks: add them, or remove it")]
#[case::response_time("", "protocol: tcp, predictor: response_time", "4:29: predictor: response_time needs a health check: add health.checks")]
#[case::response_time_with_checks_off("predictor: response_time, health: { checks: [icmp: { via: real }] }", "protocol: tcp, health: { checks: [] }", "4:36: predictor: response_time needs a health check: add health.checks")]
#[case::response_time_of_the_defaults("predictor: response_time", "protocol: tcp", "2:24: predictor: response_time needs a health check: add health.checks")]
#[case::response_time_without_sessions("health: { checks: [icmp: { via: real }] }", "protocol: tcp, predictor: response_time, session: { mode: stateless }", "4:29: predictor: response_time needs session.mode: stateful: each packet would go to another server")]
#[case::slow_start_of_response_time("health: { checks: [icmp: { via: real }] }", "protocol: tcp, predictor: response_time, slow_start: 5s", "4:56: slow_start: only least_connection starts slowly: remove it")]
#[case::sticky_without_timeout("", "protocol: tcp, sticky: { prefix_v4: 24 }", "4:26: missing key `sticky.timeout`")]
#[case::default_sticky_without_timeout("sticky: { prefix_v4: 24 }", "protocol: tcp", "2:21: missing key `sticky.timeout`")]
fn settings_that_contradict_each_other_are_refused(#[case] defaults: &str, #[case] keys: &str, #[case] problem: &str) {
    assert_eq!(problems_with_defaults(defaults, keys), [problem]);
}

#[test]
fn a_contradiction_with_a_merged_key_is_reported_where_it_is_used() {
    let problems = problems_of_virtual_servers(
        "- &a { name: a, vip: 10.9.1.1, protocol: tcp, port: 80, predictor: least_connection, slow_start: 5s }\n\
         - { <<: *a, name: b, port: 81, predictor: hash }\n",
    );
    let problem = "6:9: slow_start: only least_connection starts slowly: remove it";
    assert_eq!(problems, [problem]);
}

#[test]
fn an_ipv6_vip_with_an_ipv4_setting_is_refused() {
    let problems = problems_of_virtual_servers(
        "- { name: a, vip: '2001:db8::1', protocol: tcp, port: 80, sticky: { timeout: 1m, prefix_v4: 24 } }",
    );
    let problem = "5:93: sticky.prefix_v4: VIP 2001:db8::1 is IPv6: expected prefix_v6";
    assert_eq!(problems, [problem]);
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_file() {
    let text = "\
virtual_servers:
  - name: shop
    vip: 127.0.0.1
    protocol: http
    port: 0
    bind: [web-9]
interfaces:
  - xdp: auto
";
    assert_eq!(
        problems(text),
        [
            "3:10: vip: 127.0.0.1 is a loopback address, which never leaves its machine",
            "4:15: protocol: expected tcp | udp, found \"http\"",
            "5:11: port: expected a port from 1 to 65535, found 0",
            "6:12: bind: unknown real server or group `web-9`",
            "8:5: missing key `name`",
        ]
    );
}

#[test]
fn a_server_that_is_wrong_is_not_called_unknown() {
    let text = "\
real_servers: { web-1: 10.9.0, web-2: 10.9.0.12 }
virtual_servers:
  - { name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web-1, web-2], minimum_up: 2 }";
    let problem = "2:24: web-1: expected an IPv4 or IPv6 address, found \"10.9.0\"";
    assert_eq!(problems_after_interfaces(text), [problem]);
}

#[test]
fn a_mistake_behind_an_anchor_is_reported_once_and_where_it_is_written() {
    let text = "real_servers:\n  a: &a { address: 10.9.0.1, weight: -1 }\n  b: *a\n  c: *a";
    let problem = "3:38: weight: expected a number from 0 to 1000, found -1";
    assert_eq!(problems_after_interfaces(text), [problem]);
}

#[test]
fn what_an_anchor_repeats_is_reported_where_it_is_used() {
    let problems = problems_of_virtual_servers(
        "- &a { name: a, vip: 10.9.1.1, protocol: tcp, port: 80 }\n\
         - { <<: *a, name: b }\n\
         - *a\n",
    );
    assert_eq!(
        problems,
        [
            "6:9: port: 10.9.1.1 tcp port 80 is already taken by virtual server `a` (line 5)",
            "7:3: name: another virtual server is called `a` (line 5)",
            "7:3: port: 10.9.1.1 tcp port 80 is already taken by virtual server `a` (line 5)",
        ]
    );
}

#[test]
fn more_than_1024_ports_in_a_list_are_refused() {
    let ports = |count: u16| Vec::from_iter((1..=count).map(|port| port.to_string())).join(", ");
    let text = |count| {
        format!(
            "- {{ name: a, vip: 10.9.1.1, protocol: tcp, port: [{}] }}",
            ports(count)
        )
    };
    let problem = "5:50: port: 1025 ports are more than 1024 in a list: use a range or any";
    assert_eq!(problems_of_virtual_servers(&text(1025)), [problem]);
}

#[test]
fn more_virtual_servers_than_the_limit_are_refused() {
    let text = "limits: { virtual_servers: 1 }\nvirtual_servers:\n\
        - { name: a, vip: 10.9.1.1, protocol: tcp, port: 80 }\n\
        - { name: b, vip: 10.9.1.2, protocol: tcp, port: 80 }\n\
        - { name: c, vip: 10.9.1.3, protocol: tcp, port: 80 }\n";
    let problem = "5:3: more virtual servers than limits.virtual_servers: 1";
    assert_eq!(problems_after_interfaces(text), [problem]);
}

#[test]
fn a_socket_path_that_the_kernel_cannot_hold_is_refused() {
    let text = |length: usize| format!("control: {{ socket: /{} }}", "s".repeat(length - 1));
    let path = format!("/{}", "s".repeat(107));
    let problem = format!(
        "2:20: control.socket: expected a socket path of at most 107 bytes, found \"{path}\""
    );
    assert_eq!(problems_after_interfaces(&text(108)), [problem]);
    Config::parse("lb.yaml", &format!("{INTERFACES}\n{}", text(107))).unwrap();
}

#[test]
fn a_file_that_is_not_utf8_is_refused_with_the_place() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"# \xc3\xbc\ninterfaces: \xff").unwrap();
    let error = Config::load(file.path()).unwrap_err();
    let expected = format!(
        "{}:2:13: not UTF-8 text: save the file as UTF-8",
        file.path().display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load("/does/not/exist.yaml".as_ref()).unwrap_err();
    assert!(matches!(error, LoadError::Read { .. }));
    assert!(
        error
            .to_string()
            .starts_with("/does/not/exist.yaml: can't be read: "),
        "{error}"
    );
}

#[test]
fn a_file_too_large_to_be_one_of_ours_is_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file()
        .set_len(lb_user::config::MAX_FILE_SIZE + 1)
        .unwrap();
    let error = Config::load(file.path()).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { .. }));
    assert!(
        error
            .to_string()
            .ends_with(": is larger than 32 MiB, the most that is read"),
        "{error}"
    );
}

/// Every section and key that the contract has.
#[test]
fn the_whole_contract_is_recognised() {
    let text = r#"
interfaces:
  - name: eth0
    xdp: auto
pin_path: /sys/fs/bpf/lb
control:
  socket: /run/lb/lb.sock
metrics:
  listen: 127.0.0.1:9179
limits:
  sessions: 1000000
  virtual_servers: 4096
  real_servers: 4096

real_servers:
  web-1: 10.9.0.11
  web-2: { address: 10.9.0.12, weight: 2 }
  web-3: { address: 10.9.0.13, weight: 1, mac: "02:00:00:00:00:13" }

groups:
  web: [web-1, web-2]

defaults:
  forward: l2dsr
  health:
    interval: 2s
    timeout: 1s
    rise: 2
    fall: 3
    checks: [arp]

virtual_servers:
  - name: shop
    vip: 10.9.1.1
    protocol: tcp
    port: 80
    forward: l2dsr
    predictor: hash
    session:
      mode: stateful
      idle_timeout: 30m
      on_unknown: forward
    sticky: { timeout: 10m, prefix_v4: 32, prefix_v6: 128 }
    bind:
      - web
      - { server: web-3, weight: 5, drain: false }
    minimum_up: 1
    health:
      checks:
        - arp
        - icmp
        - syn
        - http: { path: /healthz, host: shop.example, status: 200-399, body: ok, tls: false, port: 8080, via: vip }
"#;
    Config::parse("lb.yaml", text).unwrap_or_else(|error| panic!("{error}"));
}

#[rustfmt::skip] // A table: one case a line.
#[rstest]
#[case::kind("tunnel: { source_v4: 10 }", "2:22: tunnel.source_v4: expected an IPv4 prefix of 8 bits or more such as 10.200.0.0/16, found 10")]
#[case::family("tunnel: { source_v4: '2001:db8::/96' }", "2:22: tunnel.source_v4: expected an IPv4 prefix of 8 bits or more such as 10.200.0.0/16, found \"2001:db8::/96\"")]
#[case::host_bits("tunnel: { source_v4: 10.200.0.1/16 }", "2:22: tunnel.source_v4: 10.200.0.1/16 has bits set behind its prefix: write 10.200.0.0/16")]
#[case::too_short("tunnel: { source_v6: '2001:db8::/64' }", "2:22: tunnel.source_v6: expected an IPv6 prefix of 96 bits or more such as 2001:db8:200::/96, found \"2001:db8::/64\"")]
fn a_tunnel_source_that_is_wrong_is_refused(#[case] text: &str, #[case] problem: &str) {
    assert_eq!(problems_after_interfaces(text), [problem]);
}

#[test]
fn more_interfaces_than_the_kernels_table_holds_are_refused() {
    let entries: Vec<_> = (0..257).map(|n| format!("{{ name: eth{n} }}")).collect();
    let text = format!("interfaces:\n- {}\n", entries.join("\n- "));
    assert_eq!(problems(&text), ["258:3: interfaces: expected at most 256"]);
}
