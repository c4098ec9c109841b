//! What the daemon does about health checks: it says what is to be checked, and follows what comes of it.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, watch};
use tracing::error;

use super::{routes::Surroundings, send_if_new, steered::Steered};
use crate::{
    api::status,
    config::{self, Config},
    control::{Platform, Reconciler, response_time::AllResponseTimes},
    health::{
        self, Check, Checks, Outcome, Outcomes, Path, Route, StartError, State, States,
        SteeredThread,
    },
    metrics::{AllCheckMetrics, CheckLabels},
};

/// Health checks, from the daemon's side.
pub struct Health {
    /// Those that go by the host's own routes.
    checks: watch::Sender<Checks>,
    /// Those that go by the data path, while there are any.
    steered: Option<Steered>,
    /// Where those are sent, or why they can't be.
    thread: Result<SteeredThread, Arc<StartError>>,
    /// How many paths those may have.
    paths: u32,
    tell: Outcomes,
    outcomes: mpsc::UnboundedReceiver<(Arc<Check>, Outcome)>,
    states: States,
    /// Whom each check is for.
    checked: HashMap<Arc<Check>, Vec<Checked>>,
    metrics: AllCheckMetrics,
}

/// A real server of a virtual server.
struct Checked {
    virtual_server: String,
    real_server: String,
    /// Whether the latency of this check is what `response_time` goes by.
    is_timed: bool,
}

impl Checked {
    fn labels(&self, check: &Check) -> CheckLabels {
        CheckLabels {
            virtual_server: self.virtual_server.clone(),
            real_server: self.real_server.clone(),
            check: check.what.to_string(),
        }
    }
}

impl Health {
    /// Checks nothing yet. `paths` is how many pairs of real servers and ways to forward there may be. Without a `thread` there can
    /// be no checks by the data path.
    pub fn start(paths: u32, thread: Result<SteeredThread, StartError>) -> Result<Self> {
        let (checks, receiver) = watch::channel(Checks::new());
        let (tell, outcomes) = mpsc::unbounded_channel();
        health::run(receiver, tell.clone())?;
        Ok(Self {
            checks,
            steered: None,
            thread: thread.map_err(Arc::new),
            paths,
            tell,
            outcomes,
            states: States::default(),
            checked: HashMap::new(),
            metrics: AllCheckMetrics::default(),
        })
    }

    /// Checks the real servers of the configuration and those that are unbound. Whoever is up in the maps and was not checked
    /// before stays up until its checks fail.
    pub fn check<P: Platform>(&mut self, now: &Surroundings<'_>, reconciler: &Reconciler<P>) {
        self.checked = checked(now);
        let checks = self.checked.iter().map(|(check, members)| {
            let mut members = members.iter();
            let is_up = members.any(|it| reconciler.is_up(&it.virtual_server, &it.real_server));
            (Arc::clone(check), is_up)
        });
        self.states.set(checks);
        let mut own = Checks::new();
        let mut steered = Vec::new();
        for check in self.checked.keys() {
            if now.is_gone(check) {
                self.states.forget(check);
            }
            match (check.path, check.what.via()) {
                (Some(path), _) => steered.push((Arc::clone(check), path)),
                (None, Some(_)) => drop(own.insert(Arc::clone(check), Route::Host)),
                (None, None) => drop(own.insert(Arc::clone(check), now.segment(check))),
            }
        }
        send_if_new(&self.checks, own);
        self.steer(&steered, now);
    }

    /// Makes the place that checks by the data path are sent from, if `config` has any and it isn't there.
    ///
    /// # Errors
    /// Those of the kernel: it is too old, or has no veth devices.
    pub fn prepare(&mut self, config: &Config) -> Result<()> {
        // It may be that nobody ever asks for them.
        self.forget_metrics();
        if self.steered.is_none() && config.has_checks_by_data_path() {
            let thread = self
                .thread
                .as_ref()
                .map_err(|error| Arc::clone(error).into());
            let steered = thread.and_then(|it| Steered::start(it, self.tell.clone(), self.paths));
            self.steered = Some(steered.context("no health checks by the data path")?);
        }
        Ok(())
    }

    /// Goes on with these checks by the data path.
    fn steer(&mut self, checks: &[(Arc<Check>, Path)], now: &Surroundings<'_>) {
        let Some(steered) = &mut self.steered else {
            return;
        };
        if !now.config.has_checks_by_data_path() {
            self.steered = None;
            return;
        }
        let paths = checks.iter().map(|(check, path)| {
            let server = check.server.clone();
            (server, check.address, path.forward)
        });
        steered.keep(&paths.collect());
        let routes = checks.iter().map(|(check, path)| {
            let route = now.steering(check, *path, steered);
            (Arc::clone(check), route)
        });
        let routes: Checks = routes.collect();
        let interfaces = now.interfaces(&routes);
        if let Err(error) = steered.send(routes, interfaces) {
            error!("{error:#}");
        }
    }

    /// Waits for the next outcomes and takes them in. Whether a real server's state has changed, or the reason for
    /// it.
    pub async fn follow(&mut self, response_times: &mut AllResponseTimes) -> bool {
        let first = self.outcomes.recv().await;
        let first = first.expect("one who may tell is here");
        let mut changed = self.record(first, response_times);
        // A switch that fails takes many servers along: that is one change, not many.
        while let Ok(next) = self.outcomes.try_recv() {
            changed |= self.record(next, response_times);
        }
        changed
    }

    fn record(
        &mut self,
        (check, outcome): (Arc<Check>, Outcome),
        response_times: &mut AllResponseTimes,
    ) -> bool {
        for member in self.checked.get(&check).into_iter().flatten() {
            self.metrics.record(member.labels(&check), &outcome);
            if let (true, Ok(Some(latency))) = (member.is_timed, &outcome) {
                response_times.record(&member.virtual_server, &member.real_server, *latency);
            }
        }
        self.states.record(&check, outcome)
    }

    /// Whether each check of a server that is down has been answered once, or not in time.
    pub fn is_settled(&self) -> bool {
        self.states.are_settled()
    }

    /// What the checks say.
    pub const fn states(&self) -> &States {
        &self.states
    }

    /// What the checks have brought that there are.
    pub fn metrics(&mut self) -> AllCheckMetrics {
        self.forget_metrics();
        self.metrics.clone()
    }

    /// Forgets what checks have brought that are gone.
    fn forget_metrics(&mut self) {
        let checks = self.checked.iter().flat_map(|(check, members)| {
            let labels = |member: &Checked| member.labels(check);
            members.iter().map(labels)
        });
        self.metrics.retain(&checks.collect::<BTreeSet<_>>());
    }

    /// The checks of a real server of a virtual server, as `lb status` shows them.
    pub fn status(
        &self,
        server: &str,
        address: IpAddr,
        virtual_server: &config::VirtualServer,
    ) -> Vec<status::Check> {
        Check::all_of(server, address, virtual_server)
            .filter_map(|check| Some(shown(&check, self.states.get(&check)?)))
            .collect()
    }
}

fn shown(check: &Check, state: &State) -> status::Check {
    status::Check {
        kind: check.what.to_string(),
        target: check.target().to_string(),
        ok: state.passed(),
        latency_us: state.latency().unwrap_or_default().as_micros() as u64,
        message: state.message(check),
    }
}

/// The last check of a list is that which is timed: what a client sees of a server comes after what is below it.
fn checked(now: &Surroundings<'_>) -> HashMap<Arc<Check>, Vec<Checked>> {
    let mut checked = HashMap::<_, Vec<_>>::new();
    let virtual_servers = now.config.virtual_servers.iter();
    for virtual_server in virtual_servers.filter(|it| !it.health.checks.is_empty()) {
        let bound = virtual_server.bind.iter().map(|binding| {
            let server = &now.config.real_servers[&binding.server];
            (&binding.server, server.address)
        });
        let unbound = now.unbound.iter();
        let unbound = unbound
            .filter(|it| it.virtual_server == virtual_server.name)
            .map(|it| (&it.server, it.address));
        let last = virtual_server.health.checks.last();
        for (server, address) in bound.chain(unbound) {
            for check in Check::all_of(server, address, virtual_server) {
                let member = Checked {
                    virtual_server: virtual_server.name.clone(),
                    real_server: server.clone(),
                    is_timed: Some(&check.what) == last,
                };
                checked.entry(check).or_default().push(member);
            }
        }
    }
    checked
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        control::desired::{LastKnownLinks, Unbound},
        net::View,
    };

    /// Each check of a configuration: the server's name, the kind, the interval in seconds, and whom it is for, those with a
    /// star by whose latency `response_time` goes.
    fn all_checked(config: &str, unbound: &[Unbound]) -> Vec<String> {
        let config = Config::parse("lb.yaml", config).unwrap();
        let now = Surroundings {
            config: &config,
            unbound,
            network: &View::default(),
            last_known: &LastKnownLinks::default(),
        };
        let checks: BTreeMap<_, _> = checked(&now).into_iter().collect();
        let checks = checks.into_iter().map(|(check, members)| {
            let members = members.into_iter().map(|member| {
                let star = if member.is_timed { "*" } else { "" };
                member.virtual_server + star
            });
            let members = members.collect::<Vec<_>>().join(", ");
            let (kind, seconds) = (&check.what, check.interval.as_secs());
            format!("{} {kind} {seconds}: {members}", check.server)
        });
        checks.collect()
    }

    #[test]
    fn equal_checks_of_a_server_are_one_and_serve_all_who_ask_for_them() {
        let config = "
interfaces: [{ name: eth0 }]
real_servers: { a: 10.9.0.1, b: 10.9.0.2, twin: 10.9.0.1 }
defaults: { protocol: tcp, health: { checks: [icmp: { via: real }] } }
virtual_servers:
  - { name: dns, vip: 10.9.1.1, port: 53, bind: [a] }
  - { name: http, vip: 10.9.1.1, port: 80, bind: [a, b, twin] }
  - { name: often, vip: 10.9.1.1, port: 81, bind: [a], health: { interval: 1s } }
  - { name: never, vip: 10.9.1.1, port: 82, bind: [a, b], health: { checks: [] } }";
        let unbound = ["http", "never", "gone"].map(|virtual_server| Unbound {
            virtual_server: virtual_server.to_owned(),
            server: "old".to_owned(),
            address: [10, 9, 0, 3].into(),
        });
        let expected = [
            "a icmp 1: often*",
            "a icmp 2: dns*, http*",
            "b icmp 2: http*",
            "old icmp 2: http*",
            "twin icmp 2: http*",
        ];
        assert_eq!(all_checked(config, &unbound), expected);
    }

    #[test]
    fn checks_of_the_same_vip_are_shared_and_the_last_of_a_list_is_timed() {
        let config = "
interfaces: [{ name: eth0 }]
real_servers: { a: 10.9.0.1 }
defaults: { protocol: tcp, health: { checks: [icmp, syn] } }
virtual_servers:
  - { name: http, vip: 10.9.1.1, port: 80, bind: [a] }
  - { name: https, vip: 10.9.1.1, port: 443, bind: [a] }
  - { name: other, vip: 10.9.1.2, port: 80, bind: [a], health: { checks: [icmp] } }
  - { name: tunnel, vip: 10.9.1.1, port: 81, bind: [a], forward: l3dsr, health: { checks: [icmp] } }";
        let expected = [
            "a icmp 2: http, https",
            "a syn 2: http*",
            "a syn 2: https*",
            "a icmp 2: tunnel*",
            "a icmp 2: other*",
        ];
        assert_eq!(all_checked(config, &[]), expected);
    }
}
