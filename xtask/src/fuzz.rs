//! `cargo xtask fuzz`: libFuzzer looks for inputs that break what must hold (`fuzz/`).

use std::{fs, path::PathBuf, process::Command, slice};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::{build_ebpf, process, workspace};

/// What is fuzzed, and how long.
#[derive(Parser)]
pub struct Options {
    /// All of them, if none is named
    target: Option<Target>,
    /// For so long each
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

/// What is given anything at all.
#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Frames, to any balancer
    Packets,
    /// Frames, to a real server that decapsulates
    Decapsulate,
    /// Frames, to the steering of health checks
    Steer,
    /// The loader of configuration files, and their editor
    Config,
    /// Both ends of the control socket
    ControlSocket,
}

impl Target {
    /// As the directories of its inputs are called.
    const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Decapsulate => "decapsulate",
            Self::Steer => "steer",
            Self::Config => "config",
            Self::ControlSocket => "control_socket",
        }
    }

    /// Directories with inputs to begin with.
    fn seeds(self) -> Vec<PathBuf> {
        let name = self.name();
        match self {
            Self::Packets | Self::Decapsulate | Self::Steer => vec![generated_seeds().join(name)],
            Self::Config => vec![
                workspace::root().join("deploy/examples"),
                workspace::root().join("fuzz/seeds").join(name),
            ],
            Self::ControlSocket => vec![workspace::root().join("fuzz/seeds").join(name)],
        }
    }
}

/// Builds the targets and runs them, one after the other. What they find stays for the next time, below `target/fuzz`.
///
/// # Errors
/// A build fails, or an input breaks something: libFuzzer says which file it is in.
pub fn run(options: &Options) -> Result<()> {
    build_ebpf::run()?;
    write_seeds()?;
    build()?;
    let targets = match &options.target {
        Some(target) => slice::from_ref(target),
        None => Target::value_variants(),
    };
    targets
        .iter()
        .try_for_each(|&target| fuzz(target, options.seconds))
}

/// Only the workspace's own crates are compiled for libFuzzer, by the compiler that is there. (cargo-fuzz compiles all
/// dependencies, too: more than eight minutes of processor time, which is too long for each change.)
fn build() -> Result<()> {
    process::run(
        workspace::cargo("build")
            .args(["--package=lb-fuzz", "--bins", "--features=targets"])
            .env(
                "RUSTC_WORKSPACE_WRAPPER",
                workspace::root().join("fuzz/rustc"),
            ),
    )
}

/// The packet tests' frames.
fn write_seeds() -> Result<()> {
    process::run_quietly(
        workspace::cargo("test")
            .args(["--package=lb-tests", "--test=packets", "--"])
            .args(["--ignored", "--exact", "seeds::write"])
            .env("LB_FUZZ_SEEDS", generated_seeds()),
    )
}

fn generated_seeds() -> PathBuf {
    workspace::target().join("fuzz/seeds")
}

fn fuzz(target: Target, seconds: u32) -> Result<()> {
    let name = target.name();
    let directory = workspace::target().join("fuzz");
    let [corpus, found] = ["corpus", "found"].map(|kind| directory.join(kind).join(name));
    for directory in [&corpus, &found] {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    println!("fuzzing {name} for {seconds} s");
    let program = workspace::target().join(format!("debug/fuzz_{name}"));
    process::run(
        Command::new(program)
            .arg(corpus)
            .args(target.seeds())
            .arg(format!("-artifact_prefix={}/", found.display()))
            .arg(format!("-max_total_time={seconds}"))
            // Seconds for one input: longer is a hang.
            .args(["-timeout=30", "-verbosity=0"])
            .args(["-print_funcs=0", "-print_final_stats=1"]),
    )
    .with_context(|| format!("{name} is broken by what lies in {}", found.display()))
}
