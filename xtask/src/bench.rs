//! `cargo xtask bench`: measurements.

mod saved;

use std::{ffi::OsString, path::PathBuf, process::Command};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use self::saved::Ratios;
use crate::{build, build_ebpf, host, process, setup, workspace};

/// What to measure.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    packets: Packets,
}

/// What becomes of the packet benchmark's results.
#[derive(Args)]
struct Packets {
    /// Write all results to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure only cases with this in their name, beside the floors
    #[arg(long)]
    filter: Option<String>,
    /// Fail if a case is much slower, as a multiple of floor B, than in tests/benches/packets.json
    #[arg(long)]
    check: bool,
    /// Put the multiples of floor B into tests/benches/packets.json
    #[arg(long, conflicts_with_all = ["check", "filter"])]
    save: bool,
}

/// What else there is.
#[derive(Subcommand)]
enum Other {
    /// Packets per second through network devices
    Devices,
    /// CPU time and memory of 10,000 health checks
    Health {
        /// Options of this benchmark: --seconds N
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// How long a dead server gets packets after the verdict of its health check
    Reaction,
    /// How long changes of a large configuration take
    Reload,
    /// Start-up, memory, idle CPU time and the sweep with 4,096 virtual servers and 16 million sessions
    Scale {
        /// Options of this benchmark: --seconds N
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
}

/// Builds what is needed, and measures.
///
/// # Errors
/// Not root, or something fails; or a case has become slower.
pub fn run(options: &Options) -> Result<()> {
    host::require_root("bench")?;
    match &options.other {
        None => packets(&options.packets),
        Some(Other::Devices) => {
            setup::lab_programs()?;
            build_ebpf::run()?;
            process::run(packet_benchmark().arg("devices"))
        }
        Some(Other::Health { options }) => daemon("health", options),
        Some(Other::Reaction) => daemon("reaction", &[]),
        Some(Other::Reload) => daemon("reload", &[]),
        Some(Other::Scale { options }) => {
            daemon("scale", options)?;
            println!();
            process::run(packet_benchmark().arg("sweep"))
        }
    }
}

fn packets(options: &Packets) -> Result<()> {
    build_ebpf::run()?;
    let default = workspace::target().join("bench.json");
    let json = options
        .json
        .as_ref()
        .map_or(Ok(default), std::path::absolute)?;
    let mut bench = packet_benchmark();
    bench.arg("--json").arg(&json);
    if let Some(text) = &options.filter {
        bench.arg("--filter").arg(text);
    }
    process::run(&mut bench)?;
    let measured = Ratios::of_report(&json)?;
    if options.save {
        measured.save()?;
        println!("\nsaved in {}", saved::path().display());
    }
    if options.check {
        let is_whole = options.filter.is_none();
        let problems = Ratios::saved()?.problems_of(&measured, is_whole);
        if !problems.is_empty() {
            bail!("{}", problems.join("\n"));
        }
        println!("\nnothing is slower than saved");
    }
    Ok(())
}

/// The packet benchmark, whose arguments follow.
fn packet_benchmark() -> Command {
    let mut bench = workspace::cargo("bench");
    bench.args(["--quiet", "--package=lb-tests", "--bench=packets", "--"]);
    bench
}

/// Of the daemon, in the lab.
fn daemon(name: &str, options: &[OsString]) -> Result<()> {
    setup::lab_programs()?;
    build::run()?;
    let mut bench = workspace::cargo("run");
    bench
        .args([
            "--quiet",
            "--release",
            "--package=lb-tests",
            "--bin=bench",
            "--",
            name,
        ])
        .args(options)
        .env("LB_BINARY", workspace::binary())
        // When checks change what they say.
        .env("LB_LOG", "info,lb_user::health=debug");
    process::run(&mut bench)
}
