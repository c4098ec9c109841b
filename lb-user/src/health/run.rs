//! The thread that sends checks.

use std::{collections::BTreeSet, future::pending, io, thread, time::Instant};

use tokio::{
    runtime, select,
    sync::{mpsc, watch},
    time::sleep_until,
};

use super::{Check, Failure, Outcome, icmp::EchoSockets, rounds::Rounds};

/// Sends these checks in the network namespace of the calling thread until their sender is dropped, and yields
/// what comes of each.
///
/// # Errors
/// Not root.
pub fn run(
    checks: watch::Receiver<BTreeSet<Check>>,
) -> io::Result<mpsc::UnboundedReceiver<(Check, Outcome)>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let sockets = {
        let _guard = runtime.enter();
        EchoSockets::open()?
    };
    let (outcomes, receiver) = mpsc::unbounded_channel();
    thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || runtime.block_on(keep_checking(checks, sockets, outcomes)))?;
    Ok(receiver)
}

async fn keep_checking(
    mut checks: watch::Receiver<BTreeSet<Check>>,
    mut sockets: EchoSockets,
    outcomes: mpsc::UnboundedSender<(Check, Outcome)>,
) {
    let mut rounds = Rounds::default();
    rounds.set(&checks.borrow_and_update(), Instant::now());
    loop {
        select! {
            changed = checks.changed() => match changed {
                Ok(()) => rounds.set(&checks.borrow_and_update(), Instant::now()),
                Err(_) => return,
            },
            _ = sockets.readable() => {}
            () = sleep(rounds.wake_at()) => {}
        }
        // A receiver that has gone wants no more checks either: the loop ends with the next round.
        let tell = |check, outcome| drop(outcomes.send((check, outcome)));
        // What has come counts before what is missing.
        while let Some((source, token)) = sockets.receive() {
            if let Some((check, latency)) = rounds.answered(source, token, Instant::now()) {
                tell(check, Ok(latency));
            }
        }
        while let Some(check) = rounds.timed_out(Instant::now()) {
            let Check {
                address, timeout, ..
            } = check;
            tell(check, Err(Failure::NoReply { address, timeout }));
        }
        while let Some(check) = rounds.next_due(Instant::now()) {
            let sent = Instant::now();
            match send(&mut sockets, &check) {
                Ok(token) => rounds.sent(token, check, sent),
                Err(error) => {
                    let failure = Failure::Unsent {
                        address: check.address,
                        reason: error.to_string(),
                    };
                    tell(check, Err(failure));
                }
            }
        }
    }
}

/// Nobody who doesn't see the request can guess its token.
fn send(sockets: &mut EchoSockets, check: &Check) -> io::Result<u64> {
    let token = getrandom::u64().map_err(io::Error::other)?;
    sockets.send(check.address, token)?;
    Ok(token)
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => pending().await,
    }
}
