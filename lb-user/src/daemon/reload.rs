//! The configuration file applied again: all of it, or nothing.

use std::{
    io,
    path::{Path, PathBuf},
    rc::Rc,
    time::SystemTime,
};

use anyhow::{Result, bail, ensure};
use tracing::{error, info, warn};

use super::{Daemon, config_file, listen_for_metrics};
use crate::{
    api::status,
    config::{self, Config, Limits, difference},
};

/// More than so many changes at once are not logged one by one.
const LOGGED_CHANGES: usize = 50;

/// The configuration file, and how its reloads went.
pub struct Reloads {
    file: PathBuf,
    /// What was last looked at, good or bad; `None` if it couldn't be read.
    bytes: Option<Vec<u8>>,
    applied: u64,
    refused: u64,
    applied_at: SystemTime,
    /// What is wrong with the file now.
    error: Option<String>,
}

impl Reloads {
    /// The first time that the file was applied.
    ///
    /// # Errors
    /// If the file's name is relative to a directory that is gone.
    pub fn new(file: &Path, bytes: Vec<u8>) -> io::Result<Self> {
        Ok(Self {
            file: std::path::absolute(file)?,
            bytes: Some(bytes),
            applied: 0,
            refused: 0,
            applied_at: SystemTime::now(),
            error: None,
        })
    }

    /// For `lb status`.
    pub fn status(&self) -> status::Configuration {
        let since = self.applied_at.duration_since(SystemTime::UNIX_EPOCH);
        status::Configuration {
            file: self.file.clone(),
            applied_at: since.unwrap_or_default().as_secs(),
            reloads_applied: self.applied,
            reloads_refused: self.refused,
            error: self.error.clone(),
        }
    }
}

impl Daemon {
    pub(super) fn reload_if_changed(&mut self) {
        if self.reloads.bytes != config::read(&self.reloads.file).ok() {
            let _ = self.reload();
        }
    }

    /// Applies the file. What has changed, as [`difference`] tells it; or why nothing has.
    pub(super) fn reload(&mut self) -> Result<Vec<String>, String> {
        self.supervisor.reloading();
        let outcome = self.try_reload().map_err(|error| format!("{error:#}"));
        let reloads = &mut self.reloads;
        match &outcome {
            Ok(changes) => {
                info!(changes = changes.len(), "configuration applied");
                changes
                    .iter()
                    .take(LOGGED_CHANGES)
                    .for_each(|it| info!("{it}"));
                reloads.applied += 1;
                reloads.applied_at = SystemTime::now();
                reloads.error = None;
                self.supervisor.ready();
            }
            Err(error) => {
                error!("configuration not applied: {error}");
                reloads.refused += 1;
                reloads.error = Some(error.clone());
                self.supervisor.refused(error);
            }
        }
        outcome
    }

    fn try_reload(&mut self) -> Result<Vec<String>> {
        self.reloads.bytes = None;
        let bytes = self
            .reloads
            .bytes
            .insert(config_file::read(&self.reloads.file)?);
        let file_name = self.reloads.file.display().to_string();
        let next = Config::from_bytes(&file_name, bytes)?;
        let changes = difference(&self.config, &next);
        for (setting, same) in [
            ("pin_path", next.pin_path == self.config.pin_path),
            ("control", next.control == self.config.control),
        ] {
            ensure!(
                same,
                "{setting} needs restart: it can't be changed while lb runs"
            );
        }
        let same_sizes = Limits {
            cps_per_cpu: next.limits.cps_per_cpu,
            ..self.config.limits
        };
        ensure!(
            next.limits == same_sizes,
            "limits needs restart: of limits only cps_per_cpu can be changed while lb runs"
        );
        for interface in &next.interfaces {
            if !self
                .network
                .borrow()
                .interfaces
                .contains_key(&interface.name)
            {
                bail!("interface {} does not exist", interface.name);
            }
            let mut attached = self.config.interfaces.iter();
            ensure!(
                attached.all(|now| now.name != interface.name || now.xdp == interface.xdp),
                "the xdp mode of {} can't be changed while lb forwards there: end that with `lb stop` and start again",
                interface.name
            );
        }
        // What may fail comes first, what takes something away last.
        self.health.prepare(&next)?;
        listen_for_metrics(&mut self.endpoint, &next)?;
        let applied = self.attach(&next).and_then(|()| self.reconcile(&next));
        match applied {
            Ok(()) => {
                self.reconciler.tables().set_limits(&next.limits);
                self.config = Rc::new(next);
            }
            Err(_) => {
                let config = Rc::clone(&self.config);
                let unbound = self.sessions.unbound(&self.reconciler, &config);
                self.watch(&config, &unbound);
                if let Err(error) = listen_for_metrics(&mut self.endpoint, &config) {
                    warn!("{error:#}");
                }
            }
        }
        if let Err(error) = self.settle_interfaces() {
            warn!("{error:#}");
        }
        applied.map(|()| changes)
    }
}
