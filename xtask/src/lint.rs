//! `cargo xtask lint`: everything that is checked without running a test.

use std::process::Command;

use anyhow::Result;

use crate::{
    build_ebpf, process, setup,
    tool::CARGO_DENY,
    workspace::{self, cargo},
};

/// Runs the checks, up to the first that fails.
///
/// # Errors
/// A check fails, or its tool can't be installed.
pub fn run() -> Result<()> {
    process::run(cargo("fmt").args(["--all", "--check"]))?;
    kernel_programs()?;
    // The daemon's crate embeds the object: without it there is nothing to check.
    build_ebpf::run()?;
    process::run(cargo("clippy").args(["--workspace", "--all-targets", "--", "--deny=warnings"]))?;
    process::run(cargo("clippy").args([
        "--package=lb-fuzz",
        "--features=targets",
        "--",
        "--deny=warnings",
    ]))?;
    process::run(
        cargo("doc")
            .args(["--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "--deny=warnings"),
    )?;
    CARGO_DENY.install()?;
    process::run(
        Command::new(CARGO_DENY.program())
            .args([
                "check",
                "--hide-inclusion-graph",
                "licenses",
                "bans",
                "sources",
            ])
            .current_dir(workspace::root()),
    )
}

/// Checks the kernel programs as the target sees them: with clippy, or, as Debian's compiler has
/// none, with the compiler's own lints.
fn kernel_programs() -> Result<()> {
    let compiler = setup::compiler()?;
    if compiler.has_clippy() {
        process::run(compiler.cargo("clippy")?.args(["--", "--deny=warnings"]))
    } else {
        println!("the eBPF compiler has no clippy: its own lints check the kernel programs");
        process::run(compiler.cargo("check")?.args([
            "--config",
            "target.bpfel-unknown-none.rustflags=['--deny=warnings']",
        ]))
    }
}
