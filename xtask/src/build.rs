//! `cargo xtask build`: the daemon, all that an operator copies.

use std::fs;

use anyhow::{Context, Result};

use crate::{build_ebpf, process, workspace};

/// Builds the kernel programs and the release daemon that embeds them.
///
/// # Errors
/// A build fails.
pub fn run() -> Result<()> {
    build_ebpf::run()?;
    process::run(workspace::cargo("build").args(["--release", "--package=lb-user"]))?;
    let binary = workspace::binary();
    let size = fs::metadata(&binary)
        .with_context(|| format!("cannot read {}", binary.display()))?
        .len();
    println!(
        "{}  {:.1} MiB",
        binary.display(),
        size as f64 / f64::from(1 << 20)
    );
    Ok(())
}
