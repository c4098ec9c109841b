//! The maps, walked as a packet walks them, while wanted states follow one another.

mod on_change;
mod packet;
mod wanted;

use std::{
    collections::BTreeSet,
    mem::take,
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytemuck::Pod;
use lb_common::Interface;
use lb_ebpf::find;
use nix::{
    sys::memfd::{MFdFlags, memfd_create},
    unistd::ftruncate,
};
use proptest::{collection::vec, prelude::*};

use self::{
    packet::{Found, choose, flow, flows, services, slots, walk},
    wanted::{
        REAL_SERVERS, VIRTUAL_SERVERS, any_desired, desired, keeping, link, member, members, port,
        vip, virtual_server, with_sorry,
    },
};
use super::*;
use crate::{
    config::{Forward, Limits, Ports, Predictor, Protocol},
    dataplane::{Array, SessionTables},
};

/// Room for what [`any_desired`] makes, for as much again during a change, and for what another change that was
/// cut short has left.
const SIZES: Sizes = Sizes {
    vip_buckets: 256,
    vips: 2 * (VIRTUAL_SERVERS as u32 + 1),
    port_ranges: 2 * VIRTUAL_SERVERS as u32,
    virtual_servers: 3 * VIRTUAL_SERVERS as u32 + 1,
    table_blocks: 8192,
    bindings: 512,
    real_servers: 3 * 2 * REAL_SERVERS as u32 + 1,
    fragments: 1,
    sessions_v4: 8,
    sessions_v6: 8,
    sticky: 8,
};

/// Remembers which counters were reset. What a binding has counted is its index.
#[derive(Default)]
struct Counters {
    bindings: Vec<u32>,
}

impl Platform for Counters {
    fn binding_counters(&mut self, index: u32) -> lb_common::Counters {
        lb_common::Counters {
            packets: index.into(),
            ..Default::default()
        }
    }
    fn reset_binding_counters(&mut self, index: u32) -> Result<(), PlatformError> {
        self.bindings.push(index);
        Ok(())
    }
    fn wait_for_packets(&mut self) {}
}

fn reconciler(sizes: &Sizes) -> Reconciler<Counters> {
    let tables = Tables::anonymous(sizes).unwrap();
    Reconciler::new(tables, sizes, Counters::default())
}

fn reconciled(desired: &Desired) -> Reconciler<Counters> {
    let mut reconciler = reconciler(&SIZES);
    reconciler.apply(desired).unwrap();
    reconciler
}

/// The next daemon, on the same maps.
fn restarted(reconciler: Reconciler<Counters>) -> Reconciler<Counters> {
    Reconciler::new(reconciler.tables, &SIZES, Counters::default())
}

fn copy(tables: &Tables) -> Tables {
    fn array<T: Pod>(from: &Array<T>, to: &Array<T>) {
        (0..from.len()).for_each(|index| to.set(index, from.get(index)));
    }
    let copy = Tables::anonymous(&SIZES).unwrap();
    array(&tables.control, &copy.control);
    array(&tables.vip_buckets, &copy.vip_buckets);
    array(&tables.vips, &copy.vips);
    array(&tables.port_ranges, &copy.port_ranges);
    array(&tables.virtual_servers, &copy.virtual_servers);
    array(&tables.predictor_tables, &copy.predictor_tables);
    array(&tables.bindings, &copy.bindings);
    array(&tables.real_servers, &copy.real_servers);
    copy
}

/// All that a packet may read.
fn contents(tables: &Tables) -> Vec<Vec<u8>> {
    fn bytes<T: Pod>(array: &Array<T>) -> Vec<u8> {
        let entries = (0..array.len()).map(|index| array.get(index));
        entries
            .flat_map(|entry| bytemuck::bytes_of(&entry).to_vec())
            .collect()
    }
    // No packet reads the counters of a member that it can't be sent to.
    let bindings = (0..tables.bindings.len())
        .map(|index| tables.bindings.get(index))
        .map(|binding| match binding.real_server {
            0 => Binding::zeroed(),
            _ => binding,
        });
    vec![
        bytes(&tables.control),
        bytes(&tables.vip_buckets),
        bytes(&tables.vips),
        bytes(&tables.port_ranges),
        bytes(&tables.virtual_servers),
        bytes(&tables.predictor_tables),
        bindings
            .flat_map(|binding| bytemuck::bytes_of(&binding).to_vec())
            .collect(),
        bytes(&tables.real_servers),
    ]
}

/// After everything was taken away, everything is free, and the next daemon sees it so, too.
fn assert_nothing_leaks(mut reconciler: Reconciler<Counters>) {
    reconciler.apply(&Desired::default()).unwrap();
    let unused = self::reconciler(&SIZES).state.free;
    assert_eq!(reconciler.state.free, unused);
    assert_eq!(restarted(reconciler).state.free, unused);
}

/// The virtual server that shall get a packet.
fn owner(
    desired: &Desired,
    (vip, protocol, port): (IpAddr, Protocol, u16),
) -> Option<(&String, &Arc<desired::VirtualServer>)> {
    let rank = |ports: &Ports| match ports {
        Ports::List(list) if list.contains(&port) => Some(0),
        Ports::Range(range) if range.contains(&port) => Some(1),
        Ports::Any => Some(2),
        _ => None,
    };
    let here = desired
        .virtual_servers
        .iter()
        .filter(|(_, wanted)| (wanted.vip, wanted.protocol) == (vip, protocol));
    here.filter_map(|found| Some((rank(&found.1.ports)?, found)))
        .min_by_key(|&(rank, _)| rank)
        .map(|(_, found)| found)
}

/// The maps say what is wanted: nothing less, nothing else.
#[track_caller]
fn assert_maps_say(reconciler: &Reconciler<Counters>, desired: &Desired) {
    let tables = &reconciler.tables;
    for service in services() {
        let found = walk(tables, &flow(40000, service));
        let wanted = owner(desired, service);
        assert_eq!(
            found.as_ref().map(|(name, _)| name),
            wanted.map(|(name, _)| name),
            "{service:?}"
        );
    }
    for (name, wanted) in &desired.virtual_servers {
        let id = reconciler.virtual_server_id(name).unwrap();
        let slots = slots(tables, &tables.virtual_servers.get(id));
        let serving: Vec<_> = wanted.serving().collect();
        assert_eq!(slots.is_empty(), serving.is_empty(), "{name}");
        let weights: u32 = serving
            .iter()
            .map(|(_, member)| u32::from(member.weight))
            .sum();
        let mut others = slots.len();
        for (server, member) in serving {
            let link = member.link.as_ref().unwrap();
            let entry = real_server(server, member.address, link);
            let share = slots.iter().filter(|&&found| found == entry).count();
            let fair = f64::from(member.weight) / f64::from(weights) * slots.len() as f64;
            assert!(
                (share as f64 / fair - 1.0).abs() <= 0.02,
                "{share} slots of {name} for {server}, fair: {fair}"
            );
            others -= share;
        }
        assert_eq!(others, 0, "slots of {name} for servers that do not serve");
    }
}

/// What is in use; without the counters of members that no packet was ever sent to, which only the daemon that
/// bound them knows of.
fn in_use(state: &State) -> [Allocator; 4] {
    let free = &state.free;
    [
        &free.virtual_servers,
        &free.real_servers,
        &free.bindings,
        &free.table_blocks,
    ]
    .map(Clone::clone)
}

/// The real server behind each slot of each virtual server.
fn choices(reconciler: &Reconciler<Counters>) -> BTreeMap<String, Vec<RealServer>> {
    let tables = &reconciler.tables;
    let virtual_servers = reconciler.state.virtual_servers.keys();
    virtual_servers
        .map(|Identity { name, .. }| {
            let id = reconciler.virtual_server_id(name).unwrap();
            let entry = tables.virtual_servers.get(id);
            (name.clone(), slots(tables, &entry))
        })
        .collect()
}

/// So many random cases, of which none is kept in a file.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_time: 10_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn the_maps_say_what_is_wanted_whatever_was_before(
        history in vec((any_desired(), any::<u8>(), any::<bool>()), 1..8)
    ) {
        let mut reconciler = reconciler(&SIZES);
        let mut before = Desired::default();
        for (next, kept, restart) in history {
            let desired = keeping(&before, next, kept);
            if restart {
                reconciler = restarted(reconciler);
            }
            reconciler.apply(&desired).unwrap();
            assert_maps_say(&reconciler, &desired);
            prop_assert_eq!(choices(&reconciler), choices(&reconciled(&desired)));
            let next = State::read(&reconciler.tables, &SIZES);
            prop_assert_eq!(in_use(&reconciler.state), in_use(&next));
            before = desired;
        }
        assert_nothing_leaks(reconciler);
    }

    #[test]
    fn a_new_daemon_changes_nothing(desired in any_desired()) {
        let reconciler = reconciled(&desired);
        let ids: Vec<_> = reconciler.state.virtual_servers.values().map(|slot| slot.id).collect();
        let counted = lb_common::Counters { packets: 7, ..Default::default() };
        ids.iter().for_each(|&id| reconciler.tables.unbound_counters.set(id, counted));
        let before = contents(&reconciler.tables);
        let mut next = restarted(reconciler);
        next.apply(&desired).unwrap();
        prop_assert!(contents(&next.tables) == before);
        prop_assert!(ids.iter().all(|&id| next.tables.unbound_counters.get(id) == counted));
    }

    #[test]
    fn a_new_daemon_knows_who_was_up(desired in any_desired()) {
        let reconciler = restarted(reconciled(&desired));
        for (name, virtual_server) in &desired.virtual_servers {
            for (server, member) in &virtual_server.members {
                let was_up = member.state() != desired::State::Down;
                prop_assert_eq!(reconciler.is_up(name, server), was_up);
            }
            prop_assert!(!reconciler.is_up(name, "another"));
        }
        prop_assert!(!reconciler.is_up("another", "s0"));
    }

    #[test]
    fn counters_stay_with_what_stays(
        before in any_desired(), after in any_desired(), restart in any::<bool>()
    ) {
        let mut reconciler = reconciled(&before);
        let counters = |reconciler: &Reconciler<Counters>, desired: &Desired| {
            let members = desired.virtual_servers.iter().flat_map(|(name, wanted)| {
                wanted.members.iter().map(move |(server, member)| {
                    let key = (name.clone(), wanted.vip, wanted.protocol, server.clone());
                    (key, member.link.is_ok())
                })
            });
            let with_index = members.map(|(key, reached)| {
                let index = reconciler.binding_counters(&key.0, &key.3).unwrap();
                (key, (index, reached))
            });
            with_index.collect::<BTreeMap<_, _>>()
        };
        let old = counters(&reconciler, &before);
        if restart {
            reconciler = restarted(reconciler);
        }
        reconciler.platform = Counters::default();
        reconciler.apply(&after).unwrap();
        let new = counters(&reconciler, &after);
        for (key, (index, _)) in &new {
            match old.get(key) {
                Some((old, _)) if !reconciler.platform.bindings.contains(index) => prop_assert_eq!(index, old),
                // A new daemon can't know of a member that no packet was ever sent to.
                Some((_, reached)) => prop_assert!(restart && !reached),
                None => prop_assert!(reconciler.platform.bindings.contains(index)),
            }
        }
        let distinct: BTreeSet<_> = new.values().map(|(index, _)| index).collect();
        prop_assert_eq!(distinct.len(), new.len());
    }

    #[test]
    fn what_is_unbound_leaves_its_counts_behind(
        states in [any_desired(), any_desired(), any_desired()],
    ) {
        let mut reconciler = reconciler(&SIZES);
        // By virtual server: its counters, and what it should have kept of those that it had.
        let mut known = BTreeMap::<Identity, (BTreeSet<u32>, u64)>::new();
        // Who comes back may get an id that another one had.
        for desired in states.iter().chain(&states) {
            reconciler.apply(desired).unwrap();
            let servers = desired.virtual_servers.iter().map(|(name, wanted)| {
                let identity = identity(name, wanted);
                let now: BTreeSet<_> = reconciler.counters_of(name).collect();
                let left = known.get(&identity).map_or(0, |(counters, left)| {
                    left + u64::from(counters.difference(&now).sum::<u32>())
                });
                let id = reconciler.virtual_server_id(name).unwrap();
                (identity, id, (now, left))
            });
            let servers: Vec<_> = servers.collect();
            for (identity, id, (_, left)) in &servers {
                let unbound = reconciler.tables.unbound_counters.get(*id);
                prop_assert_eq!(unbound.packets, *left, "{}", identity.name);
            }
            known = servers.into_iter().map(|(identity, _, it)| (identity, it)).collect();
        }
    }

    #[test]
    fn a_packet_never_sees_half_of_a_change(before in any_desired(), after in any_desired()) {
        let flows = flows();
        let walks = |tables: &Tables| -> Vec<Found> {
            flows.iter().map(|flow| walk(tables, flow)).collect()
        };
        let reconciler = reconciled(&before);
        let (old, new) = (walks(&reconciler.tables), walks(&reconciled(&after).tables));
        // Packets that have read the pointers to all that changes now, but have followed them no further.
        let in_flight: Vec<_> = flows
            .iter()
            .map(|flow| {
                find::virtual_server(&reconciler.tables, flow).copied()
            })
            .collect();
        each_step(&reconciler, &after, |tables| {
            for (((flow, old), new), in_flight) in flows.iter().zip(&old).zip(&new).zip(&in_flight) {
                let now = walk(tables, flow);
                let either = now == *old || now == *new;
                let moving = gives_up_port(&before, &after, old, new) && name(&now) == name(old);
                prop_assert!(either || moving, "{:?}: {:?}, from {:?} to {:?}", flow, now, old, new);
                let Some(entry) = in_flight else {
                    continue;
                };
                // It has read where the table is; and, or not yet, where the bindings are. By which hash it
                // chooses must not change: if it does, packets move anyway, and one may go to a third server.
                let later = VirtualServer {
                    table: entry.table,
                    predictor: entry.predictor,
                    ..tables.virtual_servers.get(entry.id)
                };
                for entry in [entry, &later] {
                    let chosen = choose(tables, entry, flow);
                    prop_assert_eq!(&chosen, &old.as_ref().unwrap().1);
                }
            }
            Ok(())
        })?;
    }
}

proptest! {
    #![proptest_config(cases(10))]

    #[test]
    fn a_daemon_that_is_killed_in_a_change_leaves_nothing_in_the_way(
        before in any_desired(), after in any_desired(), then in any_desired()
    ) {
        let reconciler = reconciled(&before);
        each_step(&reconciler, &after, |tables| {
            let mut next = Reconciler::new(copy(tables), &SIZES, Counters::default());
            next.apply(&then).unwrap();
            assert_maps_say(&next, &then);
            prop_assert_eq!(in_use(&next.state), in_use(&State::read(&next.tables, &SIZES)));
            assert_nothing_leaks(next);
            Ok(())
        })?;
    }
}

/// Carries a change out, up to where the old state becomes free, and has a look at the maps after each entry that
/// was written.
fn each_step(
    reconciler: &Reconciler<Counters>,
    desired: &Desired,
    look: impl Fn(&Tables) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let tables = &reconciler.tables;
    let now = Instant::now();
    let mut plan = Plan::make(tables, reconciler.state.clone(), desired, now).unwrap();
    let bindings = take(&mut plan.bindings);
    let virtual_servers = take(&mut plan.virtual_servers);
    let directory = plan.directory.take();
    plan.suspend_predictors(tables);
    look(tables)?;
    let step = |plan: &Plan| {
        plan.write(tables);
        look(tables)
    };
    step(&plan)?;
    for binding in bindings {
        plan.bindings = vec![binding];
        step(&plan)?;
    }
    for virtual_server in virtual_servers {
        plan.virtual_servers = vec![virtual_server];
        step(&plan)?;
    }
    plan.directory = directory;
    step(&plan)
}

fn name(found: &Found) -> Option<&str> {
    found
        .as_ref()
        .map(|(virtual_server, _)| virtual_server.as_str())
}

/// Whether a virtual server that stays gives up the port of a flow. Until the directory says so, it chooses among
/// its new real servers for it.
fn gives_up_port(before: &Desired, after: &Desired, old: &Found, new: &Found) -> bool {
    name(old) != name(new)
        && name(old).is_some_and(|name| {
            let service = |desired: &Desired| {
                let wanted = desired.virtual_servers.get(name)?;
                Some((wanted.vip, wanted.protocol))
            };
            service(before) == service(after)
        })
}

/// Servers 0 and 1 are bound and `up` of them are up; both are needed. The sorry server is 2.
fn with_sorry_server(up: u8, predictor: Predictor) -> Desired {
    let mut bound = members(0..2);
    for (_, member) in &mut bound[usize::from(up)..] {
        member.link = Err("no answer".to_owned());
    }
    let shop = desired::VirtualServer {
        predictor,
        minimum_up: 2,
        ..virtual_server(vip(0), port(80), bound)
    };
    let [sorry] = <[_; 1]>::try_from(members(2..3)).unwrap();
    desired([("shop", with_sorry(shop, sorry))])
}

/// Also with `sticky`, new sessions go where bindings say that they may.
#[test]
fn the_sorry_server_and_the_others_take_turns_and_keep_their_sessions() {
    for predictor in [
        Predictor::Hash,
        Predictor::RoundRobin,
        Predictor::LeastConnection,
        Predictor::ResponseTime,
    ] {
        let mut reconciler = reconciler(&SIZES);
        // Who takes new sessions and who keeps those that are there, of servers 0, 1 and 2.
        for (up, takes, keeps) in [
            (2, [true, true, false], [true, true, true]),
            (1, [false, false, true], [true, false, true]),
            (0, [false, false, true], [false, false, true]),
            (2, [true, true, false], [true, true, true]),
        ] {
            let wanted = with_sorry_server(up, predictor);
            reconciler.apply(&wanted).unwrap();
            assert_maps_say(&reconciler, &wanted);
            let slot = reconciler.slot("shop").unwrap();
            let bindings = slot.members.values();
            let bindings: Vec<_> = bindings
                .map(|member| reconciler.tables.bindings.get(slot.binding(member)))
                .collect();
            let they =
                |what: fn(Binding) -> bool| Vec::from_iter(bindings.iter().map(|&it| what(it)));
            assert_eq!(
                they(Binding::takes_sessions),
                takes,
                "{predictor} with {up} up"
            );
            assert_eq!(
                they(Binding::keeps_sessions),
                keeps,
                "{predictor} with {up} up"
            );
        }
    }
}

/// Else flows would move when the operator adds one.
#[test]
fn a_sorry_server_that_does_not_serve_changes_no_table() {
    let with = with_sorry_server(2, Predictor::Hash);
    let mut without = with.clone();
    let shop = Arc::make_mut(without.virtual_servers.get_mut("shop").unwrap());
    shop.members.remove("s2");
    shop.sorry = None;
    assert!(choices(&reconciled(&with)) == choices(&reconciled(&without)));
}

/// What it leads to would be weights taken for servers, or nothing.
#[test]
fn no_packet_follows_the_order_of_another_predictor() {
    let predictors = [
        Predictor::Hash,
        Predictor::SourceHash,
        Predictor::RoundRobin,
        Predictor::LeastConnection,
        Predictor::ResponseTime,
    ];
    let with = |predictor| {
        let shop = desired::VirtualServer {
            predictor,
            ..virtual_server(vip(0), port(80), members(0..3))
        };
        desired([("shop", shop)])
    };
    for before in predictors {
        for after in predictors {
            let reconciler = reconciled(&with(before));
            let tables = &reconciler.tables;
            let now = Instant::now();
            let plan = Plan::make(tables, reconciler.state.clone(), &with(after), now).unwrap();
            plan.suspend_predictors(tables);
            // Of a packet that comes when the earlier ones are gone.
            let id = reconciler.virtual_server_id("shop").unwrap();
            let read = tables.virtual_servers.get(id).predictor;
            plan.write(tables);
            let needs_order = read > lb_common::Predictor::SourceHash as u8;
            let now = tables.virtual_servers.get(id).predictor;
            assert!(!needs_order || read == now, "{before:?} to {after:?}");
        }
    }
}

// === Packets on the way ===

/// Waits, as the kernel does, until the reader has done with the packet that it is following.
struct Reader(Arc<Mutex<()>>);

impl Platform for Reader {
    fn binding_counters(&mut self, _: u32) -> lb_common::Counters {
        lb_common::Counters::default()
    }
    fn reset_binding_counters(&mut self, _: u32) -> Result<(), PlatformError> {
        Ok(())
    }
    fn wait_for_packets(&mut self) {
        drop(self.0.lock());
    }
}

/// The same tables twice: as the daemon writes them, and as packets read them.
fn shared_tables() -> [Tables; 2] {
    let memory: [OwnedFd; 8] = std::array::from_fn(|_| {
        let memory = memfd_create(c"table", MFdFlags::MFD_CLOEXEC).unwrap();
        ftruncate(&memory, 1 << 20).unwrap();
        memory
    });
    [(); 2].map(|()| Tables {
        control: Array::map(&memory[0], 1).unwrap(),
        vip_buckets: Array::map(&memory[1], SIZES.vip_buckets).unwrap(),
        vips: Array::map(&memory[2], SIZES.vips).unwrap(),
        port_ranges: Array::map(&memory[3], SIZES.port_ranges).unwrap(),
        virtual_servers: Array::map(&memory[4], SIZES.virtual_servers).unwrap(),
        predictor_tables: Array::map(&memory[5], SIZES.table_blocks).unwrap(),
        bindings: Array::map(&memory[6], SIZES.bindings).unwrap(),
        real_servers: Array::map(&memory[7], SIZES.real_servers).unwrap(),
        interfaces: Array::anonymous(Interface::SLOTS).unwrap(),
        unbound_counters: Array::anonymous(SIZES.virtual_servers).unwrap(),
        sessions: Arc::new(SessionTables::anonymous(&SIZES).unwrap()),
    })
}

#[test]
fn packets_that_come_during_changes_find_the_old_server_or_the_new_one() {
    // Names swap their VIPs, members come and go, a virtual server grows, others come and go.
    let states = [
        desired([
            ("a", virtual_server(vip(0), port(80), members(0..2))),
            ("b", virtual_server(vip(1), port(80), members(2..5))),
            ("c", virtual_server(vip(2), port(80), members(0..1))),
        ]),
        desired([
            ("a", virtual_server(vip(1), port(80), members(1..6))),
            ("b", virtual_server(vip(0), port(80), members(3..4))),
            ("c", virtual_server(vip(2), port(80), members(0..6))),
        ]),
        desired([
            ("b", virtual_server(vip(0), port(80), members(3..5))),
            ("c", virtual_server(vip(2), port(80), members(2..3))),
            ("d", virtual_server(vip(2), Ports::Any, members(3..6))),
        ]),
    ];
    let services = [(0, 80), (1, 80), (2, 80), (2, 1500)];
    let flows = services.map(|(n, port)| flow(40000, (vip(n), Protocol::Tcp, port)));
    let expected = states.each_ref().map(|state| {
        let tables = reconciled(state).tables;
        flows.each_ref().map(|flow| walk(&tables, flow))
    });

    let [written, read] = shared_tables();
    let reading = Arc::new(Mutex::new(()));
    let mut reconciler = Reconciler::new(written, &SIZES, Reader(reading.clone()));
    reconciler.apply(&states[0]).unwrap();
    // The change that goes on: to state 1, to state 2, and round again.
    let change = AtomicUsize::new(0);
    let (mut unexpected, mut walks) = (BTreeSet::new(), 0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for (n, state) in states.iter().cycle().take(300).enumerate() {
                change.store(n, Ordering::SeqCst);
                reconciler.apply(state).unwrap();
            }
        });
        while !writer.is_finished() {
            for (n, flow) in flows.iter().enumerate() {
                let guard = reading.lock();
                let first = change.load(Ordering::SeqCst);
                let found = walk(&read, flow);
                let last = change.load(Ordering::SeqCst);
                drop(guard);
                walks += 1;
                let mut may_be =
                    (first.saturating_sub(1)..=last).map(|state| &expected[state % 3][n]);
                if !may_be.any(|one| *one == found) {
                    unexpected.insert((first, n, found));
                }
            }
        }
    });
    assert_eq!(unexpected, BTreeSet::new(), "of {expected:#?}");
    assert!(walks > 300, "{walks} walks only");
}

// === Examples ===

#[test]
fn virtual_servers_with_equal_members_share_a_table() {
    let shop = virtual_server(vip(0), port(80), members(0..3));
    let mail = virtual_server(vip(0), port(25), members(0..3));
    let mut reconciler = reconciled(&desired([("shop", shop.clone()), ("mail", mail.clone())]));
    let table = |reconciler: &Reconciler<Counters>, name| {
        let id = reconciler.virtual_server_id(name).unwrap();
        reconciler.tables.virtual_servers.get(id).table
    };
    assert_eq!(table(&reconciler, "shop"), table(&reconciler, "mail"));
    // One of them changes, and the other one keeps the table.
    let kept = table(&reconciler, "mail");
    let shop = virtual_server(vip(0), port(80), members(0..2));
    let changed = desired([("shop", shop), ("mail", mail)]);
    reconciler.apply(&changed).unwrap();
    assert_eq!(table(&reconciler, "mail"), kept);
    assert_ne!(table(&reconciler, "shop"), kept);
    assert_maps_say(&reconciler, &changed);
    assert_nothing_leaks(reconciler);
}

#[test]
fn when_a_server_goes_few_flows_of_the_others_move() {
    let chosen = |servers: std::ops::Range<u8>| -> Vec<Found> {
        let shop = virtual_server(vip(0), port(80), members(servers));
        let reconciler = reconciled(&desired([("shop", shop)]));
        (0..10_000)
            .map(|client| {
                walk(
                    &reconciler.tables,
                    &flow(client, (vip(0), Protocol::Tcp, 80)),
                )
            })
            .collect()
    };
    let gone = Some(("shop".to_owned(), Some("s5".to_owned())));
    let (before, after) = (chosen(0..6), chosen(0..5));
    let moved = before
        .iter()
        .zip(&after)
        .filter(|&(before, after)| *before != gone && before != after)
        .count();
    assert!(moved < 10_000 / 10, "{moved} of 10,000 flows moved");
}

#[test]
fn a_new_daemon_keeps_its_tables_where_there_is_no_room_for_others() {
    let sizes = Sizes {
        table_blocks: 1 + 32,
        ..SIZES
    };
    let wanted = desired([("shop", virtual_server(vip(0), port(80), members(0..3)))]);
    let mut reconciler = reconciler(&sizes);
    reconciler.apply(&wanted).unwrap();
    let before = contents(&reconciler.tables);
    let mut next = Reconciler::new(reconciler.tables, &sizes, Counters::default());
    next.apply(&wanted).unwrap();
    assert!(contents(&next.tables) == before);
}

// === Limits ===

/// A state that does not fit is refused with these words, and changes nothing; what fits is taken after that as
/// before.
#[track_caller]
fn assert_refused(sizes: &Sizes, fits: &Desired, does_not: &Desired, words: &str) {
    let mut reconciler = reconciler(sizes);
    reconciler.apply(fits).unwrap();
    let before = (contents(&reconciler.tables), reconciler.state.free.clone());
    let error = reconciler.apply(does_not).unwrap_err();
    assert_eq!(error.to_string(), words);
    let after = (contents(&reconciler.tables), reconciler.state.free.clone());
    assert!(before == after, "something changed");
    reconciler.apply(&Desired::default()).unwrap();
    reconciler.apply(fits).unwrap();
}

fn shop(servers: impl IntoIterator<Item = u8>) -> Desired {
    desired([("shop", virtual_server(vip(0), port(80), members(servers)))])
}

#[test]
fn more_virtual_servers_than_the_limit_are_refused() {
    let sizes = Sizes::new(&Limits {
        virtual_servers: 1,
        real_servers: 1,
        ..Limits::DEFAULT
    });
    let mut two = shop([0]);
    two.virtual_servers
        .extend(desired([("mail", virtual_server(vip(1), port(25), []))]).virtual_servers);
    let words = "more virtual servers than limits.virtual_servers: raise it";
    assert_refused(&sizes, &shop([0]), &two, words);
}

#[test]
fn more_real_servers_than_the_map_holds_are_refused() {
    let sizes = Sizes {
        real_servers: 3,
        ..SIZES
    };
    let words = "more real servers than limits.real_servers: raise it";
    assert_refused(&sizes, &shop([0, 1]), &shop([0, 2, 3]), words);
}

#[test]
fn more_bindings_than_the_map_holds_are_refused() {
    let sizes = Sizes {
        bindings: 4,
        ..SIZES
    };
    let words = "no room to bind 3 real servers to shop: raise limits.virtual_servers";
    assert_refused(&sizes, &shop([0, 1]), &shop([0, 1, 2]), words);
}

#[test]
fn no_room_for_the_smallest_predictor_table_is_an_error() {
    let sizes = Sizes {
        table_blocks: 2,
        ..SIZES
    };
    let words = "no room for the predictor table of shop: raise limits.virtual_servers";
    assert_refused(&sizes, &shop([0]), &shop([0, 1]), words);
}

#[test]
fn more_ports_than_the_directory_holds_are_refused() {
    let list = Ports::List((1..1000).collect());
    let many = desired([("shop", virtual_server(vip(0), list, members([0])))]);
    let words = "the table of VIPs and ports is full: raise limits.virtual_servers, or use port ranges instead of lists";
    assert_refused(&SIZES, &shop([0]), &many, words);
}

#[test]
fn where_memory_is_short_the_table_is_coarser() {
    let sizes = Sizes {
        table_blocks: 1 + 4,
        ..SIZES
    };
    let mut reconciler = reconciler(&sizes);
    reconciler.apply(&shop([0, 1])).unwrap();
    let id = reconciler.virtual_server_id("shop").unwrap();
    assert_eq!(reconciler.tables.virtual_servers.get(id).table.slots, 128);
    assert_maps_say(&reconciler, &shop([0, 1]));
}

/// At the limit, too, each entry can be replaced by another one, all in one step.
#[test]
fn everything_can_be_replaced_at_the_limits() {
    let sizes = Sizes::new(&Limits {
        virtual_servers: 2,
        real_servers: 2,
        ..Limits::DEFAULT
    });
    let mut reconciler = reconciler(&sizes);
    let state = |names: [&'static str; 2], mac| {
        let forwards = [Forward::L2dsr, Forward::L3dsr];
        desired([0, 1].map(|n: u8| {
            let forward = forwards[usize::from(n)];
            let members = [0, 1].map(|n| member(n, link(mac + n, forward)));
            let ports = port([80, 443][usize::from(n)]);
            (
                names[usize::from(n)],
                virtual_server(vip(0), ports, members),
            )
        }))
    };
    for wanted in [
        state(["a", "b"], 10),
        state(["a", "b"], 20),
        state(["c", "d"], 20),
        state(["a", "b"], 10),
    ] {
        reconciler.apply(&wanted).unwrap();
        assert_maps_say(&reconciler, &wanted);
    }
}

#[test]
fn more_servers_than_sessions_can_tell_apart_are_refused() {
    let sizes = Sizes {
        bindings: 16_384,
        real_servers: 8192,
        table_blocks: 65_536,
        ..SIZES
    };
    let members = |count: u16| {
        (0..count).map(|n| {
            let (_, member) = member(0, link(0, Forward::L2dsr));
            (format!("s{n}"), member)
        })
    };
    let most = session::State::BINDINGS as u16;
    let shop = |count| desired([("shop", virtual_server(vip(0), port(80), members(count)))]);
    reconciler(&sizes).apply(&shop(most)).unwrap();
    let error = reconciler(&sizes).apply(&shop(most + 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "shop binds more than 4096 real servers, counting those that drain: bind fewer"
    );
}
