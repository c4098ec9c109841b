//! What a daemon takes with large limits: until it is ready, memory, and CPU time while nothing happens.

use std::{
    fs,
    net::Ipv4Addr,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixDatagram,
    },
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use lb_tests::{Daemon, Lab};
use nix::sys::signal::Signal;

use crate::reload::reload;

const MILLION: u32 = 1 << 20;
const FIRST_PORT: usize = 1000;
/// Those that a virtual server binds, if there are so many.
const BOUND: usize = 16;
/// After it is ready: what the first answers and the first samples lead to is over.
const SETTLE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// What a daemon has to do.
#[derive(Clone, Copy)]
struct Load {
    virtual_servers: usize,
    real_servers: usize,
    /// Of IPv4, and as many of IPv6.
    sessions: u32,
    has_checks: bool,
}

const ONE: Load = Load {
    virtual_servers: 1,
    real_servers: 1,
    sessions: 1_000_000,
    has_checks: true,
};

const MANY: Load = Load {
    virtual_servers: 4096,
    real_servers: 100,
    sessions: MILLION,
    has_checks: false,
};

/// Prints two tables.
pub fn measure(seconds: u64) -> Result<()> {
    let lab = Lab::builder().real_servers(1).build()?;
    for server in 1..=MANY.real_servers {
        let host = lab.real_server(1);
        host.ip(&format!("addr add {}/16 dev eth0", address(server)));
    }
    println!(
        "virtual servers bind {BOUND} of {} real servers; sessions of IPv4 and as many of IPv6 (1M: {MILLION})\n",
        MANY.real_servers
    );
    println!("virtual    limits.    new: s       next: s      `lb reload`,   daemon's     maps,");
    println!("servers    sessions   until ready  until ready  a weight: ms   own: MB      MB");
    let sizes = [1, 2, 16].map(|millions| Load {
        sessions: millions * MILLION,
        ..MANY
    });
    for load in [ONE].into_iter().chain(sizes) {
        start_up(&lab, &load)?;
    }

    println!(
        "\nCPU time of a daemon that nobody asks for anything, in percent of a core, for {seconds} s\n"
    );
    for load in [ONE, MANY] {
        for has_checks in [false, true] {
            let load = Load { has_checks, ..load };
            println!(
                "{}: {:.2} %",
                describe(&load),
                idle(&lab, &load, seconds)? * 100.0
            );
        }
    }
    Ok(())
}

fn describe(load: &Load) -> String {
    let Load {
        virtual_servers,
        real_servers,
        has_checks,
        ..
    } = *load;
    let checks = if has_checks { "default" } else { "no" };
    format!(
        "{virtual_servers} virtual servers, {real_servers} real servers, {checks} health checks"
    )
}

fn start_up(lab: &Lab, load: &Load) -> Result<()> {
    let (first, new) = start(lab, &config(lab, load, 1))?;
    first.stop(Signal::SIGTERM)?;
    let (daemon, next) = start(lab, &config(lab, load, 1))?;
    let mut reloads = [2, 3, 4].map(|weight| reload(lab, &config(lab, load, weight)));
    reloads.sort_by_key(|time| time.as_ref().ok().copied());
    let [_, median, _] = reloads;
    let (median, own, maps) = (median?, daemon.memory("RssAnon")?, maps(lab)?);
    let Load {
        virtual_servers,
        sessions,
        ..
    } = *load;
    println!(
        "{virtual_servers:>7} {sessions:>11} {:>13.2} {:>12.2} {:>13} {own:>11} {maps:>9}",
        new.as_secs_f64(),
        next.as_secs_f64(),
        median.as_millis()
    );
    end(lab, daemon)
}

/// CPU seconds a second.
fn idle(lab: &Lab, load: &Load, seconds: u64) -> Result<f64> {
    let (daemon, _) = start(lab, &config(lab, load, 1))?;
    sleep(SETTLE);
    let (start, before) = (Instant::now(), daemon.cpu_time()?);
    sleep(Duration::from_secs(seconds));
    let took = daemon.cpu_time()? - before;
    let part = took.div_duration_f64(start.elapsed());
    end(lab, daemon)?;
    Ok(part)
}

/// Starts a daemon, and waits until it says that it is ready (sd_notify(3)).
fn start<'a>(lab: &'a Lab, config: &str) -> Result<(Daemon<'a>, Duration)> {
    let path = lab.directory().join("notify.sock");
    let _ = fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let by = ["env", &format!("NOTIFY_SOCKET={}", path.display())];
    let start = Instant::now();
    let daemon = Daemon::spawn_by(lab, config, &by)?;
    let mut message = [0; 4096];
    loop {
        let length = socket.recv(&mut message);
        let length = length.with_context(|| format!("lb is not ready in time\n{}", lab.log()))?;
        if message[..length].starts_with(b"READY=1") {
            return Ok((daemon, start.elapsed()));
        }
    }
}

fn end(lab: &Lab, daemon: Daemon) -> Result<()> {
    daemon.stop(Signal::SIGTERM)?;
    let output = lab.lb("stop --config {config}")?;
    ensure!(output.status.success(), "lb stop failed");
    Ok(())
}

/// Megabytes of all maps, as the kernel accounts for them.
fn maps(lab: &Lab) -> Result<u64> {
    let mut bytes = 0;
    for pin in fs::read_dir(lab.pin_path().join("maps"))? {
        let map = MapData::from_pin(pin?.path())?;
        let fd = map.fd().as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
        let memory = info.lines().find_map(|line| line.strip_prefix("memlock:"));
        bytes += memory.context("no memlock")?.trim().parse::<u64>()?;
    }
    Ok(bytes / 1_000_000)
}

fn address(server: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 2, server as u8)
}

/// `weight` is that of the first real server.
fn config(lab: &Lab, load: &Load, weight: usize) -> String {
    let Load {
        virtual_servers,
        real_servers,
        sessions,
        has_checks,
    } = *load;
    let weight = |server| if server == 1 { weight } else { 1 };
    let servers: String = (1..=real_servers)
        .map(|it| {
            format!(
                "  server-{it}: {{address: {}, weight: {}}}\n",
                address(it),
                weight(it)
            )
        })
        .collect();
    let virtual_servers: String = (0..virtual_servers)
        .map(|number| {
            let bound = (0..BOUND.min(real_servers))
                .map(|nth| format!("server-{}", (number + nth * 7) % real_servers + 1));
            let (port, bound) = (FIRST_PORT + number, bound.collect::<Vec<_>>().join(", "));
            format!("- {{name: port-{port}, vip: 10.9.1.1, protocol: tcp, port: {port}, bind: [{bound}]}}\n")
        })
        .collect();
    let checks = if has_checks {
        ""
    } else {
        "defaults: {health: {checks: []}}\n"
    };
    let config = lab.config(&virtual_servers);
    let config = config.replace("real_servers:\n", &format!("real_servers:\n{servers}"));
    format!("limits: {{sessions: {sessions}}}\n{checks}{config}")
}
