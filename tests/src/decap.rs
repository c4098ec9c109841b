//! The real `lb decap` on the lab's real servers.

use std::{
    path::PathBuf,
    process::{Command, ExitStatus},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    Host, Lab, binary, named,
    process::{Process, patience},
};

/// A running `lb decap`. Dropping it kills the process and leaves the pins in place, until the lab goes.
#[derive(Debug)]
pub struct Decap {
    process: Process,
}

impl Decap {
    /// Sends a signal and waits for the end.
    pub fn stop(self, signal: Signal) -> Result<ExitStatus> {
        self.process.stop(signal)
    }

    /// What it and its predecessors on the same host logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Lab {
    /// Starts `lb decap` for `eth0` of a host, with more options, and waits until it decapsulates.
    ///
    /// # Errors
    /// It ended, or takes longer than 20 s: with its log.
    pub fn decapsulate(&self, host: &Host, options: &str) -> Result<Decap> {
        self.decapsulate_on(host, "eth0", options)
    }

    /// As [`Lab::decapsulate`], for another interface.
    pub fn decapsulate_on(&self, host: &Host, interface: &str, options: &str) -> Result<Decap> {
        let mut command = Command::new(binary()?);
        command
            .args(["decap", "--interface", interface, "--pin-path"])
            .arg(self.decap_pin_path())
            .args(options.split_whitespace());
        let log_file = self
            .directory()
            .join(format!("decap-{}-{interface}.log", host.name()));
        let ready = |log: &str| log.matches(" decapsulating ").count();
        let before = std::fs::read_to_string(&log_file).map_or(0, |log| ready(&log));
        let process = Process::spawn(host, &mut command, log_file)?;
        let deadline = Instant::now() + patience();
        while ready(&process.log()) == before {
            if Instant::now() > deadline || !process.is_running() {
                bail!("lb decap does not decapsulate\n{}", process.log());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(Decap { process })
    }

    /// What `lb decap --stats --json` prints about an interface of a host.
    pub fn decap_stats(&self, host: &Host, interface: &str) -> Result<Value> {
        let output = self.lb_on(host, "decap --stats --json --pin-path {decap}")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let stats: Value =
            serde_json::from_slice(&output.stdout).context("lb decap --stats printed no JSON")?;
        Ok(named(&stats["interfaces"], interface).clone())
    }

    /// The pin path of `lb decap`, on all hosts.
    pub fn decap_pin_path(&self) -> PathBuf {
        crate::remains::decap_pin_path(&self.name)
    }
}
