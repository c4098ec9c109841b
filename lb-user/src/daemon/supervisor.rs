//! What the daemon tells the service manager that started it, if one did (sd_notify(3)).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

use crate::control::{Desired, State};

/// Tells systemd how the daemon is.
#[derive(Default)]
pub struct Supervisor {
    /// What it was told last.
    status: String,
}

impl Supervisor {
    /// Packets are forwarded; a reload is over.
    pub fn ready(&self) {
        notify(&[NotifyState::Ready, NotifyState::Status(&self.status)]);
    }

    /// A reload begins, which [`Self::ready`] ends.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => warn!("can't tell the service manager of a reload: {error}"),
        }
    }

    /// A reload is over, in vain.
    pub fn refused(&self, why: &str) {
        let first = why.lines().next().unwrap_or_default();
        let status = format!("configuration not applied: {first}");
        notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// The daemon ends.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// What is up, unless it was told already.
    pub fn follow(&mut self, desired: &Desired) {
        let status = status(desired);
        if self.status != status {
            notify(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}

/// How often the service manager must hear from the daemon, if it asks for that: twice in the time that it waits.
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// As the environment says.
    pub fn new() -> Self {
        let every = |patience: Duration| {
            let mut every = interval(patience / 2);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            every
        };
        Self(sd_notify::watchdog_enabled().map(every))
    }

    /// Tells that the daemon is alive, when it is time for that. To be called where it would not be if the daemon hung.
    pub async fn feed(&mut self) {
        match &mut self.0 {
            Some(every) => {
                every.tick().await;
                notify(&[NotifyState::Watchdog]);
            }
            None => std::future::pending().await,
        }
    }
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("can't tell the service manager how lb is: {error}");
    }
}

fn status(desired: &Desired) -> String {
    let servers = desired.virtual_servers.values();
    let all = servers.len();
    let down = servers
        .filter(|server| server.state() == State::Down)
        .count();
    match down {
        0 => format!("{all} virtual servers, all up"),
        down => format!("{all} virtual servers, {down} down"),
    }
}
