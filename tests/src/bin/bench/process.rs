//! What the kernel says of a running daemon.

use std::fs;

use anyhow::{Context, Result};

/// In megabytes (proc_pid_status(5)).
pub fn memory(pid: i32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(key));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    let kilobytes: u64 = kilobytes.with_context(|| format!("no {key}"))?.parse()?;
    Ok(kilobytes / 1000)
}
