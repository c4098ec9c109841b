//! `lb_user::net` against the kernel: two network namespaces, joined by veth pairs, one for us and
//! one for the neighbour.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use lb_user::net::solicited::{Memberships, solicited_node};
use lb_user::net::{NextHop, Targets, Unreachable, View, Way};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Longer than it takes to notice a dead neighbour: 5 s until it is verified, 3 s for the kernel to
/// give up.
const PATIENCE: Duration = Duration::from_secs(15);

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xa];

/// Our namespace, which the test's thread is in, and the neighbour's. Both are gone, with all that
/// is in them, when the thread is.
struct Lab {
    ours: File,
    peer: File,
}

impl Lab {
    fn new() -> Self {
        let new_namespace = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("this test makes network namespaces: run it as root");
            File::open("/proc/thread-self/ns/net").expect("open the network namespace")
        };
        let lab = Self {
            peer: new_namespace(),
            ours: new_namespace(),
        };
        lab.add_veth("lan0");
        lab
    }

    /// Adds a veth pair with that name at both ends, up.
    fn add_veth(&self, name: &str) {
        let peer = format!("/proc/{}/fd/{}", std::process::id(), self.peer.as_raw_fd());
        self.ip(&format!(
            "link add {name} address 02:00:00:00:00:01 type veth \
             peer name {name} address 02:00:00:00:00:0a netns {peer}"
        ));
        self.peer_ip(&format!("link set {name} up"));
        self.ip(&format!("link set {name} up"));
    }

    /// Gives us and the peer an address each, of 10.9.0.0/24 and 2001:db8::/64.
    fn add_addresses(&self) {
        self.ip("addr add 10.9.0.1/24 dev lan0");
        self.ip("addr add 2001:db8::1/64 dev lan0 nodad");
        self.peer_ip("addr replace 10.9.0.11/24 dev lan0");
        self.peer_ip("addr replace 2001:db8::11/64 dev lan0 nodad");
    }

    /// Runs `ip` in our namespace.
    fn ip(&self, arguments: &str) -> String {
        let output = Command::new("ip")
            .args(arguments.split_whitespace())
            .output()
            .expect("ip is run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {errors}");
        String::from_utf8(output.stdout).expect("ip prints UTF-8")
    }

    /// Runs `ip` in the neighbour's namespace.
    fn peer_ip(&self, arguments: &str) {
        setns(&self.peer, CloneFlags::CLONE_NEWNET).expect("enter the peer's namespace");
        self.ip(arguments);
        setns(&self.ours, CloneFlags::CLONE_NEWNET).expect("return to our namespace");
    }
}

/// A watch, and the targets that it watches.
struct Watch {
    targets: watch::Sender<Targets>,
    views: watch::Receiver<View>,
}

impl Watch {
    async fn start(targets: &[&str]) -> Self {
        let (sender, receiver) = watch::channel(addresses(targets));
        let views = lb_user::net::watch(receiver)
            .await
            .expect("watch the network");
        Self {
            targets: sender,
            views,
        }
    }

    fn set_targets(&self, targets: &[&str]) {
        self.targets.send_replace(addresses(targets));
    }

    /// Waits for a view that `is_expected`.
    async fn wait(&mut self, what: &str, is_expected: impl FnMut(&View) -> bool) -> View {
        let mut views = self.views.clone();
        match timeout(PATIENCE, views.wait_for(is_expected)).await {
            Ok(view) => view.expect("the watch goes on").clone(),
            Err(_) => panic!(
                "waited in vain until {what}; last seen {:#?}",
                self.views.borrow()
            ),
        }
    }

    async fn wait_for_next_hop(&mut self, to: &str) -> NextHop {
        let is_it = |view: &View| next_hop(view, to).is_ok();
        let view = self.wait(&format!("{to} is reachable"), is_it).await;
        next_hop(&view, to).expect("it was just seen")
    }

    async fn wait_for_mac(&mut self, to: &str, mac: [u8; 6]) {
        let is_it = |view: &View| next_hop(view, to).is_ok_and(|it| it.mac == mac);
        self.wait(&format!("the MAC address of {to} is {mac:02x?}"), is_it)
            .await;
    }

    async fn wait_for_reason(&mut self, to: &str, is_expected: impl Fn(&Unreachable) -> bool) {
        let is_it = |view: &View| next_hop(view, to).is_err_and(|reason| is_expected(&reason));
        self.wait(
            &format!("{to} is unreachable for the expected reason"),
            is_it,
        )
        .await;
    }

    /// Fails if any view is sent in that time.
    async fn expect_no_change_for(&mut self, time: Duration) {
        self.views.mark_unchanged();
        if timeout(time, self.views.changed()).await.is_ok() {
            panic!("the view changed to {:#?}", self.views.borrow());
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an IP address")
}

fn addresses(texts: &[&str]) -> Targets {
    texts.iter().map(|it| ip(it)).collect()
}

/// The next hop in a view; a target that isn't in it yet is one without a route.
fn next_hop(view: &View, to: &str) -> Result<NextHop, Unreachable> {
    let to = ip(to);
    view.next_hops
        .get(&to)
        .cloned()
        .unwrap_or(Err(Unreachable::NoRoute { to }))
}

fn is_no_answer(reason: &Unreachable) -> bool {
    matches!(reason, Unreachable::NoAnswer { .. })
}

/// Runs a test in namespaces of its own. They belong to a thread, so it gets one, with everything
/// asynchronous on it.
fn in_lab(test: impl AsyncFnOnce(&Lab) + Send + 'static) {
    let run = || {
        let lab = Lab::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime
            .block_on(async { timeout(4 * PATIENCE, test(&lab)).await })
            .expect("the test ends in time");
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
#[ignore = "needs root"]
fn a_neighbour_on_the_link_is_learnt_over_ipv4_and_ipv6() {
    in_lab(async |lab| {
        lab.add_addresses();
        let mut watch = Watch::start(&["10.9.0.11", "2001:db8::11"]).await;
        let ifindex = watch.views.borrow().interfaces["lan0"].ifindex;
        for (target, source) in [("10.9.0.11", "10.9.0.1"), ("2001:db8::11", "2001:db8::1")] {
            assert_eq!(
                watch.wait_for_next_hop(target).await,
                NextHop {
                    way: Way {
                        interface: "lan0".to_owned(),
                        ifindex,
                        source_mac: OUR_MAC,
                        source_address: Some(ip(source)),
                        gateway: None,
                        mtu: 1500,
                    },
                    mac: PEER_MAC,
                }
            );
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_gateway_and_the_mtu_of_its_route_are_found() {
    in_lab(async |lab| {
        lab.add_addresses();
        lab.ip("route add 192.0.2.0/24 via 10.9.0.11 mtu 1400");
        lab.ip("route add 2001:db8:2::/64 via 2001:db8::11 mtu 1380");
        lab.ip("route add 198.51.100.0/24 via inet6 2001:db8::11");
        let mut watch = Watch::start(&["192.0.2.7", "2001:db8:2::7", "198.51.100.7"]).await;
        for (target, gateway, mtu) in [
            ("192.0.2.7", "10.9.0.11", 1400),
            ("2001:db8:2::7", "2001:db8::11", 1380),
            ("198.51.100.7", "2001:db8::11", 1500),
        ] {
            let next_hop = watch.wait_for_next_hop(target).await;
            assert_eq!(next_hop.way.gateway, Some(ip(gateway)), "{target}");
            assert_eq!(next_hop.mac, PEER_MAC, "{target}");
            assert_eq!(next_hop.way.mtu, mtu, "{target}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_target_without_a_next_hop_has_the_reason() {
    in_lab(async |lab| {
        lab.add_addresses();
        lab.ip("route add blackhole 192.0.2.0/24");
        lab.ip("route add prohibit 2001:db8:2::/64");
        let targets = [
            ["203.0.113.1", "192.0.2.1", "10.9.0.1"],
            ["2001:db8:3::1", "2001:db8:2::1", "2001:db8::1"],
        ];
        let watch = Watch::start(&targets.concat()).await;
        let view = watch.views.borrow();
        for [no_route, forbidden, local] in targets.map(|of_a_family| of_a_family.map(ip)) {
            for reason in [
                Unreachable::NoRoute { to: no_route },
                Unreachable::Forbidden { to: forbidden },
                Unreachable::Local { to: local },
            ] {
                assert!(
                    view.next_hops.values().any(|it| *it == Err(reason.clone())),
                    "not {reason:?} in {view:#?}"
                );
            }
        }
    });
}

#[test]
#[ignore = "needs root"]
fn an_absent_neighbour_gives_no_answer_until_it_appears() {
    in_lab(async |lab| {
        lab.add_addresses();
        let targets = ["10.9.0.12", "2001:db8::12"];
        let mut watch = Watch::start(&targets).await;
        for target in targets {
            let view = watch.views.borrow();
            let reason = view.next_hops[&ip(target)].as_ref().unwrap_err();
            let Unreachable::Resolving { neighbour, way } = reason else {
                panic!("{target}: {reason}");
            };
            assert_eq!(*neighbour, ip(target));
            assert_eq!(way.interface, "lan0");
        }
        for target in targets {
            watch.wait_for_reason(target, is_no_answer).await;
        }

        // The kernel asks and gives up at least once more.
        watch.expect_no_change_for(Duration::from_secs(6)).await;

        lab.peer_ip("addr add 10.9.0.12/24 dev lan0");
        lab.peer_ip("addr add 2001:db8::12/64 dev lan0 nodad");
        for target in targets {
            assert_eq!(watch.wait_for_next_hop(target).await.mac, PEER_MAC);
        }
    });
}

#[test]
#[ignore = "needs root"]
fn nudging_leaves_no_permanent_entry() {
    in_lab(async |lab| {
        lab.add_addresses();
        let mut watch = Watch::start(&["10.9.0.11", "10.9.0.12"]).await;
        watch.wait_for_next_hop("10.9.0.11").await;
        watch.wait_for_reason("10.9.0.12", is_no_answer).await;
        sleep(Duration::from_secs(6)).await; // time enough to be verified
        assert_eq!(lab.ip("neigh show nud permanent"), "");
        let entry = lab.ip("neigh show 10.9.0.11 dev lan0");
        assert!(entry.contains("02:00:00:00:00:0a REACHABLE"), "{entry}");
    });
}

#[test]
#[ignore = "needs root"]
fn an_entry_that_others_maintain_is_left_alone() {
    in_lab(async |lab| {
        lab.add_addresses();
        lab.ip("neigh add 10.9.0.12 lladdr 02:00:00:00:00:0c dev lan0 nud permanent");
        lab.ip("neigh add 10.9.0.13 lladdr 02:00:00:00:00:0d dev lan0 extern_learn nud stale");
        let mut watch = Watch::start(&["10.9.0.12", "10.9.0.13"]).await;
        watch.wait_for_mac("10.9.0.12", [2, 0, 0, 0, 0, 0xc]).await;
        watch.wait_for_mac("10.9.0.13", [2, 0, 0, 0, 0, 0xd]).await;
        watch.expect_no_change_for(Duration::from_secs(10)).await;
        let permanent = lab.ip("neigh show 10.9.0.12 dev lan0");
        assert!(permanent.contains("PERMANENT"), "{permanent}");
        let learnt = lab.ip("neigh show 10.9.0.13 dev lan0");
        assert!(
            learnt.contains("extern_learn") && learnt.contains("STALE"),
            "{learnt}"
        );
    });
}

#[test]
#[ignore = "needs root"]
fn a_changed_mac_address_is_followed() {
    in_lab(async |lab| {
        lab.add_addresses();
        let targets = ["10.9.0.11", "2001:db8::11"];
        let mut watch = Watch::start(&targets).await;
        for target in targets {
            watch.wait_for_mac(target, PEER_MAC).await;
        }
        // As if another machine took the addresses over, without a word.
        lab.peer_ip("link set lan0 address 02:00:00:00:00:0b");
        for target in targets {
            watch.wait_for_mac(target, [2, 0, 0, 0, 0, 0xb]).await;
        }

        lab.ip("link set lan0 address 02:00:00:00:00:02");
        let is_followed = |view: &View| {
            next_hop(view, "10.9.0.11").is_ok_and(|it| it.way.source_mac == [2, 0, 0, 0, 0, 2])
        };
        watch
            .wait("our own MAC address has changed", is_followed)
            .await;
    });
}

#[test]
#[ignore = "needs root"]
fn a_neighbour_that_dies_is_found_out() {
    in_lab(async |lab| {
        lab.add_addresses();
        let mut watch = Watch::start(&["10.9.0.11"]).await;
        watch.wait_for_next_hop("10.9.0.11").await;
        lab.peer_ip("addr del 10.9.0.11/24 dev lan0");
        watch.wait_for_reason("10.9.0.11", is_no_answer).await;
    });
}

#[test]
#[ignore = "needs root"]
fn a_flushed_neighbour_table_does_not_show() {
    in_lab(async |lab| {
        lab.add_addresses();
        let mut watch = Watch::start(&["10.9.0.11"]).await;
        watch.wait_for_next_hop("10.9.0.11").await;
        lab.ip("neigh flush all");
        watch.expect_no_change_for(Duration::from_secs(1)).await;
        let entry = lab.ip("neigh show 10.9.0.11 dev lan0");
        assert!(
            entry.contains("02:00:00:00:00:0a"),
            "not resolved anew: {entry}"
        );
    });
}

#[test]
#[ignore = "needs root"]
fn a_link_that_goes_down_and_up_is_followed() {
    in_lab(async |lab| {
        lab.add_addresses();
        let mut watch = Watch::start(&["10.9.0.11"]).await;
        watch.wait_for_next_hop("10.9.0.11").await;

        lab.peer_ip("link set lan0 down"); // our end loses its carrier
        let interface_down = Unreachable::InterfaceDown {
            interface: "lan0".to_owned(),
        };
        watch
            .wait_for_reason("10.9.0.11", |reason| *reason == interface_down)
            .await;
        lab.peer_ip("link set lan0 up");
        watch.wait_for_next_hop("10.9.0.11").await;

        lab.ip("link set lan0 down"); // our end loses its routes too
        let no_route = Unreachable::NoRoute {
            to: ip("10.9.0.11"),
        };
        watch
            .wait_for_reason("10.9.0.11", |reason| *reason == no_route)
            .await;
        assert!(!watch.views.borrow().interfaces["lan0"].up);
        lab.ip("link set lan0 up");
        watch.wait_for_next_hop("10.9.0.11").await;
    });
}

#[test]
#[ignore = "needs root"]
fn a_renamed_or_resized_interface_is_followed() {
    in_lab(async |lab| {
        lab.add_addresses();
        let mut watch = Watch::start(&["10.9.0.11"]).await;
        watch.wait_for_next_hop("10.9.0.11").await;
        lab.ip("link set lan0 mtu 1300");
        lab.ip("link set lan0 name front");
        let is_followed = |view: &View| {
            next_hop(view, "10.9.0.11")
                .is_ok_and(|it| it.way.interface == "front" && it.way.mtu == 1300)
        };
        let view = watch.wait("the new name and MTU show", is_followed).await;
        assert_eq!(view.interfaces["front"].mtu, 1300);
        assert_eq!(view.interfaces["front"].kind.as_deref(), Some("veth"));
        assert!(!view.interfaces.contains_key("lan0"));
    });
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_deleted_and_made_anew_is_followed() {
    in_lab(async |lab| {
        lab.add_addresses();
        let mut watch = Watch::start(&["10.9.0.11"]).await;
        let before = watch.wait_for_next_hop("10.9.0.11").await;

        lab.ip("link del lan0");
        let is_gone = |view: &View| {
            !view.interfaces.contains_key("lan0") && next_hop(view, "10.9.0.11").is_err()
        };
        watch.wait("lan0 is gone", is_gone).await;

        lab.add_veth("lan0");
        lab.add_addresses();
        let after = watch.wait_for_next_hop("10.9.0.11").await;
        assert_ne!(before.way.ifindex, after.way.ifindex);
    });
}

#[test]
#[ignore = "needs root"]
fn a_route_or_rule_that_leads_elsewhere_is_followed() {
    in_lab(async |lab| {
        lab.add_addresses();
        lab.add_veth("lan1");
        lab.peer_ip("link set lan1 address 02:00:00:00:00:1a");
        lab.ip("addr add 10.9.1.1/24 dev lan1");
        lab.peer_ip("addr add 10.9.1.11/24 dev lan1");
        lab.ip("route add 192.0.2.0/24 via 10.9.0.11");
        let mut watch = Watch::start(&["192.0.2.7"]).await;
        assert_eq!(
            watch.wait_for_next_hop("192.0.2.7").await.way.interface,
            "lan0"
        );

        lab.ip("route replace 192.0.2.0/24 via 10.9.1.11");
        watch.wait_for_mac("192.0.2.7", [2, 0, 0, 0, 0, 0x1a]).await;
        assert_eq!(
            watch.wait_for_next_hop("192.0.2.7").await.way.interface,
            "lan1"
        );

        lab.ip("route add 192.0.2.0/24 via 10.9.0.11 table 7");
        lab.ip("rule add to 192.0.2.0/25 table 7");
        watch.wait_for_mac("192.0.2.7", PEER_MAC).await;
    });
}

#[test]
#[ignore = "needs root"]
fn targets_come_and_go() {
    in_lab(async |lab| {
        lab.add_addresses();
        let mut watch = Watch::start(&[]).await;
        assert!(watch.views.borrow().next_hops.is_empty());
        watch.set_targets(&["10.9.0.11"]);
        watch.wait_for_next_hop("10.9.0.11").await;
        watch.set_targets(&["2001:db8::11"]);
        watch.wait_for_next_hop("2001:db8::11").await;
        assert!(
            !watch
                .views
                .borrow()
                .next_hops
                .contains_key(&ip("10.9.0.11"))
        );
    });
}

#[test]
#[ignore = "needs root"]
fn lost_events_are_made_up_for() {
    in_lab(async |lab| {
        lab.add_addresses();
        let mut watch = Watch::start(&["10.9.0.11", "192.0.2.7"]).await;
        watch.wait_for_next_hop("10.9.0.11").await;

        // The watch runs on this very thread, so it reads nothing meanwhile and its buffer fills up:
        // the last route's event finds no room.
        let routes = (0..100_000u32)
            .map(|n| {
                format!(
                    "route add {}/32 dev lan0\n",
                    Ipv4Addr::from_bits(0xc612_0000 + n)
                )
            })
            .chain(["route add 192.0.2.0/24 via 10.9.0.11\n".to_owned()]);
        let batch = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(batch.path(), routes.collect::<String>()).expect("write the batch");
        lab.ip(&format!("-batch {}", batch.path().display()));

        watch.wait_for_next_hop("192.0.2.7").await;
    });
}

#[test]
#[ignore = "needs root"]
fn the_watch_ends_when_nobody_looks() {
    in_lab(async |lab| {
        lab.add_addresses();
        let Watch { targets, views } = Watch::start(&["10.9.0.11"]).await;
        drop(views);
        timeout(PATIENCE, targets.closed())
            .await
            .expect("the task drops its receiver of targets");
    });
}

#[test]
#[ignore = "needs root"]
fn solicited_node_groups_are_joined_and_left() {
    in_lab(async |lab| {
        let vips = |count: u16| -> BTreeSet<Ipv6Addr> {
            (1..=count)
                .map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, n))
                .collect()
        };
        let lan0 = || {
            let line = lab.ip("-oneline link show lan0");
            let index = line
                .split(':')
                .next()
                .expect("ip begins a line with the index");
            BTreeSet::from([index.parse::<u32>().expect("a number")])
        };
        let joined = || {
            lab.ip("-6 maddr show dev lan0")
                .matches(" ff02::1:ff01:")
                .count()
        };
        let mut memberships = Memberships::default();
        let mut set = |interfaces, vips| memberships.set(&interfaces, &vips).len();

        assert_eq!(set(lan0(), vips(5000)), 0, "more than one socket can hold");
        assert_eq!(joined(), 5000);
        assert_eq!(set(lan0(), vips(2)), 0);
        assert_eq!(joined(), 2);
        let group = solicited_node(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 2)).to_string();
        assert!(lab.ip("-6 maddr show dev lan0").contains(&group));

        let old = lan0();
        lab.ip("link del lan0");
        assert_eq!(
            set(old, vips(3)),
            1,
            "the third can't be joined, the interface is gone"
        );
        lab.add_veth("lan0");
        assert_eq!(set(lan0(), vips(2)), 0);
        assert_eq!(joined(), 2);
    });
}
