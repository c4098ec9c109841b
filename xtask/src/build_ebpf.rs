//! `cargo xtask build-ebpf`: the kernel programs, an object file each.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{compiler::TARGET, process, setup, workspace};

/// The programs: `lb-ebpf/src/bin`.
const PROGRAMS: [&str; 6] = [
    "balancer",
    "tracing_balancer",
    "decapsulator",
    "steering",
    "clock",
    "benchmark",
];

/// Builds the programs, and replaces each in [`workspace::objects`] that has changed (if none has, `lb`,
/// which embeds them, isn't built again).
///
/// # Errors
/// No compiler, or the build fails.
pub fn run() -> Result<()> {
    build(&[], &workspace::objects())
}

/// Builds the programs with options of cargo's, and replaces each that has changed in a directory.
///
/// # Errors
/// As for [`run`].
pub fn build(options: &[&str], directory: &Path) -> Result<()> {
    process::run(setup::compiler()?.cargo("build")?.args(options))?;
    PROGRAMS
        .into_iter()
        .try_for_each(|program| install(program, directory))
}

fn install(program: &str, directory: &Path) -> Result<()> {
    let built = workspace::target()
        .join("ebpf")
        .join(TARGET)
        .join("bpf")
        .join(program);
    let object = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let path = directory.join(program).with_extension("o");
    if fs::read(&path).is_ok_and(|old| old == object) {
        return Ok(());
    }
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&path, object))
        .with_context(|| format!("cannot write {}", path.display()))
}
