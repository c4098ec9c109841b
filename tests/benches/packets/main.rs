//! How long the balancer takes for a packet: `BPF_PROG_TEST_RUN` on one core, beside the least that others could do.

mod balancer;
mod case;
mod devices;
mod program;
mod proof;
mod report;
mod sweep;
mod traffic;
mod trial;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, anyhow, ensure};
use aya::util::online_cpus;
use clap::{Parser, Subcommand};
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, unshare},
    unistd::Pid,
};

use self::{
    balancer::{Balancer, Spec},
    case::{Case, FLOOR_B, Scale, What, cases},
    program::{Measured, Programs},
    report::Measurement,
    trial::Trial,
};

/// Each case is measured so often, with all others in between.
const ROUNDS: usize = 11;
/// The loopback device, which test runs come in by (net/bpf/test_run.c, `bpf_prog_test_run_xdp`).
const LOOPBACK: u32 = 1;

/// How long the balancer takes for a packet.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    other: Option<Other>,
    /// Write all results to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only cases with this in their name, beside the floors
    #[arg(long)]
    filter: Option<String>,
    /// Only make sure that each case does what it is to measure, with few flows and packets
    #[arg(long, conflicts_with = "json")]
    quick: bool,
    /// What cargo tells every benchmark
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Other {
    /// Packets per second through network devices
    Devices,
    /// What the sweep of the session table costs
    Sweep,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    // Its network goes with this process.
    unshare(CloneFlags::CLONE_NEWNET).context("can't make a network namespace: are you root?")?;
    match options.other {
        Some(Other::Devices) => devices::measure(),
        Some(Other::Sweep) => sweep::measure(),
        None => test_runs(options),
    }
}

fn test_runs(options: &Options) -> Result<()> {
    let scale = if options.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    let mut cases = cases(&scale);
    if let Some(text) = &options.filter {
        cases.retain(|case| case.is_floor() || case.name.contains(text));
        ensure!(
            cases.iter().any(|case| !case.is_floor()),
            "no case has {text} in its name"
        );
    }
    let mut programs = Programs::load()?;
    programs.keep_dispatched("packets", "lo")?;
    let balancers = Balancers::load(&cases)?;
    let mut numbers = vec![0; cases.len()];
    for (case, next) in cases.iter().zip(&mut numbers) {
        proof::prove(case, balancers.measured(case), &mut programs, next)?;
    }
    println!(
        "what {} cases do was checked, packet by packet",
        cases.len()
    );

    let rounds = if options.quick { 1 } else { ROUNDS };
    if !options.quick {
        // The first CPU has the most interrupts.
        let cpus = cpus()?;
        pin_to(cpus[cpus.len() - 1])?;
        if !prefer_over_other_processes() {
            println!("without real-time priority: other processes disturb this");
        }
    }
    let mut times = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((case, next), times) in cases.iter().zip(&mut numbers).zip(&mut times) {
            let mut trial = Trial {
                case,
                measured: balancers.measured(case),
                programs: &mut programs,
            };
            times.push(trial.slice(next)?);
        }
    }
    if options.quick {
        println!("so was a slice of each, by counters");
        return Ok(());
    }
    let measurements: Vec<_> = cases
        .iter()
        .zip(times)
        .map(|(case, times)| Measurement::of(&case.name, times))
        .collect();
    let mut floors = measurements.iter().filter(|it| it.name == FLOOR_B);
    let floor = floors.next().context("floor B was not measured")?.median;
    println!("ns per packet on one core; median, least and most of {ROUNDS}\n");
    report::print(&measurements, floor);
    if let Some(path) = &options.json {
        report::write(path, &measurements, floor)?;
    }
    Ok(())
}

/// One for each kind that a case needs.
struct Balancers(Vec<(Spec, Balancer)>);

impl Balancers {
    fn load(cases: &[Case]) -> Result<Self> {
        let mut all: Vec<(Spec, Balancer)> = Vec::new();
        for case in cases {
            if let What::Balancer(job) = &case.what
                && all.iter().all(|(spec, _)| *spec != job.spec)
            {
                let balancer = Balancer::load(&job.spec, LOOPBACK)
                    .with_context(|| format!("can't load a balancer with {:?}", job.spec))?;
                all.push((job.spec, balancer));
            }
        }
        Ok(Self(all))
    }

    fn measured(&self, case: &Case) -> Measured<'_> {
        match &case.what {
            What::Transmit => Measured::Transmit,
            What::Encapsulate => Measured::Encapsulate,
            What::Balancer(job) => {
                let mut all = self.0.iter();
                let found = all.find(|(spec, _)| *spec == job.spec);
                Measured::Balancer(&found.expect("all were loaded").1)
            }
        }
    }
}

/// Those that are online: one at least.
fn cpus() -> Result<Vec<u32>> {
    online_cpus().map_err(|(path, error)| anyhow!("can't read {path}: {error}"))
}

/// Keeps this thread on a CPU.
fn pin_to(cpu: u32) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu as usize)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("can't stay on CPU {cpu}"))
}

/// Whether this thread may have real-time priority.
fn prefer_over_other_processes() -> bool {
    let priority = libc::sched_param { sched_priority: 10 };
    // SAFETY: the parameter outlives the call, and 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) == 0 }
}
