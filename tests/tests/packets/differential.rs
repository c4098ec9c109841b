//! The same result twice: the library and the programs in the kernel, given the same tables, the same time and the same
//! packets, agree on actions, bytes, counters and sessions. Tables, packets and what happens to servers are arbitrary.

use arbitrary::{Arbitrary, Unstructured};
use aya::maps::{HashMap, LpmTrie, MapData, PerCpuArray, lpm_trie::Key};
use ipnet::IpNet;
use lb_common::{
    Address, DecapsulatorCounters,
    decapsulator::{Fate, prefix},
};
use lb_ebpf::Verdict;
use lb_fuzz::{
    check,
    decapsulator::{Decapsulator, PART},
    memory::Counted,
    scenario::{Event, Scenario, Stage},
};
use lb_user::dataplane::{Object, Pins};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{TestCaseError, TestCaseResult},
};

use crate::{
    backend::{Kernel, Place, Runner, Twin, action},
    fixture::LAN,
    properties::{Arrival, action_of, mutated_frames, try_on},
    seeds,
};

/// Scenarios with frames of the table among those that they have themselves.
fn scenarios() -> impl Strategy<Value = Scenario> {
    let frames = vec((any::<Index>(), mutated_frames()), 0..8);
    (vec(any::<u8>(), 1..600), frames).prop_map(|(bytes, frames)| {
        let scenario = Scenario::arbitrary(&mut Unstructured::new(&bytes));
        let mut scenario = scenario.expect("bytes that are missing are zeros");
        for (place, arrival) in frames {
            let Arrival {
                ingress,
                before,
                frame,
            } = arrival;
            let place = place.index(scenario.events.len() + 1);
            let frames = before.into_iter().chain([frame]);
            let events = frames.map(|frame| Event::Frame(ingress, frame));
            scenario.events.splice(place..place, events);
        }
        scenario
    })
}

/// Whether the program does in a scenario what the library does, as long as time can be told to stand still for both.
fn agree(twin: &mut Twin, scenario: &Scenario, frames: &mut u64) -> TestCaseResult {
    let mut stage = Stage::new(&scenario.services);
    stage.balancer = stage.balancer.without_shortcut();
    twin.forget();
    let mut expected = Counted::new();
    let mut is_alike = false;
    for event in &scenario.events {
        let Event::Frame(ingress, frame) = event else {
            stage.happen(event);
            is_alike = false;
            continue;
        };
        if !Kernel::takes_frame(frame) {
            continue;
        }
        if !is_alike {
            let tables = stage.balancer.reconciler().tables();
            twin.become_like(tables, stage.balancer.now());
            is_alike = true;
        }
        let seen = stage.happen(event).expect("it is a frame");
        let (action, output) = twin.run_frame(ingress, frame);
        if twin.is_late() {
            return Ok(());
        }
        *frames += 1;
        prop_assert_eq!(
            action,
            action_of(seen.verdict),
            "the action differs: {:02x?}",
            frame
        );
        if !matches!(seen.verdict, Verdict::Drop(_)) {
            prop_assert_eq!(output, seen.output, "the frame differs: {:02x?}", frame);
        }
        for (counter, counters) in seen.counted {
            let sum = expected.entry(counter).or_default();
            *sum = sum.plus(counters);
        }
        let tables = stage.balancer.reconciler().tables();
        if let Some(difference) = twin.differing_sessions(tables) {
            return Err(TestCaseError::fail(format!("{difference}: {frame:02x?}")));
        }
    }
    expected.retain(|_, counters| *counters != Default::default());
    prop_assert_eq!(twin.counted(), expected, "the counters differ");
    Ok(())
}

fn compare(tracing: bool) {
    Twin::run(tracing, |twin| {
        let mut frames = 0;
        try_on(&scenarios(), SCENARIO, |scenario| {
            agree(twin, scenario, &mut frames)
        });
        println!("{frames} frames");
        assert_ne!(frames, 0, "the machine is too busy to compare any");
    });
}

/// Frames in a scenario, about: so many fewer scenarios are tried than frames are asked for.
const SCENARIO: u32 = 40;

#[test]
fn the_balancer_does_what_the_library_does() {
    compare(false);
}

#[test]
fn the_tracing_balancer_does_what_the_library_does() {
    compare(true);
}

#[test]
fn anything_that_holds_of_scenarios_holds_with_frames_of_the_table() {
    try_on(&scenarios(), SCENARIO, |scenario| {
        check::scenario(scenario);
        Ok(())
    });
}

// === The decapsulator ===

/// Packets that a balancer has put behind outer headers, with some bytes changed.
fn capsules() -> impl Strategy<Value = Vec<u8>> {
    let change = (0..120_usize, any::<u8>());
    let length = prop_oneof![4 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (select(seeds::capsules()), vec(change, 0..4), length).prop_map(
        |(mut frame, changes, length)| {
            for (place, byte) in changes {
                if let Some(place) = frame.get_mut(place) {
                    *place = byte;
                }
            }
            if let Some(length) = length {
                frame.truncate(length.index(frame.len() + 1));
            }
            frame
        },
    )
}

#[test]
fn the_decapsulator_does_what_the_library_does() {
    let place = Place::new();
    place.add_ports();
    place.namespace.run(|| {
        for allows_part in [false, true] {
            decapsulators_agree(&Pins::new(&place.pin_path), &Decapsulator { allows_part });
        }
    });
}

fn decapsulators_agree(pins: &Pins, library: &Decapsulator) {
    let mut program = Object::DECAPSULATOR.load(pins, &[]).expect("it loads");
    let mut addresses: HashMap<_, [u8; 16], u8> = program
        .take_map("local_addresses")
        .try_into()
        .expect("its layout");
    for address in Decapsulator::addresses() {
        let address: [u8; 16] = bytemuck::cast(Address::from(address));
        addresses.insert(address, 0, 0).expect("there is room");
    }
    let mut sources: LpmTrie<_, [u8; 16], u8> = program
        .take_map("allowed_sources")
        .try_into()
        .expect("its layout");
    let allowed: &[&str] = if library.allows_part {
        &PART
    } else {
        &["::/0"]
    };
    for net in allowed {
        let net: IpNet = net.parse().expect("a prefix");
        let (length, address): (u32, Address) = prefix(net.network(), net.prefix_len());
        let key = Key::new(length, bytemuck::cast(address));
        sources.insert(&key, 0, 0).expect("there is room");
    }
    let counters: PerCpuArray<MapData, [u64; 7]> =
        program.take_map("counters").try_into().expect("its layout");
    let mut expected = DecapsulatorCounters::default();
    let runner = Runner(program.xdp());
    try_on(&capsules(), 2, |frame| {
        if !Kernel::takes_frame(frame) {
            return Ok(());
        }
        let (fate, output) = library.run(frame);
        check::decapsulated(frame, fate, &output);
        let (action, seen) = runner.run(&LAN, frame);
        let dropped = fate == Some(Fate::Congested);
        prop_assert_eq!(action, if dropped { action::DROP } else { action::PASS });
        prop_assert_eq!(seen, output);
        if let Some(fate) = fate {
            expected.count(fate, frame.len() as u64);
        }
        Ok(())
    });
    let mut counted = [0; 7];
    for cpu in counters.get(&0, 0).expect("the map has one entry").iter() {
        counted
            .iter_mut()
            .zip(cpu)
            .for_each(|(sum, count)| *sum += count);
    }
    assert_eq!(bytemuck::cast::<_, DecapsulatorCounters>(counted), expected);
}
