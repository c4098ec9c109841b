//! A balancer's program in the kernel that has the tables, the time and the sessions of a balancer in this process.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use aya::maps::{HashMap, MapData, PerCpuArray, PerCpuValues};
use bytemuck::Pod;
use lb_common::{Clock, Control, Counters, TraceFilter, session::TICK};
use lb_fuzz::{
    memory::{Counted, Counter},
    scenario,
};
use lb_user::dataplane::{Array, CounterMaps, Pins, Program, Tables, TraceEvents, load, trace};
use nix::time::{ClockId, clock_gettime};
use tokio::runtime;

use super::kernel::{Place, Runner};
use crate::fixture::Port;

/// Two 64-bit words for each CPU.
type PerCpuPairs = PerCpuArray<MapData, [u64; 2]>;

/// The program, in a network namespace that has the interfaces.
pub struct Twin {
    program: Program,
    tables: Tables,
    counters: CounterMaps,
    fragments: HashMap<MapData, [u64; 5], [u64; 2]>,
    budgets: [PerCpuPairs; 2],
    clock: Clock,
    /// When its time was set: nanoseconds of the host's.
    time_set: u64,
    /// What was counted before.
    before: BTreeMap<Counter, Counters>,
}

impl Twin {
    /// Loads the balancer, or the one that tells what it does, and lets a test have it.
    pub fn run(tracing: bool, test: impl FnOnce(&mut Self) + Send) {
        let place = Place::new();
        place.add_ports();
        place.namespace.run(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let _entered = runtime.enter();
            let (mut twin, _events) = Self::load(&Pins::new(&place.pin_path), tracing);
            test(&mut twin);
        });
    }

    fn load(pins: &Pins, tracing: bool) -> (Self, Option<TraceEvents>) {
        pins.create().expect("a BPF file system");
        let sizes = scenario::sizes();
        let mut loaded = load::load(pins, &sizes).unwrap_or_else(|error| panic!("{error}"));
        let budgets = ["error_budget", "session_budget"].map(|name| {
            let map = loaded.balancer.take_map(name);
            PerCpuPairs::try_from(map).expect("its layout")
        });
        let mut twin = Self {
            program: loaded.balancer,
            clock: loaded.tables.control.get(0).clock,
            tables: loaded.tables,
            counters: loaded.counters,
            fragments: loaded.fragments,
            budgets,
            time_set: 0,
            before: BTreeMap::new(),
        };
        let events = tracing.then(|| {
            let traced = trace::load(pins, &sizes, TraceFilter::all(128));
            let (program, events) = traced.unwrap_or_else(|error| panic!("{error}"));
            twin.program = program;
            events
        });
        (twin, events)
    }

    /// What becomes of a frame: what the program returns, and the frame afterwards.
    pub fn run_frame(&mut self, ingress: &Port, frame: &[u8]) -> (u32, Vec<u8>) {
        Runner(self.program.xdp()).run(ingress, frame)
    }

    /// Forgets what it knows from packets but for their sessions.
    pub fn forget(&mut self) {
        let known: Vec<_> = self.fragments.keys().flatten().collect();
        for datagram in known {
            let removed = self.fragments.remove(&datagram);
            removed.expect("it was just there");
        }
        for budget in &mut self.budgets {
            let full = vec![[0; 2]; aya::util::nr_cpus().expect("a number of CPUs")];
            let full = PerCpuValues::try_from(full).expect("one for each CPU");
            budget.set(0, full, 0).expect("the map has one entry");
        }
        self.before = self.counters();
    }

    /// Takes over the tables and the sessions of a balancer for which it is this time, in nanoseconds. From here on, the
    /// program's time goes on.
    pub fn become_like(&mut self, tables: &Tables, now: u64) {
        self.time_set = host_time();
        let own = &self.tables;
        copy(&tables.vip_buckets, &own.vip_buckets);
        copy(&tables.vips, &own.vips);
        copy(&tables.port_ranges, &own.port_ranges);
        copy(&tables.virtual_servers, &own.virtual_servers);
        copy(&tables.predictor_tables, &own.predictor_tables);
        copy(&tables.bindings, &own.bindings);
        copy(&tables.real_servers, &own.real_servers);
        copy(&tables.interfaces, &own.interfaces);
        let (sessions, own_sessions) = (&tables.sessions, &own.sessions);
        copy(&sessions.sessions_v4, &own_sessions.sessions_v4);
        copy(&sessions.sessions_v6, &own_sessions.sessions_v6);
        copy(&sessions.sticky_v4, &own_sessions.sticky_v4);
        copy(&sessions.sticky_v6, &own_sessions.sticky_v6);
        copy(&sessions.active, &own_sessions.active);
        copy(&sessions.turns, &own_sessions.turns);
        let control = tables.control.get(0);
        let layout = own.control.get(0).layout;
        let passed = now.wrapping_sub(self.time_set);
        let offset = self.clock.offset.wrapping_add(passed);
        let clock = Clock {
            offset,
            ..self.clock
        };
        let control = Control {
            layout,
            clock,
            ..control
        };
        own.control.set(0, control);
    }

    /// Whether so much time has gone by since then that it may matter: the machine is busy.
    pub fn is_late(&self) -> bool {
        host_time() - self.time_set > TICK / 2
    }

    /// The first thing in which its sessions and those of a balancer differ, if anything does: bit by bit.
    pub fn differing_sessions(&self, tables: &Tables) -> Option<String> {
        let (own, others) = (&self.tables.sessions, &tables.sessions);
        difference("sessions_v4", &own.sessions_v4, &others.sessions_v4)
            .or_else(|| difference("sessions_v6", &own.sessions_v6, &others.sessions_v6))
            .or_else(|| difference("sticky_v4", &own.sticky_v4, &others.sticky_v4))
            .or_else(|| difference("sticky_v6", &own.sticky_v6, &others.sticky_v6))
            .or_else(|| difference("active_sessions", &own.active, &others.active))
            .or_else(|| difference("turns", &own.turns, &others.turns))
    }

    /// What was counted since [`Self::forget`].
    pub fn counted(&self) -> Counted {
        let mut counted = self.counters();
        for (counter, before) in &self.before {
            let after = counted.get_mut(counter).expect("counters stay");
            *after = after.minus(*before);
        }
        counted.retain(|_, counters| *counters != Counters::default());
        counted
    }

    fn counters(&self) -> Counted {
        let sizes = scenario::sizes();
        let indices: Vec<u32> = (0..sizes.bindings).collect();
        let bindings = self.counters.bindings(&indices).expect("the map");
        let packets = |packets| Counters {
            packets,
            ..Counters::default()
        };
        let drops = self.counters.drops().expect("the map has all reasons");
        let events = self.counters.session_events();
        let events = events.expect("the map has all events");
        let drops = drops.into_iter();
        let events = events.into_iter();
        let indices = indices.into_iter();
        indices
            .map(Counter::Binding)
            .zip(bindings)
            .chain(drops.map(|(reason, count)| (Counter::Drop(reason.name()), packets(count))))
            .chain(events.map(|(event, count)| (Counter::Event(event.name()), packets(count))))
            .collect()
    }
}

/// The monotonic clock, in nanoseconds.
fn host_time() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("the kernel has this clock");
    let now = Duration::from(now).as_nanos();
    now.try_into().expect("less than centuries")
}

/// Writes what differs.
fn copy<T: Pod>(from: &Array<T>, to: &Array<T>) {
    for index in 0..from.len() {
        for (from, to) in from.words(index).iter().zip(to.words(index)) {
            let wanted = from.load(Ordering::Relaxed);
            if to.load(Ordering::Relaxed) != wanted {
                to.store(wanted, Ordering::Relaxed);
            }
        }
    }
}

fn difference<T: Pod>(name: &str, program: &Array<T>, library: &Array<T>) -> Option<String> {
    let word = |word: &AtomicU64| word.load(Ordering::Relaxed);
    (0..program.len()).find_map(|index| {
        let words = program.words(index).iter().zip(library.words(index));
        words.enumerate().find_map(|(place, (program, library))| {
            let (program, library) = (word(program), word(library));
            (program != library).then(|| {
                format!("{name}[{index}], word {place}: the program has {program:#x}, the library {library:#x}")
            })
        })
    })
}
