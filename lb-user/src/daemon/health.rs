//! What the daemon does about health checks: it says what is to be checked, and follows what comes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, watch};

use crate::{
    api::status,
    config::{self, Config},
    control::{Platform, Reconciler, desired::Unbound, response_time::AllResponseTimes},
    health::{self, Check, Outcome, State, States},
};

/// Health checks, from the daemon's side.
pub struct Health {
    checks: watch::Sender<BTreeSet<Arc<Check>>>,
    outcomes: mpsc::UnboundedReceiver<(Arc<Check>, Outcome)>,
    states: States,
    /// The names of the virtual servers and real servers that each check is for.
    checked: BTreeMap<Arc<Check>, Vec<(String, String)>>,
}

impl Health {
    /// Checks nothing yet.
    pub fn start() -> Result<Self> {
        let (checks, receiver) = watch::channel(BTreeSet::new());
        let outcomes = health::run(receiver).context("can't open sockets for health checks")?;
        Ok(Self {
            checks,
            outcomes,
            states: States::default(),
            checked: BTreeMap::new(),
        })
    }

    /// Checks the real servers of `config` and those that are unbound. Whoever is up in the maps and was not checked before
    /// stays up until its checks fail.
    pub fn check<P: Platform>(
        &mut self,
        config: &Config,
        unbound: &[Unbound],
        reconciler: &Reconciler<P>,
    ) {
        self.checked = checked(config, unbound);
        let checks = self.checked.iter().map(|(check, members)| {
            let mut members = members.iter();
            let is_up =
                members.any(|(virtual_server, server)| reconciler.is_up(virtual_server, server));
            (Arc::clone(check), is_up)
        });
        self.states.set(checks);
        let checks: BTreeSet<_> = self.checked.keys().cloned().collect();
        self.checks.send_if_modified(|sent| {
            let is_new = *sent != checks;
            *sent = checks;
            is_new
        });
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
        self.states.record(&check, outcome)
    }

    /// Waits until each check of a server that is down has been answered once, or not in time.
    pub async fn wait_for_first_outcomes(&mut self, response_times: &mut AllResponseTimes) {
        while !self.states.are_settled() {
            if self.follow(response_times).await.is_err() {
                return;
            }
        }
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

fn checked(config: &Config, unbound: &[Unbound]) -> BTreeMap<Arc<Check>, Vec<(String, String)>> {
    let mut checked = BTreeMap::<_, Vec<_>>::new();
    for virtual_server in &config.virtual_servers {
        let bound = virtual_server.bind.iter().map(|binding| {
            let server = &config.real_servers[&binding.server];
            (&binding.server, server.address)
        });
        let unbound = unbound
            .iter()
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
        let checks = checked(&config, &unbound).into_iter();
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
