//! The machine: who runs this, and what is installed.

use std::{env, ffi::OsString, fs, os::unix::fs::MetadataExt, path::PathBuf, process::Command};

use anyhow::{Result, ensure};

use crate::process;

/// Whether this process may make network namespaces and load programs.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// # Errors
/// This process isn't root's; the message says how to run `cargo xtask <command>` as root.
pub fn require_root(command: &str) -> Result<()> {
    // sudo has its own PATH, which seldom has cargo in it.
    ensure!(
        is_root(),
        "this needs root; run: sudo -E env \"PATH=$PATH\" cargo xtask {command}"
    );
    Ok(())
}

/// Whether packages can be installed here: Debian, and root.
pub fn can_install_packages() -> bool {
    let is_debian = fs::read_to_string("/etc/os-release")
        .is_ok_and(|release| release.lines().any(|line| line == "ID=debian"));
    is_debian && is_root()
}

/// Installs Debian packages.
///
/// # Errors
/// apt-get fails.
pub fn install_packages(packages: &[&str]) -> Result<()> {
    println!("installing {}", packages.join(" "));
    process::run_quietly(Command::new("apt-get").arg("update"))?;
    process::run_quietly(
        Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(["-o", "DPkg::Lock::Timeout=120"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Finds a program on `PATH` or where system programs lie (often not on a user's `PATH`).
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// `PATH` with directories put before it.
///
/// # Errors
/// A directory has a colon in its name.
pub fn path_with(directories: [PathBuf; 2]) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(
        directories.into_iter().chain(env::split_paths(&path)),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_on_the_path() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program"), None);
    }
}
