//! A running `lb`.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

use crate::Namespace;

/// How long `lb` may take for anything: several rounds of health checks. On an emulated processor all takes longer, so
/// `LB_TEST_PATIENCE` sets other seconds.
pub(crate) fn patience() -> Duration {
    let seconds = env::var("LB_TEST_PATIENCE").map_or(20, |seconds| {
        seconds.parse().expect("LB_TEST_PATIENCE is a number")
    });
    Duration::from_secs(seconds)
}

/// A process that logs to a file. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log_file: PathBuf,
}

impl Process {
    /// Starts a command inside a namespace.
    pub(crate) fn spawn(
        namespace: &Namespace,
        command: &mut Command,
        log_file: PathBuf,
    ) -> Result<Self> {
        let log = File::options().create(true).append(true).open(&log_file)?;
        let child = namespace
            .spawn(command.stdout(log.try_clone()?).stderr(log))
            .context("cannot start lb")?;
        Ok(Self { child, log_file })
    }

    /// What this process and its predecessors logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log_file).unwrap_or_default()
    }

    pub(crate) fn is_running(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        matches!(
            waitid(Id::Pid(self.pid()), flags),
            Ok(WaitStatus::StillAlive)
        )
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a child that was not waited for is there");
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal);
        self.wait()
    }

    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience();
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(5));
        }
        bail!("lb did not end in time\n{}", self.log())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
