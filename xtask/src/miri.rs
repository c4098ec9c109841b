//! `cargo xtask miri`: Miri runs the host's tests of the packet logic, and sees undefined behaviour.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{build_ebpf, process, workspace};

/// Runs the tests of what the kernel programs are made of, and one that sends frames of all kinds through a balancer.
///
/// # Errors
/// No nightly of rustup, or a test fails or does what is not defined.
pub fn run() -> Result<()> {
    // The daemon's crate, whose tables that balancer has, embeds the objects.
    build_ebpf::run()?;
    process::run_quietly(Command::new("rustup").args([
        "component",
        "add",
        "--toolchain=nightly",
        "miri",
        "rust-src",
    ]))
    .context(
        "Miri comes with rustup's nightly: rustup toolchain install nightly --component miri",
    )?;
    process::run(
        Command::new("rustup")
            .args(["run", "nightly", "cargo", "miri", "test"])
            .args([
                "--target-dir=target/miri",
                "--no-fail-fast",
                "--lib",
                "--tests",
            ])
            .args([
                "--package=lb-common",
                "--package=lb-ebpf",
                "--package=lb-fuzz",
            ])
            .current_dir(workspace::root())
            // proptest asks for the current directory.
            .env(
                "MIRIFLAGS",
                "-Zmiri-disable-isolation -Zmiri-strict-provenance",
            )
            // Each takes some thousand times as long.
            .env("PROPTEST_CASES", "4"),
    )
}
