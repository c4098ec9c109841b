//! The task that keeps a [`View`] true.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};
use tracing::{info, warn};

use super::netlink::{Event, NetError, Netlink};
use super::path_mtu::{TooBig, TooBigErrors};
use super::route;
use super::state::State;
use super::view::View;

/// The addresses to watch: those of the real servers.
pub type Targets = BTreeSet<IpAddr>;

/// Everything is synchronised in full this often, whether or not an event said so: events don't tell
/// all (next-hop objects, expired path MTUs).
const SYNCHRONISE_EVERY: Duration = Duration::from_secs(30);
/// After lost events: soon, but not again for each event that is lost meanwhile.
const SYNCHRONISE_AFTER_OVERRUN: Duration = Duration::from_millis(200);

const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_LAST: Duration = Duration::from_secs(10);

/// Watches how to reach `targets`, and this host's interfaces and addresses, in the network namespace of
/// the calling thread.
///
/// The first view is complete but for neighbours that the kernel has yet to resolve. A new one is
/// sent whenever something in it changed. The watch ends when all receivers of the view are dropped;
/// if the sender of `targets` is dropped, the last targets stay.
///
/// # Errors
///
/// If the kernel can't be asked now. Later failures are logged and mended: the last view stands
/// meanwhile.
pub async fn watch(targets: watch::Receiver<Targets>) -> Result<watch::Receiver<View>, NetError> {
    let too_big = TooBigErrors::listen()
        .inspect_err(|error| warn!("path MTUs beyond the first router aren't learnt: {error}"))
        .ok();
    start(targets, too_big).await
}

/// As [`watch()`], of this host's interfaces and addresses alone.
///
/// # Errors
///
/// As there.
pub async fn watch_host() -> Result<watch::Receiver<View>, NetError> {
    start(watch::channel(Targets::new()).1, None).await
}

async fn start(
    mut targets: watch::Receiver<Targets>,
    too_big: Option<TooBigErrors>,
) -> Result<watch::Receiver<View>, NetError> {
    let mut state = State::default();
    state.set_targets(&targets.borrow_and_update(), Instant::now());
    let netlink = connect(&mut state).await?;
    let (views, receiver) = watch::channel(state.view());
    tokio::spawn(async move {
        tokio::select! {
            () = views.closed() => {}
            never = keep_following(netlink, state, targets, too_big, &views) => match never {},
        }
    });
    Ok(receiver)
}

/// Listens first, then synchronises in full, so that no change falls between.
async fn connect(state: &mut State) -> Result<Netlink, NetError> {
    let mut netlink = Netlink::connect()?;
    synchronise(&mut netlink, state).await?;
    Ok(netlink)
}

async fn keep_following(
    mut netlink: Netlink,
    mut state: State,
    mut targets: watch::Receiver<Targets>,
    too_big: Option<TooBigErrors>,
    views: &watch::Sender<View>,
) -> Infallible {
    loop {
        let Err(error) = follow(
            &mut netlink,
            &mut state,
            &mut targets,
            too_big.as_ref(),
            views,
        )
        .await;
        warn!("{error}; reconnecting");
        let mut pause = RECONNECT_FIRST;
        netlink = loop {
            sleep(pause).await;
            match connect(&mut state).await {
                Ok(netlink) => break netlink,
                Err(error) => warn!("{error}; trying again"),
            }
            pause = (pause * 2).min(RECONNECT_LAST);
        };
        info!("the kernel's view of the network is being followed again");
    }
}

async fn follow(
    netlink: &mut Netlink,
    state: &mut State,
    targets: &mut watch::Receiver<Targets>,
    too_big: Option<&TooBigErrors>,
    views: &watch::Sender<View>,
) -> Result<Infallible, NetError> {
    let mut synchronise_at = Instant::now() + SYNCHRONISE_EVERY;
    loop {
        let wake = state
            .deadline()
            .map_or(synchronise_at, |at| at.min(synchronise_at));
        tokio::select! {
            event = netlink.next_event() => match event? {
                Event::Change(message) => state.apply(message, Instant::now()),
                Event::Overrun => {
                    let soon = Instant::now() + SYNCHRONISE_AFTER_OVERRUN;
                    synchronise_at = synchronise_at.min(soon);
                }
            },
            () = changed(targets) => {
                state.set_targets(&targets.borrow_and_update(), Instant::now());
            }
            error = next_of(too_big) => state.too_big(error, Instant::now()),
            () = sleep_until(wake.into()) => {}
        }

        if synchronise_at <= Instant::now() {
            synchronise(netlink, state).await?;
            synchronise_at = Instant::now() + SYNCHRONISE_EVERY;
        }
        look_up_routes(netlink, state).await?;
        for (key, nudge) in state.nudges_due(Instant::now()) {
            let result = netlink.nudge(key, nudge).await?;
            state.nudged(key, result, Instant::now());
        }
        if let Some(view) = state.view_due(Instant::now()) {
            views.send_if_modified(|shown| {
                let is_new = *shown != view;
                *shown = view;
                is_new
            });
        }
    }
}

async fn synchronise(netlink: &mut Netlink, state: &mut State) -> Result<(), NetError> {
    let links = netlink.links().await?;
    let addresses = netlink.addresses().await?;
    let neighbours = netlink.neighbours().await?;
    state.synchronise(&links, &addresses, &neighbours, Instant::now());
    look_up_routes(netlink, state).await
}

async fn look_up_routes(netlink: &mut Netlink, state: &mut State) -> Result<(), NetError> {
    for target in state.lookups_due(Instant::now()) {
        let reply = netlink.route_to(target).await?;
        state.looked_up(target, route::route(target, reply), Instant::now());
    }
    Ok(())
}

/// The next error, if any are heard.
async fn next_of(errors: Option<&TooBigErrors>) -> TooBig {
    if let Some(errors) = errors {
        match errors.next().await {
            Ok(error) => return error,
            Err(error) => {
                warn!("cannot hear of path MTUs beyond the first router: {error}");
            }
        }
    }
    pending().await
}

/// Resolves when there are new targets; never, once nobody can send any.
async fn changed(targets: &mut watch::Receiver<Targets>) {
    if targets.changed().await.is_err() {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_broken_socket_is_replaced() {
        let mut state = State::default();
        let mut netlink = connect(&mut state)
            .await
            .expect("netlink needs no privilege");
        netlink.break_down().await;
        let (targets, receiver) = watch::channel(Targets::new());
        let (views, mut shown) = watch::channel(View::default());
        tokio::spawn(async move { keep_following(netlink, state, receiver, None, &views).await });

        let target: IpAddr = "127.0.0.1".parse().unwrap();
        targets.send_replace(Targets::from([target]));
        let followed = shown.wait_for(|view| view.next_hops.contains_key(&target));
        timeout(Duration::from_secs(10), followed)
            .await
            .expect("in time")
            .expect("it goes on");
    }
}
