//! `cargo xtask build-ebpf`: the kernel programs, as one object file.

use std::fs;

use anyhow::{Context, Result};

use crate::{compiler::TARGET, process, setup, workspace};

/// Builds the object, and replaces [`workspace::object`] if it has changed (if not, the daemon
/// that embeds it isn't built again).
///
/// # Errors
/// No compiler, or the build fails.
pub fn run() -> Result<()> {
    process::run(&mut setup::compiler()?.cargo("build")?)?;
    let built = workspace::target()
        .join("ebpf")
        .join(TARGET)
        .join("bpf/lb-ebpf");
    let object = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let path = workspace::object();
    if fs::read(&path).is_ok_and(|old| old == object) {
        return Ok(());
    }
    fs::write(&path, object).with_context(|| format!("cannot write {}", path.display()))
}
