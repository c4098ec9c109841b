//! The program in the kernel, by `BPF_PROG_TEST_RUN` (Documentation/bpf/bpf_prog_run.rst).

use std::{
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use aya::{
    maps::{HashMap, MapData, PerCpuArray, PerCpuValues},
    programs::{ProgramInfo, TestRun, TestRunAttrs, TestRunOptions, Xdp},
};
use lb_common::{Counters, DropReason, TraceEvent, TraceFilter};
use lb_ebpf::Verdict;
use lb_tests::{Namespace, PacketSocket, device_features};
use lb_user::{
    config::Config,
    control::{Desired, Reconciler},
    dataplane::{CounterMaps, Pins, Program, Sizes, TraceEvents, load, trace},
};
use tokio::{runtime, time::timeout};

use super::{Backend, Observed};
use crate::{
    case::{Case, Counted, Outcome, dropped, happened},
    fixture::{self, CounterNames, FAR, LAN, Port, Sources},
};

/// The loaded program, in a network namespace that has the interfaces of the fixture.
pub struct Kernel {
    program: Program,
    fragments: HashMap<MapData, [u64; 5], [u64; 2]>,
    error_budget: PerCpuArray<MapData, [u64; 2]>,
    reconciler: Reconciler<CounterMaps>,
    sizes: Sizes,
    names: CounterNames,
    /// The counters, unless something ran since they were read. To read them takes longest of all.
    known: Option<Counted>,
    /// What the interfaces sent, by index.
    wires: [(u32, PacketSocket); 2],
}

impl Kernel {
    /// Loads the program, gives it to `test` inside the namespace, and removes what was made.
    pub fn run_in_namespace(test: impl FnOnce(&mut Self) + Send) {
        Self::run_with(&fixture::config(Sources::Spread), test);
    }

    /// As [`Self::run_in_namespace`], with another configuration.
    pub fn run_with(config: &Config, test: impl FnOnce(&mut Self) + Send) {
        let place = Place::new();
        place.add_ports();
        place
            .namespace
            .run(|| test(&mut Self::load(&place, config)));
    }

    /// As [`Self::run_with`], by the balancer that tells what it does.
    pub fn run_tracing(config: &Config, test: impl FnOnce(&mut Self, &mut Told) + Send) {
        let place = Place::new();
        place.add_ports();
        place.namespace.run(|| {
            let mut kernel = Self::load(&place, config);
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let entered = runtime.enter();
            let pins = Pins::new(&place.pin_path);
            let loaded = trace::load(&pins, &kernel.sizes, TraceFilter::all(128));
            let (program, events) = loaded.unwrap_or_else(|error| panic!("{error}"));
            drop(entered);
            kernel.program = program;
            test(&mut kernel, &mut Told { runtime, events });
        });
    }

    fn load(place: &Place, config: &Config) -> Self {
        let pins = Pins::new(&place.pin_path);
        pins.create().expect("a BPF file system");
        let sizes = fixture::sizes(config);
        let mut loaded = load::load(&pins, &sizes)
            .unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)));
        let error_budget = loaded.balancer.take_map("error_budget");
        let reconciler = fixture::reconcile(loaded.tables, loaded.counters, config);
        Self {
            names: CounterNames::new(&reconciler, config),
            program: loaded.balancer,
            fragments: loaded.fragments,
            error_budget: error_budget.try_into().expect("its layout"),
            reconciler,
            sizes,
            known: None,
            wires: [&LAN, &FAR].map(|port| {
                let socket = PacketSocket::open(&place.namespace, &peer(port));
                (port.ifindex, socket)
            }),
        }
    }

    /// All counters that are not zero.
    fn counters(&self) -> Counted {
        let maps = self.reconciler.platform();
        let read = |counters: Result<Counters, _>| counters.expect("the map has the entry");
        let bindings = (0..self.sizes.bindings)
            .map(|index| (self.names.binding(index), read(maps.binding(index))));
        let drops = maps.drops().expect("the map has all reasons");
        let drops = drops
            .into_iter()
            .map(|(reason, packets)| dropped(reason, packets));
        let events = maps.session_events().expect("the map has all events");
        let events = events
            .into_iter()
            .map(|(event, times)| happened(event, times));
        bindings
            .chain(drops)
            .chain(events)
            .filter(|(_, counters)| *counters != Counters::default())
            .collect()
    }

    /// The interface that a redirected frame leaves by. Only live frames go anywhere, so this sends one.
    fn egress(&mut self, ingress: &Port, frame: &[u8], output: &[u8]) -> u32 {
        const PATIENCE: Duration = Duration::from_secs(1);
        const GLANCE: Duration = Duration::from_millis(1);
        self.known = None;
        let context = context(ingress, frame);
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            attrs: TestRunAttrs::new().xdp_live_frames(1),
            ..TestRunOptions::new()
        };
        let result = self.program.xdp().test_run(options);
        result.expect("the kernel sends live frames");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let sent = |(_, wire): &&(u32, PacketSocket)| {
                wire.receive(GLANCE, |frame| frame == output).is_some()
            };
            if let Some((ifindex, _)) = self.wires.iter().rev().find(sent) {
                return *ifindex;
            }
        }
        panic!("a redirected frame leaves by no interface: {output:02x?}");
    }

    /// The kernel wants an Ethernet header.
    pub const fn takes_frame(frame: &[u8]) -> bool {
        frame.len() >= 14
    }

    /// Runs the program without reading counters.
    pub fn run_uncounted(&mut self, ingress: &Port, frame: &[u8]) -> (u32, Vec<u8>) {
        self.known = None;
        Runner(self.program.xdp()).run(ingress, frame)
    }

    /// What runs the program on several threads, and what fills its tables.
    pub fn parts(&mut self) -> (Runner<'_>, &Reconciler<CounterMaps>) {
        self.known = None;
        (Runner(self.program.xdp()), &self.reconciler)
    }
}

/// What the balancer tells of packets.
pub struct Told {
    runtime: runtime::Runtime,
    events: TraceEvents,
}

impl Told {
    /// The events since last time, each with the first bytes of its packet.
    pub fn take(&mut self) -> Vec<(TraceEvent, Vec<u8>)> {
        // They are there when the program has returned.
        const PATIENCE: Duration = Duration::from_millis(50);
        let mut told = Vec::new();
        let take = |event: &TraceEvent, bytes: &[u8]| told.push((*event, bytes.to_vec()));
        let read = async { timeout(PATIENCE, self.events.read(64, take)).await };
        if let Ok(read) = self.runtime.block_on(read) {
            read.expect("the ring buffer can be read");
        }
        told
    }
}

/// The program.
pub struct Runner<'a>(pub &'a Xdp);

impl Runner<'_> {
    /// Runs it on the CPU that this thread is on: what it returns, and the frame afterwards.
    pub fn run(&self, ingress: &Port, frame: &[u8]) -> (u32, Vec<u8>) {
        let context = context(ingress, frame);
        let mut output = vec![0; frame.len() + 256];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut output),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = self
            .0
            .test_run(options)
            .unwrap_or_else(|error| panic!("{} bytes: {error}: {frame:02x?}", frame.len()));
        output.truncate(result.data_size_out as usize);
        (result.return_value, output)
    }
}

/// What the program returns (linux/bpf.h, `enum xdp_action`).
pub mod action {
    pub const DROP: u32 = 1;
    pub const PASS: u32 = 2;
    pub const TX: u32 = 3;
    pub const REDIRECT: u32 = 4;
}

impl Backend for Kernel {
    /// It takes as live frames only those in one piece (net/bpf/test_run.c, `bpf_prog_test_run_xdp`).
    fn takes(&self, case: &Case) -> bool {
        const ONE_PIECE: usize = 3500;
        let redirected = match &case.outcome {
            Outcome::Forwarded(service, _) => service.server.port != case.ingress,
            Outcome::Followed(_) => true,
            _ => false,
        };
        let can_be_sent = !redirected || case.input.len() <= ONE_PIECE;
        Self::takes_frame(&case.input) && can_be_sent && case.waited.is_zero()
    }

    fn run(&mut self, ingress: &Port, frame: &[u8]) -> Observed {
        let before = self.known.take().unwrap_or_else(|| self.counters());
        let (action, output) = self.run_uncounted(ingress, frame);
        let after = self.counters();
        let counted = difference(&before, &after);
        self.known = Some(after);
        let verdict = match action {
            action::PASS => Verdict::Pass,
            action::TX => Verdict::Transmit,
            action::REDIRECT => Verdict::Redirect(self.egress(ingress, frame, &output)),
            action::DROP => {
                let counted = |reason: &DropReason| counted.contains_key(&dropped(*reason, 1).0);
                let reason = DropReason::ALL.into_iter().find(counted);
                Verdict::Drop(reason.expect("a drop is counted"))
            }
            other => panic!("the program returned {other} for {frame:02x?}"),
        };
        Observed {
            verdict,
            output,
            counted,
        }
    }

    fn feed(&mut self, ingress: &Port, frame: &[u8]) {
        self.run_uncounted(ingress, frame);
    }

    fn forget(&mut self) {
        let known: Vec<_> = self
            .fragments
            .keys()
            .map(|key| key.expect("a key"))
            .collect();
        for datagram in known {
            let removed = self.fragments.remove(&datagram);
            removed.expect("it was just there");
        }
        fixture::forget_sessions(&self.reconciler);
        let full = vec![[0; 2]; aya::util::nr_cpus().expect("a number of CPUs")];
        let full = PerCpuValues::try_from(full).expect("one for each CPU");
        let set = self.error_budget.set(0, full, 0);
        set.expect("the map has one entry");
    }

    fn reconcile_after(&mut self, wanted: &Desired, time: Duration) {
        self.known = None;
        let applied = self.reconciler.apply_at(wanted, Instant::now() + time);
        applied.expect("the tables have room");
    }

    fn active(&self, virtual_server: &str, server: &str) -> u64 {
        fixture::active(&self.reconciler, virtual_server, server)
    }

    fn wait(&mut self, time: Duration) {
        assert_eq!(time, Duration::ZERO, "the kernel's clock can't be set");
    }
}

/// What the verifier says of one of the balancer's programs.
pub fn program_info(kernel: &mut Kernel, name: &str) -> ProgramInfo {
    kernel.program.named(name).info().expect("a loaded program")
}

fn difference(before: &Counted, after: &Counted) -> Counted {
    after
        .iter()
        .filter_map(|(name, after)| {
            let before = before.get(name).copied().unwrap_or_default();
            let counters = after.minus(before);
            (counters != Counters::default()).then(|| (name.clone(), counters))
        })
        .collect()
}

/// A `struct xdp_md` (linux/bpf.h): data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn context(ingress: &Port, frame: &[u8]) -> [u8; 24] {
    let length = frame.len().try_into().expect("a frame");
    bytemuck::cast([0, length, 0, ingress.ifindex, 0, 0])
}

/// The other end of an interface's cable.
fn peer(port: &Port) -> String {
    format!("{}-peer", port.name)
}

/// A network namespace and a place for pins, named as those of labs, so that what a killed run leaves behind goes
/// with them.
pub struct Place {
    lab: String,
    pub pin_path: PathBuf,
    pub namespace: Namespace,
}

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static REMAINS: Once = Once::new();
        REMAINS.call_once(lb_tests::remove_dead_labs);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let lab = format!("lb-test-{}-{number}", process::id());
        let name = format!("{lab}-balancer");
        let added = process::Command::new("ip")
            .args(["netns", "add", &name])
            .status();
        assert!(
            added.is_ok_and(|status| status.success()),
            "can't add a network namespace: root and ip (iproute2) are needed"
        );
        Self {
            pin_path: Path::new("/sys/fs/bpf").join(&lab),
            namespace: Namespace::open(name).expect("just added"),
            lab,
        }
    }

    pub fn add_ports(&self) {
        for port in [&LAN, &FAR] {
            let Port { name, ifindex, .. } = port;
            let (peer, peer_index) = (peer(port), ifindex + 1);
            self.namespace.ip(&format!(
                "link add {name} index {ifindex} mtu 9000 type veth peer name {peer} index {peer_index} mtu 9000"
            ));
            for device in [*name, &peer] {
                self.namespace
                    .ip(&format!("link set {device} addrgenmode none up"));
            }
            // A veth takes redirected frames if its peer has NAPI (drivers/net/veth.c, `veth_xdp_xmit`).
            self.namespace
                .run(|| device_features::set(&peer, &[("rx-gro", true)]))
                .expect("a feature of veth");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lb_tests::remove(&self.lab);
    }
}
