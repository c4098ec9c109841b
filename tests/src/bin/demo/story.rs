//! What happens in the demo: traffic to three real servers, to two, to three again.

use std::{
    env,
    net::IpAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lb_tests::{
    Daemon, Host, Lab,
    interrupt::{go_on_unless_interrupted, stop_on_signals},
};
use serde_json::Value;

use crate::{
    HTTP_PORT, LAB,
    table::Table,
    traffic::{Service, Tally, Traffic},
};

const EXAMPLE: &str = include_str!("../../../../deploy/examples/demo.yaml");
const VIPS: [&str; 2] = ["10.9.1.1", "2001:db8:9:1::1"];
const THREADS_FOR_EACH_SERVICE: usize = 2;
/// The real server that leaves and returns.
const TRAVELLER: &str = "web-2";

/// A part of the demo, and its requests.
struct Chapter {
    title: &'static str,
    tally: Tally,
    /// Requests that failed while it began. The hash alone chooses, so a connection that is open when
    /// the table changes may find itself with another server.
    broken: u64,
}

/// Runs the demo for about this long, and fails if anything was not as it should be.
pub fn tell(seconds: u64, keep: bool) -> Result<()> {
    stop_on_signals()?;
    let outcome = show(seconds, keep);
    // Ctrl-C stops lb, too: what fails in consequence is no news.
    go_on_unless_interrupted()?;
    outcome
}

fn show(seconds: u64, keep: bool) -> Result<()> {
    let vips = VIPS.map(|vip| vip.parse::<IpAddr>().expect("an address"));
    let lab = Lab::builder().name(LAB).real_servers(3).vips(vips).build();
    let lab = lab.context("cannot make the lab (`cargo xtask demo --clean` removes an old one)")?;
    // The lab kills them when it goes.
    let _machines = lab
        .real_servers()
        .iter()
        .map(start_machine)
        .collect::<Result<Vec<_>>>()?;
    wait_for_machines(&lab)?;
    let lb = Daemon::start(&lab, EXAMPLE)?;
    println!("lb runs deploy/examples/demo.yaml: a client, a balancer and three real servers.\n");

    let traffic = Traffic::new(Service::all(&lb.status()?)?);
    let chapters = thread::scope(|scope| {
        for service in 0..traffic.services().count() {
            for _ in 0..THREADS_FOR_EACH_SERVICE {
                let (traffic, client) = (&traffic, lab.client());
                scope.spawn(move || traffic.send(service, client));
            }
        }
        let chapters = chapters(&lab, &lb, &traffic, Duration::from_secs(seconds) / 3);
        traffic.stop();
        chapters
    })?;
    summarize(&chapters, &traffic);
    judge(
        &chapters,
        (traffic.services().count() * THREADS_FOR_EACH_SERVICE) as u64,
    )?;
    if keep {
        lb.keep();
        explain(&lab)?;
        lab.keep();
    }
    Ok(())
}

/// The demo again, as one of its real servers.
fn start_machine(host: &Host) -> Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["serve", host.namespace(), host.name()])
        .args(VIPS);
    // With --keep it outlives the demo and its terminal, and whoever reads what the demo prints waits for its end.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    host.spawn(&mut command)
        .context("cannot start a real server")
}

fn wait_for_machines(lab: &Lab) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let serves = |host: &Host| {
        lab.client()
            .http()
            .get((host.v4(), HTTP_PORT), 1)
            .failures
            .is_empty()
    };
    while !lab.real_servers().iter().all(serves) {
        ensure!(Instant::now() < deadline, "the real servers do not start");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Runs the chapters, each so long.
fn chapters(lab: &Lab, lb: &Daemon, traffic: &Traffic, length: Duration) -> Result<Vec<Chapter>> {
    let away = EXAMPLE
        .replace(&format!(" {TRAVELLER},"), "")
        .replace(&format!(" {TRAVELLER}-v6,"), "");
    let servers = lab.real_servers().iter().map(|host| host.name().to_owned());
    let mut table = Table::new(traffic, servers.collect());
    let total = || Tally::sum(&traffic.tallies());
    let mut chapter = |title, config: &str, traveller_is_up| {
        let before = total();
        lab.write_config(config)?;
        lb.wait_until(title, |status| is_up(status, TRAVELLER) == traveller_is_up)?;
        // Requests that were under way come to their end.
        sleep(Duration::from_millis(200));
        let start = total();
        let end = Instant::now() + length;
        while Instant::now() < end {
            sleep(Duration::from_secs(1).min(end - Instant::now()));
            go_on_unless_interrupted()?;
            table.draw(title);
        }
        table.settle();
        anyhow::Ok(Chapter {
            title,
            tally: total().since(&start),
            broken: start.failed - before.failed,
        })
    };
    Ok(vec![
        chapter("all three", EXAMPLE, true)?,
        chapter("web-2 unbound", &away, false)?,
        chapter("web-2 bound again", EXAMPLE, true)?,
    ])
}

/// Whether a virtual server has a real server of this name that is up.
fn is_up(status: &Value, server: &str) -> bool {
    let of = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut servers = of(status, "virtual_servers")
        .into_iter()
        .flat_map(|one| of(&one, "real_servers"));
    servers.any(|one| {
        one["state"] == "up"
            && one["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(server))
    })
}

fn summarize(chapters: &[Chapter], traffic: &Traffic) {
    let total = Tally::sum(&traffic.tallies());
    println!(
        "\n{} requests answered, {} failed",
        total.total(),
        total.failed
    );
    for Chapter {
        title,
        tally,
        broken,
    } in chapters
    {
        let shares: Vec<_> = tally
            .answered
            .iter()
            .map(|(server, count)| format!("{server} {count}"))
            .collect();
        println!(
            "  {title:<20}{}; failed: {} while the servers changed, {} after",
            shares.join(", "),
            broken,
            tally.failed
        );
    }
    if let Some(failure) = traffic.last_failure() {
        println!(
            "  the last failure: {failure}\n  (the hash alone chooses: a connection that is open while servers change may meet another)"
        );
    }
}

/// Whether the demo showed what it should.
fn judge(chapters: &[Chapter], connections: u64) -> Result<()> {
    for Chapter {
        title,
        tally,
        broken,
    } in chapters
    {
        ensure!(
            tally.failed == 0,
            "{title}: {} requests failed",
            tally.failed
        );
        ensure!(
            *broken <= connections,
            "{title}: {broken} requests failed in the change"
        );
        for server in ["web-1", "web-2", "web-3"] {
            let expected = server != TRAVELLER || !title.contains("unbound");
            ensure!(
                (tally.of(server) > 0) == expected,
                "{title}: {server} answered {}",
                tally.of(server)
            );
        }
    }
    Ok(())
}

/// What to try in a lab that stays.
fn explain(lab: &Lab) -> Result<()> {
    let lb = lb_tests::binary()?;
    let (lb, socket, config, pins) = (
        lb.display(),
        lab.socket(),
        lab.config_file(),
        lab.pin_path(),
    );
    let (socket, config, pins) = (socket.display(), config.display(), pins.display());
    let inside = |host: &Host| format!("nsenter --net=/run/netns/{}", host.namespace());
    let (client, balancer) = (inside(lab.client()), inside(lab.balancer()));
    let traveller = lab.real_server(2).namespace();
    println!(
        "
The lab is up. Try:
  {client} curl http://10.9.1.1/
  {client} curl 'http://[2001:db8:9:1::1]/'
  {lb} status --socket {socket}
  $EDITOR {config}                      # what you save is live
  bpftool map dump pinned {pins}/maps/real_servers
  ip -n {traveller} link set dev eth0 down    # a real server dies
  ip -n {traveller} link set dev eth0 up      # and is back
  {balancer} {lb} stop --config {config}     # forwarding ends
Remove it:
  cargo xtask demo --clean",
    );
    Ok(())
}
