//! Ctrl-C, SIGTERM and a terminal that closes end a program of the lab in order, with the lab removed.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, ensure};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
};

use crate::service::single_threaded;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes these signals from now on: whoever waits for something asks [`go_on_unless_interrupted`].
///
/// # Errors
/// The signals can't be taken.
pub fn stop_on_signals() -> Result<()> {
    let runtime = single_threaded();
    let listen = |kind| runtime.block_on(async { signal(kind) });
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    thread::spawn(move || {
        runtime.block_on(async {
            select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// # Errors
/// One of the signals has come.
pub fn go_on_unless_interrupted() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}
