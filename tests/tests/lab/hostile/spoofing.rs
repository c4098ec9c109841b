//! Lies about MAC addresses, told on the balancer's segment.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::Duration,
};

use lb_tests::{Daemon, HttpServer, Lab, PacketSocket, Report, named};
use serde_json::Value;

use super::{attacker, with_macs};
use crate::{
    checks::WENT_DOWN,
    frames::{BROADCAST, Mac, claim, is_to},
    support::{PATIENCE, StopAtEnd, VIP, VIP6, lab, wait_until},
};

const ONE_SERVER: &str = "
- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web-1]}
- {name: shop6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, bind: [web6-1]}
";
const CHECKED: &str = "defaults: {health: {interval: 300ms, timeout: 300ms, checks: [arp]}}\n";

/// Does something while the attacker tells everybody, a thousand times a second, who has the real server's addresses, and the
/// balancer, who has those of itself and the VIPs: these machines by turns.
fn among_lies<T>(lab: &Lab, liars: &[Mac], work: impl FnOnce() -> T) -> T {
    let attacker = attacker(lab);
    let server = lab.real_server(1);
    let balancer = lab.balancer();
    let [vip, vip6] = [VIP, VIP6].map(|vip| vip.parse().unwrap());
    let to_everybody = [server.v4(), server.v6()].map(|it| (BROADCAST, it));
    let to_balancer = [balancer.v4(), balancer.v6(), vip, vip6].map(|it| (balancer.mac(), it));
    let lies = liars.iter().flat_map(|&mac| {
        let about = to_everybody.iter().chain(&to_balancer);
        about.map(move |&(to, address)| claim([attacker.mac(), to], mac, address))
    });
    let lies: Vec<_> = lies.collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopAtEnd(&done);
        scope.spawn(|| {
            let socket = PacketSocket::open(attacker, "eth0");
            let mut lies = lies.iter().cycle();
            while !done.load(Ordering::Relaxed) {
                lies.by_ref().take(6).for_each(|lie| socket.send(lie));
                sleep(Duration::from_millis(1));
            }
        });
        work()
    })
}

fn ask(lab: &Lab) -> Report {
    let http = lab.client().http().timeout(PATIENCE);
    http.get((VIP, 80), 50).and(http.get((VIP6, 80), 50))
}

/// Whether a frame is for a VIP.
fn is_for_a_vip(frame: &[u8]) -> bool {
    [VIP, VIP6]
        .iter()
        .any(|vip| is_to(frame, vip.parse().unwrap()))
}

#[test]
fn a_real_server_with_a_fixed_mac_address_gets_all_that_is_for_it() {
    let lab = lab(2);
    let _server = HttpServer::start(lab.real_server(1), &[80]);
    let config = with_macs(&lab, &(lab.config(ONE_SERVER) + CHECKED));
    let _lb = Daemon::start(&lab, &config).unwrap();
    let diverted = PacketSocket::open(attacker(&lab), "eth0");
    among_lies(&lab, &[attacker(&lab).mac()], || {
        // Long enough for its checks to fail.
        sleep(Duration::from_millis(1500));
        ask(&lab).assert_all_succeeded();
    });
    let diverted = diverted.receive(Duration::from_millis(100), is_for_a_vip);
    assert_eq!(diverted, None, "{}", lab.log());
    assert!(!lab.log().contains(WENT_DOWN), "{}", lab.log());
}

#[test]
fn a_real_server_whose_mac_address_is_learnt_is_found_again_when_the_lies_end() {
    let lab = lab(2);
    let _server = HttpServer::start(lab.real_server(1), &[80]);
    let _lb = Daemon::start(&lab, &lab.config(ONE_SERVER)).unwrap();
    let diverted = PacketSocket::open(attacker(&lab), "eth0");
    among_lies(&lab, &[attacker(&lab).mac()], || {
        for vip in [VIP, VIP6] {
            wait_until("packets are diverted", || {
                let http = lab.client().http().timeout(Duration::from_millis(200));
                http.get((vip, 80), 1);
                diverted
                    .receive(Duration::from_millis(10), is_for_a_vip)
                    .is_some()
            });
        }
    });
    wait_until("the real server is found again", || {
        let http = lab.client().http().timeout(Duration::from_millis(500));
        let answered = |vip| !http.get((vip, 80), 1).replies.is_empty();
        answered(VIP) && answered(VIP6)
    });
    ask(&lab).assert_all_succeeded();
}

#[test]
fn the_check_by_arp_takes_a_real_server_down_that_many_claim_to_be() {
    let lab = lab(2);
    let lb = Daemon::start(&lab, &(lab.config(ONE_SERVER) + CHECKED)).unwrap();
    let reasons = |status: &Value| {
        let reason = |(virtual_server, server)| {
            let servers = &named(&status["virtual_servers"], virtual_server)["real_servers"];
            named(servers, server)["reason"]
                .as_str()
                .unwrap_or("")
                .to_owned()
        };
        [("shop", "web-1"), ("shop6", "web6-1")].map(reason)
    };
    let numbered = |n: u16| {
        let [high, low] = n.to_be_bytes();
        [2, 0xff, 0, 0, high, low]
    };
    let many: Vec<_> = (0..4096).map(numbered).collect();
    let status = among_lies(&lab, &many, || {
        lb.wait_until("both are down", |status| {
            reasons(status)
                .iter()
                .all(|it| it.starts_with("answers of several machines"))
        })
    });
    for reason in reasons(&status.unwrap()) {
        assert!(reason.len() < 200, "{reason}");
    }
    lb.wait_until("both are up", |status| reasons(status) == ["", ""])
        .unwrap();
}
