//! What the daemon's sweep of the session table costs, and what packets notice of it.

use std::{
    ops::Range,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use lb_user::{control::sweep::Sweep, daemon::sessions::now, dataplane::Sizes};
use nix::time::{ClockId, clock_gettime};

use crate::{
    LOOPBACK,
    balancer::{Balancer, Forward, STATEFUL, Services, Spec, limits, vip},
    cpus, pin_to, prefer_over_other_processes,
    program::{Measured, Programs},
    traffic::{Family, Kind, Traffic},
};

const MILLION: u32 = 1 << 20;
const HOT: u32 = 1 << 10;
const VIRTUAL_SERVERS: u32 = 4096;
const SPEC: Spec = Spec {
    forward: Forward::L2dsr,
    families: &[Family::V4],
    real_servers: 16,
    services: Services::Many {
        count: VIRTUAL_SERVERS,
        port: STATEFUL,
    },
    sessions: 16 * MILLION,
};
/// Packets of one test run: short enough to be disturbed by a step of the sweep alone.
const RUN: u32 = 256;
const RUNS: usize = 4000;

/// What a pass took of one CPU.
struct Pass {
    steps: u32,
    time: Duration,
    longest: Duration,
}

/// Prints both.
pub fn measure() -> Result<()> {
    let cpus = cpus()?;
    pin_to(cpus[cpus.len() - 1])?;
    let mut programs = Programs::load()?;
    programs.keep_dispatched("packets", "lo")?;
    let balancer = Balancer::load(&SPEC, LOOPBACK)?;
    let sizes = Sizes::new(&limits(&SPEC)?);
    if !prefer_over_other_processes() {
        println!("without real-time priority: other processes disturb this");
    }

    println!(
        "the sweep: a table for 16M sessions of IPv4 (1M: {MILLION}), {VIRTUAL_SERVERS} virtual servers; CPU time\n"
    );
    println!("sessions   steps   whole pass   longest step   for each million sessions");
    let mut empty = Duration::ZERO;
    let mut filled = 0;
    for sessions in [0, MILLION, 16 * MILLION] {
        fill(&mut programs, &balancer, filled..sessions)?;
        filled = sessions;
        let Pass {
            steps,
            time,
            longest,
        } = pass(&balancer, &sizes, sessions)?;
        let each = match sessions / MILLION {
            0 => {
                empty = time;
                String::new()
            }
            millions => format!("{:.1} ms", millis(time.saturating_sub(empty) / millions)),
        };
        println!(
            "{:>7}M {steps:>7} {:>9.1} ms {:>11.2} ms {each:>27}",
            sessions / MILLION,
            millis(time),
            millis(longest),
        );
    }

    println!(
        "\npackets of established sessions, beside a sweep of 16M sessions on another CPU that never pauses; ns for each, in {RUNS} runs of {RUN}\n"
    );
    println!("packets of            sweep   median    99 %     worst");
    for (name, flows) in [("1,024 sessions", HOT), ("16M sessions", 16 * MILLION)] {
        let traffic = traffic(Kind::Ack).with_flows(flows);
        let mut packets = || packets(&mut programs, &balancer, &traffic);
        print(name, "no", packets()?);
        print(
            name,
            "yes",
            beside_a_sweep(&balancer, &sizes, cpus[0], packets)?,
        );
    }
    Ok(())
}

fn traffic(kind: Kind) -> Traffic {
    let mut traffic = Traffic::new(kind, vip(Family::V4), STATEFUL, 16 * MILLION);
    traffic.spread_over(VIRTUAL_SERVERS);
    traffic
}

/// Begins sessions, and sends a second packet of each.
fn fill(programs: &mut Programs, balancer: &Balancer, flows: Range<u32>) -> Result<()> {
    const BATCH: u32 = 1 << 16;
    for first in flows.step_by(BATCH as usize) {
        for kind in [Kind::Syn, Kind::Ack] {
            let traffic = traffic(kind).starting_at(first.into());
            // One more than it is told.
            programs.run(Measured::Balancer(balancer), &traffic, BATCH - 1)?;
        }
    }
    Ok(())
}

/// A whole pass, without a pause.
fn pass(balancer: &Balancer, sizes: &Sizes, sessions: u32) -> Result<Pass> {
    let tables = balancer.tables();
    let mut sweep = Sweep::new(sizes);
    sweep.visit_only([true, false]);
    let mut pass = Pass {
        steps: 0,
        time: Duration::ZERO,
        longest: Duration::ZERO,
    };
    while sweep.passes() == 0 {
        let before = cpu_time()?;
        sweep.step(tables, now(), sweep.pace(tables));
        let took = cpu_time()? - before;
        pass.steps += 1;
        pass.time += took;
        pass.longest = pass.longest.max(took);
    }
    let [counted, _] = sweep.counted_by_family();
    // At the limit a few have lost their place to others.
    let least = u64::from(sessions - sessions / 1000);
    ensure!(
        (least..=sessions.into()).contains(&counted),
        "{counted} sessions are in the table, and not {sessions}"
    );
    Ok(pass)
}

/// Of this thread.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Nanoseconds for a packet in each run, in ascending order.
fn packets(programs: &mut Programs, balancer: &Balancer, traffic: &Traffic) -> Result<Vec<f64>> {
    let before = balancer.counts()?;
    let mut next = 0;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let traffic = traffic.starting_at(next);
        let empty = programs.run(Measured::Nothing, &traffic, RUN)?;
        let run = programs.run(Measured::Balancer(balancer), &traffic, RUN)?;
        times.push((run.time - empty.time) / f64::from(RUN));
        next += run.made;
    }
    let done = balancer.counts()? - before;
    ensure!(
        done.forwarded == next && done.sessions <= next / 100 && done.dropped == 0,
        "not all of {next} packets were of sessions: {done:?}"
    );
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Does something while a sweep goes on, on this CPU.
fn beside_a_sweep<T>(
    balancer: &Balancer,
    sizes: &Sizes,
    cpu: u32,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let tables = balancer.tables();
    let done = AtomicBool::new(false);
    // Who has real-time priority doesn't make way for another one on its CPU, unless it waits.
    let begun = Barrier::new(2);
    thread::scope(|scope| {
        let sweeper = scope.spawn(|| -> Result<u64> {
            let pinned = pin_to(cpu);
            begun.wait();
            pinned?;
            let mut sweep = Sweep::new(sizes);
            sweep.visit_only([true, false]);
            let mut steps = 0;
            while !done.load(Ordering::Relaxed) {
                sweep.step(tables, now(), sweep.pace(tables));
                steps += 1;
            }
            Ok(steps)
        });
        begun.wait();
        let result = work();
        done.store(true, Ordering::Relaxed);
        let steps = sweeper.join().expect("a sweep doesn't panic")?;
        ensure!(steps > 100, "{steps} steps of a sweep are no test");
        result
    })
}

fn print(name: &str, sweep: &str, times: Vec<f64>) {
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "{name:<20} {sweep:>6} {:>8.0} {:>7.0} {:>9.0}",
        at(50),
        at(99),
        at(100)
    );
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.
}
