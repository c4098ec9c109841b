//! What fuzzing begins with: the frames of the table.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use etherparse::IcmpEchoHeader;
use lb_common::health::PORTS;
use lb_fuzz::{
    network::Port,
    scenario::{Event, Scenario, Service, Stage},
    steering::ECHO_IDENTIFIER,
};

use crate::{
    cases,
    fixture::NEAR,
    frames::{Flow, Icmp, Segment},
};

/// A frame of the table with those before it, for each.
fn arrivals() -> impl Iterator<Item = Vec<(&'static Port, Vec<u8>)>> {
    const SHORT: usize = 1600;
    cases::all().into_iter().filter_map(|case| {
        let frames = case.before.into_iter().chain([case.input]);
        let frames: Vec<_> = frames.map(|frame| (case.ingress, frame)).collect();
        let is_short = frames.iter().all(|(_, frame)| frame.len() <= SHORT);
        (is_short && !case.name.contains("cut to")).then_some(frames)
    })
}

/// What a balancer by L3 DSR sends of the table's frames.
pub fn capsules() -> Vec<Vec<u8>> {
    let mut capsules = Vec::new();
    for kind in [1, 3] {
        let services = Service::at_first_vip(kind, 1);
        for frames in arrivals() {
            let mut stage = Stage::new(&services);
            for (ingress, frame) in frames {
                let length = frame.len();
                let seen = stage.happen(&Event::Frame(ingress, frame));
                let output = seen.expect("it is a frame").output;
                if output.len() > length {
                    capsules.push(output);
                }
            }
        }
    }
    capsules
}

/// Frames that the steering of checks meets: questions to a VIP, answers to them, and errors about them.
fn checks() -> impl Iterator<Item = Vec<u8>> {
    Flow::all().flat_map(|flow| {
        let mut question = Segment::to(flow, &NEAR, NEAR.port());
        question.source_port = *PORTS.start();
        let router = question
            .reversed()
            .with(|it| it.source = flow.family.router());
        let header = IcmpEchoHeader {
            id: ECHO_IDENTIFIER,
            seq: 1,
        };
        let ping = Icmp::echo_reply(flow.family, header);
        [
            question.frame(),
            question.reversed().frame(),
            router.icmp(&Icmp::too_big(flow.family, 1400), &question.packet()),
            question.reversed().icmp(&ping, b"ping"),
        ]
    })
}

/// No test: it makes what `cargo xtask fuzz` begins with, each input a file named after its content.
#[test]
#[ignore = "cargo xtask fuzz runs it"]
fn write() {
    let directory = env::var_os("LB_FUZZ_SEEDS").expect("LB_FUZZ_SEEDS says where to");
    let write = |target: &str, seeds: Vec<Vec<u8>>| {
        let directory = Path::new(&directory).join(target);
        fs::create_dir_all(&directory).expect("a directory");
        for seed in seeds {
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            let path = directory.join(format!("{:016x}", hasher.finish()));
            fs::write(path, seed).expect("a file");
        }
    };
    let arrivals: Vec<_> = arrivals().collect();
    let scenarios = arrivals.chunks(8).zip((0..16).cycle());
    let scenarios = scenarios.map(|(arrivals, number)| {
        let frames = arrivals.iter().flatten();
        let frames: Vec<_> = frames
            .map(|(ingress, frame)| (*ingress, &frame[..]))
            .collect();
        // L2 DSR and L3 DSR with either source; each kind of session.
        Scenario::seed(&Service::at_first_vip(number % 4, number / 4), &frames)
    });
    write("packets", scenarios.collect());
    write("decapsulate", capsules().into_iter().step_by(16).collect());
    write(
        "steer",
        checks()
            .map(|frame| [&[0; 4], &frame[..]].concat())
            .collect(),
    );
}
