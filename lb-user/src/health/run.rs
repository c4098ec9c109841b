//! The thread that sends checks.

use std::{collections::BTreeSet, future::pending, io, sync::Arc, thread, time::Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::{
    runtime, select,
    sync::{mpsc, watch},
    time::{sleep_until, timeout},
};

use super::{
    Check, Failure, Outcome,
    destination::{Awaited, Destination},
    dns, http,
    icmp::EchoSockets,
    rounds::Rounds,
    tcp, udp,
};
use crate::config::HealthCheck;

/// Sends these checks in the network namespace of the calling thread until their sender is dropped, and yields
/// what comes of each.
///
/// # Errors
/// Not root.
pub fn run(
    checks: watch::Receiver<BTreeSet<Arc<Check>>>,
) -> io::Result<mpsc::UnboundedReceiver<(Arc<Check>, Outcome)>> {
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
        .spawn(move || runtime.block_on(keep_checking(checks, &sockets, outcomes)))?;
    Ok(receiver)
}

async fn keep_checking(
    mut checks: watch::Receiver<BTreeSet<Arc<Check>>>,
    sockets: &EchoSockets,
    outcomes: mpsc::UnboundedSender<(Arc<Check>, Outcome)>,
) {
    let mut rounds = Rounds::default();
    let mut under_way = FuturesUnordered::new();
    rounds.set(&checks.borrow_and_update(), Instant::now());
    loop {
        select! {
            changed = checks.changed() => match changed {
                Ok(()) => rounds.set(&checks.borrow_and_update(), Instant::now()),
                Err(_) => return,
            },
            // A receiver that has gone wants no more checks either: the loop ends with the next round.
            Some(outcome) = under_way.next() => drop(outcomes.send(outcome)),
            () = sockets.receive() => {}
            () = sleep(rounds.wake_at()) => {}
        }
        while let Some(check) = rounds.next_due(Instant::now()) {
            under_way.push(perform(check, sockets));
        }
    }
}

async fn perform(check: Arc<Check>, sockets: &EchoSockets) -> (Arc<Check>, Outcome) {
    let start = Instant::now();
    let awaited = Awaited::new("answer");
    let destination = Destination {
        address: check.destination(),
        steering: None,
    };
    let answer = async {
        match &check.what {
            HealthCheck::Icmp(_) => sockets.ask(destination, &awaited).await,
            HealthCheck::Tcp(asked) => tcp::check(destination, asked, &awaited).await,
            HealthCheck::Http(asked) => http::check(destination, asked, &awaited).await,
            HealthCheck::Dns(asked) => dns::check(destination, asked, &awaited).await,
            HealthCheck::Udp(asked) => udp::check(destination, asked, &awaited).await,
            what => Err(Failure::Unsent(format!("{what} is not there yet"))),
        }
    };
    let outcome = match timeout(check.timeout, answer).await {
        Ok(answer) => answer.map(|()| start.elapsed()),
        Err(_) => Err(Failure::Silence(awaited.get())),
    };
    (check, outcome)
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => pending().await,
    }
}
