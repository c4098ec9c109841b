//! What health checks by the data path cost: each real server through each of 100 VIPs, every 2 s.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    thread::{available_parallelism, sleep},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use lb_tests::{Daemon, Host, HttpServer, Lab};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde_json::Value;

const VIPS: u8 = 100;
/// Each kind of check, and how many real servers have it: as many HTTP requests as of the others would be more than the one
/// thread of their HTTP server can answer.
const KINDS: [(&str, u8); 4] = [("icmp", 100), ("syn", 100), ("tcp", 100), ("http", 25)];
/// All checks have been sent, and have settled into their rounds.
const WARM_UP: Duration = Duration::from_secs(8);
/// One CPU for the daemon; the real servers may use all.
const CPU: usize = 0;

/// Prints a table with a line for each kind.
pub fn measure(seconds: u64) -> Result<()> {
    println!(
        "health checks every 2 s by the data path (L2 DSR), the daemon on one CPU, {seconds} s each\n"
    );
    println!("checks           user   system   resident   anonymous   packets/s to the servers");
    for (kind, servers) in KINDS {
        let checks = usize::from(VIPS) * usize::from(servers);
        let Cost {
            user,
            system,
            resident,
            anonymous,
            packets,
        } = cost(kind, servers, seconds)?;
        println!(
            "{checks:>6} {kind:<6} {:>5.1} % {:>6.1} % {resident:>7} MB {anonymous:>8} MB {packets:>26.0}",
            user * 100.0,
            system * 100.0
        );
    }
    Ok(())
}

struct Cost {
    /// CPU seconds a second. The kernel does the work of the veth pairs, and of the real servers' network, in the same time.
    user: f64,
    system: f64,
    resident: u64,
    anonymous: u64,
    packets: f64,
}

fn cost(kind: &str, servers: u8, seconds: u64) -> Result<Cost> {
    let checks = usize::from(VIPS) * usize::from(servers);
    let lab = Lab::builder()
        .real_servers(1)
        .vips((1..=VIPS).map(vip))
        .build()?;
    let host = lab.real_server(1);
    for server in 1..=servers {
        host.ip(&format!("addr add {}/16 dev eth0", address(server)));
    }
    let _server = HttpServer::start(host, &[80]);
    let daemon = pinned(|| Daemon::spawn(&lab, &config(&lab, kind, servers)))??;
    daemon.wait_until("all checks pass", |status| passing(status) == checks)?;
    sleep(WARM_UP);

    let pid = daemon.pid();
    let ([user, system], packets) = (cpu_time(pid)?, received(host)?);
    sleep(Duration::from_secs(seconds));
    let cpu = cpu_time(pid)?;
    let packets = received(host)? - packets;
    let status = daemon.status()?;
    ensure!(
        passing(&status) == checks,
        "{} of {checks} checks pass",
        passing(&status)
    );
    let seconds = seconds as f64;
    let packets = packets as f64 / seconds;
    // Each check has a packet that is sent, at least.
    let least = checks as f64 / 2.0 * 0.9;
    ensure!(
        packets > least,
        "{packets:.0} packets a second are too few for the checks"
    );
    Ok(Cost {
        user: (cpu[0] - user) / seconds,
        system: (cpu[1] - system) / seconds,
        resident: daemon.memory("VmRSS")?,
        anonymous: daemon.memory("RssAnon")?,
        packets,
    })
}

fn vip(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 9, 1, number).into()
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 2, number)
}

fn config(lab: &Lab, kind: &str, count: u8) -> String {
    let servers: String = (1..=count)
        .map(|n| format!("  server-{n}: {}\n", address(n)))
        .collect();
    let names: Vec<_> = (1..=count).map(|n| format!("server-{n}")).collect();
    let virtual_servers: String = (1..=VIPS)
        .map(|n| {
            format!(
                "- {{name: vip-{n}, vip: {}, protocol: tcp, port: 80, bind: [all]}}\n",
                vip(n)
            )
        })
        .collect();
    let health = format!("defaults: {{health: {{interval: 2s, checks: [{kind}]}}}}\n");
    let config = lab.config(&virtual_servers);
    let config = config.replace("real_servers:\n", &format!("real_servers:\n{servers}"));
    let config = config.replace(
        "groups:\n",
        &format!("groups:\n  all: [{}]\n", names.join(", ")),
    );
    health + &config
}

fn passing(status: &Value) -> usize {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let servers = list(status, "virtual_servers");
    let servers = servers.iter().flat_map(|it| list(it, "real_servers"));
    let checks = servers.flat_map(|it| list(&it, "checks"));
    checks.filter(|check| check["ok"] == true).count()
}

/// Runs `work` on one CPU, and what it starts stays there.
fn pinned<T>(work: impl FnOnce() -> T) -> Result<T> {
    let set = |cpus: std::ops::Range<usize>| -> nix::Result<()> {
        let mut set = CpuSet::new();
        cpus.into_iter().try_for_each(|cpu| set.set(cpu))?;
        sched_setaffinity(Pid::from_raw(0), &set)
    };
    set(CPU..CPU + 1).context("cannot run on one CPU")?;
    let done = work();
    set(0..available_parallelism()?.get())?;
    Ok(done)
}

/// User and system time of all threads, in seconds (proc_pid_stat(5)).
fn cpu_time(pid: i32) -> Result<[f64; 2]> {
    /// USER_HZ.
    const TICKS: f64 = 100.0;

    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let mut time = |skipped| -> Result<f64> {
        let ticks = fields.nth(skipped).context("no times")?.parse::<f64>()?;
        Ok(ticks / TICKS)
    };
    Ok([time(11)?, time(0)?])
}

/// Packets that came to a host's first interface.
fn received(host: &Host) -> Result<u64> {
    let devices = host.run(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
    let line = devices
        .lines()
        .find(|line| line.trim_start().starts_with("eth0:"));
    let packets = line.and_then(|line| line.split_whitespace().nth(2));
    Ok(packets.context("no eth0")?.parse()?)
}
