//! `cargo xtask test`: every test, first those that need only the host, then those in the lab.

use std::{process::Command, time::Instant};

use anyhow::{Context, Result, ensure};

use crate::{build, build_layout_variant, dist, host, process, setup, workspace};

/// Builds everything and runs the tests whose names hold `filter`, with options for the harness.
///
/// # Errors
/// A build or a test fails; or there is no such test; or not root, after the tests that need none.
pub fn run(filter: Option<&str>, harness: &[String]) -> Result<()> {
    setup::lab_programs()?;
    build::run()?;
    let package = dist::package()?;
    build_layout_variant::run()?;

    let stage = |name: &str, packages: &[&str], options: &[&str]| {
        let command = || {
            let mut command = workspace::cargo("test");
            command
                .arg("--no-fail-fast")
                .args(packages)
                .args(filter)
                .arg("--")
                .args(options)
                .args(harness)
                .env("LB_BINARY", workspace::binary())
                .env("LB_PACKAGE", &package);
            command
        };
        let passed = timed(name, &mut command())?;
        let list = filter.and_then(|_| process::answer(command().arg("--list")));
        Ok(list
            .is_none_or(|list| names_a_test(&list))
            .then_some(passed))
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
            benchmark(filter),
        ]),
        Err(error) => stages.push(Err(error)),
    }

    println!();
    let mut ran = false;
    let mut failures = Vec::new();
    for stage in stages {
        match stage {
            Ok(None) => {}
            Ok(Some(passed)) => {
                ran = true;
                println!("{passed}");
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    ensure!(
        ran,
        "no test has {} in its name",
        filter.unwrap_or_default()
    );
    Ok(())
}

/// What the cases of the packet benchmark do, not how fast they are. They are no tests with names.
fn benchmark(filter: Option<&str>) -> Result<Option<String>> {
    if filter.is_some() {
        return Ok(None);
    }
    let mut command = workspace::cargo("test");
    command.args(["--package=lb-tests", "--bench=packets", "--", "--quick"]);
    timed("benchmark", &mut command).map(Some)
}

/// Whether there is a test in what a harness prints for `--list`: a line `NAME: test` for each.
fn names_a_test(list: &str) -> bool {
    list.lines().any(|line| line.ends_with(": test"))
}

/// Runs the tests of one stage; the line for the summary, or the error.
fn timed(stage: &str, command: &mut Command) -> Result<String> {
    let start = Instant::now();
    process::run(command).with_context(|| format!("{stage} failed"))?;
    Ok(format!("{stage} passed in {} s", start.elapsed().as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_nothing_names_no_test() {
        assert!(!names_a_test(
            "0 tests, 0 benchmarks\n\n0 tests, 0 benchmarks\n"
        ));
        assert!(names_a_test(
            "0 tests, 0 benchmarks\n\na::b: test\n\n1 test, 0 benchmarks\n"
        ));
    }
}
