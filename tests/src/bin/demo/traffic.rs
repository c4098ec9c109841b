//! Clients that ask without end, and what came of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use lb_tests::Host;
use serde_json::Value;

/// After each request, so that a small machine has time for the demo itself.
const PAUSE: Duration = Duration::from_millis(4);

/// A virtual server as clients see it.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub protocol: String,
    pub address: SocketAddr,
}

/// How many requests each real server answered, and how many failed.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub answered: BTreeMap<String, u64>,
    pub failed: u64,
}

/// Requests to every service, by any number of threads.
#[derive(Debug)]
pub struct Traffic {
    services: Vec<(Service, Mutex<Tally>)>,
    last_failure: Mutex<Option<String>>,
    stopped: AtomicBool,
}

// === impl Service ===

impl Service {
    /// The virtual servers in what `lb status --json` prints.
    pub fn all(status: &Value) -> Result<Vec<Self>> {
        let servers = status["virtual_servers"]
            .as_array()
            .context("no virtual servers")?;
        servers
            .iter()
            .map(|one| Self::new(one).with_context(|| format!("in {one}")))
            .collect()
    }

    fn new(virtual_server: &Value) -> Result<Self> {
        let text = |key: &str| {
            virtual_server[key]
                .as_str()
                .with_context(|| format!("no {key}"))
        };
        let port = virtual_server["port"].as_u64().context("not one port")?;
        Ok(Self {
            name: text("name")?.into(),
            protocol: text("protocol")?.into(),
            address: SocketAddr::new(text("vip")?.parse()?, port.try_into()?),
        })
    }

    /// Sends one request from a port of its own, and returns who answered.
    fn ask(&self, client: &Host) -> Result<String> {
        if self.protocol == "udp" {
            return Ok(client.udp(self.address).ask("who are you?")?.server);
        }
        let report = client.http().get(self.address, 1);
        match report.replies.into_iter().next() {
            Some(reply) => Ok(reply.server),
            None => bail!("{}", report.failures.concat()),
        }
    }
}

// === impl Tally ===

impl Tally {
    /// All requests that got an answer.
    pub fn total(&self) -> u64 {
        self.answered.values().sum()
    }

    /// The requests that one server answered.
    pub fn of(&self, server: &str) -> u64 {
        self.answered.get(server).copied().unwrap_or(0)
    }

    /// What came after an earlier state of this tally.
    pub fn since(&self, earlier: &Self) -> Self {
        let answered = self
            .answered
            .iter()
            .map(|(server, count)| (server.clone(), count - earlier.of(server)));
        Self {
            answered: answered.collect(),
            failed: self.failed - earlier.failed,
        }
    }

    /// The sum of tallies.
    pub fn sum<'a>(tallies: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for tally in tallies {
            sum.failed += tally.failed;
            for (server, count) in &tally.answered {
                *sum.answered.entry(server.clone()).or_default() += count;
            }
        }
        sum
    }
}

// === impl Traffic ===

impl Traffic {
    pub fn new(services: Vec<Service>) -> Self {
        Self {
            services: services
                .into_iter()
                .map(|service| (service, Mutex::default()))
                .collect(),
            last_failure: Mutex::default(),
            stopped: AtomicBool::default(),
        }
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().map(|(service, _)| service)
    }

    /// What came of the requests to each service so far.
    pub fn tallies(&self) -> Vec<Tally> {
        self.services
            .iter()
            .map(|(_, tally)| tally.lock().unwrap().clone())
            .collect()
    }

    /// Why the last request failed that did.
    pub fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap().clone()
    }

    /// Asks one service until the traffic is stopped.
    pub fn send(&self, service: usize, client: &Host) {
        let (service, tally) = &self.services[service];
        while !self.stopped.load(Ordering::Relaxed) {
            match service.ask(client) {
                Ok(server) => *tally.lock().unwrap().answered.entry(server).or_default() += 1,
                Err(error) => {
                    tally.lock().unwrap().failed += 1;
                    *self.last_failure.lock().unwrap() =
                        Some(format!("{}: {error:#}", service.name));
                }
            }
            sleep(PAUSE);
        }
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}
