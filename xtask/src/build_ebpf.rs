//! `cargo xtask build-ebpf`: the kernel programs, an object file each.

use std::fs;

use anyhow::{Context, Result};

use crate::{compiler::TARGET, process, setup, workspace};

/// The programs: `lb-ebpf/src/bin`.
const PROGRAMS: [&str; 4] = ["balancer", "tracing_balancer", "decapsulator", "steering"];

/// Builds the programs, and replaces each [`workspace::object`] that has changed (if none has, `lb`,
/// which embeds them, isn't built again).
///
/// # Errors
/// No compiler, or the build fails.
pub fn run() -> Result<()> {
    process::run(&mut setup::compiler()?.cargo("build")?)?;
    PROGRAMS.into_iter().try_for_each(install)
}

fn install(program: &str) -> Result<()> {
    let built = workspace::target()
        .join("ebpf")
        .join(TARGET)
        .join("bpf")
        .join(program);
    let object = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let path = workspace::object(program);
    if fs::read(&path).is_ok_and(|old| old == object) {
        return Ok(());
    }
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&path, object))
        .with_context(|| format!("cannot write {}", path.display()))
}
