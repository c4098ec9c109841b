//! `cargo xtask test`: every test, first those that need only the host, then those in the lab.

use std::{process::Command, time::Instant};

use anyhow::{Context, Result, ensure};

use crate::{build, host, process, setup, workspace};

/// Builds everything and runs the tests whose names hold `filter`, with options for the harness.
///
/// # Errors
/// A build or a test fails; or not root, after the tests that need none.
pub fn run(filter: Option<&str>, harness: &[String]) -> Result<()> {
    setup::lab_programs()?;
    build::run()?;

    let cargo_test = |packages: &[&str]| {
        let mut command = workspace::cargo("test");
        command
            .arg("--no-fail-fast")
            .args(packages)
            .args(filter)
            .arg("--")
            .args(harness)
            .env("LB_BINARY", workspace::binary());
        command
    };
    let host = timed(
        "host tests",
        &mut cargo_test(&["--workspace", "--exclude=lb-tests"]),
    );
    // The lab comes after, not beside: packet tests hold a CPU with soft interrupts off.
    let lab = host::require_root("test")
        .and_then(|()| timed("lab tests", &mut cargo_test(&["--package=lb-tests"])));

    println!();
    let mut failures = Vec::new();
    for stage in [host, lab] {
        match stage {
            Ok(passed) => println!("{passed}"),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// Runs the tests of one stage; the line for the summary, or the error.
fn timed(stage: &str, command: &mut Command) -> Result<String> {
    let start = Instant::now();
    process::run(command).with_context(|| format!("{stage} failed"))?;
    Ok(format!("{stage} passed in {} s", start.elapsed().as_secs()))
}
