//! The sessions in the table, with the names of what they belong to.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use axum::body::Bytes;
use lb_common::{
    VirtualServer,
    protocol::TCP,
    session::{Phase, TICK},
};

use super::sessions::now;
use crate::{
    api::{Session, sessions::Filter},
    config::Config,
    control::{Desired, sweep::is_over},
    dataplane::{SessionTables, Tables, sessions::Slot},
};

/// Buckets in an item: few enough that nobody waits for it.
const STEP: u32 = 128;

/// Most names in an error.
const MOST_NAMES: usize = 10;

/// Walks through the table. Each item is the next few sessions, a [`Session`] in JSON on a line each; or none, where the
/// table is empty.
///
/// Names are those at the beginning of the walk; sessions of what came later are not listed, or, if it has taken the place
/// of what went, under the name of that.
pub struct SessionList {
    tables: Arc<SessionTables>,
    /// Those that are listed, by id.
    virtual_servers: Vec<Option<Listed>>,
    /// Of the tables, the one in work, and the next bucket of it.
    next: (usize, u32),
}

/// A virtual server.
struct Listed {
    name: String,
    entry: VirtualServer,
    /// Its real servers that are listed, by offset of their binding.
    real_servers: Vec<Option<(String, IpAddr)>>,
}

impl SessionList {
    /// The sessions that `filter` wants.
    pub fn new(tables: &Tables, filter: &Filter) -> Self {
        let ids = 0..tables.virtual_servers.len();
        Self {
            tables: Arc::clone(&tables.sessions),
            virtual_servers: ids.map(|id| Listed::read(tables, id, filter)).collect(),
            next: (0, 0),
        }
    }

    /// `None` if it is not listed.
    fn session(&self, slot: &Slot<'_>, now: u32) -> Option<String> {
        let state = slot.state;
        let virtual_server = self.virtual_servers.get(state.virtual_server() as usize)?;
        let virtual_server = virtual_server.as_ref()?;
        let Listed { name, entry, .. } = virtual_server;
        let real_server = virtual_server.real_servers.get(state.binding() as usize);
        let (real_server, address) = real_server?.as_ref()?;
        if is_over(state, entry, now) {
            return None;
        }
        let (client, client_port, port) = slot.key()?;
        let idle = state.idle(now);
        let session = Session {
            virtual_server: name,
            vip: entry.vip.into(),
            protocol: match entry.protocol {
                TCP => "tcp",
                _ => "udp",
            },
            port,
            client: client.into(),
            client_port,
            real_server,
            address: *address,
            state: match state.phase() {
                Phase::Opening => "opening",
                Phase::Closing => "closing",
                _ => "established",
            },
            // The age is rougher than the idle time.
            age_seconds: seconds(state.age(now).max(idle)),
            idle_seconds: seconds(idle),
        };
        Some(serde_json::to_string(&session).expect("a session is JSON"))
    }
}

impl Iterator for SessionList {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (number, first) = self.next;
        let table = *self.tables.sessions().get(number)?;
        let end = table.buckets().min(first + STEP);
        self.next = if end == table.buckets() {
            (number + 1, 0)
        } else {
            (number, end)
        };
        let now = now();
        let mut lines = String::new();
        table.visit(first..end, &mut |slot| {
            if let Some(session) = self.session(&slot, now) {
                lines.push_str(&session);
                lines.push('\n');
            }
        });
        Some(lines.into())
    }
}

impl Listed {
    /// `None` if it is free or not wanted.
    fn read(tables: &Tables, id: u32, filter: &Filter) -> Option<Self> {
        let entry = tables.virtual_servers.get(id);
        let name = entry.name.as_str().filter(|name| !name.is_empty())?;
        if !filter.wants_virtual_server(name, entry.vip.into()) {
            return None;
        }
        let bindings = entry.first_binding..entry.first_binding + entry.binding_capacity;
        let real_server = |index| {
            let real_server = tables
                .real_servers
                .get(tables.bindings.get(index).real_server);
            let name = real_server.name.as_str().filter(|name| !name.is_empty())?;
            let address = real_server.address.into();
            let is_wanted = filter.wants_real_server(name, address);
            is_wanted.then(|| (name.to_owned(), address))
        };
        Some(Self {
            name: name.to_owned(),
            entry,
            real_servers: bindings.map(real_server).collect(),
        })
    }
}

/// Seconds in so many ticks.
const fn seconds(ticks: u32) -> u64 {
    ticks as u64 * TICK / 1_000_000_000
}

/// Whether all that `filter` names is there, that is, configured or left with sessions.
///
/// # Errors
///
/// Says what is not, and what is.
pub fn check(filter: &Filter, config: &Config, desired: &Desired) -> Result<(), String> {
    let virtual_servers = || config.virtual_servers.iter();
    if let Some(vip) = filter.vip
        && virtual_servers().all(|it| it.vip != vip)
    {
        let vips = virtual_servers().map(|it| it.vip.to_string());
        return Err(unknown("VIP", &vip.to_string(), vips));
    }
    if let Some(name) = &filter.virtual_server
        && virtual_servers().all(|it| it.name != *name)
    {
        let names = virtual_servers().map(|it| it.name.clone());
        return Err(unknown("virtual server", name, names));
    }
    let members = desired.virtual_servers.values().flat_map(|it| &it.members);
    let members = members.map(|(name, member)| (name, member.address));
    let configured = config.real_servers.iter();
    let configured = configured.map(|(name, server)| (name, server.address));
    let real_servers = configured.chain(members);
    if let Some(real) = &filter.real
        && !real_servers
            .clone()
            .any(|(name, address)| filter.wants_real_server(name, address))
    {
        let names = real_servers.map(|(name, _)| name.clone());
        return Err(unknown("real server", real, names));
    }
    Ok(())
}

fn unknown(what: &str, wanted: &str, known: impl Iterator<Item = String>) -> String {
    let known: BTreeSet<String> = known.collect();
    let more = known.len().saturating_sub(MOST_NAMES);
    let mut names: Vec<_> = known.into_iter().take(MOST_NAMES).collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    format!(
        "unknown {what} {wanted}: the daemon has {}",
        names.join(", ")
    )
}
