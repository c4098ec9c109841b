//! The programs that make packets and that are measured.

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, PerCpuArray, ProgramArray},
    programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp, xdp::XdpMode},
};
use lb_common::benchmark::Stream;
use lb_user::dataplane::Array;

use crate::{balancer::Balancer, traffic::Traffic};

/// What is measured.
#[derive(Clone, Copy)]
pub enum Measured<'a> {
    /// The stream alone.
    Nothing,
    /// Floor A.
    Transmit,
    /// Floor B.
    Encapsulate,
    Balancer(&'a Balancer),
}

/// What became of some packets.
pub struct Run {
    /// Nanoseconds that all but the last packet took.
    pub time: f64,
    /// Packets that were made.
    pub made: u64,
    /// How many of them the measured program changed, not counting the last one.
    pub changed: u64,
    /// What became of the last one.
    pub last: Last,
}

/// What was left of a packet.
pub struct Last {
    /// What the program returned (linux/bpf.h, `enum xdp_action`).
    pub action: u32,
    /// The packet as it left it.
    pub frame: Vec<u8>,
}

pub struct Programs {
    ebpf: Ebpf,
    measured: ProgramArray<MapData>,
    stream: Array<Stream>,
    received: PerCpuArray<MapData, u64>,
}

impl Programs {
    pub fn load() -> Result<Self> {
        let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf/benchmark.o");
        let mut ebpf = EbpfLoader::new()
            .load_file(object)
            .with_context(|| format!("can't load {object}: run `cargo xtask build-ebpf`"))?;
        for (name, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("program {name}"))?;
        }
        let Some(Map::Array(stream)) = ebpf.map("stream") else {
            bail!("{object} has no array `stream`");
        };
        let stream = Array::map(stream.fd(), 1)?;
        let mut map = |name| {
            let map = ebpf.take_map(name);
            map.with_context(|| format!("{object} has no map `{name}`"))
        };
        Ok(Self {
            measured: map("measured")?.try_into()?,
            received: map("received")?.try_into()?,
            stream,
            ebpf,
        })
    }

    /// Makes test runs of a program begin and end faster. Each one puts it into the kernel's dispatcher of XDP programs and takes
    /// it out again, and waits for an RCU grace period both times, unless the program is attached somewhere, such as to this
    /// device (kernel/bpf/dispatcher.c, `bpf_dispatcher_change_prog`).
    pub fn keep_dispatched(&mut self, program: &str, device: &str) -> Result<()> {
        self.program(program)?.attach(device, XdpMode::Skb)?;
        Ok(())
    }

    /// Lets what is measured have so many packets of some traffic, and one more, which ends the time.
    pub fn run(&mut self, what: Measured<'_>, traffic: &Traffic, packets: u32) -> Result<Run> {
        self.choose(what)?;
        let first = traffic.stream.next;
        self.stream.set(
            0,
            Stream {
                timed: [first, first + u64::from(packets)],
                ..traffic.stream
            },
        );
        let (last, average) = self.test_run(traffic, packets + 1)?;
        let stream = self.stream.get(0);
        let made = stream.next - first;
        ensure!(
            made == u64::from(packets) + 1,
            "{made} packets were made instead of {packets} and one more"
        );
        // The clock goes on while another process has the CPU. The kernel's own figure doesn't, but is an average without its
        // fraction (net/bpf/test_run.c, `bpf_test_timer_continue`).
        let [began, ended] = stream.times;
        let most = (average + 1.) * made as f64;
        Ok(Run {
            time: most.min((ended - began) as f64),
            made,
            changed: stream.changed,
            last,
        })
    }

    /// What becomes of one packet of some traffic.
    pub fn one(&mut self, what: Measured<'_>, traffic: &Traffic, number: u64) -> Result<Last> {
        self.choose(what)?;
        self.stream.set(0, traffic.starting_at(number).stream);
        Ok(self.test_run(traffic, 1)?.0)
    }

    /// Sends so many packets of some traffic out by an interface, as real frames: the kernel passes them on in batches. What
    /// the clock says, in nanoseconds, before the first and before the last of them.
    pub fn send(&mut self, traffic: &Traffic, ifindex: u32, packets: u32) -> Result<[u64; 2]> {
        const BATCH: u32 = 64;
        let first = traffic.stream.next;
        self.stream.set(
            0,
            Stream {
                ifindex,
                timed: [first, first + u64::from(packets) - 1],
                ..traffic.stream
            },
        );
        self.program("send")?.test_run(TestRunOptions {
            data_in: Some(&traffic.frame),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        })?;
        Ok(self.stream.get(0).times)
    }

    /// Frames that the program `receive` has seen.
    pub fn received(&self) -> Result<u64> {
        Ok(self.received.get(&0, 0)?.iter().sum())
    }

    /// One of the programs.
    pub fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(name);
        let program = program.with_context(|| format!("no program `{name}`"))?;
        Ok(program.try_into()?)
    }

    fn choose(&mut self, what: Measured<'_>) -> Result<()> {
        let own = match what {
            Measured::Nothing => "nothing",
            Measured::Transmit => "transmit",
            Measured::Encapsulate => "encapsulate",
            Measured::Balancer(balancer) => return Ok(self.measured.set(0, balancer.fd(), 0)?),
        };
        let program = self.program(own)?.fd()?.try_clone()?;
        Ok(self.measured.set(0, &program, 0)?)
    }

    /// What is left of the last packet, and the average time in nanoseconds.
    fn test_run(&mut self, traffic: &Traffic, repeat: u32) -> Result<(Last, f64)> {
        /// The longest outer header, and more.
        const ROOM: usize = 256;
        let mut frame = vec![0; traffic.frame.len() + ROOM];
        let result = self.program("packets")?.test_run(TestRunOptions {
            data_in: Some(&traffic.frame),
            data_out: Some(&mut frame),
            repeat,
            ..TestRunOptions::new()
        })?;
        frame.truncate(result.data_size_out as usize);
        let last = Last {
            action: result.return_value,
            frame,
        };
        Ok((last, result.duration.as_nanos() as f64))
    }
}
