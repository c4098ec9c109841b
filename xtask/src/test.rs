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

    let stage = |name: &str, packages: &[&str], options: &[&str]| {
        let mut command = workspace::cargo("test");
        command
            .arg("--no-fail-fast")
            .args(packages)
            .args(filter)
            .arg("--")
            .args(options)
            .args(harness)
            .env("LB_BINARY", workspace::binary());
        timed(name, &mut command)
    };
    let mut stages = vec![stage(
        "host tests",
        &["--workspace", "--exclude=lb-tests"],
        &[],
    )];
    // One after the other: packet tests hold a CPU with soft interrupts off.
    match host::require_root("test") {
        Ok(()) => stages.extend([
            stage("network tests", &["--package=lb-user"], &["--ignored"]),
            stage("lab tests", &["--package=lb-tests"], &[]),
        ]),
        Err(error) => stages.push(Err(error)),
    }

    println!();
    let mut failures = Vec::new();
    for stage in stages {
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
