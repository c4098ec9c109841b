use std::sync::Arc;

use rstest::rstest;

use super::*;
use crate::{
    health::{Check, Failure, States},
    net::{Interface, NextHop, Way},
};

const SERVER: &str = "10.9.0.11";
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const CONFIGURED: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// `shop` at VIP 10.9.1.1 with the real server 10.9.0.11, plus these keys.
fn config(virtual_server: &str, real_server: &str, other: &str) -> Config {
    let text = format!(
        "interfaces: [{{ name: eth0 }}]\n\
         real_servers: {{ web: {{ address: {SERVER} {real_server} }} }}\n\
         virtual_servers: [{{ name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web] {virtual_server} }}]\n\
         {other}"
    );
    Config::parse("lb.yaml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn interface(kind: Option<&str>) -> Interface {
    Interface {
        ifindex: 2,
        mac: Some(OURS),
        mtu: 9000,
        up: true,
        kind: kind.map(str::to_owned),
        xdp: None,
    }
}

/// The network, as far as it concerns the server.
fn network(next_hop: Option<Result<NextHop, Unreachable>>) -> View {
    let next_hop = next_hop.map(|next_hop| (SERVER.parse().unwrap(), next_hop));
    View {
        next_hops: next_hop.into_iter().collect(),
        interfaces: BTreeMap::from([
            ("eth0".to_owned(), interface(None)),
            ("br0".to_owned(), interface(Some("bridge"))),
        ]),
        ..View::default()
    }
}

fn on_link() -> Way {
    Way {
        interface: "eth0".to_owned(),
        ifindex: 2,
        source_mac: OURS,
        source_address: Some("10.9.0.1".parse().unwrap()),
        gateway: None,
        mtu: 1500,
    }
}

fn behind_a_router() -> Way {
    Way {
        gateway: Some("10.9.0.254".parse().unwrap()),
        ..on_link()
    }
}

fn known(way: Way) -> Result<NextHop, Unreachable> {
    Ok(NextHop { way, mac: THEIRS })
}

fn resolving(way: Way) -> Result<NextHop, Unreachable> {
    let neighbour = way.gateway.unwrap_or(SERVER.parse().unwrap());
    Err(Unreachable::Resolving { neighbour, way })
}

fn no_answer(way: Way) -> Result<NextHop, Unreachable> {
    let neighbour = way.gateway.unwrap_or(SERVER.parse().unwrap());
    Err(Unreachable::NoAnswer { neighbour, way })
}

fn table_full(way: Way) -> Result<NextHop, Unreachable> {
    let neighbour = way.gateway.unwrap_or(SERVER.parse().unwrap());
    Err(Unreachable::NeighbourTableFull { neighbour, way })
}

fn link_to(mac: [u8; 6], mtu: u32, outer_source: Option<&str>) -> Link {
    Link {
        ifindex: 2,
        source_mac: OURS,
        destination_mac: mac,
        mtu,
        outer_source: outer_source.map(|prefix| prefix.parse().unwrap()),
    }
}

fn member(config: &Config, network: &View, last_known: &LastKnownLinks) -> Member {
    desired(config, network, last_known, &[], &States::default()).virtual_servers["shop"].members["web"].clone()
}

const MAC: &str = ", mac: '02:00:00:00:00:99'";

const NOT_ON_LINK: &str = "10.9.0.11 is behind the router 10.9.0.254: l2dsr needs a directly connected server (l3dsr does not)";
const BRIDGE: &str = "the way leads out of br0, and a bridge device takes no frames from XDP";

#[rstest]
#[case::learnt("", known(on_link()), Ok(link_to(THEIRS, 1500, None)))]
#[case::configured(MAC, known(on_link()), Ok(link_to(CONFIGURED, 1500, None)))]
#[case::configured_and_asked_for(MAC, resolving(on_link()), Ok(link_to(CONFIGURED, 1500, None)))]
#[case::configured_and_silent(MAC, no_answer(on_link()), Ok(link_to(CONFIGURED, 1500, None)))]
#[case::configured_and_not_asked_for(
    MAC,
    table_full(on_link()),
    Ok(link_to(CONFIGURED, 1500, None))
)]
#[case::asked_for(
    "",
    resolving(on_link()),
    Err("waiting for an answer to ARP for 10.9.0.11 on eth0")
)]
#[case::silent(
    "",
    no_answer(on_link()),
    Err("no answer to ARP for 10.9.0.11 on eth0")
)]
#[case::behind_a_router("", known(behind_a_router()), Err(NOT_ON_LINK))]
#[case::behind_a_silent_router(MAC, resolving(behind_a_router()), Err(NOT_ON_LINK))]
#[case::less_than_the_least_mtu(
    "",
    known(Way { mtu: 575, ..on_link() }),
    Err("the MTU towards 10.9.0.11 is 575: VIP 10.9.1.1 needs 576 or more")
)]
#[case::less_than_the_least_mtu_and_silent(
    MAC,
    no_answer(Way { mtu: 575, ..on_link() }),
    Err("the MTU towards 10.9.0.11 is 575: VIP 10.9.1.1 needs 576 or more")
)]
#[case::out_of_a_bridge("", known(Way { interface: "br0".to_owned(), ..on_link() }), Err(BRIDGE))]
#[case::out_of_a_bridge_and_silent(
    MAC,
    no_answer(Way { interface: "br0".to_owned(), ..on_link() }),
    Err(BRIDGE)
)]
fn l2dsr_goes_to_the_servers_own_mac(
    #[case] real_server: &str,
    #[case] next_hop: Result<NextHop, Unreachable>,
    #[case] expected: Result<Link, &str>,
) {
    let config = config("", real_server, "");
    let member = member(&config, &network(Some(next_hop)), &HashMap::new());
    assert_eq!(member.link, expected.map_err(str::to_owned));
}

#[rstest]
#[case::on_link("", on_link(), Ok(link_to(THEIRS, 1500, Some("10.9.0.1/32"))))]
#[case::by_a_router("", behind_a_router(), Ok(link_to(THEIRS, 1500, Some("10.9.0.1/32"))))]
#[case::from_a_prefix(
    "tunnel: { source_v4: 10.200.0.0/16 }",
    on_link(),
    Ok(link_to(THEIRS, 1500, Some("10.200.0.0/16")))
)]
#[case::more_than_ipv4_can_say(
    "",
    Way { mtu: 65_536, ..on_link() },
    Ok(link_to(THEIRS, 65_535, Some("10.9.0.1/32")))
)]
#[case::least_mtu("", Way { mtu: 596, ..on_link() }, Ok(link_to(THEIRS, 596, Some("10.9.0.1/32"))))]
#[case::less_than_the_least_mtu(
    "",
    Way { mtu: 595, ..on_link() },
    Err("the MTU towards 10.9.0.11 is 595: VIP 10.9.1.1 needs 596 or more")
)]
#[case::no_source(
    "",
    Way { source_address: None, ..on_link() },
    Err("this host has no address to send from to 10.9.0.11")
)]
fn l3dsr_goes_to_the_next_hop(
    #[case] tunnel: &str,
    #[case] way: Way,
    #[case] expected: Result<Link, &str>,
) {
    let config = config(", forward: l3dsr", "", tunnel);
    let member = member(&config, &network(Some(known(way))), &HashMap::new());
    assert_eq!(member.link, expected.map_err(str::to_owned));
}

#[rstest]
#[case::on_link(on_link(), Ok(link_to(CONFIGURED, 1500, Some("10.9.0.1/32"))))]
#[case::by_a_router(behind_a_router(), Err("no answer to ARP for 10.9.0.254 on eth0"))]
fn l3dsr_goes_to_a_configured_mac_that_nobody_answers_for(
    #[case] way: Way,
    #[case] expected: Result<Link, &str>,
) {
    let config = config(", forward: l3dsr", MAC, "");
    let member = member(&config, &network(Some(no_answer(way))), &HashMap::new());
    assert_eq!(member.link, expected.map_err(str::to_owned));
}

#[rstest]
#[case::unknown_yet(None, true)]
#[case::asked_for_again(Some(resolving(on_link())), true)]
#[case::silent(Some(no_answer(on_link())), false)]
fn what_was_known_is_used_while_the_answer_may_still_come(
    #[case] next_hop: Option<Result<NextHop, Unreachable>>,
    #[case] used: bool,
) {
    let known = link_to(THEIRS, 1500, None);
    let member = member(&config("", "", ""), &network(next_hop), &last_known(known));
    assert_eq!(member.link.ok(), used.then_some(known));
}

#[rstest]
fn what_was_known_is_not_used_if_it_has_too_small_an_mtu(
    #[values(None, Some(resolving(on_link())))] next_hop: Option<Result<NextHop, Unreachable>>,
) {
    let known = last_known(link_to(THEIRS, 575, None));
    let member = member(&config("", "", ""), &network(next_hop), &known);
    assert_eq!(
        member.link,
        Err("the MTU towards 10.9.0.11 is 575: VIP 10.9.1.1 needs 576 or more".to_owned())
    );
}

fn last_known(link: Link) -> LastKnownLinks {
    HashMap::from([((SERVER.parse().unwrap(), Forward::L2dsr), link)])
}

/// What is known of a check of this server that this sequence of outcomes came of.
fn checked(config: &Config, server: &str, outcomes: &[bool]) -> States {
    let address = SERVER.parse().unwrap();
    let mut states = States::default();
    for check in Check::all_of(server, address, &config.virtual_servers[0]) {
        states.set([(Arc::clone(&check), false)].into_iter());
        for passes in outcomes {
            let failure = Failure::Silence("echo reply");
            let latency = Some(Duration::from_millis(1));
            states.record(&check, if *passes { Ok(latency) } else { Err(failure) });
        }
    }
    states
}

#[rstest]
#[case::up(&[true], None)]
#[case::not_checked(&[], Some("not checked yet"))]
#[case::silent(&[false], Some("no echo reply from 10.9.0.11 in 1s (1 in a row)"))]
fn who_does_not_pass_its_checks_is_down(#[case] outcomes: &[bool], #[case] reason: Option<&str>) {
    let config = config(", health: { checks: [icmp: { via: real }] }", "", "");
    let states = checked(&config, "web", outcomes);
    let member = |next_hop| {
        let network = network(Some(next_hop));
        let desired = desired(&config, &network, &HashMap::new(), &[], &states);
        desired.virtual_servers["shop"].members["web"].clone()
    };
    let reachable = member(known(on_link()));
    assert_eq!(reachable.link.err().as_deref(), reason);
    let unreachable = member(no_answer(on_link()));
    assert_eq!(
        unreachable.link.unwrap_err(),
        "no answer to ARP for 10.9.0.11 on eth0"
    );
}

#[test]
fn who_is_not_bound_any_more_is_checked_too() {
    let config = config(", health: { checks: [icmp: { via: real }] }", "", "");
    let unbound = Unbound {
        virtual_server: "shop".to_owned(),
        server: "old".to_owned(),
        address: SERVER.parse().unwrap(),
    };
    let network = network(Some(known(on_link())));
    let state = |outcomes| {
        let states = checked(&config, "old", outcomes);
        let desired = desired(
            &config,
            &network,
            &HashMap::new(),
            std::slice::from_ref(&unbound),
            &states,
        );
        desired.virtual_servers["shop"].members["old"].state()
    };
    assert_eq!(state(&[true]), State::Draining);
    assert_eq!(state(&[false]), State::Down);
}

#[rstest]
#[case::at_its_address(SERVER, CONFIGURED)]
#[case::at_its_former_address("10.9.0.12", THEIRS)]
fn who_is_not_bound_any_more_has_the_mac_that_is_configured_for_its_address(
    #[case] address: &str,
    #[case] mac: [u8; 6],
) {
    let mut config = config("", ", mac: \"02:00:00:00:00:99\"", "");
    config.virtual_servers[0].bind.clear();
    let address: IpAddr = address.parse().unwrap();
    let unbound = Unbound {
        virtual_server: "shop".to_owned(),
        server: "web".to_owned(),
        address,
    };
    let mut network = network(None);
    network.next_hops.insert(address, known(on_link()));
    let desired = desired(
        &config,
        &network,
        &HashMap::new(),
        &[unbound],
        &States::default(),
    );
    let web = &desired.virtual_servers["shop"].members["web"];
    assert_eq!(web.link.as_ref().unwrap().destination_mac, mac);
}

#[test]
fn what_is_not_known_at_all_is_being_looked_up() {
    let member = member(&config("", "", ""), &network(None), &HashMap::new());
    assert_eq!(
        member.link,
        Err("looking up the way to 10.9.0.11".to_owned())
    );
}

/// A virtual server with these keys. Of the real servers all but d can be reached, and the group `web` is of a and b.
fn shop(keys: &str) -> Arc<VirtualServer> {
    let text = format!(
        "interfaces: [{{ name: eth0 }}]\n\
         real_servers: {{ a: 10.9.0.1, b: 10.9.0.2, c: 10.9.0.3, d: 10.9.0.4, s: 10.9.0.3, t: {{ address: 10.9.0.3, weight: 0 }} }}\n\
         groups: {{ web: [a, b] }}\n\
         virtual_servers: [{{ name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, {keys} }}]"
    );
    let config = Config::parse("lb.yaml", &text).unwrap();
    let reached = (1..=3).map(|n| (IpAddr::from([10, 9, 0, n]), known(on_link())));
    let network = View {
        next_hops: reached.collect(),
        ..View::default()
    };
    let desired = desired(&config, &network, &HashMap::new(), &[], &States::default());
    desired.virtual_servers["shop"].clone()
}

#[rstest]
#[case::all_up("web", 2, "up", 2)]
#[case::one_drained("web, { server: c, drain: true }", 2, "up", 2)]
#[case::one_of_weight_0("web, { server: c, weight: 0 }", 2, "up", 2)]
#[case::a_drained_one_does_not_count("a, { server: b, drain: true }", 2, "down", 0)]
#[case::one_unreachable("web, d", 2, "up", 2)]
#[case::too_few("a, d", 2, "down", 0)]
#[case::none("d", 1, "down", 0)]
fn a_virtual_server_is_up_while_enough_take_sessions(
    #[case] bind: &str,
    #[case] minimum_up: u32,
    #[case] state: &str,
    #[case] serving: usize,
) {
    let shop = shop(&format!("bind: [{bind}], minimum_up: {minimum_up}"));
    assert_eq!(
        (shop.state().to_string().as_str(), shop.serving().count()),
        (state, serving)
    );
}

#[rstest]
#[case::not_needed("bind: [a, b], sorry: s", "up", &["a", "b"], "draining")]
#[case::needed("bind: [d], sorry: s", "down", &["s"], "up")]
#[case::too_few_up("bind: [a, d], minimum_up: 2, sorry: s", "down", &["s"], "up")]
#[case::enough_up("bind: [a, b, d], minimum_up: 2, sorry: s", "up", &["a", "b"], "draining")]
#[case::all_drained("bind: [{ server: a, drain: true }], sorry: s", "down", &["s"], "up")]
#[case::nothing_bound("bind: [], sorry: s", "down", &["s"], "up")]
#[case::of_weight_0("bind: [d], sorry: t", "down", &["t"], "up")]
#[case::unreachable("bind: [a, b], sorry: d", "up", &["a", "b"], "down")]
#[case::needed_and_unreachable("bind: [a], minimum_up: 1, health: { checks: [syn] }, sorry: d", "down", &[], "down")]
#[case::not_checked("bind: [a], health: { checks: [syn] }, sorry: s", "down", &["s"], "up")]
fn the_sorry_server_takes_sessions_while_too_few_others_do(
    #[case] keys: &str,
    #[case] state: &str,
    #[case] serving: &[&str],
    #[case] of_sorry: &str,
) {
    let shop = shop(keys);
    let takes: Vec<_> = shop.serving().map(|(name, _)| name).collect();
    assert_eq!(
        (shop.state().to_string().as_str(), takes.as_slice()),
        (state, serving)
    );
    let sorry = &shop.members[shop.sorry.as_ref().unwrap()];
    assert_eq!(
        (
            sorry.state().to_string().as_str(),
            sorry.weight,
            sorry.share
        ),
        (of_sorry, 1, 1)
    );
}
