//! The threads that send checks.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    io,
    net::IpAddr,
    pin::pin,
    process,
    sync::{
        Arc,
        mpsc::{Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Instant,
};

use futures::{
    future::{FutureExt, OptionFuture},
    stream::{FuturesUnordered, StreamExt},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime::{Builder, Runtime},
    select,
    sync::{mpsc, watch},
    task::{coop::unconstrained, yield_now},
    time::{sleep_until, timeout},
};

use tracing::warn;

use super::{
    Check, Failure, Outcome, Route,
    arp::ArpSockets,
    destination::{Awaited, Destination},
    dns, http,
    icmp::EchoSockets,
    namespace::{Devices, Namespace, NamespaceError, OuterDevice},
    rounds::{Number, Rounds},
    syn::SynSockets,
    tcp, udp,
};
use crate::{
    config::HealthCheck,
    privileges::{self, PrivilegeError},
};

/// What is to be checked, and which way each check goes.
pub type Checks = BTreeMap<Arc<Check>, Route>;

/// Where what comes of checks is told.
pub type Outcomes = mpsc::UnboundedSender<(Arc<Check>, Outcome)>;

/// Why no checks can be sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No CAP_NET_RAW.
    #[error("can't open sockets for health checks: {0}")]
    Sockets(#[from] io::Error),
    /// There is no place to send them from.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The thread keeps more capabilities than it needs.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
}

/// Sends these checks in the network namespace of the calling thread until their sender is dropped, and tells
/// what comes of each.
///
/// # Errors
/// No CAP_NET_RAW.
pub fn run(checks: watch::Receiver<Checks>, outcomes: Outcomes) -> Result<(), StartError> {
    let runtime = runtime()?;
    let prepare = async || {
        let identifier = getrandom::u32().map_err(io::Error::other)? as u16;
        let place = Place {
            echo: EchoSockets::open(identifier)?,
            syn: SynSockets::open()?,
            arp: Some(ArpSockets::open()?),
            devices: None,
        };
        Ok((place, ()))
    };
    let (ready, is_ready) = sync_channel(1);
    spawn("health", move || {
        runtime.block_on(keep_checking(prepare, &ready, checks, outcomes));
    })?;
    is_ready.recv().expect("the thread says so, or why not")
}

/// A thread in a network namespace of its own, for checks that are steered.
pub struct SteeredThread {
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce(&Runtime, &Namespace) + Send>;

impl SteeredThread {
    /// Starts it; it waits for checks. When it is there it has the capabilities that a daemon keeps, and no others.
    ///
    /// # Errors
    /// No CAP_SYS_ADMIN.
    pub fn start() -> Result<Self, StartError> {
        let runtime = runtime()?;
        let (jobs, to_do) = channel::<Job>();
        let (ready, is_ready) = sync_channel(1);
        spawn("health-steered", move || {
            let enter = async {
                let namespace = Namespace::enter()?;
                privileges::keep_only(&privileges::DAEMON)?;
                Ok(namespace)
            };
            match runtime.block_on(enter) {
                Ok(namespace) => {
                    let _ = ready.send(Ok(()));
                    to_do.into_iter().for_each(|job| job(&runtime, &namespace));
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        let started: Result<(), StartError> = is_ready.recv().expect("the thread says so");
        started.map(|()| Self { jobs })
    }

    /// As [`run`], on this thread, with echo requests of this identifier, when those before have ended. Before the first check
    /// is sent, `setup` is called there with the device of the host that leads to it.
    ///
    /// # Errors
    /// Those of `setup`; there are no veth devices.
    pub fn run<T, E>(
        &self,
        checks: watch::Receiver<Checks>,
        outcomes: Outcomes,
        identifier: u16,
        setup: impl FnOnce(&OuterDevice) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StartError> + Send + 'static,
    {
        let (ready, is_ready) = sync_channel(1);
        let job = move |runtime: &Runtime, namespace: &Namespace| {
            let prepare = async || {
                let (devices, outer) = namespace.connect().await.map_err(StartError::from)?;
                let place = Place {
                    echo: EchoSockets::open(identifier).map_err(StartError::from)?,
                    syn: SynSockets::open().map_err(StartError::from)?,
                    arp: None,
                    devices: Some(devices),
                };
                Ok((place, setup(&outer)?))
            };
            runtime.block_on(keep_checking(prepare, &ready, checks, outcomes));
        };
        let sent = self.jobs.send(Box::new(job));
        sent.expect("the thread lives as long as this");
        is_ready.recv().expect("the thread says so, or why not")
    }
}

fn runtime() -> io::Result<Runtime> {
    // Each check of a server that doesn't answer has a socket as long as it waits.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    Builder::new_current_thread().enable_all().build()
}

/// A thread of its own: nothing that the daemon does counts as latency.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work = move || {
        let _ends_all = AbortOnPanic;
        work();
    };
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop)
}

/// Sends checks from a place that is prepared first; `ready` hears of that.
async fn keep_checking<T, E>(
    prepare: impl AsyncFnOnce() -> Result<(Place, T), E>,
    ready: &SyncSender<Result<T, E>>,
    checks: watch::Receiver<Checks>,
    outcomes: Outcomes,
) {
    match prepare().await {
        Ok((place, prepared)) => {
            let _ = ready.send(Ok(prepared));
            place.keep_checking(checks, outcomes).await;
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

/// A daemon whose checks have ended would hold on to what they said last. Without it forwarding goes on, and its supervisor starts
/// another one.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            process::abort();
        }
    }
}

/// Where checks are sent from.
struct Place {
    echo: EchoSockets,
    syn: SynSockets,
    /// Only where the real servers' segments are.
    arp: Option<ArpSockets>,
    /// Only for checks that are steered.
    devices: Option<Devices>,
}

impl Place {
    async fn keep_checking(mut self, mut checks: watch::Receiver<Checks>, outcomes: Outcomes) {
        let mut rounds = Rounds::default();
        let mut devices = self.devices.take();
        let mut under_way = FuturesUnordered::new();
        checks.mark_changed();
        loop {
            select! {
                changed = checks.changed() => match changed {
                    Ok(()) => {
                        let sources = {
                            let checks = checks.borrow_and_update();
                            rounds.set(&checks, Instant::now());
                            sources(&checks)
                        };
                        if let Some(arp) = &self.arp {
                            arp.forget();
                        }
                        if let Some(devices) = &mut devices
                            && let Err(error) = devices.use_addresses(&sources).await
                        {
                            warn!("{error}");
                        }
                    }
                    Err(_) => break,
                },
                Some((number, outcome)) = under_way.next() => {
                    if rounds.is_over(number) {
                        drop(outcomes.send(outcome));
                    }
                }
                () = self.receive() => {}
                () = sleep(rounds.wake_at()) => {}
            }
            // A receiver that has gone wants no more checks either: the loop ends with the next round.
            while let Some((number, check, route)) = rounds.next_due(Instant::now()) {
                under_way.push(self.perform(number, check, route));
            }
        }
        if let Some(devices) = devices
            && let Err(error) = devices.remove().await
        {
            warn!("{error}");
        }
    }

    /// Waits until there may be answers on the sockets that checks share, and takes those that are there.
    async fn receive(&self) {
        select! {
            () = self.echo.receive() => {}
            () = self.syn.receive() => {}
            Some(()) = OptionFuture::from(self.arp.as_ref().map(ArpSockets::receive)) => {}
        }
    }

    async fn perform(
        &self,
        number: Number,
        check: Arc<Check>,
        route: Route,
    ) -> (Number, (Arc<Check>, Outcome)) {
        let outcome = self.outcome(&check, route).await;
        (number, (check, outcome))
    }

    async fn outcome(&self, check: &Check, route: Route) -> Outcome {
        let start = Instant::now();
        let awaited = Awaited::new("answer");
        let mut asked = pin!(self.ask(check, route, &awaited));
        if let Ok(answer) = timeout(check.timeout, &mut asked).await {
            return answer.map(|()| Some(start.elapsed()));
        }
        // A daemon that was held up finds the time over and the answer in its socket: the runtime looks there first, then
        // those who receive take what there is. How long the answer took nobody knows then.
        yield_now().await;
        yield_now().await;
        match unconstrained(asked).now_or_never() {
            Some(answer) => answer.map(|()| None),
            None => Err(Failure::Silence(awaited.get())),
        }
    }

    async fn ask(&self, check: &Check, route: Route, awaited: &Awaited) -> Result<(), Failure> {
        let steering = match route {
            Route::Wait | Route::Host => None,
            Route::Steered(steering) => Some(steering),
            Route::Segment(segment, mac) => {
                let arp = self.arp.as_ref().expect("segments are the host's");
                return arp.ask(segment, check.address, mac, awaited).await;
            }
            Route::None(reason) => return Err(Failure::Impossible(reason)),
        };
        let destination = Destination {
            address: check.destination(),
            steering,
        };
        match &check.what {
            HealthCheck::Arp => unreachable!("its route is a segment"),
            HealthCheck::Icmp(icmp) => self.echo.ask(destination, icmp.size, awaited).await,
            HealthCheck::Syn(syn) => self.syn.ask(destination, syn.port, awaited).await,
            HealthCheck::Tcp(tcp) => tcp::check(destination, tcp, awaited).await,
            // The largest by far.
            HealthCheck::Http(http) => Box::pin(http::check(destination, http, awaited)).await,
            HealthCheck::Dns(dns) => dns::check(destination, dns, awaited).await,
            HealthCheck::Udp(udp) => udp::check(destination, udp, awaited).await,
        }
    }
}

/// The addresses that checks come from.
fn sources(checks: &Checks) -> BTreeSet<IpAddr> {
    let steering = checks.values().filter_map(|route| match route {
        Route::Steered(steering) => Some(steering.source),
        _ => None,
    });
    steering.collect()
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => pending().await,
    }
}
