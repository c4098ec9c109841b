//! `cargo xtask demo`: the balancer at work between real clients and servers.

use std::ffi::OsString;

use anyhow::Result;

use crate::{build, host, process, setup, workspace};

/// Builds everything and runs the demo with these options.
///
/// # Errors
/// Not root, or something fails.
pub fn run(options: &[OsString]) -> Result<()> {
    host::require_root("demo")?;
    setup::lab_programs()?;
    build::run()?;
    process::run(
        workspace::cargo("run")
            .args(["--quiet", "--package=lb-tests", "--bin=demo", "--"])
            .args(options)
            .env("LB_BINARY", workspace::binary()),
    )
}
