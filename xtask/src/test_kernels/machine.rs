//! A machine that QEMU emulates, without the processor's help: that may be missing, or be another guest's.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{image::RESULT, kernel::Files};

/// How much of the console an error shows.
const LAST_LINES: usize = 60;

/// Boots a kernel with an image, which runs the tests; the console goes to a file.
///
/// # Errors
/// A test fails, the kernel panics, or it takes too long: with the console's last lines.
pub fn run(files: &Files, image: &Path, patience: Duration) -> Result<()> {
    let kernel = files.find(|file| file.starts_with("vmlinuz"))?;
    let console = files.directory.join("console");
    println!(
        "booting {} (console: {})",
        kernel.display(),
        console.display()
    );
    let status = Command::new("timeout")
        .arg(patience.as_secs().to_string())
        .args(["qemu-system-x86_64", "-accel", "tcg", "-smp", "2"])
        // Linux 6.12 panicked after cmpxchg16b in QEMU 7.2.
        .args(["-cpu", "max,cx16=off", "-m", "2048"])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .args([
            "-serial",
            "stdio",
            "-append",
            "console=ttyS0 quiet panic=-1",
        ])
        .arg("-kernel")
        .arg(&kernel)
        .arg("-initrd")
        .arg(image)
        .stdin(Stdio::null())
        .stdout(File::create(&console)?)
        .status()
        .context("cannot start timeout or QEMU")?;
    let printed = fs::read(&console)?;
    let printed = String::from_utf8_lossy(&printed);
    match result(&printed) {
        Some(0) if status.success() => Ok(()),
        Some(code) => fail(&printed, &format!("the tests ended with status {code}")),
        None => fail(
            &printed,
            &format!("the machine ended without a result ({status})"),
        ),
    }
}

/// The exit status of the tests, if they came to their end.
fn result(console: &str) -> Option<u8> {
    let mut lines = console.lines();
    lines.find_map(|line| line.strip_prefix(RESULT)?.trim().parse().ok())
}

fn fail(console: &str, what: &str) -> Result<()> {
    let lines: Vec<_> = console.lines().collect();
    let last = lines.len().saturating_sub(LAST_LINES);
    bail!("{}\n{what}", lines[last..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_of_its_own_is_a_result() {
        let line = |status| format!("{RESULT}{status}\r\n");
        assert_eq!(result(&format!("boot\r\n{}reboot\r\n", line(0))), Some(0));
        assert_eq!(result(&line(101)), Some(101));
        assert_eq!(result(&format!("echo {}", line(0))), None);
        assert_eq!(result("Kernel panic - not syncing\r\n"), None);
    }
}
