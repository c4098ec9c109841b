//! What the daemon does about sessions: it sweeps the table, and keeps real servers that were unbound as long as they have
//! sessions left.

use foldhash::{HashMap, HashMapExt};
use lb_common::session::tick;
use nix::time::{ClockId, clock_gettime};

use crate::{
    config::Config,
    control::{Platform, Reconciler, desired::Unbound, sweep::Sweep},
    dataplane::Sizes,
};

/// Buckets that a step of the sweep visits.
const STEP: u32 = 16_384;

/// Sessions, from the daemon's side.
pub struct Sessions {
    sweep: Sweep,
    /// Of each member that is unbound the first pass of the sweep that may have met none of its sessions, by the index of
    /// its counters.
    unbound: HashMap<u32, u64>,
}

impl Sessions {
    /// Nothing is known yet.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            sweep: Sweep::new(sizes),
            unbound: HashMap::new(),
        }
    }

    /// Sweeps on. Whether a real server that is unbound has lost its last session.
    pub fn sweep<P: Platform>(&mut self, reconciler: &Reconciler<P>) -> bool {
        let Self { sweep, unbound } = self;
        let completed = sweep.step(reconciler.tables(), now(), STEP);
        if !completed {
            return false;
        }
        for (&counters, since) in &mut *unbound {
            if sweep.counted(counters) > 0 {
                *since = sweep.passes().max(*since);
            }
        }
        unbound
            .values()
            .any(|&since| !may_have_sessions(sweep, since))
    }

    /// The sessions of a binding, by the index of its counters, were dropped.
    pub fn dropped(&mut self, binding_counters: u32) {
        self.sweep.reset(binding_counters);
    }

    /// Sessions of a binding, by the index of its counters, when the table was swept last.
    pub fn counted(&self, binding_counters: u32) -> u32 {
        self.sweep.counted(binding_counters)
    }

    /// Sessions of IPv4 and of IPv6 when the table was swept last.
    pub const fn counted_by_family(&self) -> [u64; 2] {
        self.sweep.counted_by_family()
    }

    /// The real servers that `config` neither binds nor has as sorry servers, and that may have sessions left.
    pub fn unbound<P: Platform>(
        &mut self,
        reconciler: &Reconciler<P>,
        config: &Config,
    ) -> Vec<Unbound> {
        let virtual_servers = config.virtual_servers.iter();
        let by_name: HashMap<&str, Vec<&str>> = virtual_servers
            .map(|it| {
                let bound = it.bind.iter().map(|to| &to.server).chain(&it.sorry);
                let mut bound: Vec<_> = bound.map(String::as_str).collect();
                bound.sort_unstable();
                (it.name.as_str(), bound)
            })
            .collect();
        let is_bound = |virtual_server: &str, server: &str| {
            let bound = by_name.get(virtual_server);
            bound.is_some_and(|bound| bound.binary_search(&server).is_ok())
        };
        let sweep = &self.sweep;
        let mut unbound = HashMap::new();
        let left = reconciler
            .unbound(is_bound)
            .filter(|(_, counters)| {
                // The pass that is under way may be past a session that began just now.
                let since = self.unbound.get(counters).copied();
                let since = since.unwrap_or(sweep.passes() + 1);
                let is_left = may_have_sessions(sweep, since);
                if is_left {
                    unbound.insert(*counters, since);
                }
                is_left
            })
            .map(|(unbound, _)| unbound)
            .collect();
        self.unbound = unbound;
        left
    }
}

/// Whether a member whose sessions no pass has met from that one on may have some all the same. One pass can miss a session
/// that moves to its second bucket, but not two, because none moves again.
const fn may_have_sessions(sweep: &Sweep, since: u64) -> bool {
    sweep.passes() < since + 2
}

/// The time that packets see, in ticks.
pub fn now() -> u32 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("the kernel has this clock");
    tick(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{Arc, atomic::Ordering},
    };

    use lb_common::session::{Phase, State};

    use super::*;
    use crate::{
        control::{
            PlatformError,
            desired::{Link, desired},
        },
        dataplane::Tables,
        health::States,
        net::View,
    };

    fn config(keys: &str) -> Config {
        let text = format!(
            "{{interfaces: [{{name: eth0}}], real_servers: {{a: 10.9.0.1, b: 10.9.0.2, c: 10.9.0.3}}, virtual_servers: [\
             {{name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, {keys}}}]}}"
        );
        Config::parse("lb.yaml", &text).unwrap()
    }

    struct NoKernel;

    impl Platform for NoKernel {
        fn reset_virtual_server_counters(&mut self, _: u32) -> Result<(), PlatformError> {
            Ok(())
        }
        fn reset_binding_counters(&mut self, _: u32) -> Result<(), PlatformError> {
            Ok(())
        }
        fn wait_for_packets(&mut self) {}
    }

    /// A balancer whose servers are all up.
    struct Balancer {
        reconciler: Reconciler<NoKernel>,
        sessions: Sessions,
    }

    impl Balancer {
        fn new() -> Self {
            let sizes = Sizes::few();
            let tables = Tables::anonymous(&sizes).unwrap();
            Self {
                reconciler: Reconciler::new(tables, &sizes, NoKernel),
                sessions: Sessions::new(&sizes),
            }
        }

        /// Applies a configuration that binds these servers: those that are left in the maps without being bound.
        fn bind(&mut self, servers: &str) -> Vec<String> {
            self.configure(&format!("bind: [{servers}]"))
        }

        fn bind_stateless(&mut self, servers: &str) -> Vec<String> {
            self.configure(&format!("bind: [{servers}], session: {{mode: stateless}}"))
        }

        fn configure(&mut self, keys: &str) -> Vec<String> {
            let config = config(keys);
            let unbound = self.sessions.unbound(&self.reconciler, &config);
            let mut wanted = desired(
                &config,
                &View::default(),
                &HashMap::new(),
                &unbound,
                &States::default(),
            );
            let shop = wanted.virtual_servers.get_mut("shop").unwrap();
            for member in Arc::make_mut(shop).members.values_mut() {
                member.link = Ok(Link {
                    ifindex: 1,
                    source_mac: [2; 6],
                    destination_mac: [4; 6],
                    mtu: 1500,
                    outer_source: None,
                });
            }
            self.reconciler.apply(&wanted).unwrap();
            let is_bound = |_: &str, server: &str| {
                config.virtual_servers[0]
                    .bind
                    .iter()
                    .any(|it| it.server == server)
            };
            let left = self.reconciler.unbound(is_bound);
            left.map(|(unbound, _)| unbound.server).collect()
        }

        /// Sweeps the small table once.
        fn sweep(&mut self) -> bool {
            let passes = self.sessions.sweep.passes();
            let has_room = self.sessions.sweep(&self.reconciler);
            assert_eq!(self.sessions.sweep.passes(), passes + 1);
            has_room
        }

        /// The word of a session of a server: puts one there.
        fn session(&self, offset: u32) {
            let id = self.reconciler.virtual_server_id("shop").unwrap();
            let state = State::new(id, offset, Phase::Closing, now());
            let words = self.reconciler.tables().sessions.sessions_v4.words(offset);
            words[1].store(state.0, Ordering::Relaxed);
        }

        fn end_session(&self, offset: u32) {
            let words = self.reconciler.tables().sessions.sessions_v4.words(offset);
            words[1].store(0, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_server_that_is_unbound_stays_as_long_as_it_has_sessions() {
        let mut balancer = Balancer::new();
        assert_eq!(balancer.bind("a, b"), Vec::<String>::new());
        balancer.session(1);
        assert_eq!(balancer.bind("a"), ["b"]);
        for _ in 0..5 {
            assert!(!balancer.sweep(), "it has a session");
            assert_eq!(balancer.bind("a"), ["b"]);
        }
        balancer.end_session(1);
        assert_eq!(balancer.bind("a"), ["b"], "not before it was swept");
        assert_eq!([balancer.sweep(), balancer.sweep()], [false, true]);
        assert_eq!(balancer.bind("a"), Vec::<String>::new());
        assert!(!balancer.sweep(), "nothing to wait for");
        assert_eq!(balancer.reconciler.binding_counters("shop", "b"), None);
    }

    #[test]
    fn a_sorry_server_is_not_unbound() {
        let mut balancer = Balancer::new();
        balancer.configure("bind: [a], sorry: b");
        let unbound = |balancer: &mut Balancer, keys| {
            let config = config(keys);
            let unbound = balancer.sessions.unbound(&balancer.reconciler, &config);
            Vec::from_iter(unbound.into_iter().map(|it| it.server))
        };
        assert_eq!(
            unbound(&mut balancer, "bind: [a], sorry: b"),
            Vec::<String>::new()
        );
        assert_eq!(
            unbound(&mut balancer, "bind: [b], sorry: a"),
            Vec::<String>::new()
        );
        assert_eq!(unbound(&mut balancer, "bind: [a]"), ["b"]);
    }

    /// Packets that were under way when it was unbound may have begun one.
    #[test]
    fn a_server_without_sessions_stays_for_whole_passes_of_the_sweep() {
        let mut balancer = Balancer::new();
        balancer.bind("a, b");
        for _ in 0..3 {
            assert_eq!(balancer.bind("a"), ["b"]);
            balancer.sweep();
        }
        assert_eq!(balancer.bind("a"), Vec::<String>::new());
    }

    /// It moved from where the sweep had yet to come to where it had been.
    #[test]
    fn a_server_whose_last_session_one_pass_has_missed_stays() {
        let mut balancer = Balancer::new();
        balancer.bind("a, b");
        balancer.session(1);
        for _ in 0..3 {
            assert_eq!(balancer.bind("a"), ["b"]);
            balancer.sweep();
        }
        balancer.end_session(1);
        balancer.sweep();
        balancer.session(1);
        for _ in 0..5 {
            assert_eq!(balancer.bind("a"), ["b"]);
            balancer.sweep();
        }
    }

    #[test]
    fn a_server_that_is_unbound_when_sessions_are_given_up_stays_until_they_are_swept() {
        let mut balancer = Balancer::new();
        balancer.bind("a, b");
        balancer.session(1);
        for _ in 0..3 {
            assert_eq!(balancer.bind_stateless("a"), ["b"]);
            balancer.sweep();
        }
        assert_eq!(balancer.bind_stateless("a"), Vec::<String>::new());
        let words = balancer.reconciler.tables().sessions.sessions_v4.words(1);
        let state = State(words[1].load(Ordering::Relaxed));
        assert!(!state.is_session(), "its offset may become another's");
    }

    #[test]
    fn a_server_that_is_bound_again_is_as_it_was() {
        let mut balancer = Balancer::new();
        balancer.bind("a, b");
        balancer.session(1);
        let counters = balancer.reconciler.binding_counters("shop", "b");
        balancer.bind("a");
        assert_eq!(balancer.bind("a, b, c"), Vec::<String>::new());
        assert_eq!(balancer.reconciler.binding_counters("shop", "b"), counters);
        // And may be unbound again, with all of its time.
        assert_eq!(balancer.bind("a, c"), ["b"]);
    }

    #[test]
    fn a_server_of_a_virtual_server_that_is_gone_goes_with_it() {
        let mut balancer = Balancer::new();
        balancer.bind("a");
        balancer.session(0);
        balancer.reconciler.apply(&Default::default()).unwrap();
        let words = balancer.reconciler.tables().sessions.sessions_v4.words(0);
        let state = State(words[1].load(Ordering::Relaxed));
        assert!(!state.is_session(), "its id may become another's");
    }
}
