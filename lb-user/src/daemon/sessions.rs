//! What the daemon does about sessions: it sweeps the table, and keeps real servers that were unbound as long as they have
//! sessions left; and the marks of virtual servers that track changes alone, as long as these have.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet};
use lb_common::session::tick;
use nix::time::ClockId;

use crate::{
    config::Config,
    control::{Desired, Platform, Reconciler, desired::Unbound, sweep::Sweep},
    dataplane::{Sizes, clock},
};

/// Sessions, from the daemon's side.
pub struct Sessions {
    sweep: Sweep,
    /// Of each member that is unbound the first pass of the sweep that may have met none of its sessions, by the index of
    /// its counters.
    unbound: HashMap<u32, u64>,
    /// The same of each virtual server that has settled and tracks sessions still, by its name.
    tracked: HashMap<String, u64>,
}

impl Sessions {
    /// Nothing is known yet.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            sweep: Sweep::new(sizes),
            unbound: HashMap::new(),
            tracked: HashMap::new(),
        }
    }

    /// Sweeps on. Whether a real server that is unbound, or a virtual server that tracks sessions, has lost its last
    /// session.
    pub fn sweep<P: Platform>(&mut self, reconciler: &Reconciler<P>) -> bool {
        let Self {
            sweep,
            unbound,
            tracked,
        } = self;
        let tables = reconciler.tables();
        if sweep.begins() {
            sweep.visit_only(reconciler.families());
        }
        if !sweep.step(tables, now(), sweep.pace(tables)) {
            return false;
        }
        for (&counters, since) in &mut *unbound {
            if sweep.counted(counters) > 0 {
                *since = sweep.passes().max(*since);
            }
        }
        for (name, mut counters) in reconciler.tracked() {
            let since = tracked.entry(name.to_owned()).or_insert(sweep.passes());
            if counters.any(|it| sweep.counted(it) > 0) {
                *since = sweep.passes();
            }
        }
        let mut all = unbound.values().chain(tracked.values());
        all.any(|&since| !may_have_sessions(sweep, since))
    }

    /// Tells which virtual servers have no sessions, where it matters.
    pub fn tell<P: Platform>(&mut self, reconciler: &Reconciler<P>, next: &mut Desired) {
        let still: HashSet<&str> = reconciler.tracked().map(|(name, _)| name).collect();
        self.tracked.retain(|name, _| still.contains(name.as_str()));
        for (name, &since) in &self.tracked {
            if let Some(virtual_server) = next.virtual_servers.get_mut(name) {
                let has_sessions = may_have_sessions(&self.sweep, since);
                Arc::make_mut(virtual_server).has_sessions = has_sessions;
            }
        }
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

    /// The real servers that `config` neither binds nor has as sorry servers, and that may have sessions left. While their
    /// virtual server settles, they may get some.
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
            .filter(|(left, counters)| {
                let since = self.unbound.get(counters).copied();
                let settles = reconciler.settles(&left.virtual_server).is_some();
                // The pass that is under way may be past a session that began just now.
                let since = since.filter(|_| !settles).unwrap_or(sweep.passes() + 1);
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
    tick(clock::monotonic(ClockId::CLOCK_MONOTONIC_COARSE))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{Arc, atomic::Ordering},
        time::{Duration, Instant},
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
        fn binding_counters(&mut self, _: u32) -> lb_common::Counters {
            lb_common::Counters::default()
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
        now: Instant,
    }

    impl Balancer {
        fn new() -> Self {
            let sizes = Sizes::few();
            let tables = Tables::anonymous(&sizes).unwrap();
            Self {
                reconciler: Reconciler::new(tables, &sizes, NoKernel),
                sessions: Sessions::new(&sizes),
                now: Instant::now(),
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
            self.sessions.tell(&self.reconciler, &mut wanted);
            self.reconciler.apply_at(&wanted, self.now).unwrap();
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

    const TRACKED: &str = "session: {mode: on_change}";

    #[test]
    fn a_server_that_is_unbound_stays_until_its_virtual_server_has_settled() {
        let mut balancer = Balancer::new();
        balancer.configure(&format!("bind: [a, b], {TRACKED}"));
        let unbound = format!("bind: [a], {TRACKED}");
        for _ in 0..5 {
            assert_eq!(balancer.configure(&unbound), ["b"]);
            balancer.sweep();
        }
        balancer.now += Duration::from_secs(30);
        for _ in 0..4 {
            assert_eq!(balancer.configure(&unbound), ["b"]);
            balancer.sweep();
        }
        assert_eq!(balancer.configure(&unbound), Vec::<String>::new());
    }

    #[test]
    fn sessions_are_tracked_until_the_last_one_is_gone() {
        let mut balancer = Balancer::new();
        balancer.configure(&format!("bind: [a, b], {TRACKED}"));
        let unbound = format!("bind: [a], {TRACKED}");
        balancer.configure(&unbound);
        balancer.session(1);
        balancer.now += Duration::from_secs(30);
        let is_tracked = |balancer: &Balancer| balancer.reconciler.tracked().count() == 1;
        balancer.configure(&unbound);
        assert!(!is_tracked(&balancer), "the last step is to come");
        for _ in 0..5 {
            balancer.configure(&unbound);
            assert!(is_tracked(&balancer));
            balancer.sweep();
        }
        balancer.end_session(1);
        for _ in 0..2 {
            balancer.sweep();
            assert!(is_tracked(&balancer));
        }
        assert!(balancer.sweep(), "nothing is left");
        balancer.configure(&unbound);
        assert!(!is_tracked(&balancer));
    }

    /// Flows may have been recorded since the sweep found none.
    #[test]
    fn sessions_are_tracked_anew_after_the_next_change() {
        let mut balancer = Balancer::new();
        let settle = |balancer: &mut Balancer, servers: &str| {
            let keys = format!("bind: [{servers}], {TRACKED}");
            balancer.configure(&keys);
            balancer.now += Duration::from_secs(30);
            balancer.configure(&keys);
            balancer.configure(&keys);
            keys
        };
        settle(&mut balancer, "a, b");
        settle(&mut balancer, "a");
        balancer.sweep();
        balancer.sweep();
        let keys = settle(&mut balancer, "a, c");
        balancer.sweep();
        balancer.configure(&keys);
        assert_eq!(balancer.reconciler.tracked().count(), 1);
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
