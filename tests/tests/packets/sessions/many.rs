//! The least connections of many servers.

use std::sync::Arc;

use lb_user::{
    config::Config,
    control::{
        Desired,
        desired::{Link, Member},
    },
};

use super::balancer::{self, LEAST, client, rst, tcp};
use crate::{
    backend::{Backend, Host, Kernel, action},
    fixture::{self, LAN},
    frames::Flow,
};

const SERVERS: u16 = 300;

fn config() -> Config {
    balancer::config_of("virtual_servers: 64, real_servers: 512, sessions: 100000")
}

fn mac(server: u16) -> [u8; 6] {
    let [high, low] = server.to_be_bytes();
    [0x02, 0, 0, 0x03, high, low]
}

/// Of weights 1 to 7.
fn weight(server: u16) -> u16 {
    server % 7 + 1
}

/// The state in which [`LEAST`] has that many servers.
fn wanted(config: &Config, flow: Flow) -> Desired {
    let mut wanted = fixture::wanted(config);
    let name = format!("{}-{}-{}", LEAST.name, flow.protocol, flow.family);
    let least = wanted.virtual_servers.get_mut(&name).expect("configured");
    Arc::make_mut(least).members = (0..SERVERS)
        .map(|server| {
            let member = Member {
                address: flow.family.client(),
                weight: weight(server),
                share: weight(server),
                drain: false,
                link: Ok(Link {
                    ifindex: LAN.ifindex,
                    source_mac: LAN.mac,
                    destination_mac: mac(server),
                    mtu: 1500,
                    outer_source: None,
                }),
            };
            (format!("s{server:03}"), member)
        })
        .collect();
    wanted
}

/// Each SYN goes to the server that has the fewest sessions in relation to its weight then, with one more; of equal ones to
/// the first from the next one on with each SYN.
fn check(flow: Flow, mut run: impl FnMut(&[u8]) -> Vec<u8>) {
    const SESSIONS: u16 = 3000;
    let mut sessions = vec![0_u64; usize::from(SERVERS)];
    let mut servers = Vec::new();
    for number in 0..SESSIONS {
        let segment = client(flow, LEAST, 10_000 + number);
        let output = run(&segment.frame());
        let turns = (0..SERVERS).map(|turn| (number + turn) % SERVERS);
        let least = turns
            .min_by(|&a, &b| {
                let load = |server: u16, other: u16| {
                    (sessions[usize::from(server)] + 1) * u64::from(weight(other))
                };
                load(a, b).cmp(&load(b, a))
            })
            .expect("a server");
        assert_eq!(output[..6], mac(least), "session {number}: {sessions:?}");
        sessions[usize::from(least)] += 1;
        servers.push(least);
        // Every third one begins when an older one has ended.
        if number % 3 == 2 {
            let ended = number / 2;
            run(&rst(&client(flow, LEAST, 10_000 + ended)).frame());
            if let Some(server) = servers.get_mut(usize::from(ended))
                && *server != SERVERS
            {
                sessions[usize::from(*server)] -= 1;
                *server = SERVERS;
            }
        }
    }
}

#[test]
fn each_session_goes_where_the_fewest_are_on_the_host() {
    let config = config();
    let mut host = Host::of(&config);
    for flow in tcp() {
        host.reconcile(&wanted(&config, flow));
        check(flow, |frame| host.run(&LAN, frame).output);
    }
}

#[test]
fn each_session_goes_where_the_fewest_are_in_the_kernel() {
    let config = config();
    Kernel::run_with(&config, |kernel| {
        for flow in tcp() {
            kernel.reconcile(&wanted(&config, flow));
            check(flow, |frame| {
                let (action, output) = kernel.run_uncounted(&LAN, frame);
                assert_eq!(action, action::TX);
                output
            });
        }
    });
}
