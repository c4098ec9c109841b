//! What the daemon says of itself: the status, and log lines for changes of state.

use std::{collections::BTreeMap, time::Instant};

use lb_common::Counters;
use tracing::{info, warn};

use super::{Daemon, rates::Counted};
use crate::{
    api::status::{RealServer, Sessions, Status, VirtualServer},
    control::{Desired, State, desired::Member},
};

impl Daemon {
    /// The state of everything now.
    pub(super) fn status(&self) -> Status {
        let virtual_servers = self.config.virtual_servers.iter().map(|server| {
            let wanted = &self.desired.virtual_servers[&server.name];
            let real_servers = server.bind.iter().map(|binding| {
                let member = &wanted.members[&binding.server];
                let key = (server.name.clone(), Some(binding.server.clone()));
                RealServer {
                    name: binding.server.clone(),
                    address: member.address,
                    weight: member.weight,
                    state: member.state().to_string(),
                    reason: member.link.clone().err().unwrap_or_default(),
                    checks: Vec::new(),
                    sessions: Sessions::default(),
                    traffic: self.rates.traffic(&key, self.read_counters(&key)),
                }
            });
            let key = (server.name.clone(), None);
            VirtualServer {
                name: server.name.clone(),
                vip: server.vip,
                protocol: server.protocol.to_string(),
                port: server.ports.clone(),
                forward: server.forward.to_string(),
                predictor: server.predictor.to_string(),
                state: wanted.state().to_string(),
                sessions: Sessions::default(),
                traffic: self.rates.traffic(&key, self.read_counters(&key)),
                real_servers: real_servers.collect(),
            }
        });
        let drops = self.reconciler.platform().drops().unwrap_or_else(|error| {
            warn!(
                "can't read the map drop_counters: {:#}",
                anyhow::Error::from(error)
            );
            Vec::new()
        });
        Status {
            virtual_servers: virtual_servers.collect(),
            drops: drops
                .into_iter()
                .map(|(reason, count)| (reason.name().to_owned(), count))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    /// Remembers the counters, for rates.
    pub(super) fn sample_rates(&mut self) {
        let keys = self
            .desired
            .virtual_servers
            .iter()
            .flat_map(|(name, server)| {
                let members = server.members.keys().map(|member| Some(member.clone()));
                members.chain([None]).map(|member| (name.clone(), member))
            });
        let counters: Vec<_> = keys
            .map(|key| {
                let counters = self.read_counters(&key);
                (key, counters)
            })
            .collect();
        self.rates.sample(counters.into_iter(), Instant::now());
    }

    fn read_counters(&self, (virtual_server, real_server): &Counted) -> Counters {
        let maps = self.reconciler.platform();
        let counters = match real_server {
            None => self
                .reconciler
                .virtual_server_id(virtual_server)
                .map(|id| maps.virtual_server(id)),
            Some(real_server) => self
                .reconciler
                .binding_counters(virtual_server, real_server)
                .map(|index| maps.binding(index)),
        };
        counters
            .transpose()
            .unwrap_or_else(|error| {
                warn!("can't read counters: {:#}", anyhow::Error::from(error));
                None
            })
            .unwrap_or_default()
    }
}

/// Logs what is up, down or draining now and wasn't before.
pub(super) fn log_changes(before: &Desired, now: &Desired) {
    for (name, server) in &now.virtual_servers {
        let old = before.virtual_servers.get(name);
        for (member_name, member) in &server.members {
            let old = old.and_then(|old| old.members.get(member_name));
            log_member(name, member_name, old, member);
        }
        let state = server.state();
        if old.map(|old| old.state()) != Some(state) {
            match state {
                State::Down => warn!(virtual_server = %name, "down"),
                _ => info!(virtual_server = %name, "{state}"),
            }
        }
    }
}

fn log_member(virtual_server: &str, real_server: &str, before: Option<&Member>, now: &Member) {
    let reason = now.link.as_ref().err();
    let same_reason = before.map(|before| before.link.as_ref().err()) == Some(reason);
    if before.map(Member::state) == Some(now.state()) && same_reason {
        return;
    }
    match reason {
        Some(reason) => warn!(%virtual_server, %real_server, "down: {reason}"),
        None => info!(%virtual_server, %real_server, "{}", now.state()),
    }
}
