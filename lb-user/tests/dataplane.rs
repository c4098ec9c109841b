//! `lb_user::dataplane` against the kernel: maps that are pinned, taken over or refused.

use std::path::PathBuf;

use lb_common::{Binding, Counters};
use lb_user::{
    config::Limits,
    control::Platform,
    dataplane::{Pins, Sizes, load},
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
fn maps_of_other_limits_are_refused_and_kept() {
    let TestPins(pins) = &TestPins::new("limits");
    let first = load::load(pins, &sizes(4)).unwrap();
    first.tables.bindings.set(3, BINDING);
    drop(first);
    let Err(error) = load::load(pins, &sizes(5)) else {
        panic!("maps of other limits were taken over");
    };
    let error = error.to_string();
    assert!(error.contains("restore the limits"), "{error}");
    let again = load::load(pins, &sizes(4)).unwrap();
    assert_eq!(again.tables.bindings.get(3), BINDING);
}

#[test]
#[ignore = "needs root"]
fn counters_start_at_zero_and_end_with_the_map() {
    let TestPins(pins) = &TestPins::new("counters");
    let mut counters = load::load(pins, &sizes(4)).unwrap().counters;
    counters.reset_virtual_server_counters(2).unwrap();
    counters.reset_binding_counters(3).unwrap();
    assert_eq!(counters.virtual_server(2).unwrap(), Counters::default());
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
