//! Child processes, whose failures name the command.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};

/// Runs the command with the terminal as its own.
///
/// # Errors
/// The command can't be started, or doesn't succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    ensure!(status.success(), "`{}` failed ({status})", line(command));
    Ok(())
}

/// Runs a command whose output matters only if it fails: it is shown then.
///
/// # Errors
/// See [`run`].
pub fn run_quietly(command: &mut Command) -> Result<()> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        eprint!("{}", String::from_utf8_lossy(&[stdout, stderr].concat()));
    }
    ensure!(status.success(), "`{}` failed ({status})", line(command));
    Ok(())
}

/// Runs a command that answers a question; nothing if it can't be started or doesn't succeed.
pub fn answer(command: &mut Command) -> Option<String> {
    let Output { status, stdout, .. } = command.stderr(Stdio::null()).output().ok()?;
    status
        .success()
        .then(|| String::from_utf8_lossy(&stdout).into_owned())
}

/// The command as a person would type it: `cargo build --release`.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c exit 3` failed (exit status: 3)");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(Command::new("/nowhere/frobnicate").arg("--all")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `frobnicate --all`");
    }

    #[test]
    fn a_question_that_fails_has_no_answer() {
        assert_eq!(
            answer(Command::new("echo").arg("yes")).as_deref(),
            Some("yes\n")
        );
        assert_eq!(answer(&mut Command::new("false")), None);
        assert_eq!(answer(&mut Command::new("/nowhere/frobnicate")), None);
    }
}
