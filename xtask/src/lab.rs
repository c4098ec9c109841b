//! `cargo xtask demo` and `cargo xtask soak`: the balancer at work between real clients and servers.

use std::{ffi::OsString, os::unix::process::CommandExt};

use anyhow::{Context, Result};

use crate::{build, host, setup, workspace};

/// Builds everything and runs a program of the lab with these options.
///
/// # Errors
/// Not root, or something fails.
pub fn run(program: &str, options: &[OsString]) -> Result<()> {
    host::require_root(program)?;
    setup::lab_programs()?;
    build::run()?;
    // In the place of this process, so that Ctrl-C gives the terminal back when the lab is gone.
    let error = workspace::cargo("run")
        .args(["--quiet", "--package=lb-tests", "--bin", program, "--"])
        .args(options)
        .env("LB_BINARY", workspace::binary())
        .exec();
    Err(error).context("cannot start cargo")
}
