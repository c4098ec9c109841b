//! What the daemon does about health checks: it says what is to be checked, and follows what comes of it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error};

use super::{routes::Surroundings, steered::Steered};
use crate::{
    api::status,
    config,
    control::{Platform, Reconciler, response_time::AllResponseTimes},
    health::{self, Check, Checks, Failure, Outcome, Outcomes, Path, Route, State, States},
};

/// Health checks, from the daemon's side.
pub struct Health {
    /// Those that go by the host's own routes.
    checks: watch::Sender<Checks>,
    /// Those that go by the data path, once there are any.
    steered: Option<Result<Steered, String>>,
    /// How many paths those may have.
    paths: u32,
    tell: Outcomes,
    outcomes: mpsc::UnboundedReceiver<(Arc<Check>, Outcome)>,
    states: States,
    /// The names of the virtual servers and real servers that each check is for.
    checked: BTreeMap<Arc<Check>, Vec<(String, String)>>,
}

impl Health {
    /// Checks nothing yet. `paths` is how many pairs of real servers and ways to forward there may be.
    pub fn start(paths: u32) -> Result<Self> {
        let (checks, receiver) = watch::channel(Checks::new());
        let (tell, outcomes) = mpsc::unbounded_channel();
        health::run(receiver, tell.clone())?;
        Ok(Self {
            checks,
            steered: None,
            paths,
            tell,
            outcomes,
            states: States::default(),
            checked: BTreeMap::new(),
        })
    }

    /// Checks the real servers of the configuration and those that are unbound. Whoever is up in the maps and was not checked
    /// before stays up until its checks fail.
    pub fn check<P: Platform>(&mut self, now: &Surroundings<'_>, reconciler: &Reconciler<P>) {
        self.checked = checked(now);
        let checks = self.checked.iter().map(|(check, members)| {
            let mut members = members.iter();
            let is_up =
                members.any(|(virtual_server, server)| reconciler.is_up(virtual_server, server));
            (Arc::clone(check), is_up)
        });
        self.states.set(checks);
        let mut own = Checks::new();
        let mut steered = Vec::new();
        for check in self.checked.keys() {
            match (check.path, check.what.via()) {
                (Some(path), _) => steered.push((Arc::clone(check), path)),
                (None, Some(_)) => drop(own.insert(Arc::clone(check), Route::Host)),
                (None, None) => drop(own.insert(Arc::clone(check), now.segment(check))),
            }
        }
        self.checks.send_if_modified(|sent| {
            let is_new = *sent != own;
            *sent = own;
            is_new
        });
        self.steer(&steered, now);
    }

    /// Goes on with these checks by the data path.
    fn steer(&mut self, checks: &[(Arc<Check>, Path)], now: &Surroundings<'_>) {
        if self.steered.is_none() && checks.is_empty() {
            return;
        }
        let (tell, paths) = (&self.tell, self.paths);
        let steered = self.steered.get_or_insert_with(|| {
            Steered::start(tell.clone(), paths).map_err(|error| {
                error!("no health checks by the data path: {error:#}");
                format!("{error:#}")
            })
        });
        let steered = match steered {
            Ok(steered) => steered,
            Err(reason) => {
                for (check, _) in checks {
                    let failure = Failure::Unsent(reason.clone());
                    self.states.record(check, Err(failure));
                }
                return;
            }
        };
        let paths = checks.iter().map(|(check, path)| {
            let server = check.server.clone();
            (server, check.address, path.forward)
        });
        steered.keep(&paths.collect());
        let checks = checks.iter().map(|(check, path)| {
            let route = now.steering(check, *path, steered);
            (Arc::clone(check), route)
        });
        let checks = checks.collect();
        if let Err(error) = steered.send(checks, now.interfaces()) {
            error!("{error:#}");
        }
    }

    /// Waits for the next outcomes and takes them in. Whether a real server's state has changed, or the reason for
    /// it.
    pub async fn follow(&mut self, response_times: &mut AllResponseTimes) -> Result<bool> {
        let first = self.outcomes.recv().await;
        let first = first.context("health checks have ended")?;
        let mut changed = self.record(first, response_times);
        // A switch that fails takes many servers along: that is one change, not many.
        while let Ok(next) = self.outcomes.try_recv() {
            changed |= self.record(next, response_times);
        }
        Ok(changed)
    }

    fn record(
        &mut self,
        (check, outcome): (Arc<Check>, Outcome),
        response_times: &mut AllResponseTimes,
    ) -> bool {
        if let Ok(latency) = outcome {
            for (virtual_server, server) in self.checked.get(&check).into_iter().flatten() {
                response_times.record(virtual_server, server, latency);
            }
        }
        let was_up = self.is_up(&check);
        let changed = self.states.record(&check, outcome);
        if self.is_up(&check) != was_up {
            let state = if was_up { "down" } else { "up" };
            debug!(real_server = %check.server, check = %check.what, "check says {state}");
        }
        changed
    }

    fn is_up(&self, check: &Check) -> bool {
        self.states.get(check).is_some_and(State::is_up)
    }

    /// Whether each check of a server that is down has been answered once, or not in time.
    pub fn is_settled(&self) -> bool {
        self.states.are_settled()
    }

    /// What the checks say.
    pub const fn states(&self) -> &States {
        &self.states
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
        ok: state.passed(),
        latency_us: state.latency().unwrap_or_default().as_micros() as u64,
        message: state.message(check),
    }
}

fn checked(now: &Surroundings<'_>) -> BTreeMap<Arc<Check>, Vec<(String, String)>> {
    let mut checked = BTreeMap::<_, Vec<_>>::new();
    for virtual_server in &now.config.virtual_servers {
        let bound = virtual_server.bind.iter().map(|binding| {
            let server = &now.config.real_servers[&binding.server];
            (&binding.server, server.address)
        });
        let unbound = now.unbound.iter();
        let unbound = unbound
            .filter(|it| it.virtual_server == virtual_server.name)
            .map(|it| (&it.server, it.address));
        for (server, address) in bound.chain(unbound) {
            for check in Check::all_of(server, address, virtual_server) {
                let names = (virtual_server.name.clone(), server.clone());
                checked.entry(check).or_default().push(names);
            }
        }
    }
    checked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        control::desired::{LastKnownLinks, Unbound},
        net::View,
    };

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
        let config = Config::parse("lb.yaml", config).unwrap();
        let unbound = |virtual_server: &str| Unbound {
            virtual_server: virtual_server.to_owned(),
            server: "old".to_owned(),
            address: [10, 9, 0, 3].into(),
        };
        let unbound = ["http", "never", "gone"].map(unbound);
        let now = Surroundings {
            config: &config,
            unbound: &unbound,
            network: &View::default(),
            last_known: &LastKnownLinks::default(),
        };
        let checks = checked(&now).into_iter();
        let mut checks: Vec<_> = checks
            .map(|(check, members)| {
                let members: Vec<_> = members
                    .into_iter()
                    .map(|(virtual_server, server)| format!("{virtual_server} {server}"))
                    .collect();
                (
                    check.server.clone(),
                    check.interval.as_secs(),
                    members.join(", "),
                )
            })
            .collect();
        checks.sort();
        let expected = [
            ("a", 1, "often a"),
            ("a", 2, "dns a, http a"),
            ("b", 2, "http b"),
            ("old", 2, "http old"),
            ("twin", 2, "http twin"),
        ];
        let expected = expected
            .map(|(server, interval, members)| (server.to_owned(), interval, members.to_owned()));
        assert_eq!(checks, expected);
    }
}
