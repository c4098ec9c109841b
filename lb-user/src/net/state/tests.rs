use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};

use super::*;

const ETH0: u32 = 2;
const ETH1: u32 = 3;
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 0xa];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(ifindex: u32, name: &str, flags: LinkFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.header.flags = flags;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(OURS.to_vec()),
        LinkAttribute::Mtu(1500),
    ];
    message
}

fn up(ifindex: u32, name: &str) -> LinkMessage {
    link(ifindex, name, LinkFlags::Up | LinkFlags::Running)
}

fn neighbour(
    ifindex: u32,
    address: &str,
    state: NeighbourState,
    mac: Option<[u8; 6]>,
) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    message.header.state = state;
    message
        .attributes
        .push(NeighbourAttribute::Destination(ip(address).into()));
    message
        .attributes
        .extend(mac.map(|it| NeighbourAttribute::LinkLayerAddress(it.to_vec())));
    message
}

fn address(ifindex: u32, address: &str, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = ifindex;
    message.header.prefix_len = prefix_len;
    message.attributes = vec![AddressAttribute::Address(ip(address))];
    message
}

fn key(ifindex: u32, address: &str) -> NeighbourKey {
    NeighbourKey {
        ifindex,
        address: ip(address),
    }
}

/// A state with a clock of its own, eth0 up, and every lookup answered "on-link by eth0".
struct Fixture {
    state: State,
    now: Instant,
}

impl Fixture {
    fn new(targets: &[&str]) -> Self {
        let mut it = Self {
            state: State::default(),
            now: Instant::now(),
        };
        it.state.synchronise(&[up(ETH0, "eth0")], &[], &[], it.now);
        it.set_targets(targets);
        it.look_up_by(ETH0);
        it
    }

    fn set_targets(&mut self, targets: &[&str]) {
        let targets = targets.iter().map(|it| ip(it)).collect();
        self.state.set_targets(&targets, self.now);
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    fn look_up_by(&mut self, ifindex: u32) -> usize {
        let due = self.state.lookups_due(self.now);
        for &target in &due {
            let route = Route {
                ifindex,
                gateway: None,
                source: None,
                mtu: None,
            };
            self.state.looked_up(target, Ok(route), self.now);
        }
        due.len()
    }

    fn neighbour(&mut self, address: &str, state: NeighbourState, mac: Option<[u8; 6]>) {
        let message = neighbour(ETH0, address, state, mac);
        self.state
            .apply(RouteNetlinkMessage::NewNeighbour(message), self.now);
    }

    fn forget(&mut self, address: &str) {
        let message = neighbour(ETH0, address, NeighbourState::Stale, Some(THEIRS));
        self.state
            .apply(RouteNetlinkMessage::DelNeighbour(message), self.now);
    }

    fn route_changes(&mut self, prefix: &str) {
        let prefix: IpNet = prefix.parse().unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = prefix.prefix_len();
        message
            .attributes
            .push(RouteAttribute::Destination(prefix.addr().into()));
        self.state
            .apply(RouteNetlinkMessage::NewRoute(message), self.now);
    }

    fn next_hop(&self, address: &str) -> Result<NextHop, Unreachable> {
        self.state.view().next_hops[&ip(address)].clone()
    }

    fn mac(&self, address: &str) -> Option<[u8; 6]> {
        self.next_hop(address).ok().map(|it| it.mac)
    }

    fn nudges(&mut self) -> Vec<(NeighbourKey, Nudge)> {
        self.state.nudges_due(self.now)
    }
}

/// By eth0, on the link.
fn way() -> Way {
    Way {
        interface: "eth0".to_owned(),
        ifindex: ETH0,
        source_mac: OURS,
        source_address: None,
        gateway: None,
        mtu: 1500,
    }
}

fn no_answer(address: &str) -> Result<NextHop, Unreachable> {
    Err(Unreachable::NoAnswer {
        neighbour: ip(address),
        way: way(),
    })
}

fn resolving(address: &str) -> Result<NextHop, Unreachable> {
    Err(Unreachable::Resolving {
        neighbour: ip(address),
        way: way(),
    })
}

#[test]
fn a_dead_neighbour_is_asked_for_every_second_and_does_not_flap() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    assert_eq!(it.next_hop("10.9.0.11"), resolving("10.9.0.11"));
    assert_eq!(it.nudges(), [(key(ETH0, "10.9.0.11"), Nudge::Ask)]);

    it.neighbour("10.9.0.11", NeighbourState::Failed, None);
    assert_eq!(it.next_hop("10.9.0.11"), no_answer("10.9.0.11"));
    it.advance(NUDGE_PAUSE);
    assert_eq!(it.nudges().len(), 1, "nudged at once when it failed");

    for state in [NeighbourState::Incomplete, NeighbourState::Failed] {
        it.neighbour("10.9.0.11", state, None);
        assert_eq!(it.nudges(), []);
        it.advance(ASK_EVERY);
        assert_eq!(it.nudges(), [(key(ETH0, "10.9.0.11"), Nudge::Ask)]);
        assert_eq!(it.next_hop("10.9.0.11"), no_answer("10.9.0.11"));
    }
    it.forget("10.9.0.11");
    assert_eq!(it.next_hop("10.9.0.11"), no_answer("10.9.0.11"));

    it.neighbour("10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    assert_eq!(it.mac("10.9.0.11"), Some(THEIRS));
}

#[test]
fn a_known_neighbour_is_verified_and_stays_usable_meanwhile() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    it.neighbour("10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    assert_eq!(it.nudges(), []);
    it.advance(VERIFY_EVERY);
    assert_eq!(it.nudges(), [(key(ETH0, "10.9.0.11"), Nudge::Verify)]);
    it.neighbour("10.9.0.11", NeighbourState::Probe, Some(THEIRS));
    assert_eq!(it.mac("10.9.0.11"), Some(THEIRS));
}

#[test]
fn a_forgotten_neighbour_stays_usable_and_is_asked_for_at_once() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    it.neighbour("10.9.0.11", NeighbourState::Stale, Some(THEIRS));
    it.forget("10.9.0.11");
    assert_eq!(it.nudges(), [(key(ETH0, "10.9.0.11"), Nudge::Ask)]);
    assert_eq!(it.mac("10.9.0.11"), Some(THEIRS));
    it.neighbour("10.9.0.11", NeighbourState::Failed, None);
    assert_eq!(it.next_hop("10.9.0.11"), no_answer("10.9.0.11"));
}

#[test]
fn a_neighbour_that_is_deleted_on_request_stays_usable_and_is_asked_for_at_once() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    it.neighbour("10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    it.neighbour("10.9.0.11", NeighbourState::Failed, None);
    it.forget("10.9.0.11");
    assert_eq!(it.mac("10.9.0.11"), Some(THEIRS));
    assert_eq!(it.nudges(), [(key(ETH0, "10.9.0.11"), Nudge::Ask)]);
}

#[test]
fn a_dead_neighbour_stays_dead_when_the_kernel_forgets_it() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    it.neighbour("10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    it.neighbour("10.9.0.11", NeighbourState::Failed, None);
    it.advance(Duration::from_secs(1));
    assert!(it.state.view_due(it.now).is_some());
    it.forget("10.9.0.11");
    assert_eq!(it.next_hop("10.9.0.11"), no_answer("10.9.0.11"));
}

#[test]
fn an_entry_that_vanished_unnoticed_is_asked_for() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    it.neighbour("10.9.0.11", NeighbourState::Stale, Some(THEIRS));
    it.advance(VERIFY_EVERY);
    let (key, _) = it.nudges()[0];
    it.state.nudged(key, Err(Errno::ENOENT), it.now);
    it.advance(NUDGE_PAUSE);
    assert_eq!(it.nudges(), [(key, Nudge::Ask)]);
}

#[test]
fn a_full_neighbour_table_is_the_reason_until_there_is_room() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    let (key, _) = it.nudges()[0];
    it.state.nudged(key, Err(Errno::ENOBUFS), it.now);
    assert_eq!(
        it.next_hop("10.9.0.11"),
        Err(Unreachable::NeighbourTableFull {
            neighbour: ip("10.9.0.11"),
            way: way(),
        })
    );
    it.state.nudged(key, Ok(()), it.now);
    assert_eq!(it.next_hop("10.9.0.11"), resolving("10.9.0.11"));
}

#[test]
fn a_neighbour_that_the_kernel_knew_before_is_known_at_once() {
    let mut it = Fixture::new(&[]);
    it.neighbour("10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    it.set_targets(&["10.9.0.11"]);
    assert_eq!(it.look_up_by(ETH0), 1);
    assert_eq!(it.mac("10.9.0.11"), Some(THEIRS));
    assert_eq!(it.nudges(), []);
}

#[test]
fn thousands_of_nudges_are_spread() {
    let targets: Vec<String> = (0..4000)
        .map(|n| format!("10.9.{}.{}", n / 250, n % 250))
        .collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let mut it = Fixture::new(&targets);
    for _ in 0..targets.len() / NUDGE_BATCH {
        assert_eq!(it.nudges().len(), NUDGE_BATCH);
        assert_eq!(it.nudges(), []);
        it.advance(NUDGE_PAUSE);
        assert!(it.state.deadline().unwrap() <= it.now);
    }
}

#[test]
fn a_removed_target_is_nudged_no_more_unless_another_needs_the_neighbour() {
    let mut it = Fixture::new(&["10.9.0.11", "10.9.0.12"]);
    let by_gateway = Route {
        ifindex: ETH0,
        gateway: Some(ip("10.9.0.254")),
        source: Some(ip("10.9.0.1")),
        mtu: Some(9000),
    };
    for target in ["10.9.0.11", "10.9.0.12"] {
        it.state
            .looked_up(ip(target), Ok(by_gateway.clone()), it.now);
    }
    it.set_targets(&["10.9.0.12"]);
    assert_eq!(it.nudges(), [(key(ETH0, "10.9.0.254"), Nudge::Ask)]);
    it.neighbour("10.9.0.254", NeighbourState::Reachable, Some(THEIRS));
    let next_hop = it.next_hop("10.9.0.12").unwrap();
    assert_eq!(next_hop.way.gateway, Some(ip("10.9.0.254")));
    assert_eq!(
        next_hop.way.mtu, 1500,
        "no more than the interface can carry"
    );

    it.set_targets(&[]);
    it.advance(VERIFY_EVERY);
    assert_eq!(it.nudges(), []);
    assert!(it.state.view().next_hops.is_empty());
}

#[test]
fn only_the_targets_that_a_changed_route_covers_are_looked_up_again() {
    let mut it = Fixture::new(&["10.9.0.11", "10.9.1.11", "2001:db8::11"]);
    it.route_changes("10.9.0.0/24");
    assert_eq!(
        it.state.lookups_due(it.now).len(),
        0,
        "a burst is waited for"
    );
    it.advance(LOOK_UP_AFTER);
    assert_eq!(
        it.state.lookups_due(it.now),
        BTreeSet::from([ip("10.9.0.11")])
    );
    it.route_changes("192.0.2.0/24");
    it.advance(LOOK_UP_AFTER);
    assert_eq!(it.state.lookups_due(it.now), BTreeSet::new());
}

#[test]
fn a_stream_of_changes_does_not_put_lookups_off() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    it.route_changes("10.9.0.0/24");
    it.advance(LOOK_UP_AFTER / 2);
    it.route_changes("10.9.0.0/24");
    it.advance(LOOK_UP_AFTER / 2);
    assert_eq!(it.look_up_by(ETH1), 1);
}

#[test]
fn an_interface_that_is_down_or_not_ethernet_is_the_reason() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    it.neighbour("10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    it.state.apply(
        RouteNetlinkMessage::NewLink(link(ETH0, "eth0", LinkFlags::Up)),
        it.now,
    );
    let interface = "eth0".to_owned();
    assert_eq!(
        it.next_hop("10.9.0.11"),
        Err(Unreachable::InterfaceDown { interface })
    );
    it.advance(VERIFY_EVERY);
    assert_eq!(it.nudges(), [], "nobody there to ask");

    let mut tunnel = up(ETH0, "tun0");
    tunnel.header.link_layer_type = LinkLayerType::None;
    it.state.apply(RouteNetlinkMessage::NewLink(tunnel), it.now);
    let interface = "tun0".to_owned();
    assert_eq!(
        it.next_hop("10.9.0.11"),
        Err(Unreachable::NotEthernet { interface })
    );
}

#[test]
fn leaving_a_bridge_is_not_the_end_of_an_interface() {
    let mut it = Fixture::new(&[]);
    let mut left = up(ETH0, "eth0");
    left.header.interface_family = AddressFamily::Bridge;
    it.state.apply(RouteNetlinkMessage::DelLink(left), it.now);
    assert!(it.state.view().interfaces.contains_key("eth0"));
}

#[test]
fn an_interface_that_returns_under_its_old_index_must_be_learnt_anew() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    it.neighbour("10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    it.state
        .apply(RouteNetlinkMessage::DelLink(up(ETH0, "eth0")), it.now);
    it.state
        .apply(RouteNetlinkMessage::NewLink(up(ETH0, "eth0")), it.now);
    assert_eq!(it.next_hop("10.9.0.11"), resolving("10.9.0.11"));
}

#[test]
fn synchronising_corrects_what_events_did_not_tell() {
    let mut it = Fixture::new(&["10.9.0.11", "10.9.0.12"]);
    it.neighbour("10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    it.neighbour("10.9.0.12", NeighbourState::Reachable, Some(THEIRS));
    let failed = neighbour(ETH0, "10.9.0.12", NeighbourState::Failed, None);
    it.state.synchronise(
        &[up(ETH0, "lan0"), up(ETH1, "eth1")],
        &[],
        &[failed],
        it.now,
    );

    let view = it.state.view();
    assert!(view.interfaces.keys().eq(["eth1", "lan0"]));
    assert_eq!(it.next_hop("10.9.0.11").unwrap().way.interface, "lan0");
    assert!(it.next_hop("10.9.0.12").is_err());
    assert_eq!(
        it.look_up_by(ETH0),
        2,
        "all routes are looked up again, at once"
    );
}

#[test]
fn a_view_is_due_shortly_after_a_change_and_only_then() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    it.advance(SHOW_AFTER);
    assert!(it.state.view_due(it.now).is_some());
    it.neighbour("10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    assert!(it.state.view_due(it.now).is_none());
    it.advance(SHOW_AFTER);
    assert_eq!(it.state.view_due(it.now), Some(it.state.view()));
    it.neighbour("10.9.0.11", NeighbourState::Stale, Some(THEIRS));
    it.advance(SHOW_AFTER);
    assert!(it.state.view_due(it.now).is_none());
}

#[test]
fn an_address_is_ours_until_no_interface_has_it() {
    let mut it = Fixture::new(&[]);
    let ours = |it: &Fixture, ours: &[&str]| {
        let ours: BTreeSet<IpAddr> = ours.iter().map(|it| ip(it)).collect();
        let seen = it.state.view().addresses.into_keys().collect();
        assert_eq!(ours, seen);
    };
    use RouteNetlinkMessage::{DelAddress, NewAddress};
    for message in [
        address(ETH0, "10.9.1.1", 32),
        address(ETH0, "10.9.1.1", 24),
        address(ETH1, "10.9.1.1", 32),
        address(ETH0, "2001:db8::1", 128),
    ] {
        it.state.apply(NewAddress(message), it.now);
    }
    ours(&it, &["10.9.1.1", "2001:db8::1"]);
    for (message, left) in [
        (
            address(ETH0, "10.9.1.1", 32),
            &["10.9.1.1", "2001:db8::1"][..],
        ),
        (address(ETH1, "10.9.1.1", 32), &["10.9.1.1", "2001:db8::1"]),
        (address(ETH0, "10.9.1.1", 24), &["2001:db8::1"]),
    ] {
        it.state.apply(DelAddress(message), it.now);
        ours(&it, left);
    }
    let links = [up(ETH0, "eth0")];
    let dumped = [address(ETH0, "10.9.1.2", 32)];
    it.state.synchronise(&links, &dumped, &[], it.now);
    ours(&it, &["10.9.1.2"]);
    it.state
        .apply(RouteNetlinkMessage::DelLink(up(ETH0, "eth0")), it.now);
    ours(&it, &[]);
}

#[test]
fn a_path_mtu_that_a_router_tells_stands_for_ten_minutes() {
    let mut it = Fixture::new(&["10.9.0.11"]);
    let links = [up(ETH0, "eth0")];
    let addresses = [address(ETH0, "10.9.0.1", 24)];
    it.state.synchronise(&links, &addresses, &[], it.now);
    it.neighbour("10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    let tell = |it: &mut Fixture, source: &str, target: &str, mtu| {
        let error = TooBig {
            source: ip(source),
            target: ip(target),
            mtu,
        };
        it.state.too_big(error, it.now);
    };
    let mtu = |it: &Fixture| it.next_hop("10.9.0.11").unwrap().way.mtu;

    tell(&mut it, "10.9.0.2", "10.9.0.11", 1400);
    tell(&mut it, "10.9.0.1", "10.9.0.12", 1400);
    tell(&mut it, "10.9.0.1", "10.9.0.11", 9000);
    assert_eq!(mtu(&it), 1500, "not ours, not a target, no less");
    tell(&mut it, "10.9.0.1", "10.9.0.11", 1400);
    assert_eq!(mtu(&it), 1400);
    tell(&mut it, "10.9.0.1", "10.9.0.11", 68);
    assert_eq!(mtu(&it), LEAST_PATH_MTU, "so little is not believed");

    it.advance(PATH_MTU_STANDS);
    let neighbour = neighbour(ETH0, "10.9.0.11", NeighbourState::Reachable, Some(THEIRS));
    it.state
        .synchronise(&links, &addresses, &[neighbour], it.now);
    assert_eq!(mtu(&it), 1500);
}
