//! Packets per second through network devices: from a generator over a veth pair to the balancer, and back to a program that
//! counts.
//!
//! Generator and driver share the core with the balancer. So what tells something is the comparison with a program that does
//! nothing but send packets back (floor A), or back in an outer header (floor B), in the same place.

use std::{fs, process::Command, sync::Barrier, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use aya::programs::{Xdp, xdp::XdpMode};
use lb_common::benchmark::OWN_MAC;
use lb_tests::device_features;
use nix::net::if_::if_nametoindex;

use crate::{
    balancer::{Balancer, Forward, STATEFUL, Services, Spec, vip},
    cpus, pin_to, prefer_over_other_processes,
    program::Programs,
    traffic::{Family, Kind, Traffic},
};

/// The ends of the pair.
const BALANCER: &str = "balancer";
const GENERATOR: &str = "generator";

/// A device for each generator that nothing goes through.
fn idle(number: usize) -> String {
    format!("idle{number}")
}

const ROUNDS: usize = 7;
/// Packets that each generator sends in a round.
const PACKETS: u32 = 1 << 18;
const HOT: u32 = 1 << 10;
const MILLION: u32 = 1 << 20;

/// What is attached in the balancer's place.
#[derive(Clone, Copy)]
enum Attached {
    /// One of the benchmark's own programs.
    Floor(&'static str),
    /// A balancer, and how many flows it gets.
    Balancer(Forward, u32),
}

const ROWS: [(&str, Attached); 6] = [
    ("floor A: transmit", Attached::Floor("transmit")),
    ("floor B: encapsulate", Attached::Floor("encapsulate")),
    (
        "L2 DSR: established, hot",
        Attached::Balancer(Forward::L2dsr, HOT),
    ),
    (
        "L2 DSR: established, 1M flows",
        Attached::Balancer(Forward::L2dsr, MILLION),
    ),
    (
        "IPIP: established, hot",
        Attached::Balancer(Forward::L3dsr, HOT),
    ),
    (
        "IPIP: established, 1M flows",
        Attached::Balancer(Forward::L3dsr, MILLION),
    ),
];

/// What came out in a round.
#[derive(Clone, Copy, Default)]
struct Round {
    /// Millions of packets a second, of each core.
    mpps: f64,
    sent: u64,
    lost: u64,
}

struct Devices {
    ifindex: u32,
    /// For each core.
    generators: Vec<Programs>,
    /// The floors, and the program that counts.
    own: Programs,
    l2dsr: Balancer,
    l3dsr: Balancer,
    /// The number of the next packet: flows come round, whatever a round sends.
    next: u64,
}

/// Prints packets per second of one core and of all, in native and in generic mode.
pub fn measure() -> Result<()> {
    let cpus = cpus()?;
    wire(cpus.len())?;
    let ifindex = if_nametoindex(BALANCER)?;
    let balancer = |forward| {
        let spec = Spec {
            forward,
            families: &[Family::V4],
            real_servers: 100,
            services: Services::OfEachKind,
            sessions: MILLION,
        };
        Balancer::load(&spec, ifindex)
    };
    let mut devices = Devices {
        ifindex: if_nametoindex(GENERATOR)?,
        generators: (0..cpus.len()).map(generator).collect::<Result<_>>()?,
        own: Programs::load()?,
        l2dsr: balancer(Forward::L2dsr)?,
        l3dsr: balancer(Forward::L3dsr)?,
        next: 0,
    };
    println!(
        "millions of packets a second and core that come out (IPv4, TCP); median, least and most of {ROUNDS}, losses"
    );
    for (mode, name) in [(XdpMode::Driver, "native"), (XdpMode::Skb, "generic")] {
        let receive = devices.own.program("receive")?;
        let link = receive.attach(GENERATOR, mode)?;
        for forward in [Forward::L2dsr, Forward::L3dsr] {
            devices.establish(mode, &cpus[..1], forward)?;
        }
        for cpus in [&cpus[cpus.len() - 1..], &cpus] {
            println!("\n{name} mode, {} core(s)", cpus.len());
            let rounds = devices.rounds(mode, cpus)?;
            rounds
                .into_iter()
                .for_each(|(name, rounds)| print(name, rounds));
            if devices.generators.len() == 1 {
                break;
            }
        }
        devices.own.program("receive")?.detach(link)?;
    }
    Ok(())
}

fn generator(number: usize) -> Result<Programs> {
    let mut programs = Programs::load()?;
    programs.keep_dispatched("send", &idle(number))?;
    Ok(programs)
}

fn print(name: &str, mut rounds: Vec<Round>) {
    rounds.sort_by(|a, b| a.mpps.total_cmp(&b.mpps));
    let [least, median, most] = [0, rounds.len() / 2, rounds.len() - 1].map(|at| rounds[at].mpps);
    let [sent, lost] = [|it: &Round| it.sent, |it: &Round| it.lost]
        .map(|field| rounds.iter().map(field).sum::<u64>() as f64);
    let lost = lost / sent * 100.;
    println!("{name:<34} {median:>6.2} {least:>6.2} {most:>6.2}   {lost:.1} % lost");
}

impl Devices {
    /// What came out of each, on these CPUs.
    fn rounds(&mut self, mode: XdpMode, cpus: &[u32]) -> Result<Vec<(&'static str, Vec<Round>)>> {
        let mut all: Vec<_> = ROWS.iter().map(|(name, _)| (*name, Vec::new())).collect();
        for _ in 0..ROUNDS {
            for ((name, attached), (_, rounds)) in ROWS.iter().zip(&mut all) {
                let round = self.round(mode, cpus, *attached);
                rounds.push(round.with_context(|| (*name).to_owned())?);
            }
        }
        Ok(all)
    }

    /// Begins the sessions of all flows.
    fn establish(&mut self, mode: XdpMode, cpu: &[u32], forward: Forward) -> Result<()> {
        let attached = Attached::Balancer(forward, MILLION);
        let link = self.program(attached)?.attach(BALANCER, mode)?;
        for kind in [Kind::Syn, Kind::Ack] {
            self.send(cpu, kind, MILLION, MILLION)?;
        }
        Ok(self.program(attached)?.detach(link)?)
    }

    fn round(&mut self, mode: XdpMode, cpus: &[u32], attached: Attached) -> Result<Round> {
        let flows = match attached {
            Attached::Floor(_) => HOT,
            Attached::Balancer(_, flows) => flows,
        };
        let link = self.program(attached)?.attach(BALANCER, mode)?;
        self.send(&cpus[..1], Kind::Ack, HOT, HOT)?;
        let round = self.send(cpus, Kind::Ack, flows, PACKETS)?;
        self.program(attached)?.detach(link)?;
        // Whoever drops or passes packets is not measured by that.
        ensure!(
            round.lost * 2 < round.sent,
            "of {} packets {} did not come out",
            round.sent,
            round.lost
        );
        Ok(round)
    }

    fn program(&mut self, attached: Attached) -> Result<&mut Xdp> {
        match attached {
            Attached::Floor(name) => self.own.program(name),
            Attached::Balancer(Forward::L2dsr, _) => Ok(self.l2dsr.program()),
            Attached::Balancer(Forward::L3dsr, _) => Ok(self.l3dsr.program()),
        }
    }

    /// Sends so many packets on each of these CPUs at the same time.
    fn send(&mut self, cpus: &[u32], kind: Kind, flows: u32, packets: u32) -> Result<Round> {
        let traffic = Traffic::new(kind, vip(Family::V4), STATEFUL, flows).starting_at(self.next);
        self.next += u64::from(packets);
        let before = self.own.received()?;
        let barrier = Barrier::new(cpus.len());
        let ifindex = self.ifindex;
        let generators = self.generators.iter_mut().zip(cpus);
        let times: Vec<Result<[u64; 2]>> = thread::scope(|scope| {
            let threads: Vec<_> = generators
                .map(|(generator, &cpu)| {
                    let (barrier, traffic) = (&barrier, &traffic);
                    scope.spawn(move || {
                        pin_to(cpu)?;
                        prefer_over_other_processes();
                        barrier.wait();
                        generator.send(traffic, ifindex, packets)
                    })
                })
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join();
            threads
                .into_iter()
                .map(|thread| join(thread).expect("no generator panics"))
                .collect()
        });
        let times = times.into_iter().collect::<Result<Vec<_>>>()?;
        let began = times.iter().map(|[began, _]| began).min();
        let ended = times.iter().map(|[_, ended]| ended).max();
        let time = ended.zip(began).map_or(0, |(ended, began)| ended - began);
        // What is still queued.
        thread::sleep(Duration::from_millis(5));
        let came = self.own.received()? - before;
        let sent = u64::from(packets) * cpus.len() as u64;
        Ok(Round {
            mpps: came as f64 * 1e3 / time as f64 / cpus.len() as f64,
            sent,
            lost: sent - came,
        })
    }
}

/// Makes the pair, with a queue for each CPU.
fn wire(queues: usize) -> Result<()> {
    // Or it sends packets of its own.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let mac = OWN_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let idle = (0..queues).map(|it| format!("link add {} type veth", idle(it)));
    let queues = format!("numrxqueues {queues} numtxqueues {queues}");
    let pair = [
        format!(
            "link add {BALANCER} address {mac} {queues} type veth peer name {GENERATOR} {queues}"
        ),
        format!("link set {BALANCER} up"),
        format!("link set {GENERATOR} up"),
    ];
    for arguments in pair.into_iter().chain(idle) {
        let mut command = Command::new("ip");
        command.args(arguments.split_whitespace());
        let output = command.output().context("can't run ip: install iproute2")?;
        ensure!(
            output.status.success(),
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // In generic mode it takes frames only so (drivers/net/veth.c, `veth_xdp_xmit`).
    device_features::set(BALANCER, &[("rx-gro", true)])
}
