//! `lb doctor`

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use super::{block_on, end_quietly};
use crate::{
    config::Config,
    doctor::{self, Finding, Severity},
};

/// Where an operator keeps the configuration.
const USUAL_CONFIG: &str = "/etc/lb/lb.yaml";

/// Find out what on this host would stop lb or slow it, and what to do about it; nothing is changed
///
/// Each line is `ok`, `warning` (slower than it could be, or not for everybody) or `stops`. Exits 1 if there is one that stops
/// lb, else 0. Run it as the user that lb is to run as: root, mostly.
#[derive(Args)]
#[command(after_help = "Example:\n  lb doctor --config /etc/lb/lb.yaml")]
pub struct Doctor {
    /// The configuration that the host should suit; without it /etc/lb/lb.yaml, if that is there, else the host alone is
    /// looked at
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Prints what was found.
    pub fn run(self) -> Result<()> {
        let usual = || Some(PathBuf::from(USUAL_CONFIG)).filter(|path| path.exists());
        let file = self.config.or_else(usual);
        let config = file.as_deref().map(Config::load).transpose()?;
        let findings = block_on(async { Ok(doctor::examine(config.as_ref()).await?) })?;
        let text = match self.json {
            true => format!("{:#}\n", json!({ "config": file, "findings": findings })),
            false => text(file.as_deref(), &findings),
        };
        end_quietly(io::stdout().write_all(text.as_bytes()).map_err(Into::into))?;
        let stops = findings.iter().filter(|it| it.severity == Severity::Stops);
        let stops = stops.count();
        ensure!(
            stops == 0,
            "{stops} of these would stop lb: mend them first"
        );
        Ok(())
    }
}

fn text(config: Option<&Path>, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{finding}");
    }
    if config.is_none() {
        text.push_str("no configuration looked at: --config FILE\n");
    }
    text
}
