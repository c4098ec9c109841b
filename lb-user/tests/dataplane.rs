//! `lb_user::dataplane` against the kernel: maps that are pinned, taken over or replaced.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::atomic::Ordering,
    thread::sleep,
    time::Duration,
};

use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use bytemuck::Zeroable;
use lb_common::{
    Address, Binding, Control, Counters, Name, RealServer, SessionKey, VirtualServer, protocol,
    session::{Phase, State},
};
use lb_user::{
    config::Limits,
    control::{Platform, handover::Handover, transplant::transplant},
    dataplane::{Pins, Sizes, Tables, clock, load, sessions::SessionTable},
};

/// Pins of a test's own, which go when it ends.
struct TestPins(Pins);

impl TestPins {
    fn new(test: &str) -> Self {
        let root = format!("/sys/fs/bpf/lb-test-{}-{test}", std::process::id());
        let pins = Pins::new(&PathBuf::from(root));
        pins.create().expect("this test pins maps: run it as root");
        Self(pins)
    }
}

impl Drop for TestPins {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

fn sizes(virtual_servers: u32) -> Sizes {
    Sizes::new(&Limits {
        virtual_servers,
        real_servers: 4,
        ..Limits::DEFAULT
    })
}

const BINDING: Binding = Binding {
    real_server: 7,
    counters: 8,
};

#[test]
#[ignore = "needs root"]
fn the_next_daemon_finds_what_an_earlier_one_left() {
    let TestPins(pins) = &TestPins::new("takeover");
    let first = load::load(pins, &sizes(4)).unwrap();
    first.tables.bindings.set(3, BINDING);
    drop(first);
    let next = load::load(pins, &sizes(4)).unwrap();
    assert_eq!(next.tables.bindings.get(3), BINDING);
    // Both are the same memory, not copies.
    let beside = load::load(pins, &sizes(4)).unwrap();
    next.tables.bindings.set(4, BINDING);
    assert_eq!(beside.tables.bindings.get(4), BINDING);
}

#[test]
#[ignore = "needs root"]
fn the_clock_is_the_same_whenever_it_is_read() {
    let TestPins(pins) = &TestPins::new("clock");
    let first = clock::read(pins).unwrap();
    sleep(Duration::from_millis(500));
    let second = clock::read(pins).unwrap();
    assert_eq!(first.jiffy, second.jiffy);
    let apart = second.offset.wrapping_sub(first.offset).cast_signed();
    // A tick may come between the two numbers that one is made of.
    assert!(
        apart.unsigned_abs() < 2 * first.jiffy,
        "{first:?}, {second:?}: {apart} ns apart"
    );
}

#[test]
#[ignore = "needs root"]
fn counters_are_the_same_one_by_one_and_all_at_once() {
    let TestPins(pins) = &TestPins::new("counters-at-once");
    // So many bindings that they are read in several steps, however few CPUs there are.
    let sizes = sizes(300);
    let counters = load::load(pins, &sizes).unwrap().counters;
    let cpus = aya::util::nr_cpus().unwrap() as u64;
    let map = MapData::from_pin(pins.map("binding_counters")).unwrap();
    let mut map = PerCpuArray::<_, [u64; 4]>::try_from(Map::PerCpuArray(map)).unwrap();
    for index in 0..map.len() {
        let first = 2000 * u64::from(index);
        let of_cpus = (first..first + cpus).map(|count| [count, count * 100, count / 2, count / 3]);
        let values = PerCpuValues::try_from(of_cpus.collect::<Vec<_>>()).unwrap();
        map.set(index, values, 0).unwrap();
    }
    let indices: Vec<_> = (0..sizes.bindings).rev().collect();
    let bindings: Vec<_> = indices
        .iter()
        .map(|&index| counters.binding(index).unwrap())
        .collect();
    assert!(bindings.is_sorted_by(|higher, lower| higher.packets > lower.packets));
    let at_once = counters.bindings(&indices).unwrap();
    for ((index, at_once), one_by_one) in indices.iter().zip(&at_once).zip(&bindings) {
        assert_eq!(at_once, one_by_one, "{index}");
    }
    assert_eq!(at_once.len(), bindings.len());
    assert_eq!(counters.bindings(&[]).unwrap(), []);
    // What lies between them is not read.
    let far_apart = [250, 7, 1000, 8];
    let bindings = far_apart.map(|index| counters.binding(index).unwrap());
    assert_eq!(counters.bindings(&far_apart).unwrap(), bindings);
}

/// A virtual server with one real server, for sessions to belong to.
fn serve(tables: &Tables, id: u32) {
    let real_server = RealServer {
        name: Name::new("web-1").unwrap(),
        ..Zeroable::zeroed()
    };
    tables.real_servers.set(1, real_server);
    tables.bindings.set(
        1,
        Binding {
            real_server: 1,
            counters: 1,
        },
    );
    let virtual_server = VirtualServer {
        name: Name::new("shop").unwrap(),
        protocol: protocol::TCP,
        idle_timeout: 10_000,
        first_binding: 1,
        binding_capacity: 1,
        ..Zeroable::zeroed()
    };
    tables.virtual_servers.set(id, virtual_server);
}

/// Each client's address is the number of ticks for which its session is idle.
fn clients(tables: &Tables) -> BTreeSet<u32> {
    let mut clients = BTreeSet::new();
    let table: &dyn SessionTable = &tables.sessions.sessions_v4;
    table.visit(0..table.buckets(), &mut |slot| {
        let (client, port, _) = slot.key().unwrap();
        assert_eq!((slot.state.virtual_server(), port), (1, 7));
        let IpAddr::V4(client) = client.into() else {
            panic!("{client:?}");
        };
        assert!(clients.insert(client.to_bits()), "{client} twice");
    });
    clients
}

#[test]
#[ignore = "needs root"]
fn secrets_stay_once_they_are_whole() {
    let tables = Tables::anonymous(&sizes(4)).unwrap();
    let secrets = || {
        tables.make_secrets().unwrap();
        tables.control.get(0).secrets
    };
    let first = secrets();
    assert!(first.iter().all(|secret| secret % 2 == 1), "{first:x?}");
    assert_eq!(secrets(), first);

    // A daemon was killed between the two.
    let half = Control {
        secrets: [0, first[1]],
        ..tables.control.get(0)
    };
    tables.control.set(0, half);
    let next = secrets();
    assert!(next.iter().all(|secret| secret % 2 == 1), "{next:x?}");
    assert_ne!(next, first);
}

#[test]
#[ignore = "needs root"]
fn a_table_that_shrinks_keeps_the_sessions_that_were_used_last() {
    const SESSIONS: u32 = 4000;
    const NOW: u32 = 100_000;
    let TestPins(pins) = &TestPins::new("shrink");
    let limits = |sessions| {
        Sizes::new(&Limits {
            sessions,
            ..Limits::DEFAULT
        })
    };
    let first = load::load(pins, &limits(SESSIONS)).unwrap();
    assert!(first.former.is_none() && !first.replaces_maps);
    // As if others had come and gone.
    serve(&first.tables, 5);
    for client in 0..SESSIONS {
        let words = first.tables.sessions.sessions_v4.words(client / 4);
        let place = &words[client as usize % 4 * 2..];
        let source = Address::from(IpAddr::from(Ipv4Addr::from_bits(client)));
        let SessionKey([key]) = SessionKey::v4(source.words(), 7, 80);
        place[0].store(key, Ordering::Relaxed);
        let state = State::new(5, 0, Phase::Established, NOW - client);
        place[1].store(state.0, Ordering::Relaxed);
    }
    drop(first);

    let sizes = limits(SESSIONS / 4);
    let next = load::load(pins, &sizes).unwrap();
    let former = next.former.unwrap();
    assert!(next.replaces_maps);
    next.tables.make_secrets().unwrap();
    next.tables.set_limits(&Limits {
        sessions: SESSIONS / 4,
        ..Limits::DEFAULT
    });
    transplant(&former, &next.tables, &sizes, |entry| entry.protocol != 0).unwrap();
    let mut handover = Handover::new(&former, &next.tables);
    handover.copy(NOW, false);
    let kept = clients(&next.tables);
    let copied = handover.copied;
    assert_eq!(next.tables.sessions.active(1), kept.len() as u64);
    assert_eq!(copied.evicted as usize, SESSIONS as usize - kept.len());
    // Two and a quarter times as many places as sessions, and the longest idle went from full buckets.
    assert!((1700..=2256).contains(&kept.len()), "{}", kept.len());
    let early = kept.iter().filter(|&&idle| idle < 1000).count();
    assert!(early > 990, "{early}");
    let late = kept.iter().filter(|&&idle| idle >= 3000).count();
    assert!(late < 100, "{late}");

    // Copied again nothing changes.
    handover.copy(NOW, true);
    assert_eq!(clients(&next.tables), kept);
    assert_eq!(next.tables.sessions.active(1), kept.len() as u64);
}

#[test]
#[ignore = "needs root"]
fn counters_start_at_zero_and_end_with_the_map() {
    let TestPins(pins) = &TestPins::new("counters");
    let mut counters = load::load(pins, &sizes(4)).unwrap().counters;
    counters.reset_binding_counters(3).unwrap();
    assert_eq!(counters.binding(3).unwrap(), Counters::default());
    assert!(
        counters
            .drops()
            .unwrap()
            .iter()
            .all(|&(_, count)| count == 0)
    );
    counters.reset_binding_counters(1 << 20).unwrap_err();
    counters.wait_for_packets();
}

/// Up to layout 3 packets were counted for their virtual server, too.
#[test]
#[ignore = "needs root"]
fn what_a_virtual_server_of_layout_3_counted_is_split_up() {
    let TestPins(pins) = &TestPins::new("layout-3");
    let TestPins(other) = &TestPins::new("layout-3-counters");
    let sizes = sizes(4);
    let tables = load::load(pins, &sizes).unwrap().tables;
    drop(load::load(other, &sizes).unwrap());
    count(pins, 3, [10, 1000, 4, 0]);
    count(other, 1, [12, 1300, 3, 0]);
    let [then, now] = [
        other.map("binding_counters"),
        pins.map("virtual_server_counters"),
    ];
    fs::rename(then, now).unwrap();
    fs::remove_file(pins.map("unbound_counters")).unwrap();
    let control = tables.control.get(0);
    tables.control.set(
        0,
        Control {
            layout: 3,
            ..control
        },
    );
    drop(tables);

    let next = load::load(pins, &sizes).unwrap();
    assert!(next.replaces_maps);
    let former = next.former.unwrap();
    let unbound = former.unbound_counters(1, [3].into_iter()).unwrap();
    assert_eq!((unbound.packets, unbound.bytes), (2, 300));
    // A session that had moved was counted at its binding alone.
    let binding = former.counters.binding(3).unwrap();
    assert_eq!(unbound.plus(binding).sessions, 3);
}

/// Lets the first CPU count this at an index of `binding_counters`.
fn count(pins: &Pins, index: u32, words: [u64; 4]) {
    let map = MapData::from_pin(pins.map("binding_counters")).unwrap();
    let mut map = PerCpuArray::<_, [u64; 4]>::try_from(Map::PerCpuArray(map)).unwrap();
    let mut of_cpus = vec![[0; 4]; aya::util::nr_cpus().unwrap()];
    of_cpus[0] = words;
    map.set(index, PerCpuValues::try_from(of_cpus).unwrap(), 0)
        .unwrap();
}
