//! How long a dead server gets packets after the verdict of its health check, bound to 1,000 virtual servers.

use std::{
    net::IpAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{scope, sleep},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use lb_tests::{Daemon, Lab, PacketSocket};

const FIRST_PORT: u16 = 1000;
const VIRTUAL_SERVERS: u16 = 1000;
const ROUNDS: usize = 5;
const DAY: f64 = 86_400.0;

/// Prints the time from the verdict to the last packet.
pub fn measure() -> Result<()> {
    let lab = Lab::builder().real_servers(3).build()?;
    let web = lab.real_server(1);
    let daemon = Daemon::start(&lab, &config(&lab))?;
    let socket = PacketSocket::open(web, "eth0");
    let last_packet = Mutex::new(0.0);
    let ended = AtomicBool::new(false);
    let mut reactions = Vec::new();
    scope(|scope| -> Result<()> {
        scope.spawn(|| send(&lab, &ended));
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                if socket
                    .receive(Duration::from_millis(100), is_of_a_client)
                    .is_some()
                {
                    *last_packet.lock().unwrap() = now();
                }
            }
        });
        let outcome = (0..ROUNDS).try_for_each(|_| {
            wait_for(&daemon, "up")?;
            sleep(Duration::from_secs(1));
            ensure!(
                now() - *last_packet.lock().unwrap() < 0.5,
                "no packets came to web-1"
            );
            web.answer_pings(false);
            wait_for(&daemon, "down")?;
            sleep(Duration::from_secs(1));
            let verdict = verdict(&lab.log()).context("no verdict in the log")?;
            reactions.push((*last_packet.lock().unwrap() - verdict) * 1000.0);
            web.answer_pings(true);
            Ok(())
        });
        ended.store(true, Ordering::Relaxed);
        outcome
    })?;
    reactions.sort_by(f64::total_cmp);
    let [first, .., last] = reactions[..] else {
        unreachable!("there are several rounds");
    };
    println!(
        "from the verdict to the last packet to a dead server, bound to {VIRTUAL_SERVERS} virtual servers, {ROUNDS} times: {first:.0} to {last:.0} ms (median {:.0})",
        reactions[ROUNDS / 2]
    );
    Ok(())
}

fn config(lab: &Lab) -> String {
    let virtual_servers: String = (FIRST_PORT..FIRST_PORT + VIRTUAL_SERVERS)
        .map(|port| {
            format!(
                "- {{name: port-{port}, vip: 10.9.1.1, protocol: udp, port: {port}, bind: [web], session: {{mode: stateless}}}}\n"
            )
        })
        .collect();
    let health =
        "defaults: {health: {interval: 200ms, timeout: 100ms, rise: 1, fall: 1, checks: [icmp]}}\n";
    health.to_owned() + &lab.config(&virtual_servers)
}

/// Sends datagrams to all virtual servers in turn, about ten thousand a second.
fn send(lab: &Lab, ended: &AtomicBool) {
    let vip: IpAddr = "10.9.1.1".parse().expect("an address");
    let socket = lab.client().run(|| std::net::UdpSocket::bind("0.0.0.0:0"));
    let socket = socket.expect("there is a free port");
    for port in (FIRST_PORT..FIRST_PORT + VIRTUAL_SERVERS).cycle() {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        // An error is an ICMP message about one before.
        let _ = socket.send_to(b"?", (vip, port));
        if port % 10 == 0 {
            sleep(Duration::from_millis(1));
        }
    }
}

/// A UDP datagram in IPv4.
fn is_of_a_client(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17)
}

fn wait_for(daemon: &Daemon<'_>, state: &str) -> Result<()> {
    daemon.wait_until(&format!("web-1 is {state}"), |status| {
        let virtual_servers = status["virtual_servers"].as_array();
        let mut all = virtual_servers.into_iter().flatten();
        all.all(|it| it["real_servers"][0]["state"] == state)
    })?;
    Ok(())
}

/// When the last check said that a server is down, in seconds of the day (UTC). The daemon logs that before it acts.
fn verdict(log: &str) -> Option<f64> {
    let line = log.lines().rfind(|line| line.contains("check says down"))?;
    let time = line.split(['T', 'Z']).nth(1)?;
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    parts.try_fold(0.0, |seconds, part| Some(seconds * 60.0 + part?))
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is later than 1970").as_secs_f64() % DAY
}
