//! `cargo xtask soak`: traffic of every kind for a long time, while one thing after the other goes wrong.

mod excuses;
mod faults;
mod invariants;
mod random;
mod scene;
mod traffic;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, anyhow};
use clap::{Parser, ValueEnum};
use lb_tests::{Lab, interrupt};

use crate::{
    faults::Fault,
    invariants::Invariants,
    random::Random,
    scene::Scene,
    traffic::{StopAtEnd, Tally, Traffic},
};

/// Of traffic, before anything is measured or goes wrong.
const WARM_UP: Duration = Duration::from_secs(5);
/// Faults without a restart are so many times likelier: a daemon that leaks must live to show it.
const LIVES: usize = 4;
const LOG_TAIL: usize = 40;

/// Faults at random while traffic of every kind goes on, and what must hold after each.
#[derive(Parser)]
#[command(bin_name = "cargo xtask soak")]
struct Options {
    /// How long faults go on, but until each has been there
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// For the same faults in the same order as in another run
    #[arg(long)]
    seed: Option<u64>,
}

/// How often a fault was there, and how long it took until all was well again.
#[derive(Default)]
struct Record {
    count: u32,
    slowest: Duration,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| {
        let time = std::time::UNIX_EPOCH.elapsed();
        time.map_or(0, |time| u64::from(time.subsec_nanos()))
    });
    println!("seed {seed}");
    match run(Duration::from_secs(60 * options.minutes), seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak (seed {seed}): {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(length: Duration, seed: u64) -> Result<()> {
    interrupt::stop_on_signals()?;
    let lab = scene::lab().context("cannot make the lab")?;
    let traffic = Traffic::new(scene::services());
    let mut random = Random::new(seed);
    let mut scene = Scene::new(&lab, &traffic, random.clone())?;
    let records = thread::scope(|scope| {
        let _stop = StopAtEnd(&traffic);
        for service in 0..traffic.tallies().len() {
            let (traffic, client) = (&traffic, lab.client());
            let random = Random::new(random.number());
            scope.spawn(move || traffic.send(service, client, random));
        }
        soak(&mut scene, length, random)
    })
    .map_err(|error| explain(&error, &traffic, &lab))?;
    summarize(&records, &traffic);
    Ok(())
}

/// Every fault once, and then at random.
fn soak(
    scene: &mut Scene<'_>,
    length: Duration,
    mut random: Random,
) -> Result<BTreeMap<Fault, Record>> {
    let start = Instant::now();
    thread::sleep(WARM_UP);
    let mut invariants = Invariants::new(scene)?;
    invariants.check(scene, None).context("before any fault")?;

    let mut first = Fault::value_variants().to_vec();
    random.shuffle(&mut first);
    let mut first = first.into_iter();
    let mut records = BTreeMap::<Fault, Record>::new();
    loop {
        let fault = match first.next() {
            Some(fault) => fault,
            None if start.elapsed() >= length => return Ok(records),
            None => any(&mut random),
        };
        let begun = Instant::now();
        println!("{:6.1} s  {fault}", start.elapsed().as_secs_f64());
        let mut check = |scene: &Scene<'_>| {
            let checked = invariants.check(scene, Some(fault));
            checked.with_context(|| format!("during `{fault}`"))
        };
        fault
            .strike(scene, &mut check)
            .with_context(|| format!("in `{fault}`"))?;
        check(scene).context("when that was over")?;
        let record = records.entry(fault).or_default();
        record.count += 1;
        record.slowest = record.slowest.max(begun.elapsed());
    }
}

fn any(random: &mut Random) -> Fault {
    loop {
        let all = Fault::value_variants();
        let fault = all[random.below(all.len())];
        if !fault.restarts() || random.one_in(LIVES) {
            return fault;
        }
    }
}

fn summarize(records: &BTreeMap<Fault, Record>, traffic: &Traffic) {
    println!("\n{:<24}{:>8}{:>14}", "fault", "times", "slowest: s");
    for (fault, Record { count, slowest }) in records {
        println!("{fault:<24}{count:>8}{:>14.1}", slowest.as_secs_f64());
    }
    println!(
        "\n{:<24}{:>8}{:>14}{:>14}",
        "clients of", "answers", "failed with", "slowest: ms"
    );
    println!("{:<24}{:>8}{:>14}", "", "", "their server");
    let mut sum = Tally::default();
    for (service, tally) in traffic.tallies() {
        let name = format!("{} {}", service.manner.client(), service.name);
        println!(
            "{name:<24}{:>8}{:>14}{:>14}",
            tally.answered,
            tally.excused,
            tally.slowest.as_millis()
        );
        sum.answered += tally.answered;
        sum.excused += tally.excused;
    }
    println!(
        "\n{} answers, {} failures that a fault excuses, and no other",
        sum.answered, sum.excused
    );
}

/// An error with what clients saw before it, and the end of the daemon's log.
fn explain(error: &Error, traffic: &Traffic, lab: &Lab) -> Error {
    let error = format!("{error:#}");
    let failure = traffic.failure().filter(|it| !error.contains(it));
    let failure = failure.map_or_else(String::new, |it| format!("\nbefore that: {it}"));
    let log = lab.log();
    let lines: Vec<_> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
    anyhow!("{error}{failure}\n\nlb logged last:\n{tail}")
}
