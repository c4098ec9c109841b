//! The daemon: one task that owns everything and turns each event into a state of the maps.

mod config_file;
mod drops;
mod health;
mod interfaces;
mod rates;
mod reload;
mod report;
mod routes;
pub mod session_list;
pub mod sessions;
mod steered;
mod supervisor;
mod trace;
mod upgrade;

use std::{
    collections::HashSet,
    fs,
    net::IpAddr,
    path::Path,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::yield_now,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{error, info, warn};

use self::{
    config_file::ConfigFile,
    drops::Drops,
    health::Health,
    interfaces::Interfaces,
    rates::Rates,
    reload::Reloads,
    report::Changes,
    routes::Surroundings,
    sessions::Sessions,
    supervisor::{Supervisor, Watchdog},
    trace::Tracing,
    upgrade::Upgrade,
};
use crate::{
    api::server::{self, Request},
    config::Config,
    control::{
        Desired, Reconciler,
        desired::{Unbound, desired},
        response_time::AllResponseTimes,
        slow_start::SlowStarts,
    },
    dataplane::{CounterMaps, Pins, Program, Sizes, attach, kernel, load},
    doctor,
    health::{StartError, SteeredThread},
    metrics::Endpoint,
    net::{self, Targets, Unreachable, View},
    privileges,
};

/// How long a new balancer waits for its real servers' MAC addresses, and for their first health checks, before it takes
/// packets.
const FIRST_ANSWERS: Duration = Duration::from_secs(1);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// Runs until SIGTERM or SIGINT, which leave forwarding in place, or until a client asks to stop it.
pub async fn run(config_path: &Path) -> Result<()> {
    privileges::keep_for_start(&privileges::DAEMON)?;
    let config_bytes = config_file::read(config_path)?;
    let config = Config::from_bytes(&config_path.display().to_string(), &config_bytes)?;
    privileges::require("lb run", &privileges::DAEMON)?;
    kernel::require()?;
    let mut claim = Pins::new(&config.pin_path).claim()?;
    let steered = SteeredThread::start();
    // Threads have those of the one that makes them: the next ones are made below.
    privileges::keep_only(&privileges::DAEMON)?;
    let mut events = Events::new(config_path)?;
    let socket = config.control.socket.clone();
    let _directories = server::make_directories(&socket).with_context(|| {
        format!(
            "can't make the directory of control.socket {}",
            socket.display()
        )
    })?;
    let listener = server::listen(&socket)
        .with_context(|| format!("can't listen on control.socket {}", socket.display()))?;
    let outcome = async {
        let (requests, incoming) = mpsc::channel(16);
        let mut endpoint = Endpoint::new(requests.clone());
        listen_for_metrics(&mut endpoint, &config)?;
        let pins = claim.pins().clone();
        let mut daemon =
            Daemon::start(config_path, config_bytes, config, pins, steered, endpoint).await?;
        claim.keep();
        tokio::spawn(server::serve(listener, requests));
        info!(version = env!("CARGO_PKG_VERSION"), "running");
        daemon.supervisor.ready();
        daemon.serve(&mut events, incoming).await
    };
    let outcome = outcome.await;
    let _ = fs::remove_file(&socket);
    outcome
}

/// What wakes the daemon, beside the network and clients.
struct Events {
    reload: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    config_file: ConfigFile,
    sample: tokio::time::Interval,
    sweep: tokio::time::Interval,
    watchdog: Watchdog,
}

impl Events {
    fn new(config_path: &Path) -> Result<Self> {
        let mut sample = interval(SAMPLE_EVERY);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweep = interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            config_file: ConfigFile::watch(config_path)?,
            sample,
            sweep,
            watchdog: Watchdog::new(),
        })
    }
}

struct Daemon {
    reloads: Reloads,
    config: Rc<Config>,
    started: SystemTime,
    endpoint: Endpoint,
    targets: watch::Sender<Targets>,
    network: watch::Receiver<View>,
    health: Health,
    desired: Desired,
    reconciler: Reconciler<CounterMaps>,
    interfaces: Interfaces,
    sessions: Sessions,
    drops: Drops,
    slow_starts: SlowStarts,
    /// When a real server that came up lately is due for a larger share.
    next_share: Option<Instant>,
    response_times: AllResponseTimes,
    changes: Changes,
    rates: Rates,
    supervisor: Supervisor,
    /// The program on the interfaces.
    balancer: Program,
    tracing: Option<Tracing>,
    pins: Pins,
}

impl Daemon {
    async fn start(
        config_path: &Path,
        config_bytes: Vec<u8>,
        config: Config,
        pins: Pins,
        steered: Result<SteeredThread, StartError>,
        endpoint: Endpoint,
    ) -> Result<Self> {
        let (targets, receiver) = watch::channel(targets(&config, &[]));
        let network = net::watch(receiver).await?;
        attach::check_links(&pins, &network.borrow(), &config.interfaces)?;
        for interface in &config.interfaces {
            attach::check_interface(&pins, &network.borrow(), interface)?;
        }
        let sizes = Sizes::new(&config.limits);
        let loaded = load::load(&pins, &sizes)?;
        let upgrade = Upgrade::new(loaded.former, loaded.replaces_maps, loaded.fragments);
        loaded
            .tables
            .make_secrets()
            .context("can't get a random number")?;
        loaded.tables.set_limits(&config.limits);
        if let Some(upgrade) = &upgrade {
            upgrade.transplant(&loaded.tables, &sizes, &config)?;
        }
        let reconciler = Reconciler::new(loaded.tables, &sizes, loaded.counters);
        let mut daemon = Self {
            reloads: Reloads::new(config_path, config_bytes)?,
            config: Rc::new(config),
            started: SystemTime::now(),
            endpoint,
            targets,
            network,
            health: Health::start(sizes.real_servers, steered)?,
            desired: Desired::default(),
            reconciler,
            interfaces: Interfaces::default(),
            sessions: Sessions::new(&sizes),
            drops: Drops::default(),
            slow_starts: SlowStarts::default(),
            next_share: None,
            response_times: AllResponseTimes::default(),
            changes: Changes::default(),
            rates: Rates::default(),
            supervisor: Supervisor::default(),
            balancer: loaded.balancer,
            tracing: None,
            pins,
        };
        let config = Rc::clone(&daemon.config);
        daemon.health.prepare(&config)?;
        let _ = timeout(FIRST_ANSWERS, daemon.first_answers(&config)).await;
        daemon.reconcile(&config)?;
        daemon.balancer.pin(&daemon.pins)?;
        match upgrade {
            Some(upgrade) => upgrade.hand_over(&mut daemon)?,
            None => daemon.attach(&config)?,
        }
        daemon.settle_interfaces()?;
        daemon.warn_of_host().await;
        Ok(daemon)
    }

    /// Turns events into states of the maps, until one of them ends the daemon.
    async fn serve(
        &mut self,
        events: &mut Events,
        mut incoming: mpsc::Receiver<Request>,
    ) -> Result<()> {
        loop {
            select! {
                _ = events.reload.recv() => drop(self.reload()),
                () = events.config_file.changed() => self.reload_if_changed(),
                changed = self.network.changed() => {
                    changed.context("the network is not watched any more")?;
                    self.follow_network();
                }
                changed = self.health.follow(&mut self.response_times) => {
                    if changed {
                        self.reconcile_again();
                    }
                }
                _ = events.sample.tick() => self.sample(),
                _ = events.sweep.tick() => self.sweep(),
                () = yield_now(), if !self.drops.is_empty() => self.drop_some(),
                () = events.watchdog.feed() => {}
                () = self.endpoint.accept() => {}
                Some(request) = incoming.recv() => match request {
                    Request::Status(answer) => drop(answer.send(self.status())),
                    Request::Metrics(answer) => drop(answer.send(self.metrics())),
                    Request::Sessions(filter, answer) => drop(answer.send(self.sessions(&filter))),
                    Request::Reload(answer) => drop(answer.send(self.reload())),
                    Request::DropSessions(request, answer) => self.drop_sessions(request, answer),
                    Request::Trace(filter, answer) => drop(answer.send(self.trace(&filter))),
                    Request::Stop(answer) => return self.stop(answer).await,
                },
                () = trace::ended(&mut self.tracing) => self.end_trace(),
                _ = events.terminate.recv() => break,
                _ = events.interrupt.recv() => break,
            }
        }
        self.end_trace();
        self.supervisor.stopping();
        info!("stopping; forwarding stays in place (`lb stop` ends it)");
        Ok(())
    }

    /// Tells what on this host slows `lb`, or keeps some packets from it.
    async fn warn_of_host(&self) {
        let network = self.network.borrow().clone();
        match doctor::warnings(&self.config, &network).await {
            Ok(findings) => {
                for finding in findings {
                    warn!("{}: {}", finding.subject, finding.message);
                }
            }
            Err(error) => warn!("can't examine the host: {error}"),
        }
    }

    /// Waits for them. A balancer that starts while it forwards already needs none: it knows the MAC addresses.
    async fn first_answers(&mut self, config: &Config) {
        let known: HashSet<IpAddr> = self
            .reconciler
            .last_known_links()
            .into_keys()
            .map(|(address, _)| address)
            .collect();
        let settled = |view: &View| {
            view.next_hops.iter().all(|(address, next_hop)| {
                !matches!(next_hop, Err(Unreachable::Resolving { .. })) || known.contains(address)
            })
        };
        self.watch(config, &[]);
        while !settled(&self.network.borrow_and_update()) || !self.health.is_settled() {
            select! {
                // Checks may have ways now.
                changed = self.network.changed() => match changed {
                    Ok(()) => self.watch(config, &[]),
                    Err(_) => return,
                },
                _ = self.health.follow(&mut self.response_times) => {}
            }
        }
    }

    /// Makes the maps say what `config` and the network ask for, and tells what changed its state.
    fn reconcile(&mut self, config: &Config) -> Result<()> {
        let unbound = self.sessions.unbound(&self.reconciler, config);
        self.watch(config, &unbound);
        let known = self.reconciler.last_known_links();
        let network = self.network.borrow_and_update().clone();
        let mut next = desired(config, &network, &known, &unbound, self.health.states());
        let now = Instant::now();
        let mut slow_starts = self.slow_starts.clone();
        let due = slow_starts.apply(&self.desired, &mut next, now);
        self.next_share = due.map(|due| now + due);
        self.response_times.apply(&mut next);
        self.sessions.tell(&self.reconciler, &mut next);
        next.share(&self.desired);
        self.reconciler.apply_at(&next, now)?;
        self.slow_starts = slow_starts;
        self.changes.log(&self.desired, &next, now);
        self.supervisor.follow(&next);
        self.desired = next;
        Ok(())
    }

    /// As [`Self::reconcile`], for the configuration that holds: there is nobody to tell of an error but the log.
    fn reconcile_again(&mut self) {
        let config = Rc::clone(&self.config);
        if let Err(error) = self.reconcile(&config) {
            error!("{error:#}");
        }
    }

    /// Lets the network be asked for the real servers' addresses, and checks their health.
    fn watch(&mut self, config: &Config, unbound: &[Unbound]) {
        let now = Surroundings {
            config,
            unbound,
            network: &self.network.borrow(),
            last_known: &self.reconciler.last_known_links(),
        };
        self.health.check(&now, &self.reconciler);
        let addresses = targets(config, unbound);
        send_if_new(&self.targets, addresses);
    }

    /// Takes sessions away that are over, and goes on with what waited for that, or for its time.
    fn sweep(&mut self) {
        let has_room = self.sessions.sweep(&self.reconciler);
        let due = self
            .next_share
            .into_iter()
            .chain(self.reconciler.next_step());
        if has_room || due.min().is_some_and(|due| due <= Instant::now()) {
            self.reconcile_again();
        }
    }

    /// What is due each second: weights by response time follow no faster.
    fn sample(&mut self) {
        self.sample_rates();
        if self.response_times.would_change(&self.desired) {
            self.reconcile_again();
        }
    }

    /// Attaches the balancer to the interfaces of `config`.
    fn attach(&mut self, config: &Config) -> Result<()> {
        self.interfaces
            .attach(&mut self.balancer, &self.pins, config)
    }

    /// Lets the interfaces of the configuration answer, and detaches the balancer from others.
    fn settle_interfaces(&mut self) -> Result<()> {
        self.interfaces.settle(
            &mut self.balancer,
            &self.pins,
            &self.reconciler.tables().interfaces,
            &self.config,
            &self.network.borrow(),
        )
    }

    /// The network changed: interfaces may have come, and real servers moved.
    fn follow_network(&mut self) {
        self.reconcile_again();
        self.interfaces
            .follow(&mut self.balancer, &self.pins, &self.config);
        if let Err(error) = self.settle_interfaces() {
            warn!("{error:#}");
        }
    }

    /// Ends forwarding, and tells who asked for it.
    async fn stop(&mut self, answer: oneshot::Sender<Result<(), String>>) -> Result<()> {
        self.supervisor.stopping();
        let outcome = self.end_forwarding();
        let told = outcome.as_ref().copied();
        let _ = answer.send(told.map_err(|error| format!("{error:#}")));
        // The answer is on its way through the server's task.
        sleep(Duration::from_millis(100)).await;
        outcome
    }

    fn end_forwarding(&mut self) -> Result<()> {
        self.interfaces.detach_all(&mut self.balancer, &self.pins)?;
        self.pins.remove()?;
        info!("forwarding ended");
        Ok(())
    }
}

/// Listens where `config` says.
fn listen_for_metrics(endpoint: &mut Endpoint, config: &Config) -> Result<()> {
    let Some(metrics) = config.metrics else {
        return Ok(endpoint.listen(None)?);
    };
    let listen = metrics.listen;
    endpoint
        .listen(Some(listen))
        .with_context(|| match listen.port() {
            1..1024 => format!(
                "can't listen on metrics.listen {listen}: lb gives up the right to ports below 1024"
            ),
            _ => format!("can't listen on metrics.listen {listen}"),
        })
}

/// Whose MAC addresses are needed.
fn targets(config: &Config, unbound: &[Unbound]) -> Targets {
    let servers = config.real_servers.values().map(|server| server.address);
    let unbound = unbound.iter().map(|server| server.address);
    servers.chain(unbound).collect()
}

/// Whoever watches is woken only by a value that differs.
fn send_if_new<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|known| {
        let is_new = *known != value;
        *known = value;
        is_new
    });
}
