use rstest::rstest;

use super::*;
use crate::net::{Interface, NextHop};

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

fn on_link() -> NextHop {
    NextHop {
        interface: "eth0".to_owned(),
        ifindex: 2,
        source_mac: OURS,
        source_address: Some("10.9.0.1".parse().unwrap()),
        gateway: None,
        mac: THEIRS,
        mtu: 1500,
    }
}

fn behind_a_router() -> NextHop {
    NextHop {
        gateway: Some("10.9.0.254".parse().unwrap()),
        ..on_link()
    }
}

fn resolving(neighbour: &str) -> Unreachable {
    Unreachable::Resolving {
        neighbour: neighbour.parse().unwrap(),
        interface: "eth0".to_owned(),
    }
}

fn no_answer() -> Unreachable {
    Unreachable::NoAnswer {
        neighbour: SERVER.parse().unwrap(),
        interface: "eth0".to_owned(),
    }
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
    desired(config, network, last_known).virtual_servers["shop"].members["web"].clone()
}

const MAC: &str = ", mac: '02:00:00:00:00:99'";

#[rstest]
#[case::learnt("", Ok(on_link()), Ok(link_to(THEIRS, 1500, None)))]
#[case::configured(MAC, Ok(on_link()), Ok(link_to(CONFIGURED, 1500, None)))]
#[case::configured_and_asked_for(MAC, Err(resolving(SERVER)), Ok(link_to(CONFIGURED, 9000, None)))]
#[case::configured_and_silent(MAC, Err(no_answer()), Ok(link_to(CONFIGURED, 9000, None)))]
#[case::configured_behind_a_silent_router(
    MAC,
    Err(resolving("10.9.0.254")),
    Err("waiting for an answer to ARP for 10.9.0.254 on eth0")
)]
#[case::asked_for(
    "",
    Err(resolving(SERVER)),
    Err("waiting for an answer to ARP for 10.9.0.11 on eth0")
)]
#[case::silent("", Err(no_answer()), Err("no answer to ARP for 10.9.0.11 on eth0"))]
#[case::behind_a_router(
    "",
    Ok(behind_a_router()),
    Err(
        "10.9.0.11 is behind the router 10.9.0.254: l2dsr needs a directly connected server (l3dsr does not)"
    )
)]
#[case::less_than_the_least_mtu(
    "",
    Ok(NextHop { mtu: 575, ..on_link() }),
    Err("the MTU towards 10.9.0.11 is 575: VIP 10.9.1.1 needs 576 or more")
)]
#[case::out_of_a_bridge(
    "",
    Ok(NextHop { interface: "br0".to_owned(), ..on_link() }),
    Err("the way leads out of br0, and a bridge device takes no frames from XDP")
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
    NextHop { mtu: 65_536, ..on_link() },
    Ok(link_to(THEIRS, 65_535, Some("10.9.0.1/32")))
)]
#[case::least_mtu("", NextHop { mtu: 596, ..on_link() }, Ok(link_to(THEIRS, 596, Some("10.9.0.1/32"))))]
#[case::less_than_the_least_mtu(
    "",
    NextHop { mtu: 595, ..on_link() },
    Err("the MTU towards 10.9.0.11 is 595: VIP 10.9.1.1 needs 596 or more")
)]
#[case::no_source(
    "",
    NextHop { source_address: None, ..on_link() },
    Err("this host has no address to send from to 10.9.0.11")
)]
fn l3dsr_goes_to_the_next_hop(
    #[case] tunnel: &str,
    #[case] next_hop: NextHop,
    #[case] expected: Result<Link, &str>,
) {
    let config = config(", forward: l3dsr", "", tunnel);
    let member = member(&config, &network(Some(Ok(next_hop))), &HashMap::new());
    assert_eq!(member.link, expected.map_err(str::to_owned));
}

#[rstest]
#[case::unknown_yet(None, true)]
#[case::asked_for_again(Some(Err(resolving(SERVER))), true)]
#[case::silent(Some(Err(no_answer())), false)]
fn what_was_known_is_used_while_the_answer_may_still_come(
    #[case] next_hop: Option<Result<NextHop, Unreachable>>,
    #[case] used: bool,
) {
    let known = link_to(THEIRS, 1500, None);
    let key = (SERVER.parse().unwrap(), Forward::L2dsr);
    let member = member(
        &config("", "", ""),
        &network(next_hop),
        &HashMap::from([(key, known)]),
    );
    assert_eq!(member.link.ok(), used.then_some(known));
}

#[test]
fn what_is_not_known_at_all_is_being_looked_up() {
    let member = member(&config("", "", ""), &network(None), &HashMap::new());
    assert_eq!(
        member.link,
        Err("looking up the way to 10.9.0.11".to_owned())
    );
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
    let text = format!(
        "interfaces: [{{ name: eth0 }}]\n\
         real_servers: {{ a: 10.9.0.1, b: 10.9.0.2, c: 10.9.0.3, d: 10.9.0.4 }}\n\
         groups: {{ web: [a, b] }}\n\
         virtual_servers: [{{ name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [{bind}], minimum_up: {minimum_up} }}]"
    );
    let config = Config::parse("lb.yaml", &text).unwrap();
    let reached = (1..=3).map(|n| (IpAddr::from([10, 9, 0, n]), Ok(on_link())));
    let network = View {
        next_hops: reached.collect(),
        ..View::default()
    };
    let desired = desired(&config, &network, &HashMap::new());
    let shop = &desired.virtual_servers["shop"];
    assert_eq!(
        (shop.state().to_string().as_str(), shop.serving().count()),
        (state, serving)
    );
}
