//! `cargo xtask`: everything a person does in this repository, one file per command.

mod bench;
mod build;
mod build_ebpf;
mod build_layout_variant;
mod compiler;
mod dist;
mod fuzz;
mod host;
mod lab;
mod lint;
mod miri;
mod process;
mod setup;
mod test;
mod test_kernels;
mod tool;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

/// Everything a person does in this repository.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Command {
    /// Find or install the eBPF compiler, bpf-linker and the tools of the lab; print what is used
    Setup,
    /// Build the kernel programs: target/bpf/*.o
    BuildEbpf,
    /// Build a daemon with other maps, for the tests of upgrades: target/debug/lb-layout-variant
    BuildLayoutVariant,
    /// Build the daemon with the kernel programs inside: target/release/lb
    Build,
    /// Build, then show real clients reaching real servers through a VIP (needs root)
    Demo {
        /// Options of the demo, among them --keep, --clean and --seconds N
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Build, then run all tests; those in the lab need root
    Test {
        /// Run only the tests with this in their name
        filter: Option<String>,
        /// Options of the test harness, such as --nocapture
        #[arg(last = true)]
        harness: Vec<String>,
    },
    /// Build, then load and test the programs on older kernels, in machines that QEMU emulates
    TestKernels {
        /// Only this one, such as 6.1
        version: Option<String>,
    },
    /// Build, then measure what the balancer takes for a packet, or something else (needs root)
    Bench(bench::Options),
    /// Build, then let one thing after the other go wrong while real clients go on for an hour (needs root)
    Soak {
        /// Options of the soak: --minutes N, --seed N
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Look for inputs that break something: frames, configurations, requests
    Fuzz(fuzz::Options),
    /// Run the packet logic's tests by Miri, which sees undefined behaviour (needs rustup's nightly)
    Miri,
    /// Build, then make a Debian package: target/debian/lb_VERSION_ARCHITECTURE.deb
    Dist,
    /// Check format, clippy, licences and sources of dependencies, documentation
    Lint,
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Setup => setup::run(),
        Command::BuildEbpf => build_ebpf::run(),
        Command::BuildLayoutVariant => build_layout_variant::run(),
        Command::Build => build::run(),
        Command::Demo { options } => lab::run("demo", &options),
        Command::Soak { options } => lab::run("soak", &options),
        Command::Test { filter, harness } => test::run(filter.as_deref(), &harness),
        Command::TestKernels { version } => test_kernels::run(version.as_deref()),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Miri => miri::run(),
        Command::Dist => dist::run(),
        Command::Lint => lint::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
