//! What the daemon says of itself: the status, and log lines for changes of state.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant, UNIX_EPOCH},
};

use lb_common::{Counters, DropReason, SessionEvent};
use tracing::{info, warn};

use super::{
    Daemon,
    rates::Rate,
    session_list::{self, SessionList},
};
use crate::{
    api::{
        server::Lines,
        sessions::Filter,
        status::{
            self, Fill, Interface, RealServer, SessionTable, Sessions, Status, Traffic,
            VirtualServer,
        },
    },
    config,
    control::{Desired, State, desired::Member},
    health,
    metrics::Snapshot,
};

impl Daemon {
    /// The state of everything now, for somebody who may ask again soon.
    pub(super) fn status(&mut self) -> Status {
        self.rates.asked(Instant::now());
        self.sample_rates();
        self.report()
    }

    /// The state of everything, with rates as they were at the last sample.
    fn report(&self) -> Status {
        let counters = self.counters();
        let virtual_servers = self.config.virtual_servers.iter().map(|server| {
            let name = &server.name;
            let wanted = &self.desired.virtual_servers[name];
            let bound = server.bind.iter().map(|binding| &binding.server);
            let is_bound = |name: &str| server.bind.iter().any(|it| it.server == name);
            let others = wanted.members.iter().filter(|(name, _)| !is_bound(name));
            let settles = self.reconciler.settles(name);
            // What has sessions left or may get some, and a sorry server that serves or can't.
            let left = others.filter(|(real, member)| {
                let is_wanted = match wanted.is_sorry(real) {
                    true => member.state() != State::Draining,
                    false => settles.is_some(),
                };
                is_wanted || self.has_sessions(name, real)
            });
            let left = left.map(|(real, _)| real);
            let real_servers: Vec<_> = bound
                .chain(left)
                .map(|real_server| {
                    let member = &wanted.members[real_server];
                    self.real_server(server, real_server, member, &counters)
                })
                .collect();
            let active = real_servers.iter().map(|real| real.sessions.active).sum();
            let counted = self.counted(name, &counters);
            let rate = self.rates.of(self.reconciler.counters_of(name));
            let sessions = Sessions {
                active,
                total: counted.sessions,
                per_second: rate.sessions,
            };
            VirtualServer {
                name: name.clone(),
                vip: server.vip,
                protocol: server.protocol.to_string(),
                port: server.ports.clone(),
                forward: server.forward.to_string(),
                predictor: server.predictor.to_string(),
                state: wanted.state().to_string(),
                settling: settles.map(seconds_until),
                sessions,
                traffic: traffic(&counted, &rate),
                real_servers,
            }
        });
        let maps = self.reconciler.platform();
        let drops = unless_unreadable("drop_counters", maps.drops());
        let events = unless_unreadable("session_events", maps.session_events());
        let limits = &self.config.limits;
        let [sessions_v4, sessions_v6] = self.sessions.counted_by_family();
        let interfaces = self.config.interfaces.iter().map(|it| Interface {
            name: it.name.clone(),
            attached: self.interfaces.is_attached(&it.name),
        });
        let fills = self.reconciler.fills().into_iter();
        let fills = fills.map(|(map, entries, capacity)| {
            let fill = Fill { entries, capacity };
            (map.to_owned(), fill)
        });
        let started = self.started.duration_since(UNIX_EPOCH);
        Status {
            configuration: self.reloads.status(),
            virtual_servers: virtual_servers.collect(),
            interfaces: interfaces.collect(),
            session_table: SessionTable {
                capacity_v4: limits.sessions,
                capacity_v6: limits.sessions_v6,
                sessions_v4,
                sessions_v6,
                events: by_name(events, SessionEvent::name),
            },
            drops: by_name(drops, DropReason::name),
            maps: fills.collect(),
            daemon: status::Daemon {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: started.unwrap_or_default().as_secs(),
            },
        }
    }

    /// What Prometheus is told now.
    pub(super) fn metrics(&mut self) -> Snapshot {
        Snapshot {
            // Which has no rates.
            status: self.report(),
            checks: self.health.metrics(),
        }
    }

    /// A real server of a virtual server.
    fn real_server(
        &self,
        virtual_server: &config::VirtualServer,
        name: &str,
        member: &Member,
        counters: &HashMap<u32, Counters>,
    ) -> RealServer {
        let index = self.reconciler.binding_counters(&virtual_server.name, name);
        let active = index.map(|index| self.reconciler.tables().sessions.active(index));
        let counted = index.and_then(|index| counters.get(&index).copied());
        let counted = counted.unwrap_or_default();
        let rate = self.rates.of(index);
        let is_sorry = virtual_server.sorry.as_deref() == Some(name);
        RealServer {
            name: name.to_owned(),
            address: member.address,
            weight: member.weight,
            state: member.state().to_string(),
            reason: member.link.clone().err().unwrap_or_default(),
            sorry: is_sorry,
            checks: match is_sorry {
                true => Vec::new(),
                false => self.health.status(name, member.address, virtual_server),
            },
            sessions: Sessions {
                active: active.unwrap_or_default(),
                total: counted.sessions + counted.moved,
                per_second: rate.arrivals,
            },
            traffic: traffic(&counted, &rate),
        }
    }

    /// Whether a real server has sessions of a virtual server, closing ones among them.
    fn has_sessions(&self, virtual_server: &str, real_server: &str) -> bool {
        let counters = self
            .reconciler
            .binding_counters(virtual_server, real_server);
        let active = |index| self.reconciler.tables().sessions.active(index) > 0;
        counters.is_some_and(|index| active(index) || self.sessions.counted(index) > 0)
    }

    /// What a virtual server counted: what its bindings count, and counted while there were others.
    fn counted(&self, virtual_server: &str, counters: &HashMap<u32, Counters>) -> Counters {
        let id = self.reconciler.virtual_server_id(virtual_server);
        let unbound = id.map(|id| self.reconciler.tables().unbound_counters.get(id));
        let indices = self.reconciler.counters_of(virtual_server);
        indices
            .filter_map(|index| counters.get(&index).copied())
            .fold(unbound.unwrap_or_default(), Counters::plus)
    }

    /// Lines of JSON for the sessions that `filter` asks for; or what it names that nobody has.
    pub(super) fn sessions(&self, filter: &Filter) -> Result<Lines, String> {
        session_list::check(filter, &self.config, &self.desired)?;
        Ok(Box::new(SessionList::new(self.reconciler.tables(), filter)))
    }

    /// Remembers the counters, for rates, if it is time for that.
    pub(super) fn sample_rates(&mut self) {
        let now = Instant::now();
        if !self.rates.is_due(now) {
            return;
        }
        let counters = self.counters();
        let mut sample = self.rates.sample(now);
        for (index, counters) in counters {
            sample.add(index, counters);
        }
        self.rates.took(now.elapsed());
    }

    /// The counters of all bindings, by index.
    fn counters(&self) -> HashMap<u32, Counters> {
        let indices: Vec<_> = self.reconciler.all_counters().collect();
        let maps = self.reconciler.platform();
        let read = unless_unreadable("binding_counters", maps.bindings(&indices));
        indices.into_iter().zip(read).collect()
    }
}

fn traffic(counters: &Counters, rate: &Rate) -> Traffic {
    Traffic {
        packets: counters.packets,
        bytes: counters.bytes,
        packets_per_second: rate.packets,
        bits_per_second: rate.bits,
    }
}

fn by_name<T>(counts: Vec<(T, u64)>, name: impl Fn(T) -> &'static str) -> BTreeMap<String, u64> {
    let counts = counts.into_iter();
    counts
        .map(|(what, count)| (name(what).to_owned(), count))
        .collect()
}

/// What was read, or nothing and a warning.
fn unless_unreadable<T: Default>(
    map: &str,
    read: Result<T, impl std::error::Error + Send + Sync + 'static>,
) -> T {
    read.unwrap_or_else(|error| {
        warn!("can't read the map {map}: {:#}", anyhow::Error::from(error));
        T::default()
    })
}

/// Seconds up to a moment, up to the next whole one.
fn seconds_until(moment: Instant) -> u64 {
    let left = moment.saturating_duration_since(Instant::now());
    left.as_millis().div_ceil(1000) as u64
}

/// A reason that changes while the state stays is told no more often: it may change with each health check.
const REASONS_EVERY: Duration = Duration::from_secs(60);

/// What changes its state, for the log.
#[derive(Default)]
pub struct Changes {
    /// What was told of real servers, by the names of virtual server and real server.
    told: HashMap<String, HashMap<String, Told>>,
}

/// What the log says of a real server.
#[derive(Clone, Copy)]
struct Told {
    /// Since when it is in its state.
    since: Instant,
    /// When it was said that the reason for that has changed.
    reason_changed: Option<Instant>,
}

impl Changes {
    /// Logs what is up, down or draining `now` and wasn't before.
    pub fn log(&mut self, before: &Desired, next: &Desired, now: Instant) {
        let mut news = News::default();
        for (name, server) in &next.virtual_servers {
            let old = before.virtual_servers.get(name);
            if old == Some(server) {
                continue;
            }
            let before = self.told.remove(name).unwrap_or_default();
            let members = server.members.iter().map(|(member_name, member)| {
                let old = old.and_then(|old| old.members.get(member_name));
                let old = old.zip(before.get(member_name).copied());
                (
                    member_name.clone(),
                    tell(name, member_name, old, member, now, &mut news),
                )
            });
            self.told.insert(name.clone(), members.collect());
            let state = server.state();
            if old.map(|old| old.state()) != Some(state) && news.may_tell(state == State::Down) {
                match state {
                    State::Down if server.serving().next().is_some() => {
                        warn!(virtual_server = %name, "down: the sorry server serves");
                    }
                    State::Down => warn!(virtual_server = %name, "down"),
                    _ => info!(virtual_server = %name, "{state}"),
                }
            }
        }
        for name in before.virtual_servers.keys() {
            if !next.virtual_servers.contains_key(name) {
                self.told.remove(name);
                if news.may_tell(false) {
                    info!(virtual_server = %name, "gone, with its sessions");
                }
            }
        }
        news.end();
    }
}

/// Lines of one change: thousands of servers that come up together are no news to anybody.
#[derive(Default)]
struct News {
    /// Of what is down.
    bad: usize,
    other: usize,
}

impl News {
    /// Most of each.
    const MOST: usize = 100;

    fn may_tell(&mut self, is_bad: bool) -> bool {
        let told = if is_bad {
            &mut self.bad
        } else {
            &mut self.other
        };
        *told += 1;
        *told <= Self::MOST
    }

    /// Says how many more there were.
    fn end(self) {
        let [bad, other] = [self.bad, self.other].map(|it| it.saturating_sub(Self::MOST));
        if bad > 0 {
            warn!("{bad} more are down, or for another reason: `lb status` shows all");
        }
        if other > 0 {
            info!("{other} more have changed their state: `lb status` shows all");
        }
    }
}

/// Logs a state of a real server that is new, or the reason for it. What the log says of it then.
fn tell(
    virtual_server: &str,
    real_server: &str,
    before: Option<(&Member, Told)>,
    member: &Member,
    now: Instant,
    news: &mut News,
) -> Told {
    let state = member.state();
    let reason = member.link.as_ref().err();
    let new = Told {
        since: now,
        reason_changed: None,
    };
    let (lasted, told) = match before {
        None => (String::new(), new),
        Some((before, told)) if before.state() != state => {
            let lasted = shown(now.duration_since(told.since));
            (format!(" ({} for {lasted})", before.state()), new)
        }
        Some((before, told)) => {
            let old = before.link.as_ref().err();
            if old == reason || !told.may_tell_reason(old, now) {
                return told;
            }
            let reason_changed = Some(now);
            (
                String::new(),
                Told {
                    reason_changed,
                    ..told
                },
            )
        }
    };
    if news.may_tell(reason.is_some()) {
        match reason {
            Some(reason) => warn!(%virtual_server, %real_server, "down{lasted}: {reason}"),
            None => info!(%virtual_server, %real_server, "{state}{lasted}"),
        }
    }
    told
}

impl Told {
    fn may_tell_reason(self, before: Option<&String>, now: Instant) -> bool {
        let is_long_ago = |at| now.duration_since(at) >= REASONS_EVERY;
        before.is_some_and(|before| before == health::NOT_CHECKED)
            || self.reason_changed.is_none_or(is_long_ago)
    }
}

/// A duration as precise as a person wants it.
fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0..10) => format!("{:.1}s", duration.as_secs_f64()),
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_reason_that_alternates_is_told_once_a_minute() {
        let start = Instant::now();
        let member = |reason: &str| Member {
            address: [10, 9, 0, 11].into(),
            weight: 1,
            share: 1,
            drain: false,
            link: Err(reason.to_owned()),
        };
        let mut before = member(health::NOT_CHECKED);
        let news = &mut News::default();
        let mut told = tell("shop", "web-1", None, &before, start, news);
        assert_eq!(told.reason_changed, None);
        let mut times = Vec::new();
        for second in 1..=200 {
            let next = member(["status 502", "status 503"][second % 2]);
            let now = start + Duration::from_secs(second as u64);
            let after = tell("shop", "web-1", Some((&before, told)), &next, now, news);
            if after.reason_changed != told.reason_changed {
                times.push(second);
            }
            (before, told) = (next, after);
            assert_eq!(told.since, start);
        }
        assert_eq!(times, [1, 61, 121, 181]);
    }

    #[test]
    fn what_is_down_is_told_however_much_is_up() {
        let mut news = News::default();
        let told = (0..1000).filter(|_| news.may_tell(false)).count();
        assert_eq!((told, news.may_tell(true)), (News::MOST, true));
    }

    #[rstest]
    #[case(2_449, "2.4s")]
    #[case(59_999, "59s")]
    #[case(192_000, "3m12s")]
    #[case(7_385_000, "2h3m")]
    #[case(360_000_000, "100h0m")]
    fn durations_are_shown_as_people_say_them(#[case] millis: u64, #[case] text: &str) {
        assert_eq!(shown(Duration::from_millis(millis)), text);
    }
}
