//! `cargo xtask bench`: what `lb` costs and how fast it is, measured.

mod health;
mod reaction;
mod reload;
mod scale;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Measurements, in network namespaces of their own.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
enum Benchmark {
    /// CPU time and memory of 10,000 health checks every 2 s
    Health {
        /// Seconds that each kind of check is measured for
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..))]
        seconds: u64,
    },
    /// How long a dead server gets packets after the verdict of its health check
    Reaction,
    /// How long changes of a large configuration take
    Reload,
    /// Start-up, memory and idle CPU time with 4,096 virtual servers and 16 million sessions
    Scale {
        /// Seconds that each idle daemon is measured for
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    match run(Benchmark::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(benchmark: Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Health { seconds } => health::measure(seconds),
        Benchmark::Reaction => reaction::measure(),
        Benchmark::Reload => reload::measure(),
        Benchmark::Scale { seconds } => scale::measure(seconds),
    }
}
