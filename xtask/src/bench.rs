//! `cargo xtask bench`: measurements.

use std::ffi::OsString;

use anyhow::Result;

use crate::{build, host, process, setup, workspace};

/// Builds everything and runs the benchmark with these options.
///
/// # Errors
/// Not root, or something fails.
pub fn run(options: &[OsString]) -> Result<()> {
    host::require_root("bench")?;
    setup::lab_programs()?;
    build::run()?;
    let mut bench = workspace::cargo("run");
    bench
        .args([
            "--quiet",
            "--release",
            "--package=lb-tests",
            "--bin=bench",
            "--",
        ])
        .args(options)
        .env("LB_BINARY", workspace::binary())
        // When checks change what they say.
        .env("LB_LOG", "info,lb_user::health=debug");
    process::run(&mut bench)
}
