//! The command line: a file for each command.

mod bind;
mod check;
mod completions;
mod decap;
mod doctor;
mod edit;
mod man;
mod reload;
mod run;
mod sessions;
mod status;
mod stop;
mod top;
mod trace;
mod unbind;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::DEFAULT_SOCKET;

/// XDP layer-4 load balancer
#[derive(Parser)]
#[command(
    name = "lb",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Status(status::Status),
    Top(top::Top),
    Sessions(sessions::Sessions),
    Bind(bind::Bind),
    Unbind(unbind::Unbind),
    Reload(reload::Reload),
    Trace(trace::Trace),
    Stop(stop::Stop),
    Decap(decap::Decap),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Man),
}

/// The whole program.
pub fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where the daemon listens.
#[derive(Args)]
struct Socket {
    /// The daemon's control socket (`control.socket` in its configuration)
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

impl Cli {
    /// Carries the command out.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Run(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Top(command) => command.run(),
            Command::Sessions(command) => command.run(),
            Command::Bind(command) => command.run(),
            Command::Unbind(command) => command.run(),
            Command::Reload(command) => command.run(),
            Command::Trace(command) => command.run(),
            Command::Stop(command) => command.run(),
            Command::Decap(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
        }
    }
}

/// So many of something, in words.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// An argument that says how long.
fn seconds(text: &str) -> Result<u32, &'static str> {
    let seconds = text.parse().ok();
    let within_a_day = seconds.filter(|seconds| (1..=86_400).contains(seconds));
    within_a_day.ok_or("expected whole seconds, 1 to 86400")
}

/// Sends log lines to stderr: those that `LB_LOG` asks for, else info and above.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("LB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Runs a future on this thread alone: no command has work for more.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// Who reads what a command prints may have seen enough, as `head` does: then it ends, without an error.
fn end_quietly(printed: Result<()>) -> Result<()> {
    match printed {
        Err(error)
            if error
                .downcast_ref()
                .is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            Ok(())
        }
        other => other,
    }
}
