//! The real `lb` on the lab's balancer.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::Signal,
    time::{ClockId, clock_gettime},
};
use serde_json::Value;

use crate::{
    Host, Lab,
    process::{Process, patience},
};

/// A running `lb run`. Dropping it kills the daemon and leaves the pins in place, until the lab goes.
#[derive(Debug)]
pub struct Daemon<'a> {
    lab: &'a Lab,
    process: Process,
}

impl<'a> Daemon<'a> {
    /// Starts the daemon, and waits until every virtual server and every real server is up.
    pub fn start(lab: &'a Lab, config: &str) -> Result<Self> {
        let daemon = Self::spawn(lab, config)?;
        daemon.wait_until_up()?;
        Ok(daemon)
    }

    /// Starts the daemon.
    pub fn spawn(lab: &'a Lab, config: &str) -> Result<Self> {
        Self::spawn_by(lab, config, &["env"])
    }

    /// Starts the daemon by a command that becomes it, such as env(1) or setpriv(1) with their options.
    pub fn spawn_by(lab: &'a Lab, config: &str, by: &[&str]) -> Result<Self> {
        Self::spawn_binary(lab, config, by, &binary()?)
    }

    /// As [`Self::start`], another `lb` than [`binary`].
    pub fn start_binary(lab: &'a Lab, config: &str, binary: &Path) -> Result<Self> {
        let daemon = Self::spawn_binary(lab, config, &["env"], binary)?;
        daemon.wait_until_up()?;
        Ok(daemon)
    }

    fn spawn_binary(lab: &'a Lab, config: &str, by: &[&str], binary: &Path) -> Result<Self> {
        lab.write_config(config)?;
        let mut command = Command::new(by[0]);
        command.args(&by[1..]).arg(binary);
        command.args(["run", "--config"]).arg(lab.config_file());
        let process = Process::spawn(lab.balancer(), &mut command, lab.log_file())?;
        Ok(Self { lab, process })
    }

    /// What `lb status --json` prints.
    pub fn status(&self) -> Result<Value> {
        let output = self.lab.lb("status --json --socket {socket}")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).context("lb status --json printed no JSON")
    }

    /// Waits until the status is as wanted, and returns it.
    ///
    /// # Errors
    /// After 20 s, and when the daemon ended: with its log and its last status.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + patience();
        loop {
            match self.status() {
                Ok(status) if wanted(&status) => return Ok(status),
                _ if Instant::now() > deadline || !self.process.is_running() => break,
                _ => sleep(Duration::from_millis(20)),
            }
        }
        let status = self.lab.lb("status --socket {socket}")?;
        bail!(
            "not so in time: {what}\n{}{}\n{}",
            String::from_utf8_lossy(&status.stdout),
            String::from_utf8_lossy(&status.stderr),
            self.lab.log()
        )
    }

    /// Waits until every virtual server and every real server is up, and returns the status.
    ///
    /// # Errors
    /// As [`Self::wait_until`].
    pub fn wait_until_up(&self) -> Result<Value> {
        self.wait_until("everything is up", all_up)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    /// A line of what the kernel says of its memory, such as `RssAnon`, in megabytes (proc_pid_status(5)).
    pub fn memory(&self, key: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with(key));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        let kilobytes: u64 = kilobytes.with_context(|| format!("no {key}"))?.parse()?;
        Ok(kilobytes / 1000)
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// CPU time that all of its threads have taken.
    pub fn cpu_time(&self) -> Result<Duration> {
        let clock = ClockId::pid_cpu_clock_id(self.process.pid())?;
        Ok(clock_gettime(clock)?.into())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Sends a signal and waits for the end.
    pub fn stop(self, signal: Signal) -> Result<ExitStatus> {
        self.process.stop(signal)
    }

    /// Waits for the end.
    pub fn wait(self) -> Result<ExitStatus> {
        self.process.wait()
    }

    /// Leaves the daemon running, for people to play with, until [`crate::remove`].
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Lab {
    /// Runs a command such as `lb stop --config {config}` on the balancer to its end, with `{config}` and
    /// `{socket}` standing for this lab's paths. After 20 s it is stopped, with exit status 124
    /// (timeout(1)).
    pub fn lb(&self, arguments: &str) -> Result<Output> {
        self.lb_on(self.balancer(), arguments)
    }

    /// As [`Lab::lb`] on any host, with `{decap}` standing for the pin path of `lb decap`.
    pub fn lb_on(&self, host: &Host, arguments: &str) -> Result<Output> {
        let mut command = Command::new("timeout");
        command.arg(patience().as_secs().to_string()).arg(binary()?);
        for argument in arguments.split_whitespace() {
            match argument {
                "{config}" => command.arg(self.config_file()),
                "{socket}" => command.arg(self.socket()),
                "{decap}" => command.arg(self.decap_pin_path()),
                _ => command.arg(argument),
            };
        }
        host.output(&mut command).context("cannot run lb")
    }

    /// The daemon's configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.directory().join("lb.yaml")
    }

    /// Replaces the daemon's configuration file in one step.
    pub fn write_config(&self, config: &str) -> Result<()> {
        let new = self.directory().join("lb.yaml.new");
        fs::write(&new, config)?;
        fs::rename(new, self.config_file()).context("cannot replace the configuration")
    }

    /// What daemons of this lab logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory().join("lb.log")
    }
}

/// The element of a list in `lb status --json` that has this name. Panics if there is none.
#[track_caller]
pub fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut items = list.as_array().into_iter().flatten();
    items
        .find(|item| item["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {list:#}"))
}

/// Whether every virtual server in a status is up, and every real server that is bound.
fn all_up(status: &Value) -> bool {
    let up = |item: &Value| item["state"] == "up";
    // Or has sessions left from before.
    let serves = |item: &Value| up(item) || item["state"] == "draining";
    let virtual_servers = status["virtual_servers"].as_array();
    virtual_servers.is_some_and(|all| {
        all.iter().all(|one| {
            up(one)
                && one["real_servers"]
                    .as_array()
                    .is_some_and(|all| all.iter().all(serves))
        })
    })
}

/// An `lb` whose maps have another layout.
///
/// # Errors
/// It is not there.
pub fn layout_variant() -> Result<PathBuf> {
    let binary = workspace().join("target/debug/lb-layout-variant");
    ensure!(
        binary.is_file(),
        "no {}: run `cargo xtask build-layout-variant`",
        binary.display()
    );
    Ok(binary)
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests is in a workspace")
}

/// The `lb` under test: `$LB_BINARY`, else the workspace's release build.
///
/// # Errors
/// It is not there.
pub fn binary() -> Result<PathBuf> {
    let built = workspace().join("target/release/lb");
    let binary = env::var_os("LB_BINARY").map_or(built, PathBuf::from);
    ensure!(
        binary.is_file(),
        "no {}: run `cargo xtask build`, or set LB_BINARY",
        binary.display()
    );
    Ok(binary)
}
