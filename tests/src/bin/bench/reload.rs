//! How long changes of a large configuration take: 4,096 virtual servers, each bound to 16 of 1,000 real servers, and one
//! bound to all.

use std::{
    fmt::Write,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lb_tests::{Daemon, Lab};

const VIRTUAL_SERVERS: usize = 4096;
const REAL_SERVERS: usize = 1000;
const BOUND: usize = 16;
const FIRST_PORT: usize = 1000;
const ROUNDS: usize = 10;

/// Prints how long `lb reload` took, from the start of the command to its end.
pub fn measure() -> Result<()> {
    let lab = Lab::builder().real_servers(1).build()?;
    let few = config(&lab, 1, &Change::default());
    let _daemon = Daemon::start(&lab, &few)?;
    println!(
        "{VIRTUAL_SERVERS} virtual servers, each bound to {BOUND} of {REAL_SERVERS} real servers, and one to all; `lb reload`:\n"
    );
    let mut full = Vec::new();
    for _ in 0..3 {
        full.push(reload(
            &lab,
            &config(&lab, VIRTUAL_SERVERS, &Change::default()),
        )?);
        reload(&lab, &few)?;
    }
    print("all at once", full);
    reload(&lab, &config(&lab, VIRTUAL_SERVERS, &Change::default()))?;
    type InRound = fn(usize) -> Change;
    let changes: [(&str, InRound); 3] = [
        ("weight of a real server", |round| Change {
            weight: 2 + round % 2,
            ..Change::default()
        }),
        ("MAC address of a real server", |round| Change {
            mac: 1 + round % 2,
            ..Change::default()
        }),
        ("a real server unbound or bound", |round| Change {
            unbound: round % 2 == 0,
            ..Change::default()
        }),
    ];
    for (what, change) in changes {
        let times =
            (0..ROUNDS).map(|round| reload(&lab, &config(&lab, VIRTUAL_SERVERS, &change(round))));
        print(what, times.collect::<Result<_>>()?);
    }
    Ok(())
}

/// What is different about the first real server.
struct Change {
    weight: usize,
    mac: usize,
    /// Everywhere.
    unbound: bool,
}

impl Default for Change {
    fn default() -> Self {
        Self {
            weight: 1,
            mac: 0,
            unbound: false,
        }
    }
}

fn config(lab: &Lab, virtual_servers: usize, change: &Change) -> String {
    // With fixed MAC addresses nobody is asked for them.
    let mut file = format!(
        "interfaces: [{{name: eth0}}]\npin_path: {}\ncontrol: {{socket: {}}}\nlimits: {{virtual_servers: {}}}\nreal_servers:\n",
        lab.pin_path().display(),
        lab.socket().display(),
        VIRTUAL_SERVERS + 1
    );
    for number in 0..REAL_SERVERS {
        let (weight, mac) = match number {
            0 => (change.weight, change.mac),
            _ => (1, 0),
        };
        let (high, low) = (number / 250, number % 250 + 2);
        let _ = writeln!(
            file,
            "  web-{number}: {{address: 10.9.{}.{low}, weight: {weight}, mac: \"02:00:00:{mac:02x}:{high:02x}:{low:02x}\"}}",
            16 + high
        );
    }
    file.push_str("virtual_servers:\n");
    let is_bound = |server: &usize| *server != 0 || !change.unbound;
    let names = |servers: &mut dyn Iterator<Item = usize>| {
        let names = servers
            .filter(is_bound)
            .map(|number| format!("web-{number}"));
        names.collect::<Vec<_>>().join(", ")
    };
    for number in 0..virtual_servers {
        // No two have the same.
        let mut servers =
            (0..BOUND).map(|nth| (number + nth * (61 + number / REAL_SERVERS)) % REAL_SERVERS);
        let _ = writeln!(
            file,
            "  - {{name: port-{number}, vip: 10.9.1.1, protocol: tcp, port: {}, bind: [{}]}}",
            FIRST_PORT + number,
            names(&mut servers)
        );
    }
    let _ = writeln!(
        file,
        "  - {{name: all, vip: 10.9.1.2, protocol: tcp, port: 80, bind: [{}]}}",
        names(&mut (0..REAL_SERVERS))
    );
    file
}

/// From the file's change to the end of `lb reload`, which may find that the daemon has seen it already.
pub fn reload(lab: &Lab, config: &str) -> Result<Duration> {
    let before = applied(lab);
    // What follows the last change is over by then: servers without sessions leave the maps, the network is asked anew.
    thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    lab.write_config(config)?;
    let output = lab.lb("reload --socket {socket}")?;
    let time = start.elapsed();
    ensure!(
        output.status.success() && applied(lab) == before + 1,
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(time)
}

/// How often something was changed.
fn applied(lab: &Lab) -> usize {
    let log = lab.log();
    let applied = log
        .lines()
        .filter(|line| line.contains("configuration applied"));
    applied.filter(|line| !line.ends_with("changes=0")).count()
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{what:<32} {:>6} ms   at most {} ms",
        median.as_millis(),
        longest.as_millis()
    );
}
